"""Fixtures of the fault tests."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator

import pytest


@pytest.fixture
def cut_off() -> Iterator[None]:
    """For tests in which servers are killed or hang under their clients: connections that are left
    behind there are collected at the end of the test that has left them, and blamed on nobody."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
