"""Shared by the tests of ``test_acknowledge.py`` in ``contract/`` and ``internals/``."""

from __future__ import annotations

from rwf import Client, WorkflowView
from tests.support.flows import (
    flow,
)


def failed(client: Client, text: str = "a") -> str:
    view = client.insert(flow(text))
    client.complete_step(view.id, "a", "failed", summary="card declined")
    return view.id


def accept(
    client: Client, workflow_id: str, actor: str = "ann", reason: str = "why"
) -> WorkflowView:
    return client.acknowledge(workflow_id, actor=actor, reason=reason)


def status(client: Client, workflow_id: str) -> str:
    """The operator status, on which all views agree."""
    page = client.list()
    (found,) = (
        status
        for view, status in zip(page.workflows, page.operator_statuses, strict=True)
        if view.id == workflow_id
    )
    assert client.explain(workflow_id).operator_status == found
    listed = client.list(status=found).workflows
    assert workflow_id in {view.id for view in listed}
    return found.value
