"""Shared by the tests of ``test_fairness.py`` in ``contract/`` and ``internals/``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rwf import Client
from rwf.model.views import ClaimedStep
from tests.support.flows import flow


def names(claims: Sequence[ClaimedStep]) -> list[str]:
    return [claimed.step for claimed in claims]


def claim(client: Client, limit: int, *queues: str) -> list[str]:
    return names(client.claim(queues or ["default"], worker_id="w", limit=limit))


def insert(client: Client, name: str, **options: Any) -> str:
    """A workflow of one step of that name."""
    return client.insert(flow(name, **options)).id
