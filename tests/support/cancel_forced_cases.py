"""Shared by the tests of ``test_cancel_forced.py`` in ``contract/`` and ``internals/``."""

from __future__ import annotations

from typing import Any

from rwf import Client
from tests.support.flows import flow


def wide(width: int) -> Any:
    """Steps without dependencies, s0, s1, ..."""
    return flow(" ".join(f"s{number}" for number in range(width)))


def claim_all(client: Client, count: int) -> list[Any]:
    """Claims that many steps."""
    found: list[Any] = []
    while len(found) < count:
        found += client.claim(["default"], worker_id="w|1", limit=1_000)
    return found
