"""Steps that run child workflows, as several files' tests need them."""

from __future__ import annotations

from typing import Any

from rwf import Client, Workflow, WorkflowView
from rwf.model.views import ClaimedStep
from tests.support.flows import flow

PARENT = "call next:call"
CHILD = "a b:a"


def claim(client: Client, *names: str) -> ClaimedStep:
    """Claims the only step that is available, or the one of these that is; gives others back."""
    claimed = client.claim(["default"], worker_id="w", limit=10)
    found = [one for one in claimed if not names or one.step in names]
    client.release([one for one in claimed if one not in found])
    (step,) = found
    return step


def child_of(text: str = CHILD, **options: Any) -> Workflow:
    return flow(text, "child", **options)


def started(
    client: Client, text: str = PARENT, child: str = CHILD
) -> tuple[WorkflowView, WorkflowView]:
    """A workflow whose step ``call`` waits for a child, and the child."""
    parent = client.insert(flow(text, "parent"))
    held = claim(client, "call")
    kid = client.start_child(parent.id, "call", child_of(child), lease=held.lease)
    return client.get(parent.id), kid


def end(client: Client, workflow_id: str, status: str = "completed", **options: Any) -> None:
    """Ends the steps of a chain ``a b:a``: the last one with this status."""
    client.complete_step(workflow_id, "a", payload=1)
    client.complete_step(workflow_id, "b", status, **options)
