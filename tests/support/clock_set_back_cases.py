"""Shared by the tests of ``test_clock_set_back.py`` in ``contract/`` and ``internals/``."""

from __future__ import annotations

from rwf import Client

HOUR = 3600.0


def failed(client: Client, workflow_id: str) -> None:
    client.complete_step(workflow_id, "a", "retryable", retry_in=0.3)
