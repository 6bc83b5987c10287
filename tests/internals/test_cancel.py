"""White-box cases beside those of ``contract/test_cancel.py``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from rwf import Client, Completion
from rwf.ops.cancel import request_cancel
from rwf.ops.complete import complete_step
from rwf.ops.timer_pages import PassedOver
from rwf.repair.timers import fire_due
from tests.support.flows import (
    chain,
    drive,
    flow,
    until_past,
)
from tests.support.waiting import until


def test_nothing_becomes_available_any_more(one_client: Client) -> None:
    view = one_client.insert(flow("a b"))
    claims = one_client.claim(["default"], worker_id="w", limit=2, lease=0.05)
    one_client.request_cancel(view.id)
    assert one_client.release(claims[:1]) == 1
    until(
        lambda: (
            one_client._run(fire_due(one_client._ctx, 0, PassedOver()))
            and one_client.get(view.id).finished_at
        ),
        what="the lease to lapse",
    )
    assert one_client.get(view.id).terminal_cause == "operator_cancelled"
    assert one_client.claim(["default"], worker_id="w") == []


def test_a_large_graph_in_slices_that_anyone_continues(client: Client) -> None:
    view = client.insert(chain(1_000))
    assert drive(client, request_cancel(client._ctx, view.id, None, None), 2) is None
    middle = client.get(view.id)
    assert middle.state == "cancel_requested"
    assert 0 < middle.cancelled_step_count < 1_000
    assert client.claim(["default"], worker_id="w") == []
    report = client.reconcile(view.id)
    assert [repair.kind for repair in report.repairs] == ["release_unfinished"]
    assert client.get(view.id).terminal_cause == "operator_cancelled"
    assert client.reconcile(view.id).repairs == ()


def test_no_step_that_the_slices_have_not_come_to_is_released(one_client: Client) -> None:
    view = one_client.insert(flow("a " + " ".join(f"s{n}" for n in range(400)) + " b:a"))
    (held,) = one_client.claim(["default"], worker_id="w")
    assert held.step == "a"
    assert drive(one_client, request_cancel(one_client._ctx, view.id, None, None), 1) is None
    item = Completion(workflow_id=view.id, step="a", lease=held.lease)
    drive(one_client, complete_step(one_client._ctx, item), 1)
    assert one_client.step(view.id, "b").terminal_cause == "operator_cancelled"


def waiting_behind(client: Client, deadline: timedelta | None) -> str:
    """A workflow whose last step waits, and is not reached by the request's first slice."""
    view = client.insert(flow(" ".join(f"s{n}" for n in range(400)) + " a b:+a"))
    client.await_step(view.id, "a", signal="go", correlation_key="k", deadline=deadline)
    assert drive(client, request_cancel(client._ctx, view.id, None, None), 1) is None
    assert client.step(view.id, "a").state == "awaiting_signal"
    return view.id


def test_a_wait_that_is_to_be_cancelled_takes_no_signal(client: Client) -> None:
    workflow_id = waiting_behind(client, None)
    assert client.deliver_signal("go", "k").status == "unmatched"
    assert client.step(workflow_id, "a").terminal_cause == "operator_cancelled"
    client.reconcile(workflow_id)
    assert client.get(workflow_id).cancelled_step_count == 402


def test_a_deadline_that_passes_after_the_request(one_client: Client) -> None:
    workflow_id = waiting_behind(one_client, timedelta(seconds=0.3))
    end = datetime.now(UTC) + timedelta(seconds=0.3)
    until_past(one_client, end)
    one_client.reconcile(workflow_id)
    assert one_client.get(workflow_id).terminal_cause == "operator_cancelled"
