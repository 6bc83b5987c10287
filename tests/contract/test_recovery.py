"""Recoveries: retry, skip and cancel, and where they place descendants (contract §6)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rwf import Client, result
from rwf.model.views import RecoveryResult
from tests.support.commandline import NO_ID
from tests.support.flows import (
    fan_in,
    fan_out,
    flow,
    noted,
    other_semantics,
    own_key,
    raw,
    refused,
    states,
    until_past,
)


def moved(result: RecoveryResult) -> str:
    """Each change as text, ``"a:failed>available"``."""
    return " ".join(f"{one.step}:{one.before}>{one.after}" for one in result.changes)


def recovered(client: Client, workflow_id: str, step: str, action: str, **options: Any) -> str:
    """A recovery, after a dry run of it that has to return the same changes."""
    planned = client.recover_step(workflow_id, step, action, dry_run=True, **options)
    done = client.recover_step(workflow_id, step, action, **options)
    assert moved(planned) == moved(done)
    assert planned.change_count == done.change_count
    return moved(done)


# --- retry


def test_a_retry_revives_what_its_step_had_cancelled(client: Client) -> None:
    view = client.insert(flow("a b:a c:b d:c,+a"))
    client.complete_step(view.id, "a", "failed")
    assert states(client, view.id) == "a=failed b=cancelled c=cancelled d=cancelled"
    assert recovered(client, view.id, "a", "retry") == (
        "a:failed>available b:cancelled>pending c:cancelled>pending d:cancelled>pending"
    )
    for step in "abcd":
        client.complete_step(view.id, step)
    assert client.get(view.id).state == "completed"
    told = [(callback.event, callback.data.get("state")) for callback in client.callbacks(view.id)]
    assert told == [
        ("workflow.terminal", "failed"),
        ("workflow.recovery_completed", None),
        ("workflow.terminal", "completed"),
    ]


def test_what_another_parent_cancels_stays(client: Client) -> None:
    view = client.insert(flow("a b c:a,b d:a"))
    client.complete_step(view.id, "a", "failed")
    client.complete_step(view.id, "b", "failed")
    assert recovered(client, view.id, "a", "retry") == "a:failed>available d:cancelled>pending"
    # Whichever parent cancelled it first: c comes back with the last of them.
    assert recovered(client, view.id, "b", "retry") == "b:failed>available c:cancelled>pending"


def test_the_step_alone(client: Client) -> None:
    view = client.insert(flow("a b:a c:+a"))
    client.complete_step(view.id, "a", "failed")
    assert states(client, view.id) == "a=failed b=cancelled c=available"
    assert recovered(client, view.id, "a", "retry", scope="step") == (
        "a:failed>available c:available>pending"
    )
    client.complete_step(view.id, "a")
    assert states(client, view.id) == "a=completed b=cancelled c=available"


def test_downstream_runs_completed_steps_again(client: Client) -> None:
    view = client.insert(flow("a b:a c:+b d:c"))
    for step in "abc":
        client.complete_step(view.id, step, payload=step)
    with refused("illegal_transition") as info:
        client.recover_step(view.id, "b", "retry")
    assert info.value.legal_next_steps[0] == "inspect_step_result"
    assert recovered(client, view.id, "b", "retry", scope="downstream") == (
        "b:completed>available c:completed>pending d:available>pending"
    )
    assert client.result(view.id, "c") is not None
    client.complete_step(view.id, "b", payload="again")
    assert states(client, view.id) == "a=completed b=completed c=available d=pending"
    assert [row.attempt for row in client.results(view.id, step="b")] == [1, 2]


def test_a_join_never_runs_on_an_old_result(client: Client) -> None:
    view = client.insert(flow("a b c:a,b"))
    client.complete_step(view.id, "a")
    recovered(client, view.id, "a", "retry", scope="downstream")
    client.complete_step(view.id, "b")
    assert states(client, view.id) == "a=available b=completed c=pending"
    client.complete_step(view.id, "a")
    assert states(client, view.id) == "a=completed b=completed c=available"


def test_a_retry_grants_attempts_and_numbers_go_on(client: Client) -> None:
    view = client.insert(flow("a", max_attempts=2))
    for _ in range(2):
        client.complete_step(view.id, "a", "retryable", retry_in=0)
        client.reconcile(view.id)
    assert client.step(view.id, "a").state == "discarded"
    recovered(client, view.id, "a", "retry")
    assert (client.step(view.id, "a").attempt, client.step(view.id, "a").max_attempts) == (2, 4)
    client.complete_step(view.id, "a", "retryable", retry_in=0)
    assert client.step(view.id, "a").state == "retryable"
    assert recovered(client, view.id, "a", "retry") == "a:retryable>available"


def test_a_retry_that_would_be_cancelled_again_is_refused(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    client.complete_step(view.id, "a", "failed")
    for dry_run in (True, False):
        with refused("dependencies_unresolved") as info:
            client.recover_step(view.id, "b", "retry", dry_run=dry_run)
        assert "a, which" in info.value.message


def test_on_a_pending_or_available_step_it_stays(client: Client) -> None:
    view = client.insert(flow("a b:a c:b"))
    assert recovered(client, view.id, "a", "retry") == ""
    assert recovered(client, view.id, "b", "retry") == ""
    assert states(client, view.id) == "a=available b=pending c=pending"
    assert len([entry for entry in noted(client, view.id) if entry[0] == "recover_step"]) == 2


def test_a_waiting_and_an_expired_step(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    client.await_step(view.id, "a", signal="go", correlation_key="k")
    assert recovered(client, view.id, "a", "retry") == "a:awaiting_signal>available"
    client.await_step(
        view.id, "a", signal="go", correlation_key="k", deadline=timedelta(seconds=-1)
    )
    assert states(client, view.id) == "a=expired b=cancelled"
    assert recovered(client, view.id, "a", "retry") == "a:expired>available b:cancelled>pending"
    assert client.deliver_signal("go", "k").status == "unmatched"


def test_a_woken_step_that_is_taken_back_counts_no_attempt(client: Client) -> None:
    view = client.insert(flow("a b:+a"))
    client.complete_step(view.id, "a", "failed")
    (first,) = client.claim(["default"], worker_id="w")
    client.await_step(view.id, "b", signal="go", correlation_key="k", lease=first.lease)
    client.deliver_signal("go", "k", payload=1)
    assert recovered(client, view.id, "a", "retry") == "a:failed>available b:available>pending"
    client.complete_step(view.id, "a")
    (again,) = client.claim(["default"], worker_id="w")
    assert (again.step, again.attempt) == ("b", 1)
    assert again.signal is not None


def test_a_running_step_needs_force(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    (claimed,) = client.claim(["default"], worker_id="w")
    for action in ("retry", "skip", "cancel"):
        with refused("illegal_transition") as info:
            client.recover_step(view.id, "a", action)
        assert info.value.legal_next_steps[0] == "recover_with_force"
    assert recovered(client, view.id, "a", "retry", force=True) == "a:executing>available"
    with refused("stale_lease"):
        client.complete(claimed)


def test_a_step_without_a_result_waits_for_its_own_recovery(client: Client) -> None:
    wf = flow("x a").add("b", worker="w", input=result("a", "no.such"))
    view = client.insert(wf)
    client.complete_step(view.id, "x", "failed")
    client.complete_step(view.id, "a", payload={"n": 1})
    assert client.claim(["default"], worker_id="w") == []
    assert recovered(client, view.id, "x", "retry") == "x:failed>available"
    assert states(client, view.id) == "x=available a=completed b=pending"
    assert recovered(client, view.id, "b", "retry") == "b:pending>available"


def test_running_steps_keep_their_course_unless_they_are_of_the_set(client: Client) -> None:
    view = client.insert(flow("a b:+a c:b"))
    client.complete_step(view.id, "a", "failed")
    (claimed,) = client.claim(["default"], worker_id="w")
    assert recovered(client, view.id, "a", "retry") == "a:failed>available"
    client.complete_step(view.id, "a")
    assert states(client, view.id) == "a=completed b=executing c=pending"
    assert recovered(client, view.id, "a", "retry", scope="downstream") == (
        "a:completed>available b:executing>pending"
    )
    with refused("stale_lease"):
        client.complete(claimed)


# --- skip and cancel


def test_a_skip_counts_as_completed(client: Client) -> None:
    view = client.insert(flow("a b:a c:b d:+a"))
    client.complete_step(view.id, "a", "failed")
    assert recovered(client, view.id, "a", "skip") == (
        "a:failed>completed b:cancelled>available c:cancelled>pending"
    )
    step = client.step(view.id, "a")
    assert (step.state, step.terminal_cause) == ("completed", "operator_skipped")
    with refused("illegal_transition"):
        client.recover_step(view.id, "a", "skip")


def test_a_skip_of_an_open_step_releases_its_children(client: Client) -> None:
    view = client.insert(flow("a b:a c:b"))
    assert recovered(client, view.id, "b", "skip") == ("b:pending>completed c:pending>available")
    assert recovered(client, view.id, "a", "skip") == "a:available>completed"
    assert states(client, view.id) == "a=completed b=completed c=available"


def test_a_cancel_cascades(client: Client) -> None:
    view = client.insert(flow("a b:a c:b d:+b"))
    assert recovered(client, view.id, "a", "cancel") == (
        "a:available>cancelled b:pending>cancelled c:pending>cancelled d:pending>available"
    )
    assert client.step(view.id, "a").terminal_cause == "operator_cancelled"
    assert client.step(view.id, "b").terminal_cause == "cancelled_by_dependency"
    with refused("already_terminal"):
        client.recover_step(view.id, "a", "cancel")


# --- cancel requests


def test_a_standing_request_refuses_until_it_is_reopened(client: Client) -> None:
    view = client.insert(flow("a b:a c"))
    client.request_cancel(view.id)
    for action in ("retry", "skip"):
        with refused("cancel_requested"):
            client.recover_step(view.id, "a", action)
    assert recovered(client, view.id, "a", "retry", reopen=True) == (
        "a:cancelled>available b:cancelled>pending"
    )
    after = client.get(view.id)
    assert (after.cancel_requested_at, after.cancel_reason) == (None, None)
    assert ("request_cancel", None, "accepted", None) in noted(client, view.id)


@pytest.mark.parametrize("order", ["a b", "b a"])
@pytest.mark.parametrize("reopen_again", [False, True])
def test_a_join_comes_back_with_the_last_of_its_parents(
    client: Client, order: str, reopen_again: bool
) -> None:
    """Steps that a request had cancelled below all recovered steps, in whatever order."""
    view = client.insert(flow("a b join:a,b after:join"))
    client.request_cancel(view.id)
    first, second = order.split()
    assert recovered(client, view.id, first, "retry", reopen=True) == (
        f"{first}:cancelled>available"
    )
    assert recovered(client, view.id, second, "retry", reopen=reopen_again) == (
        f"{second}:cancelled>available join:cancelled>pending after:cancelled>pending"
    )
    for step in (first, second, "join", "after"):
        client.complete_step(view.id, step)
    assert client.get(view.id).state == "completed"


def test_a_join_waits_for_what_was_recovered_before(client: Client) -> None:
    view = client.insert(flow("a b:a c d:b,c e:d f:e,c"))
    client.request_cancel(view.id)
    assert recovered(client, view.id, "c", "retry", reopen=True) == "c:cancelled>available"
    (running,) = client.claim(["default"], worker_id="w")
    assert recovered(client, view.id, "a", "retry") == (
        "a:cancelled>available b:cancelled>pending d:cancelled>pending e:cancelled>pending "
        "f:cancelled>pending"
    )
    client.complete_step(view.id, "a")
    client.complete_step(view.id, "b")
    assert states(client, view.id).endswith("c=executing d=pending e=pending f=pending")
    client.complete(running)
    assert states(client, view.id).endswith("d=available e=pending f=pending")


def test_what_an_operator_had_cancelled_stays(client: Client) -> None:
    view = client.insert(flow("a b:a c:a d:b"))
    client.recover_step(view.id, "b", "cancel")
    client.request_cancel(view.id)
    assert recovered(client, view.id, "a", "retry", reopen=True) == (
        "a:cancelled>available c:cancelled>pending"
    )
    assert recovered(client, view.id, "b", "retry") == "b:cancelled>pending d:cancelled>pending"


# --- commands


def test_a_command_id_makes_a_duplicate(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    client.complete_step(view.id, "a", "failed")
    first = client.recover_step(view.id, "a", "retry", command_id="one", actor="ann", reason="why")
    again = client.recover_step(view.id, "a", "retry", command_id="one")
    assert not first.duplicate
    assert again.duplicate
    assert (again.session_id, again.changes) == (first.session_id, first.changes)
    latest = client.explain(view.id).latest_recovery
    assert latest is not None
    assert (latest["session_id"], latest["actor"], latest["reason"]) == (
        first.session_id,
        "ann",
        "why",
    )


def test_the_evidence_tells_what_became_of_the_step(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    client.complete_step(view.id, "a", "failed")
    for action in ("retry", "cancel", "skip"):
        client.recover_step(view.id, "a", action, reason=action)
    entries = [one for one in client.evidence(view.id) if one.action == "recover_step"]
    assert [(one.metadata["reason"], one.before, one.after) for one in entries] == [
        ("retry", "failed", "available"),
        ("cancel", "available", "cancelled"),
        ("skip", "cancelled", "completed"),
    ]


def test_a_rejected_command_needs_review_until_the_next_is_accepted(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    with refused("step_not_found"):
        client.recover_step(view.id, "z", "retry")
    assert client.explain(view.id).operator_status == "Needs Review"
    client.recover_step(view.id, "a", "retry")
    assert client.explain(view.id).operator_status == "Runnable"


def test_a_dry_run_is_refused_as_the_command_is(
    one_client: Client, broken_on_purpose: None
) -> None:
    view, strange = one_client.insert(flow("a")), one_client.insert(flow("a"))
    redis, key = raw(one_client), own_key(strange.id)
    redis.hset(key, ":s", b"9" + redis.hget(key, ":s")[1:])
    for workflow_id, step, reason in (
        (NO_ID, "a", "workflow_not_found"),
        (view.id, "z", "step_not_found"),
        (view.id, ":s", "step_not_found"),
        (strange.id, "a", "unsupported_semantics"),
    ):
        told = []
        for dry_run in (True, False):
            with refused(reason) as info:
                one_client.recover_step(workflow_id, step, "retry", dry_run=dry_run)
            told.append((info.value.message, info.value.legal_next_steps))
        assert told[0] == told[1]


def test_bad_input(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    for reason, arguments in (
        ("unsupported_recovery_action", {"action": "restart"}),
        ("unsupported_recovery_action", {"action": None}),
        ("invalid_argument", {"action": "retry", "scope": "all"}),
        ("invalid_argument", {"action": "retry", "force": 1}),
        ("invalid_argument", {"action": "retry", "reason": 5}),
        ("unsupported_recovery_action", {"action": "skip", "scope": "downstream"}),
    ):
        given: dict[str, Any] = arguments
        with refused(reason):
            one_client.recover_step(view.id, "a", **given)
    with refused("workflow_not_found"):
        one_client.recover_step("nobody", "a", "retry")


# --- sizes, and clients that die


def test_a_wide_join(one_client: Client) -> None:
    view = one_client.insert(fan_in(700))
    one_client.complete_step(view.id, "p650", "failed")
    for dry_run in (True, False):
        with refused("dependencies_unresolved") as info:
            one_client.recover_step(view.id, "last", "retry", dry_run=dry_run)
        assert "p650, which" in info.value.message
    result = one_client.recover_step(view.id, "p650", "retry")
    assert moved(result) == "p650:failed>available last:cancelled>pending"
    items = [step.name for step in one_client.steps(view.id) if step.state == "available"]
    for name in items:
        one_client.complete_step(view.id, name)
    assert one_client.step(view.id, "last").state == "available"


def test_a_wide_fan_taken_back(one_client: Client) -> None:
    view = one_client.insert(fan_out(700, "+"))
    one_client.complete_step(view.id, "root", "failed")
    result = one_client.recover_step(view.id, "root", "retry")
    assert result.change_count == 701
    assert one_client.get(view.id).runnable_step_count == 1


def test_what_another_parent_cancels_too_is_not_taken_along(one_client: Client) -> None:
    view = one_client.insert(flow("a b c:a,b"))
    one_client.complete_step(view.id, "a", "failed")
    one_client.complete_step(view.id, "b", "failed")
    before = one_client.step(view.id, "c")
    until_past(one_client, before.last_transition_at)
    done = one_client.recover_step(view.id, "a", "retry")
    assert [change.step for change in done.changes] == ["a"]
    assert states(one_client, view.id) == "a=available b=failed c=cancelled"
    assert one_client.step(view.id, "c") == before


def test_what_nothing_cancels_any_more_joins_over_a_cancel_edge_only(one_client: Client) -> None:
    view = one_client.insert(flow("a p y:+a,p"))
    for step in ("p", "a"):
        one_client.complete_step(view.id, step, "failed")
    one_client.recover_step(view.id, "p", "retry", scope="step")
    one_client.complete_step(view.id, "p")
    done = one_client.recover_step(view.id, "a", "retry")
    assert [change.step for change in done.changes] == ["a"]
    assert states(one_client, view.id) == "a=available p=completed y=cancelled"


def test_an_available_step_keeps_its_place_and_is_granted_attempts(one_client: Client) -> None:
    view = one_client.insert(flow("a", max_attempts=2))
    one_client.complete_step(view.id, "a", "retryable", retry_in=0)
    one_client.reconcile(view.id)
    before = one_client.step(view.id, "a")
    assert before.state == "available"
    one_client.recover_step(view.id, "a", "retry")
    assert one_client.step(view.id, "a") == before.model_copy(update={"max_attempts": 3})


def test_a_pending_step_waits_again_for_a_parent_that_is_revived(one_client: Client) -> None:
    view = one_client.insert(flow("a b c:+a,b"))
    one_client.complete_step(view.id, "a", "failed")
    one_client.recover_step(view.id, "a", "retry", scope="step")
    one_client.complete_step(view.id, "b")
    assert states(one_client, view.id) == "a=available b=completed c=pending"
    one_client.complete_step(view.id, "a")
    assert states(one_client, view.id) == "a=completed b=completed c=available"


def test_a_wait_that_has_run_out_is_expired_when_it_is_recovered(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    end = datetime.now(UTC) + timedelta(milliseconds=50)
    one_client.await_step(view.id, "a", signal="go", correlation_key="k", deadline=end)
    until_past(one_client, end)
    done = one_client.recover_step(view.id, "a", "retry")
    assert moved(done) == "a:expired>available"


def test_a_step_that_is_skipped_awaits_nothing_any_more(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    past = timedelta(seconds=-1)
    one_client.await_step(view.id, "a", signal="go", correlation_key="k", deadline=past)
    assert one_client.recover_step(view.id, "a", "skip").change_count == 1
    assert one_client.deliver_signal("go", "k").status == "unmatched"


def test_a_retry_leaves_others_where_they_stand(one_client: Client) -> None:
    view = one_client.insert(flow("a b:a x y:x"))
    one_client.complete_step(view.id, "x", "retryable", retry_in=60)
    one_client.complete_step(view.id, "a", "failed")
    for scope in ("step", "blocked", "downstream"):
        one_client.recover_step(view.id, "a", "retry", scope=scope)
        assert states(one_client, view.id).endswith("x=retryable y=pending")


def test_descendants_are_granted_attempts(one_client: Client) -> None:
    view = one_client.insert(flow("a b:a", max_attempts=2))
    one_client.complete_step(view.id, "a")
    one_client.complete_step(view.id, "b")
    one_client.recover_step(view.id, "a", "retry", scope="downstream")
    assert (one_client.step(view.id, "b").attempt, one_client.step(view.id, "b").max_attempts) == (
        1,
        3,
    )


def test_a_standing_request_refuses_all_but_a_cancel(one_client: Client) -> None:
    view = one_client.insert(flow("a b:a"))
    (held,) = one_client.claim(["default"], worker_id="w")
    one_client.request_cancel(view.id)
    for action in ("retry", "skip"):
        with refused("cancel_requested"):
            one_client.recover_step(view.id, "a", action, force=True)
    one_client.recover_step(view.id, "a", "cancel", force=True)
    assert states(one_client, view.id) == "a=cancelled b=cancelled"
    with refused("stale_lease"):
        one_client.complete(held)


def test_a_repeated_recovery_is_evidence(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    one_client.complete_step(view.id, "a", "failed")
    for duplicate in (False, True):
        done = one_client.recover_step(view.id, "a", "retry", command_id="once")
        assert done.duplicate is duplicate
    assert noted(one_client, view.id)[1:] == [
        ("recover_step", "a", "accepted", None),
        ("recover_step", "a", "duplicate", "duplicate_recovery"),
    ]


def test_a_workflow_of_other_semantics_is_not_marked(
    one_client: Client, broken_on_purpose: None
) -> None:
    view = one_client.insert(flow("a"))
    other_semantics(one_client, view.id)
    before = raw(one_client).hgetall(own_key(view.id))
    with refused("unsupported_semantics"):
        one_client.recover_step(view.id, "a", "cancel")
    assert raw(one_client).hgetall(own_key(view.id)) == before


def test_what_an_operator_says_is_kept_as_it_is(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    one_client.complete_step(view.id, "a", "failed")
    for duplicate in (False, True):
        done = one_client.recover_step(
            view.id, "a", "retry", reason="x|y,z", actor="me|too", command_id="c|1"
        )
        assert (done.duplicate, done.change_count) == (duplicate, 1)
    accepted = next(one for one in one_client.evidence(view.id) if one.action == "recover_step")
    assert accepted.actor == "me|too"
    assert accepted.metadata == {
        "recovery": "retry", "scope": "blocked", "reason": "x|y,z", "command_id": "c|1",
    }  # fmt: skip


def test_a_parent_of_the_first_chunk_is_judged(one_client: Client) -> None:
    view = one_client.insert(fan_in(450))
    one_client.complete_step(view.id, "p3", "failed")
    with refused("dependencies_unresolved") as info:
        one_client.recover_step(view.id, "last", "retry")
    assert "p3, which" in info.value.message


def test_a_recovery_in_a_partition_that_does_not_exist(one_client: Client) -> None:
    with refused("workflow_not_found"):
        one_client.recover_step("9999-aaaaaaaaaaaaaaaa", "a", "retry")
