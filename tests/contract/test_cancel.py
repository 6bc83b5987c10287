"""Cancel requests (contract §4 and §6)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rwf import Client
from tests.support.flows import (
    fan_out,
    first_call_only,
    flow,
    noted,
    refused,
    states,
    until_past,
)
from tests.support.waiting import until


def test_what_does_not_run_is_cancelled(client: Client) -> None:
    view = client.insert(flow("a b:a c:+b x y:x"))
    client.complete_step(view.id, "x", "retryable", retry_in=60)
    after = client.request_cancel(view.id, actor="ann", reason="a, b: c|d")
    assert {step.state for step in client.steps(view.id)} == {"cancelled"}
    assert {step.terminal_cause for step in client.steps(view.id)} == {"operator_cancelled"}
    assert (after.state, after.terminal_cause) == ("cancelled", "operator_cancelled")
    assert after.cancel_requested_at is not None
    assert after.cancel_reason == "a, b: c|d"
    assert after.cancelled_step_count == after.step_count
    (told,) = client.callbacks(view.id)
    assert told.data == {"state": "cancelled", "terminal_cause": "operator_cancelled"}
    entry = client.evidence(view.id)[-1]
    assert (entry.action, entry.status, entry.actor) == ("request_cancel", "accepted", "ann")
    assert entry.metadata == {"reason": "a, b: c|d"}


def test_a_running_step_learns_of_it_and_its_outcome_is_recorded(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    (claimed,) = client.claim(["default"], worker_id="w")
    assert client.heartbeat([claimed]).cancel_requested == ()
    assert client.request_cancel(view.id, reason="stop").state == "cancel_requested"
    assert states(client, view.id) == "a=executing b=cancelled"
    assert client.step(view.id, "a").cancel_requested_at is not None
    told = client.explain_step(view.id, "a")
    assert told.operator_status == "Blocked"
    assert [blocker.code for blocker in told.blockers] == ["cancel_requested", "executing"]
    request = told.blockers[0]
    assert request.since == client.get(view.id).cancel_requested_at
    assert (request.scope, request.details) == ("workflow", {"reason": "stop"})
    assert client.explain(view.id).operator_status == "Blocked"
    assert [one.step for one in client.heartbeat([claimed]).cancel_requested] == ["a"]
    done = client.complete(claimed, payload=5)
    assert done.step.terminal_cause == "completed_after_cancel_request"
    assert (done.workflow.state, done.workflow.terminal_cause) == (
        "cancelled",
        "operator_cancelled",
    )


def test_all_completed_all_the_same(client: Client) -> None:
    view = client.insert(flow("a"))
    (claimed,) = client.claim(["default"], worker_id="w")
    client.request_cancel(view.id)
    done = client.complete(claimed)
    assert done.workflow.state == "completed"
    assert done.workflow.terminal_cause == "completed_after_cancel_request"


@pytest.mark.parametrize(
    ("asked", "state", "cause"),
    [
        ("retryable", "cancelled", "operator_cancelled"),
        ("failed", "failed", "step_failed"),
        ("discarded", "discarded", "step_failed"),
        ("cancelled", "cancelled", "cancelled"),
    ],
)
def test_what_a_running_step_may_report(
    one_client: Client, asked: str, state: str, cause: str
) -> None:
    view = one_client.insert(flow("a b:a"))
    (claimed,) = one_client.claim(["default"], worker_id="w")
    one_client.request_cancel(view.id)
    done = one_client.complete(claimed, asked)
    assert (done.step.state, done.step.terminal_cause) == (state, cause)
    assert done.workflow.finished_at is not None


@pytest.mark.parametrize("how", ["reported", "lapsed"])
def test_the_last_attempt_is_exhausted_all_the_same(one_client: Client, how: str) -> None:
    """It would not have run again, so the request has nothing to cancel."""
    view = one_client.insert(flow("a", max_attempts=1))
    (claimed,) = one_client.claim(["default"], worker_id="w", lease=0.02)
    one_client.request_cancel(view.id)
    if how == "reported":
        one_client.complete(claimed, "retryable")
    until(lambda: one_client.reconcile(view.id) and one_client.get(view.id).finished_at, what="it")
    assert states(one_client, view.id) == "a=discarded"


def test_a_wait_is_abandoned_and_its_signal_kept(client: Client) -> None:
    view = client.insert(flow("a"))
    client.await_step(view.id, "a", signal="go", correlation_key="k", deadline=timedelta(hours=1))
    client.request_cancel(view.id)
    assert client.deliver_signal("go", "k").status == "unmatched"
    assert ("await_step", "a", "abandoned", "abandoned_wait") in noted(client, view.id)


def test_repeating_it_is_harmless(client: Client) -> None:
    view = client.insert(flow("a"))
    client.claim(["default"], worker_id="w")
    first = client.request_cancel(view.id, reason="one")
    again = client.request_cancel(view.id, reason="two")
    assert again == first
    assert noted(client, view.id)[-1] == ("request_cancel", None, "duplicate", "duplicate_cancel")


def test_a_first_request_on_an_ended_workflow_is_refused(client: Client) -> None:
    view = client.insert(flow("a"))
    client.complete_step(view.id, "a")
    with refused("already_terminal") as info:
        client.request_cancel(view.id)
    assert info.value.legal_next_steps
    # It has ended well, and later refusals change nothing about that.
    assert client.list(status="Resolved").workflows[0].id == view.id
    with refused("workflow_not_found"):
        client.request_cancel(view.id[:-1] + ("2" if view.id[-1] != "2" else "3"))


def test_bad_input(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    wrong: list[dict[str, Any]] = [{"actor": 5}, {"reason": "x" * 513}, {"reason": "\ud800"}]
    for arguments in wrong:
        with refused("invalid_argument"):
            one_client.request_cancel(view.id, **arguments)
    with refused("workflow_not_found"):
        one_client.request_cancel("nobody")


def test_a_request_meets_a_release_that_is_under_way(one_client: Client) -> None:
    view = one_client.insert(fan_out(900))
    first_call_only(one_client, view.id, "root", "completed")
    after = one_client.request_cancel(view.id)
    assert after.terminal_cause == "operator_cancelled"
    assert after.cancelled_step_count == 900


# --- waits that the slices have not come to


def test_a_deadline_that_had_passed_may_be_the_end(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    end = datetime.now(UTC) + timedelta(milliseconds=50)
    one_client.await_step(view.id, "a", signal="go", correlation_key="k", deadline=end)
    until_past(one_client, end)
    with refused("already_terminal"):
        one_client.request_cancel(view.id)
    assert one_client.get(view.id).terminal_cause == "expired_wait"


@pytest.mark.parametrize(("count", "seconds"), [(101, 0.3), (250, 0.8)])
def test_deadlines_that_had_passed_at_the_request(
    one_client: Client, count: int, seconds: float
) -> None:
    """More waits than one call expires, and more than one slice cancels."""
    view = one_client.insert(flow(" ".join(f"s{n}" for n in range(count)) + " last"))
    end = datetime.now(UTC) + timedelta(seconds=seconds)
    for n in range(count):
        one_client.await_step(view.id, f"s{n}", signal="go", correlation_key="k", deadline=end)
    until_past(one_client, end)
    one_client.request_cancel(view.id)
    *waited, last = one_client.steps(view.id)
    assert {step.state for step in waited} == {"expired"}
    assert last.state == "cancelled"
