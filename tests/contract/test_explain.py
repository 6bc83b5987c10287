"""Contract §7: why a step, or a workflow, is in its state."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, timedelta
from typing import Any

import pytest

from rwf import Client, Completion, result
from rwf.model.states import StepState
from rwf.model.views import RootCause
from tests.conftest import connect
from tests.support.explain_cases import causes, codes
from tests.support.flows import chain, fan_in, flow, raw, refused, stored
from tests.support.servers import AnyServer

# --- one step


def test_an_available_step(client: Client) -> None:
    view = client.insert(flow("a", queue="billing"))
    told = client.explain_step(view.id, "a")
    assert (told.workflow_id, told.step, told.state) == (view.id, "a", "available")
    assert told.operator_status == "Runnable"
    assert codes(told) == ["waiting_for_worker"]
    blocker = told.blockers[0]
    assert (blocker.scope, blocker.since, blocker.retry_at) == ("step", view.inserted_at, None)
    assert blocker.details["queue"] == "billing"
    assert 0 <= blocker.details["waiting_seconds"] < 60
    assert blocker.summary
    assert "billing" in told.diagnosis
    assert (told.dependencies, told.dependency_count) == ((), 0)
    assert (told.root_causes, told.root_cause_count) == ((), 0)
    assert "complete" in told.executable_actions
    assert told.latest_rejection is None


def test_a_queue_that_nobody_serves_any_more(one_client: Client) -> None:
    one_client.claim(["billing"], worker_id="w")
    view = one_client.insert(flow("a", queue="billing"))
    told = one_client.explain_step(view.id, "a")
    assert told.operator_status == "Runnable"
    assert (told.blockers[0].details["served"], told.blockers[0].details["served_before"]) == (
        True,
        True,
    )
    raw(one_client).zincrby("rwf:{0}:served", -61_000, "billing")  # a minute passes
    told = one_client.explain_step(view.id, "a")
    assert told.operator_status == "Blocked"
    assert (told.blockers[0].details["served"], told.blockers[0].details["served_before"]) == (
        False,
        True,
    )


def test_a_step_that_waits_for_another(client: Client) -> None:
    view = client.insert(flow("a b:a c:+b"))
    told = client.explain_step(view.id, "b")
    assert (told.state, told.operator_status) == ("pending", "Waiting")
    assert codes(told) == ["waiting_on_dependencies"]
    assert told.blockers[0].details == {"steps": ["a"], "count": 1}
    [dependency] = told.dependencies
    assert (dependency.step, dependency.state) == ("a", "available")
    assert (dependency.policy, dependency.result_status) == ("cancel", None)
    assert causes(told) == [("a", "waiting_for_worker", ("a", "b"))]
    cause = told.root_causes[0]
    assert (cause.state, cause.truncated) == ("available", False)
    assert "complete_step" in cause.legal_next_steps
    assert "complete" not in told.executable_actions
    far = client.explain_step(view.id, "c")
    assert far.dependencies[0].policy == "continue"
    assert causes(far) == [("a", "waiting_for_worker", ("a", "b", "c"))]


def test_a_retry(client: Client) -> None:
    view = client.insert(flow("a b:a c:b d"))
    step = client.complete_step(view.id, "a", "retryable", retry_in=60).step
    told = client.explain_step(view.id, "a")
    assert (told.state, told.operator_status) == ("retryable", "Waiting")
    assert codes(told) == ["retry_scheduled"]
    assert told.blockers[0].retry_at == step.retry_at
    assert told.blockers[0].since == step.last_transition_at
    assert "complete" in told.executable_actions
    child = client.explain_step(view.id, "b")
    assert child.operator_status == "Blocked"
    assert codes(child) == ["waiting_on_retryable_dependency"]
    assert child.blockers[0].details == {"steps": ["a"], "count": 1}
    assert child.dependencies[0].result_status == "retryable"
    assert causes(child) == [("a", "retry_scheduled", ("a", "b"))]
    grandchild = client.explain_step(view.id, "c")
    assert grandchild.operator_status == "Waiting"
    assert codes(grandchild) == ["waiting_on_dependencies"]
    assert causes(grandchild) == [("a", "retry_scheduled", ("a", "b", "c"))]


def test_parents_in_several_states(client: Client) -> None:
    view = client.insert(flow("a b c d:c e:a,b,c,+d"))
    client.complete_step(view.id, "a", payload=1)
    client.complete_step(view.id, "b", "retryable", retry_in=60)
    told = client.explain_step(view.id, "e")
    assert told.operator_status == "Blocked"
    assert codes(told) == ["waiting_on_retryable_dependency", "waiting_on_dependencies"]
    assert [blocker.details["steps"] for blocker in told.blockers] == [["b"], ["c", "d"]]
    assert [
        (d.step, d.state.value, d.policy.value, d.result_status) for d in told.dependencies
    ] == [
        ("a", "completed", "cancel", "completed"),
        ("b", "retryable", "cancel", "retryable"),
        ("c", "available", "cancel", None),
        ("d", "pending", "continue", None),
    ]
    assert sorted(causes(told)) == [
        ("b", "retry_scheduled", ("b", "e")),
        ("c", "waiting_for_worker", ("c", "e")),
    ]
    assert told.root_cause_count == 2


@pytest.mark.parametrize("status", ["failed", "discarded"])
def test_a_failure_and_what_it_cancelled(client: Client, status: str) -> None:
    view = client.insert(flow("a b:a c:b x d:c,x"))
    client.complete_step(view.id, "a", status)
    told = client.explain_step(view.id, "a")
    assert (told.state, told.operator_status) == (status, "Needs Review")
    assert codes(told) == ["step_failed"]
    assert told.executable_actions == ("retry", "skip")
    for step, path in (("b", ("a", "b")), ("c", ("a", "b", "c")), ("d", ("a", "b", "c", "d"))):
        child = client.explain_step(view.id, step)
        assert (child.state, child.operator_status) == ("cancelled", "Resolved")
        assert codes(child) == ["cancelled_by_dependency"]
        assert child.blockers[0].details == {"steps": [path[-2]], "count": 1}
        assert causes(child) == [("a", "step_failed", path)]
        assert "inspect_step_result" in child.root_causes[0].legal_next_steps


def test_a_cancelled_step_and_what_it_cancelled(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    client.complete_step(view.id, "a", "cancelled")
    told = client.explain_step(view.id, "a")
    assert (codes(told), told.operator_status) == ([], "Resolved")
    child = client.explain_step(view.id, "b")
    assert causes(child) == [("a", "cancelled", ("a", "b"))]


def test_a_completed_step(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    client.complete_step(view.id, "a")
    client.complete_step(view.id, "b")
    told = client.explain_step(view.id, "b")
    assert (told.operator_status, codes(told), told.root_causes) == ("Resolved", [], ())
    assert "completed" in told.diagnosis
    assert told.dependencies[0].result_status == "completed"


def test_a_failed_parent_over_a_continue_edge_blocks_nothing(client: Client) -> None:
    view = client.insert(flow("a b c:+a,b"))
    client.complete_step(view.id, "a", "failed")
    told = client.explain_step(view.id, "c")
    assert codes(told) == ["waiting_on_dependencies"]
    assert causes(told) == [("b", "waiting_for_worker", ("b", "c"))]


def test_the_latest_rejection(client: Client) -> None:
    view = client.insert(flow("a b:a c:a"))
    for step, reason in (("b", "dependencies_unresolved"), ("c", "dependencies_unresolved")):
        with refused(reason):
            client.complete_step(view.id, step, actor=f"operator of {step}")
    told = client.explain_step(view.id, "b").latest_rejection
    assert told is not None
    assert (told.step, told.reason_code, told.actor) == (
        "b",
        "dependencies_unresolved",
        "operator of b",
    )
    whole = client.explain(view.id).latest_rejection
    assert whole is not None
    assert whole.step == "c"
    assert client.explain_step(view.id, "a").latest_rejection is None
    client.complete_step(view.id, "a")
    client.complete_step(view.id, "a")  # a duplicate is not a rejection
    assert client.explain_step(view.id, "a").latest_rejection is None
    assert client.explain(view.id).latest_rejection == whole
    with refused("stale_lease"):
        client.complete_step(view.id, "b", lease="x")
    told = client.explain_step(view.id, "b").latest_rejection
    assert told is not None
    assert told.reason_code == "stale_lease"


def test_a_rejection_behind_many_duplicates_is_found(one_client: Client) -> None:
    view = one_client.insert(flow("a b:a"))
    with refused("dependencies_unresolved"):
        one_client.complete_step(view.id, "b")
    one_client.complete_step(view.id, "a")
    items = [Completion(workflow_id=view.id, step="a")] * 600
    one_client.complete_many(items)
    told = one_client.explain_step(view.id, "b").latest_rejection
    assert told is not None
    assert told.reason_code == "dependencies_unresolved"


# --- what bounds it


def test_lists_hold_at_most_a_thousand(one_client: Client) -> None:
    view = one_client.insert(fan_in(1203))
    one_client.complete_step(view.id, "p7", "retryable", retry_in=60)
    told = one_client.explain_step(view.id, "last")
    assert (len(told.dependencies), told.dependency_count) == (1000, 1203)
    assert (len(told.root_causes), told.root_cause_count) == (1000, 1203)
    listed = [(len(one.details["steps"]), one.details["count"]) for one in told.blockers]
    assert listed == [(1, 1), (1000, 1202)]
    whole = one_client.explain(view.id)
    assert (len(whole.root_causes), whole.root_cause_count) == (1000, 1203)


def test_causes_across_a_depth_of_a_thousand(client: Client) -> None:
    view = client.insert(chain(1000))
    names = tuple(f"s{n}" for n in range(1000))
    told = client.explain_step(view.id, "s999")
    assert causes(told) == [("s0", "waiting_for_worker", names)]
    client.complete_step(view.id, "s0", "failed")
    told = client.explain_step(view.id, "s999")
    assert codes(told) == ["cancelled_by_dependency"]
    assert causes(told) == [("s0", "step_failed", names)]
    assert causes(client.explain_step(view.id, "s1")) == [("s0", "step_failed", ("s0", "s1"))]


def test_a_path_is_bounded_too(one_client: Client) -> None:
    view = one_client.insert(chain(1500))
    [cause] = one_client.explain_step(view.id, "s1499").root_causes
    assert len(cause.path) == 1000
    assert (cause.path[0], cause.path[-1], cause.path.count("...")) == ("s0", "s1499", 1)


def test_a_lattice_has_more_paths_than_could_be_walked(one_client: Client) -> None:
    """Ten steps in each of 40 layers, each depending on all of the layer before: 10 to the 39th
    paths, one root cause."""
    words = ["root", *(f"a0.{n}:root" for n in range(10))]
    for layer in range(1, 40):
        above = ",".join(f"a{layer - 1}.{n}" for n in range(10))
        words += [f"a{layer}.{n}:{above}" for n in range(10)]
    view = one_client.insert(flow(" ".join(words)))
    told = one_client.explain_step(view.id, "a39.9")
    assert [(c.step, c.code, len(c.path)) for c in told.root_causes] == [
        ("root", "waiting_for_worker", 41)
    ]
    [cause] = one_client.explain(view.id).root_causes
    assert (cause.step, cause.held_count, cause.truncated) == ("root", 400, False)


# --- a workflow


def held(found: tuple[RootCause, ...]) -> list[tuple[str, str, int]]:
    return [(cause.step, cause.code, cause.held_count) for cause in found]


def test_a_workflow(client: Client) -> None:
    view = client.insert(flow("a b x a1:a a2:a1 b1:b join:a2,b1 lone:x x2:x x3:x2 x4:x3"))
    client.complete_step(view.id, "a", "retryable", retry_in=60)
    told = client.explain(view.id)
    assert (told.workflow_id, told.state, told.operator_status) == (
        view.id,
        "available",
        "Runnable",
    )
    assert held(told.root_causes) == [
        ("x", "waiting_for_worker", 4),
        ("a", "retry_scheduled", 3),
        ("b", "waiting_for_worker", 2),
    ]
    assert told.root_cause_count == 3
    assert not any(cause.truncated for cause in told.root_causes)
    assert {state: count for state, count in told.counts.items() if count} == {
        StepState.AVAILABLE: 2,
        StepState.RETRYABLE: 1,
        StepState.PENDING: 8,
    }
    assert told.callbacks.pending == told.callbacks.delivered == told.callbacks.dead == 0
    assert told.latest_recovery is None
    assert told.latest_rejection is None
    assert "x" in told.diagnosis


def test_a_workflow_whose_last_steps_wait(client: Client) -> None:
    """They hold back no other step, but nothing else explains why the workflow does not end."""
    view = client.insert(flow("a b c"))
    client.await_step(view.id, "a", signal="go", correlation_key="k")
    client.complete_step(view.id, "b", "retryable", retry_in=60)
    client.complete_step(view.id, "c")
    told = client.explain(view.id)
    assert held(told.root_causes) == [("a", "waiting_on_signal", 0), ("b", "retry_scheduled", 0)]
    assert told.root_causes[0].legal_next_steps == ("deliver_signal", "recover_step")
    assert told.diagnosis == "running: 1 of 3 steps completed; a (waiting_on_signal)"


def test_a_workflow_that_failed(client: Client) -> None:
    view = client.insert(flow("a b:a c:b d:+c"))
    client.complete_step(view.id, "a", "failed")
    told = client.explain(view.id)
    assert told.operator_status == "Needs Review"
    assert told.state == "available"
    # d runs, so it is no root cause; the failure holds back the steps that it cancelled.
    assert held(told.root_causes) == [("a", "step_failed", 2)]
    client.complete_step(view.id, "d")
    ended = client.explain(view.id)
    assert (ended.state, ended.operator_status) == ("failed", "Needs Review")
    assert "step_failed" in ended.diagnosis


@pytest.mark.parametrize(
    ("status", "operator_status"),
    [("completed", "Resolved"), ("cancelled", "Resolved"), ("discarded", "Needs Review")],
)
def test_a_workflow_that_ended(client: Client, status: str, operator_status: str) -> None:
    view = client.insert(flow("a"))
    client.complete_step(view.id, "a", status)
    told = client.explain(view.id)
    assert told.operator_status == operator_status
    failed = [("a", "step_failed", 0)] if status == "discarded" else []
    assert held(told.root_causes) == failed


# --- failures, and their reasons


def test_every_failed_step_is_a_root_cause_with_what_it_reported(client: Client) -> None:
    view = client.insert(flow("a b:a c:+a lone expired ok", max_attempts=3))
    client.complete_step(view.id, "a", "retryable", retry_in=0, summary="first try")
    client.reconcile(view.id)
    client.complete_step(view.id, "a", "failed", summary="card declined")
    client.complete_step(view.id, "lone", "discarded", summary="no such customer")
    past = timedelta(0)
    client.await_step(view.id, "expired", signal="go", correlation_key="k", deadline=past)
    for running in (True, False):
        if not running:
            client.complete_step(view.id, "c")
            client.complete_step(view.id, "ok", summary="fine")
        told = client.explain(view.id)
        assert [
            (one.step, one.code, one.held_count, one.attempt, one.summary)
            for one in told.root_causes
        ] == [
            ("a", "step_failed", 1, 2, "card declined"),
            ("lone", "step_failed", 0, 1, "no such customer"),
            ("expired", "expired_wait", 0, None, None),
        ]
        assert told.root_cause_count == 3
    assert told.state == "expired"


def test_a_failed_step_names_itself_and_its_end(client: Client) -> None:
    view = client.insert(flow("a b:a c:b"))
    client.complete_step(view.id, "a", "failed", summary="card declined")
    (own,) = client.explain_step(view.id, "a").root_causes
    assert (own.step, own.path, own.attempt, own.summary) == ("a", ("a",), 1, "card declined")
    assert own.legal_next_steps == ("inspect_step_result", "recover_step")
    (far,) = client.explain_step(view.id, "c").root_causes
    assert (far.step, far.path, far.attempt, far.summary) == (
        "a",
        ("a", "b", "c"),
        1,
        "card declined",
    )


def test_all_failed_parents_of_a_join_are_named(client: Client) -> None:
    view = client.insert(flow("a b c last:a,b,c"))
    for step in "abc":
        client.complete_step(view.id, step, "failed", summary=f"{step} broke")
    causes = client.explain_step(view.id, "last").root_causes
    assert {one.step: one.summary for one in causes} == {
        "a": "a broke",
        "b": "b broke",
        "c": "c broke",
    }


def test_what_will_run_again_tells_why(one_client: Client) -> None:
    view = one_client.insert(flow("a b:a"))
    one_client.complete_step(view.id, "a", "retryable", retry_in=60, summary="timed out")
    (cause,) = one_client.explain(view.id).root_causes
    assert (cause.code, cause.attempt, cause.summary) == ("retry_scheduled", 1, "timed out")
    assert one_client.explain_step(view.id, "b").root_causes[0].summary == "timed out"


def test_a_result_of_before_a_recovery_is_still_the_latest(one_client: Client) -> None:
    view = one_client.insert(flow("a b:a"))
    one_client.complete_step(view.id, "a", "failed", summary="old")
    one_client.recover_step(view.id, "a", "retry")
    (cause,) = one_client.explain(view.id).root_causes
    assert (cause.code, cause.attempt, cause.summary) == ("waiting_for_worker", 1, "old")
    one_client.complete_step(view.id, "a", "failed", summary="new")
    (cause,) = one_client.explain(view.id).root_causes
    assert (cause.attempt, cause.summary) == (2, "new")


def test_thousands_of_failed_steps_are_counted_and_a_thousand_told(one_client: Client) -> None:
    """Read in calls of bounded size: the results of 200 steps each."""
    names = [f"s{number}" for number in range(1203)]
    view = one_client.insert(flow(" ".join(names)))
    one_client.complete_many(
        Completion(workflow_id=view.id, step=name, status="failed", summary=f"{name} broke")
        for name in names
    )
    told = one_client.explain(view.id)
    assert (len(told.root_causes), told.root_cause_count) == (1000, 1203)
    assert {(one.attempt, one.summary) for one in told.root_causes} == {
        (1, f"{one.step} broke") for one in told.root_causes
    }


# --- its sources


def test_explaining_writes_nothing_and_needs_nobody(client: Client, server: AnyServer) -> None:
    view = client.insert(flow("a b:a c:b d e:d"))
    client.complete_step(view.id, "a", "retryable", retry_in=0)
    client.complete_step(view.id, "d", "failed")
    before = stored(client)
    first = client.explain(view.id), client.explain_step(view.id, "c")
    assert stored(client) == before
    with connect(server) as other:
        # It does not rest on derived keys.
        for name in ("ready", "timers", "index", "stats"):
            raw(client).delete(f"rwf:{{{view.id.partition('-')[0]}}}:{name}")
        assert (other.explain(view.id), other.explain_step(view.id, "c")) == first
    for key, value in before.items():
        raw(client).restore(key, 0, value, replace=True)
    assert first[1].root_causes[0].step == "a"
    assert first[1].blockers[0].since is not None
    assert first[1].blockers[0].since.tzinfo == UTC


def test_a_retry_that_is_due_and_not_fired_is_told_as_it_is_stored(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    client.complete_step(view.id, "a", "retryable", retry_in=0)
    assert codes(client.explain_step(view.id, "a")) == ["retry_scheduled"]
    assert client.step(view.id, "a").state == "retryable"


# --- possible actions


def executing(client: Client, workflow_id: str) -> None:
    client.claim(["default"], worker_id="w", limit=9)


def requested(client: Client, workflow_id: str) -> None:
    client.claim(["default"], worker_id="w", limit=9)
    client.request_cancel(workflow_id)


def waiting(client: Client, workflow_id: str) -> None:
    client.await_step(workflow_id, "a", signal="go", correlation_key="k")


@pytest.mark.parametrize(
    ("bring", "step", "actions"),
    [
        (None, "a", "complete retry skip cancel"),
        (None, "b", "retry skip cancel"),
        (
            executing,
            "a",
            "complete_with_force retry_with_force skip_with_force cancel_with_force",
        ),
        (
            requested,
            "a",
            "complete_with_force retry_with_force_and_reopen skip_with_force_and_reopen"
            " cancel_with_force",
        ),
        (requested, "b", "retry_with_reopen skip_with_reopen"),
        (waiting, "a", "complete retry skip cancel"),
        ("retryable", "a", "complete retry skip cancel"),
        ("failed", "a", "retry skip"),
        ("failed", "b", "skip"),
        ("completed", "a", ""),
    ],
)
def test_what_can_be_done_is_accepted(
    one_client: Client,
    bring: Callable[[Client, str], None] | str | None,
    step: str,
    actions: str,
) -> None:
    for number in range(max(len(actions.split()), 1)):
        workflow_id = one_client.insert(flow("a b:a")).id
        if callable(bring):
            bring(one_client, workflow_id)
        elif bring is not None:
            one_client.complete_step(workflow_id, "a", bring)
        told = one_client.explain_step(workflow_id, step).executable_actions
        assert " ".join(told) == actions
        if not told:
            return
        action, _, named = told[number].partition("_with_")
        options: Any = dict.fromkeys(named.split("_and_") if named else (), True)
        if action == "complete":
            one_client.complete_step(workflow_id, step, **options)
        else:
            one_client.recover_step(workflow_id, step, action, **options)


def test_a_running_step_under_a_cancel_request(one_client: Client) -> None:
    view = one_client.insert(flow("a b:a"))
    one_client.claim(["default"], worker_id="w")
    one_client.request_cancel(view.id)
    told = one_client.explain_step(view.id, "a")
    assert (told.operator_status, codes(told)) == ("Blocked", ["cancel_requested", "executing"])


def test_under_a_cancel_request_a_recovery_has_to_close_it(one_client: Client) -> None:
    view = one_client.insert(flow("a b:a c"))
    one_client.complete_step(view.id, "a", "failed")
    one_client.request_cancel(view.id)
    (cause,) = one_client.explain_step(view.id, "b").root_causes
    assert (cause.step, cause.legal_next_steps) == (
        "a",
        ("inspect_step_result", "recover_with_reopen"),
    )


def test_a_missing_result(client: Client) -> None:
    wf = flow("a").add("b", worker="w", input={"of a": result("a", "no.such")})
    view = client.insert(wf.add("c", worker="w", deps=["b"]))
    client.complete_step(view.id, "a", payload={"n": 1})
    assert client.claim(["default"], worker_id="w") == []
    told = client.explain_step(view.id, "b")
    assert (told.operator_status, codes(told)) == ("Blocked", ["missing_dependency_result"])
    assert causes(client.explain_step(view.id, "c")) == [
        ("b", "missing_dependency_result", ("b", "c"))
    ]
    assert "missing_dependency_result" in client.explain(view.id).diagnosis
    client.recover_step(view.id, "a", "retry", scope="downstream")
    client.complete_step(view.id, "a", payload={"no": {"such": 1}})
    (claimed,) = client.claim(["default"], worker_id="w")
    assert claimed.input == {"of a": 1}
