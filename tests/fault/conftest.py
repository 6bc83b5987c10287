"""Fixtures of the fault tests."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator

import pytest


@pytest.fixture
def cut_off() -> Iterator[None]:
    """For tests in which servers are killed or hang under their clients: connections that are left
    open are the fault of the test that has left them, and not of one that runs later."""
    _left_open()
    yield
    assert _left_open() == []


def _left_open() -> list[str]:
    """Connections that were left to the garbage collector."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", ResourceWarning)
        gc.collect()
    return [str(one.message) for one in found]
