"""White-box cases beside those of ``contract/test_recovery.py``."""

from __future__ import annotations

import pytest

from rwf import Client
from rwf.ops.recover import Recovery, recover_step
from rwf.protocol.requests import Call
from tests.support.flows import (
    chain,
    drive,
    flow,
    noted,
    one_call,
)


@pytest.mark.parametrize("calls", [2, 4, 9])
def test_a_long_chain_in_slices_that_anyone_continues(client: Client, calls: int) -> None:
    view = client.insert(chain(1_000))
    client.complete_step(view.id, "s0", "failed")
    asked = Recovery(workflow_id=view.id, step="s0", action="retry")
    assert drive(client, recover_step(client._ctx, asked, False), calls) is None
    middle = client.get(view.id)
    assert middle.state == "pending"
    assert middle.finished_at is None
    assert client.claim(["default"], worker_id="w") == []
    client.reconcile(view.id)
    assert client.get(view.id).state == "available"
    assert client.get(view.id).cancelled_step_count == 0
    assert client.reconcile(view.id).repairs == ()
    first = client.recover_step(view.id, "s0", "retry")
    assert first.change_count == 0


def test_what_completes_meanwhile_is_walked_behind_it(one_client: Client) -> None:
    view = one_client.insert(flow("x y:x " + " ".join(f"c{n}:+x" for n in range(500))))
    one_client.complete_step(view.id, "x", "failed")
    assert one_client.get(view.id).runnable_step_count == 500
    asked = Recovery(workflow_id=view.id, step="x", action="retry")
    assert drive(one_client, recover_step(one_client._ctx, asked, False), 1) is None
    free = [step.name for step in one_client.steps(view.id) if step.state == "available"]
    one_client.complete_step(view.id, free[-1])
    one_client.reconcile(view.id)
    after = one_client.get(view.id)
    assert (after.completed_step_count, after.runnable_step_count) == (1, 1)


def test_a_cancel_request_supersedes_the_marking(one_client: Client) -> None:
    view = one_client.insert(chain(450))
    for _ in range(450):
        (claimed,) = one_client.claim(["default"], worker_id="w")
        one_client.complete(claimed)
    asked = Recovery(workflow_id=view.id, step="s0", action="retry", scope="downstream")
    assert drive(one_client, recover_step(one_client._ctx, asked, False), 2) is None
    unmarked = one_client.get(view.id).completed_step_count
    one_client.request_cancel(view.id)
    after = one_client.get(view.id)
    assert (after.state, after.terminal_cause) == ("cancelled", "operator_cancelled")
    assert 0 < after.completed_step_count == unmarked
    events = [callback.event for callback in one_client.callbacks(view.id)]
    assert events[1:] == ["workflow.recovery_completed", "workflow.terminal"]


def test_a_newer_recovery_decides(one_client: Client) -> None:
    view = one_client.insert(chain(450))
    one_client.complete_step(view.id, "s0", "failed")
    asked = Recovery(workflow_id=view.id, step="s0", action="retry")
    assert drive(one_client, recover_step(one_client._ctx, asked, False), 2) is None
    assert one_client.recover_step(view.id, "s0", "cancel").change_count == 450
    after = one_client.get(view.id)
    assert (after.terminal_cause, after.cancelled_step_count) == ("step_cancelled", 450)


def test_the_same_command_finishes_what_it_had_begun(one_client: Client) -> None:
    view = one_client.insert(chain(450))
    one_client.complete_step(view.id, "s0", "failed")
    asked = Recovery(workflow_id=view.id, step="s0", action="retry", command_id="one")
    assert drive(one_client, recover_step(one_client._ctx, asked, False), 2) is None
    again = one_client.recover_step(view.id, "s0", "retry", command_id="one")
    assert (again.duplicate, again.session_id, again.change_count) == (True, f"{view.id}/1", 450)
    assert again.workflow.state == "available"
    events = [callback.event for callback in one_client.callbacks(view.id)]
    assert events == ["workflow.terminal", "workflow.recovery_completed"]


def test_a_call_that_is_repeated_after_another_recovery_is_found(one_client: Client) -> None:
    view = one_client.insert(flow("a b"))
    for step in "ab":
        one_client.complete_step(view.id, step, "failed")
    asked = Recovery(workflow_id=view.id, step="a", action="retry")
    call = next(recover_step(one_client._ctx, asked, False))
    assert isinstance(call, Call)
    one_client._run(one_call(call))
    one_client.recover_step(view.id, "b", "retry")
    assert one_client._run(one_call(call.repeated()))[:2] == [b"accepted", b"1"]
    assert len(noted(one_client, view.id)) == 4
