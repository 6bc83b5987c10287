"""Shared by the tests of ``test_claims.py`` in ``contract/`` and ``internals/``."""

from __future__ import annotations

from typing import Any

from rwf import Client, Completion
from rwf.model.views import ClaimedStep


def claim(client: Client, **options: Any) -> ClaimedStep:
    """Claims the only available step."""
    (claimed,) = client.claim(["default"], worker_id="w", **options)
    return claimed


def report(claimed: ClaimedStep) -> Completion:
    return Completion(
        workflow_id=claimed.workflow_id, step=claimed.step, lease=claimed.lease, payload=1
    )


def woken(client: Client, workflow_id: str, step: str = "a", lease: str | None = None) -> None:
    """A step that waited for a signal, which was delivered."""
    client.await_step(workflow_id, step, signal="go", correlation_key=workflow_id, lease=lease)
    client.deliver_signal("go", workflow_id)
