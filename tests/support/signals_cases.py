"""Shared by the tests of ``test_signals.py`` in ``contract/`` and ``internals/``."""

from __future__ import annotations

from typing import Any

from rwf import Client
from rwf.model.views import AwaitView, SignalView


def wait(client: Client, workflow_id: str, step: str = "a", **options: Any) -> AwaitView:
    given: dict[str, Any] = {"signal": "go", "correlation_key": "k", **options}
    return client.await_step(workflow_id, step, **given)


def deliver(client: Client, dedupe: str, payload: Any = None) -> SignalView:
    return client.deliver_signal("go", "k", payload=payload, dedupe_key=dedupe)


def logged(client: Client) -> list[tuple[str, str | None, str]]:
    """Evidence of signals that no workflow has consumed: status, reason, dedupe key."""
    return [
        (entry.status, entry.reason_code, entry.metadata["dedupe_key"])
        for entry in client.evidence()
    ]
