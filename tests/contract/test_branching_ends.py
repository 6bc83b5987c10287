"""Steps that always run, and when a workflow starts and must have ended (contract §13)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from rwf import Client, Workflow
from tests.contract.test_branching import causes
from tests.contract.test_recovery import recovered
from tests.support.flows import flow, noted, raw, refused, server_time, states, until_past

SOON = timedelta(milliseconds=80)


def machine(deadline: timedelta | None = None) -> Workflow:
    """A temporary machine that is deleted in any case."""
    workflow = Workflow("machine", deadline=deadline)
    workflow.add("make", worker="w").add("work", worker="w", deps=["make"])
    return workflow.add("delete", worker="w", deps=["make", "work"], always=True)


def claimed_steps(client: Client) -> list[str]:
    return [claimed.step for claimed in client.claim(["default"], worker_id="w", limit=10)]


# --- always


def test_a_finalizer_runs_after_success(client: Client) -> None:
    view = client.insert(machine())
    assert view.semantics_version == 3
    for step in ("make", "work", "delete"):
        client.complete_step(view.id, step)
    assert client.get(view.id).terminal_cause == "completed"


def test_a_finalizer_runs_after_a_failure(client: Client) -> None:
    view = client.insert(machine())
    client.complete_step(view.id, "make", "failed")
    assert states(client, view.id) == "make=failed work=cancelled delete=available"
    client.complete_step(view.id, "delete")
    assert client.get(view.id).terminal_cause == "step_failed"


@pytest.mark.parametrize("force", [False, True])
def test_a_finalizer_runs_after_a_cancel_request(client: Client, force: bool) -> None:
    view = client.insert(machine())
    client.complete_step(view.id, "make")
    asked = client.request_cancel(view.id, force=force)
    assert asked.state == "cancel_requested"
    assert causes(client, view.id) == "make=completed work=operator_cancelled delete=available"
    (claimed,) = client.claim(["default"], worker_id="w")
    report = client.heartbeat([claimed])
    assert (claimed.step, report.cancel_requested) == ("delete", ())
    assert client.request_cancel(view.id, force=True).state == "cancel_requested"
    assert client.step(view.id, "delete").state == "executing"
    done = client.complete(claimed)
    assert (done.step.terminal_cause, done.workflow.terminal_cause) == (
        "completed",
        "operator_cancelled",
    )


def test_a_finalizer_waits_for_a_step_that_runs_while_a_request_stands(client: Client) -> None:
    view = client.insert(machine())
    (make,) = client.claim(["default"], worker_id="w")
    client.request_cancel(view.id)
    assert states(client, view.id) == "make=executing work=cancelled delete=pending"
    client.complete(make)
    assert client.step(view.id, "delete").state == "available"


def test_a_forced_request_takes_the_lease_and_the_finalizer_runs(client: Client) -> None:
    view = client.insert(machine())
    client.claim(["default"], worker_id="w")
    client.request_cancel(view.id, force=True)
    assert states(client, view.id) == "make=cancelled work=cancelled delete=available"


def test_a_finalizers_retry_is_a_retry_while_a_request_stands(client: Client) -> None:
    view = client.insert(machine())
    client.request_cancel(view.id)
    (claimed,) = client.claim(["default"], worker_id="w")
    client.complete(claimed, "retryable", retry_in=0)
    assert client.step(view.id, "delete").state == "retryable"
    client.reconcile(view.id)
    (again,) = client.claim(["default"], worker_id="w")
    assert again.attempt == 2
    client.await_step(view.id, "delete", signal="go", correlation_key="k", lease=again.lease)
    client.deliver_signal("go", "k")
    (woken,) = client.claim(["default"], worker_id="w")
    client.release([woken])
    assert client.step(view.id, "delete").state == "available"
    client.complete_step(view.id, "delete", "failed")
    assert client.get(view.id).terminal_cause == "step_failed"
    assert recovered(client, view.id, "delete", "retry") == "delete:failed>available"
    client.complete_step(view.id, "delete")
    assert client.get(view.id).terminal_cause == "operator_cancelled"


def test_a_lease_that_is_given_back_under_a_request_lets_the_finalizer_run(
    client: Client,
) -> None:
    view = client.insert(machine())
    (make,) = client.claim(["default"], worker_id="w")
    client.request_cancel(view.id)
    client.release([make])
    assert states(client, view.id) == "make=cancelled work=cancelled delete=available"


def test_finalizers_run_one_after_the_other_below_a_wide_graph(client: Client) -> None:
    text = " ".join(f"s{n}" for n in range(450))
    parents = ",".join(f"+s{n}" for n in range(450))
    view = client.insert(flow(f"{text} first*:{parents} second*:first last:second"))
    client.request_cancel(view.id)
    assert claimed_steps(client) == ["first"]
    client.complete_step(view.id, "first", "failed", force=True)
    assert claimed_steps(client) == ["second"]
    client.complete_step(view.id, "second", force=True)
    assert client.step(view.id, "last").terminal_cause == "operator_cancelled"


def test_a_finalizer_is_not_skipped_with_a_branch(client: Client) -> None:
    view = client.insert(machine())
    client.complete_step(view.id, "make", "skipped", branch=True)
    assert causes(client, view.id) == "make=skipped work=skipped delete=available"


def test_no_failure_edge_leads_to_a_finalizer() -> None:
    from rwf import WorkflowInvalid

    with pytest.raises(WorkflowInvalid, match="no edge to it is on_failure"):
        flow("a b*:!a").validate()


# --- starts


def test_nothing_runs_before_the_start(client: Client) -> None:
    view = client.insert(flow("a b:a"), start_at=SOON)
    assert view.starts_at is not None
    assert (view.semantics_version, view.state) == (3, "pending")
    assert claimed_steps(client) == []
    found = client.explain_step(view.id, "a")
    (blocker,) = found.blockers
    assert (blocker.code, blocker.details) == ("scheduled", {"starts_at": view.starts_at})
    assert (found.operator_status, found.executable_actions) == ("Waiting", ())
    (cause,) = client.explain(view.id).root_causes
    assert (cause.step, cause.code, cause.held_count) == ("a", "scheduled", 1)
    with refused("dependencies_unresolved"):
        client.complete_step(view.id, "a")
    for action in ("retry", "skip", "cancel"):
        with refused("illegal_transition"):
            client.recover_step(view.id, "a", action)
    until_past(client, view.starts_at)
    assert [repair.kind for repair in client.reconcile(view.id).repairs] == ["start_due"]
    begun = client.get(view.id)
    assert (begun.starts_at, states(client, view.id)) == (None, "a=available b=pending")


def test_a_start_that_has_passed_is_now(client: Client) -> None:
    for start in (timedelta(0), timedelta(-1), datetime(2000, 1, 1, tzinfo=UTC)):
        view = client.insert(flow("a"), start_at=start)
        assert states(client, view.id) == "a=available"


def test_a_time_and_a_delay_mean_the_same(client: Client) -> None:
    later = server_time(client) + timedelta(hours=1)
    at = client.insert(flow("a"), start_at=later)
    after = client.insert(flow("a"), start_at=timedelta(hours=1))
    assert at.starts_at is not None
    assert after.starts_at is not None
    assert abs(at.starts_at - later) <= timedelta(milliseconds=1)
    assert abs(after.starts_at - later) < timedelta(minutes=1)


def test_what_is_no_start_is_refused(one_client: Client) -> None:
    for start in (5, "tomorrow", datetime(2030, 1, 1), timedelta(days=40_000)):
        with refused("invalid_argument"):
            one_client.insert(flow("a"), start_at=start)  # type: ignore[arg-type]


def test_a_cancel_request_before_the_start_ends_it_but_for_finalizers(client: Client) -> None:
    view = client.insert(flow("a b:a last*:b root*"), start_at=timedelta(hours=1))
    client.request_cancel(view.id)
    assert (
        causes(client, view.id)
        == ("a=operator_cancelled root=available b=operator_cancelled last=available")
        or causes(client, view.id).count("available") == 2
    )
    for step in ("last", "root"):
        client.complete_step(view.id, step)
    assert client.get(view.id).state == "cancelled"


def test_lost_timers_of_starts_and_deadlines_are_restored(client: Client) -> None:
    view = client.insert(machine(timedelta(hours=2)), start_at=timedelta(hours=1))
    timers = f"rwf:{{{view.id.partition('-')[0]}}}:timers"
    assert len(raw(client).zrange(timers, 0, -1)) == 2
    raw(client).delete(timers)
    assert client.rebuild().repairs == {"start_timer_missing": 1, "deadline_timer_missing": 1}
    raw(client).zadd(timers, {f"b|{view.id}": 5, f"d|{view.id}": 5})
    client.rebuild()
    assert client.get(view.id).starts_at == view.starts_at


# --- deadlines


def test_a_deadline_asks_the_workflow_to_end(client: Client) -> None:
    view = client.insert(machine(SOON))
    assert view.deadline_at is not None
    client.complete_step(view.id, "make")
    until_past(client, view.deadline_at)
    assert [repair.kind for repair in client.reconcile(view.id).repairs] == ["deadline_due"]
    assert causes(client, view.id) == "make=completed work=operator_cancelled delete=available"
    late = client.get(view.id)
    assert (late.state, late.cancel_reason) == ("cancel_requested", "the deadline has passed")
    (entry,) = [one for one in client.evidence(view.id) if one.action == "request_cancel"]
    assert (entry.actor, entry.source, entry.reason_code) == (
        "deadline",
        "server",
        "deadline_exceeded",
    )
    client.complete_step(view.id, "delete")
    done = client.get(view.id)
    assert (done.state, done.terminal_cause) == ("cancelled", "deadline_exceeded")
    told = [one.data for one in client.callbacks(view.id)]
    assert told == [
        {"state": "cancelled", "terminal_cause": "deadline_exceeded", "skipped_step_count": 0}
    ]


def test_a_workflow_that_has_ended_has_no_deadline_any_more(client: Client) -> None:
    view = client.insert(Workflow("w", deadline=timedelta(hours=1)).add("a", worker="w"))
    timers = f"rwf:{{{view.id.partition('-')[0]}}}:timers"
    assert raw(client).zscore(timers, f"d|{view.id}") is not None
    client.complete_step(view.id, "a", "failed")
    assert raw(client).zscore(timers, f"d|{view.id}") is None
    recovered(client, view.id, "a", "retry")
    assert raw(client).zscore(timers, f"d|{view.id}") is not None


def test_a_deadline_counts_from_the_start(client: Client) -> None:
    view = client.insert(machine(timedelta(hours=1)), start_at=timedelta(hours=1))
    assert view.starts_at is not None
    assert view.deadline_at == view.starts_at + timedelta(hours=1)


def test_a_request_by_an_operator_is_none_of_the_deadline(client: Client) -> None:
    view = client.insert(machine(SOON))
    client.request_cancel(view.id)
    until_past(client, view.inserted_at + SOON)
    client.reconcile(view.id)
    client.complete_step(view.id, "delete")
    assert client.get(view.id).terminal_cause == "operator_cancelled"
    assert [one[0] for one in noted(client, view.id)].count("request_cancel") == 1


def test_a_reopened_workflow_is_not_asked_a_second_time(client: Client) -> None:
    view = client.insert(machine(timedelta(milliseconds=1)))
    until_past(client, view.inserted_at + timedelta(milliseconds=1))
    client.reconcile(view.id)
    client.complete_step(view.id, "delete")
    assert client.get(view.id).terminal_cause == "deadline_exceeded"
    recovered(client, view.id, "make", "retry", reopen=True)
    client.reconcile(view.id)
    assert states(client, view.id) == "make=available work=pending delete=completed"
    client.request_cancel(view.id)
    assert client.get(view.id).terminal_cause == "operator_cancelled"


def test_what_is_no_deadline_is_refused() -> None:
    from rwf import WorkflowInvalid

    for deadline in (timedelta(0), timedelta(-1), 5, timedelta(days=40_000)):
        with pytest.raises(WorkflowInvalid, match="deadline"):
            Workflow("w", deadline=deadline)  # type: ignore[arg-type]
    assert Workflow("w", deadline=timedelta(seconds=90)).to_dict()["deadline"] == 90.0
