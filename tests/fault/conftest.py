"""Fixtures of the fault tests."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator

import pytest


@pytest.fixture
def cut_off() -> Iterator[None]:
    """For tests in which servers are killed or hang under their clients: a connection left open
    counts against the test that has left it, and not against one that runs later."""
    _left_open()
    yield
    assert _left_open() == []


def _left_open() -> list[str]:
    """Connections that were left to the garbage collector."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", ResourceWarning)
        gc.collect()
    return [str(one.message) for one in found]
