"""Shared by the tests of ``test_callbacks.py`` in ``contract/`` and ``internals/``."""

from __future__ import annotations

from rwf import Client
from tests.support.outbox import (
    ended,
)

# --- written with the cause -------------------------------------------------------------------


def recovered(client: Client, times: int) -> str:
    """The id of a workflow with so many callbacks, all of them due."""
    workflow_id = ended(client, "failed")
    for _ in range(times - 1):
        client.recover_step(workflow_id, "a", "retry")
        client.complete_step(workflow_id, "a", "failed")
    return workflow_id


def numbers_of(got: list[str], workflow_id: str) -> list[int]:
    """The callbacks of a workflow, in the order in which they were received."""
    found = [one.partition("/") for one in got]
    return [int(number) for owner, _, number in found if owner == workflow_id]
