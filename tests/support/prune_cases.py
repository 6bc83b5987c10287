"""Shared by the tests of ``test_prune.py`` in ``contract/`` and ``internals/``."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from rwf import Client, Workflow
from rwf.model.views import PruneReport
from tests.support.flows import (
    partition_key,
    raw,
    stored,
)
from tests.support.outbox import (
    ignore,
)

NOW = timedelta(0)


def finish(client: Client, workflow: Workflow, **options: Any) -> str:
    """The id of a workflow of one step ``a`` that has ended; its callbacks are delivered."""
    workflow_id = client.insert(workflow, **options).id
    client.complete_step(workflow_id, "a")
    client.dispatch_callbacks(ignore)
    return workflow_id


def prune(client: Client, workflows: int = 0, signals: int = 0) -> None:
    """Prunes, and expects this workflow to be removed."""
    assert client.prune() == PruneReport(workflows=workflows, signals=signals)


def removal(client: Client, workflow_id: str) -> float | None:
    """The time of the workflow's timer."""
    found: float | None = raw(client).zscore(
        partition_key(workflow_id, "timers"), f"x|{workflow_id}"
    )
    return found


def keys_of(client: Client, text: str) -> list[bytes]:
    return [key for key in stored(client) if text.encode() in key]


def gauges(client: Client) -> set[tuple[bytes, bytes]]:
    """The gauges of all partitions that are not zero."""
    found = set()
    for key in raw(client).scan_iter("rwf:*:stats"):
        for name, value in raw(client).hgetall(key).items():
            if name[:3] in (b"gs|", b"gw|", b"gc|") and value != b"0":
                found.add((name, value))
    return found
