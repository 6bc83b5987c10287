"""Child workflows: steps that wait for the end of a workflow of their own (contract §14)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from rwf import Client, Completion, NotFound, Workflow, WorkflowInvalid, result
from tests.support.children_cases import PARENT, child_of, claim, end, started
from tests.support.commandline import Cli
from tests.support.flows import flow, noted, refused, states


def kids(client: Client) -> list[str]:
    """The ids of all children, newest first."""
    return [one.id for one in client.list(name="child").workflows]


# --- starting


def test_the_step_waits_for_the_end_of_the_child(client: Client) -> None:
    parent, kid = started(client)
    assert states(client, parent.id) == "call=awaiting_signal next=pending"
    assert states(client, kid.id) == "a=available b=pending"
    assert (kid.parent, kid.parent_step, kid.duplicate) == (parent.id, "call", False)
    assert (parent.parent, parent.parent_step) == (None, None)
    waiting = client.step(parent.id, "call").awaiting
    assert waiting is not None
    assert (waiting.child, waiting.signal, waiting.status) == (kid.id, "", "waiting")


def test_the_workflow_of_the_step_follows_version_3_from_then_on(client: Client) -> None:
    parent, kid = started(client)
    assert (parent.semantics_version, kid.semantics_version) == (3, 3)
    assert ("start_child", "call", "accepted", "semantics_raised") in noted(client, parent.id)


def test_a_child_that_completes_completes_the_step_with_its_results(client: Client) -> None:
    parent, kid = started(client)
    end(client, kid.id, payload={"sum": [1, 2**53 + 1]})
    assert states(client, parent.id) == "call=completed next=available"
    row = client.result(parent.id, "call")
    assert row is not None
    assert row.payload == {
        "workflow_id": kid.id,
        "state": "completed",
        "results": {"b": {"sum": [1, 2**53 + 1]}},
    }
    step = client.step(parent.id, "call")
    assert (row.attempt, step.attempt, step.terminal_cause) == (1, 1, "completed")


def test_results_of_a_child_can_be_referred_to(client: Client) -> None:
    workflow = Workflow("parent").add("call", worker="w")
    workflow.add("next", worker="w", input=result("call", "results.b.sum"))
    parent = client.insert(workflow)
    kid = client.start_child(parent.id, "call", child_of(), lease=claim(client).lease)
    end(client, kid.id, payload={"sum": 3})
    assert claim(client).input == 3


def test_results_are_those_of_the_last_steps(client: Client) -> None:
    parent, kid = started(client, child="a b c:a d")
    for step in "abcd":
        client.complete_step(kid.id, step, "skipped" if step == "d" else "completed")
    row = client.result(parent.id, "call")
    assert row is not None
    assert row.payload["results"] == {"b": None, "c": None, "d": None}


def test_results_that_are_too_large_are_left_out(client: Client) -> None:
    parent, kid = started(client, child="a b c")
    for step, size in (("a", 10), ("b", 250_000), ("c", 10)):
        client.complete_step(kid.id, step, payload="x" * size)
    row = client.result(parent.id, "call")
    assert row is not None
    assert row.payload["results"] == {"a": "x" * 10}
    assert row.payload["truncated"] is True
    assert client.step(parent.id, "call").state == "completed"


def test_a_child_of_more_last_steps_than_are_listed(one_client: Client) -> None:
    parent, kid = started(one_client, child=" ".join(f"s{n}" for n in range(1_100)))
    claims = one_client.claim(["default"], worker_id="w", limit=1_000)
    claims += one_client.claim(["default"], worker_id="w", limit=1_000)
    one_client.complete_many([_completed(one) for one in claims])
    row = one_client.result(parent.id, "call")
    assert row is not None
    assert (len(row.payload["results"]), row.payload["truncated"]) == (1_000, True)
    assert one_client.get(kid.id).state == "completed"


def _completed(claimed: Any) -> Any:
    return Completion(workflow_id=claimed.workflow_id, step=claimed.step, lease=claimed.lease)


@pytest.mark.parametrize(
    ("status", "state", "why"),
    [
        ("failed", "failed", "b failed: no paper"),
        ("discarded", "failed", "b discarded: no paper"),
        ("cancelled", "cancelled", ""),
    ],
)
def test_a_child_that_ends_otherwise_fails_the_step(
    client: Client, status: str, state: str, why: str
) -> None:
    parent, kid = started(client)
    end(client, kid.id, status, summary="no paper")
    assert states(client, parent.id) == "call=failed next=cancelled"
    row = client.result(parent.id, "call")
    assert row is not None
    ended = f"child workflow {kid.id} ended {state}"
    assert row.summary == (f"{ended}: {why}" if why else ended)
    assert row.payload == {"workflow_id": kid.id, "state": state}
    assert client.get(parent.id).terminal_cause == "step_failed"


def test_the_same_lease_again_starts_no_second_child(client: Client) -> None:
    parent = client.insert(flow(PARENT))
    lease = claim(client).lease
    kid = client.start_child(parent.id, "call", child_of(), lease=lease)
    again = client.start_child(parent.id, "call", child_of(), lease=lease)
    assert (again.id, again.duplicate) == (kid.id, True)
    assert kids(client) == [kid.id]
    end(client, kid.id)
    again = client.start_child(parent.id, "call", child_of(), lease=lease)
    assert (again.id, again.duplicate, again.state) == (kid.id, True, "completed")


def test_a_stale_lease_starts_nothing(client: Client) -> None:
    parent = client.insert(flow(PARENT))
    lease = claim(client).lease
    client.recover_step(parent.id, "call", "retry", force=True)
    with refused("stale_lease"):
        client.start_child(parent.id, "call", child_of(), lease=lease)
    assert kids(client) == []
    assert ("start_child", "call", "rejected", "stale_lease") in noted(client, parent.id)


def test_what_may_not_wait_is_refused(client: Client) -> None:
    parent = client.insert(flow(PARENT))
    with refused("stale_lease"):
        client.start_child(parent.id, "call", child_of(), lease="1-none")
    with refused("step_not_found"):
        client.start_child(parent.id, "other", child_of(), lease="1-none")
    with refused("workflow_not_found"):
        client.start_child("0-aaaaaaaaaaaaaaaa", "call", child_of(), lease="1-none")
    lease = claim(client).lease
    client.request_cancel(parent.id)
    with refused("cancel_requested"):
        client.start_child(parent.id, "call", child_of(), lease=lease)
    assert [client.get(one).state for one in kids(client)] in ([], ["cancelled"])


def test_bad_arguments_are_refused_before_anything_is_sent(client: Client) -> None:
    parent = client.insert(flow(PARENT))
    lease = claim(client).lease
    with pytest.raises(WorkflowInvalid, match="no_steps"):
        client.start_child(parent.id, "call", Workflow("child"), lease=lease)
    with refused("invalid_argument"):
        client.start_child(parent.id, "call", "child", lease=lease)  # type: ignore[arg-type]
    with refused("invalid_argument"):
        client.start_child(parent.id, "call", child_of(), lease="")
    with refused("invalid_argument"):
        client.start_child(parent.id, "call", child_of(), lease=lease, key="")
    assert noted(client, parent.id) == []


def test_children_have_children(client: Client) -> None:
    parent, kid = started(client, child="call")
    inner = client.start_child(kid.id, "call", flow("a", "child"), lease=claim(client).lease)
    client.complete_step(inner.id, "a", payload=5)
    row = client.result(parent.id, "call")
    assert row is not None
    assert row.payload["results"]["call"]["results"] == {"a": 5}
    assert client.get(kid.id).state == "completed"


def test_a_child_of_many_steps_comes_in_slices(client: Client) -> None:
    text = "a " + " ".join(f"c{n}:a" for n in range(700))
    parent, kid = started(client, child=text)
    assert (kid.step_count, kid.state) == (701, "available")
    client.complete_step(kid.id, "a", "failed", summary="no")
    row = client.result(parent.id, "call")
    assert row is not None
    assert row.summary == f"child workflow {kid.id} ended failed: a failed: no"


# --- keys


def test_a_child_has_the_key_that_it_was_given(client: Client) -> None:
    parent = client.insert(flow(PARENT))
    lease = claim(client).lease
    kid = client.start_child(parent.id, "call", child_of(), lease=lease, key="order-7")
    assert client.find("order-7").id == kid.id


def test_the_key_of_a_child_that_ended_badly_goes_to_the_next(client: Client) -> None:
    parent = client.insert(flow(PARENT))
    lease = claim(client).lease
    first = client.start_child(parent.id, "call", child_of(), lease=lease, key="order-7")
    end(client, first.id, "failed")
    client.recover_step(parent.id, "call", "retry")
    lease = claim(client).lease
    second = client.start_child(parent.id, "call", child_of(), lease=lease, key="order-7")
    assert second.id != first.id
    assert client.find("order-7").id == second.id


def test_the_key_of_another_workflow_is_refused(client: Client) -> None:
    other = client.insert(child_of(), key="order-7")
    parent = client.insert(flow(PARENT))
    lease = claim(client, "call").lease
    with refused("key_conflict") as caught:
        client.start_child(parent.id, "call", child_of(), lease=lease, key="order-7")
    assert caught.value.workflow_id == other.id
    assert states(client, parent.id) == "call=executing next=pending"
    assert ("start_child", "call", "rejected", "key_conflict") in noted(client, parent.id)


# --- cancelling


def test_a_cancel_request_on_the_parent_requests_the_childs(client: Client) -> None:
    parent, kid = started(client)
    client.request_cancel(parent.id)
    ended = client.get(kid.id)
    assert (ended.state, ended.terminal_cause) == ("cancelled", "operator_cancelled")
    assert ended.cancel_reason == "its parent does not wait for it"
    assert states(client, parent.id) == "call=cancelled next=cancelled"


def test_what_runs_in_the_child_is_asked_to_end(client: Client) -> None:
    parent, kid = started(client)
    running = claim(client)
    client.request_cancel(parent.id)
    assert client.get(kid.id).state == "cancel_requested"
    assert client.heartbeat([running]).cancel_requested != ()
    client.complete(running)
    assert client.get(kid.id).state == "cancelled"
    assert states(client, parent.id) == "call=cancelled next=cancelled"


def test_a_request_goes_down_to_the_children_of_children(client: Client) -> None:
    parent, kid = started(client, child="call")
    inner = client.start_child(kid.id, "call", flow("a", "child"), lease=claim(client).lease)
    client.request_cancel(parent.id)
    assert [client.get(one).state for one in (kid.id, inner.id)] == ["cancelled", "cancelled"]


@pytest.mark.parametrize("action", ["retry", "skip", "cancel"])
def test_a_step_that_an_operator_takes_out_of_its_wait_lets_the_child_end(
    client: Client, action: str
) -> None:
    parent, kid = started(client)
    client.recover_step(parent.id, "call", action)
    assert client.get(kid.id).state == "cancelled"
    assert client.step(parent.id, "call").state != "awaiting_signal"


def test_a_step_that_is_completed_by_hand_lets_the_child_end(client: Client) -> None:
    parent, kid = started(client)
    client.complete_step(parent.id, "call", payload=1)
    assert client.get(kid.id).state == "cancelled"
    assert states(client, parent.id) == "call=completed next=available"


def test_what_always_runs_waits_for_its_child_under_a_request(client: Client) -> None:
    parent = client.insert(flow("a call*:a", "parent"))
    client.complete_step(parent.id, "a")
    kid = client.start_child(parent.id, "call", flow("a", "child"), lease=claim(client).lease)
    client.request_cancel(parent.id)
    assert client.get(kid.id).state == "available"
    client.complete_step(kid.id, "a", payload=1)
    assert states(client, parent.id) == "a=completed call=completed"


# --- recovering


def test_a_retry_takes_the_results_of_a_child_that_has_completed_since(client: Client) -> None:
    parent, kid = started(client)
    end(client, kid.id, "failed")
    client.recover_step(kid.id, "b", "retry")
    client.complete_step(kid.id, "b", payload=2)
    assert client.step(parent.id, "call").state == "failed"
    client.recover_step(parent.id, "call", "retry")
    again = client.start_child(parent.id, "call", child_of(), lease=claim(client).lease)
    assert again.id == kid.id
    assert kids(client) == [kid.id]
    row = client.result(parent.id, "call")
    assert row is not None
    assert (row.attempt, row.payload["results"]) == (2, {"b": 2})
    assert states(client, parent.id) == "call=completed next=available"


def test_a_retry_runs_another_child_where_the_last_has_not_completed(client: Client) -> None:
    parent, first = started(client)
    end(client, first.id, "failed")
    client.recover_step(parent.id, "call", "retry")
    second = client.start_child(parent.id, "call", child_of(), lease=claim(client).lease)
    assert second.id != first.id
    end(client, second.id, payload=3)
    row = client.result(parent.id, "call")
    assert row is not None
    assert (row.attempt, row.payload["workflow_id"]) == (2, second.id)


def test_a_retry_waits_for_a_child_that_a_recovery_has_revived(client: Client) -> None:
    parent, kid = started(client)
    end(client, kid.id, "failed")
    client.recover_step(kid.id, "b", "retry")
    client.recover_step(parent.id, "call", "retry")
    again = client.start_child(parent.id, "call", child_of(), lease=claim(client, "call").lease)
    assert again.id == kid.id
    assert client.step(parent.id, "call").state == "awaiting_signal"
    client.complete_step(kid.id, "b", payload=2)
    assert states(client, parent.id) == "call=completed next=available"


def test_a_step_that_runs_again_downstream_runs_another_child(client: Client) -> None:
    parent, first = started(client)
    end(client, first.id, payload=1)
    client.recover_step(parent.id, "call", "retry", scope="downstream")
    second = client.start_child(parent.id, "call", child_of(), lease=claim(client).lease)
    assert second.id != first.id


def test_a_child_that_fails_again_after_its_recovery_changes_nothing_above(client: Client) -> None:
    parent, kid = started(client)
    end(client, kid.id, "failed")
    client.recover_step(kid.id, "b", "retry")
    client.complete_step(kid.id, "b", "failed")
    assert states(client, parent.id) == "call=failed next=cancelled"
    assert len(client.results(parent.id)) == 1


def test_a_child_that_was_recovered_before_it_ended_completes_the_step(client: Client) -> None:
    parent, kid = started(client, child="a b")
    client.complete_step(kid.id, "a", "failed")
    client.recover_step(kid.id, "a", "retry")
    client.complete_step(kid.id, "b")
    assert client.step(parent.id, "call").state == "awaiting_signal"
    client.complete_step(kid.id, "a")
    assert client.step(parent.id, "call").state == "completed"


# --- retention


def test_a_child_is_kept_for_as_long_as_its_parent(client: Client) -> None:
    parent = client.insert(flow(PARENT), retention=timedelta(0))
    kid = client.start_child(parent.id, "call", child_of(), lease=claim(client).lease)
    end(client, kid.id)
    client.prune()
    with pytest.raises(NotFound):
        client.get(kid.id)
    client.complete_step(parent.id, "next")
    client.prune()
    with pytest.raises(NotFound):
        client.get(parent.id)


def test_a_child_by_which_its_parent_has_failed_is_kept_until_that_goes(client: Client) -> None:
    parent = client.insert(flow(PARENT))
    kid = client.start_child(parent.id, "call", child_of(), lease=claim(client).lease)
    end(client, kid.id, "failed")
    client.set_retention(kid.id, timedelta(0))
    client.prune()
    assert client.get(kid.id).state == "failed"
    client.set_retention(parent.id, timedelta(0))
    client.prune()
    client.prune()
    for workflow_id in (parent.id, kid.id):
        with pytest.raises(NotFound):
            client.get(workflow_id)


# --- reconciling


def test_a_healthy_pair_needs_no_repair(client: Client) -> None:
    parent, kid = started(client)
    for _ in range(2):
        assert client.reconcile(parent.id).repairs == ()
        assert client.reconcile(kid.id).repairs == ()
        end(client, kid.id) if client.get(kid.id).state == "available" else None
    assert client.step(parent.id, "call").state == "completed"


# --- explaining


def test_a_step_that_waits_for_a_child_says_what_holds_that(client: Client) -> None:
    parent, kid = started(client)
    client.complete_step(kid.id, "a", "retryable", summary="no paper", retry_in=60)
    why = client.explain_step(parent.id, "call")
    (blocker,) = why.blockers
    assert (blocker.code, why.operator_status) == ("waiting_on_workflow", "Waiting")
    assert blocker.details["workflow_id"] == kid.id
    (cause,) = why.root_causes
    assert (cause.step, cause.code) == ("call", "waiting_on_workflow")
    assert cause.child is not None
    assert (cause.child.workflow_id, cause.child.name) == (kid.id, "child")
    (inner,) = cause.child.root_causes
    assert (inner.step, inner.code, inner.summary) == ("a", "retry_scheduled", "no paper")
    assert why.diagnosis == (
        f"call is awaiting_signal: waits for the end of workflow {kid.id}; "
        f"in workflow {kid.id}, a (retry_scheduled): no paper"
    )


def test_the_workflow_of_the_step_says_what_holds_the_child(client: Client) -> None:
    parent, kid = started(client)
    client.complete_step(kid.id, "a", "failed", summary="no paper")
    why = client.explain(parent.id)
    (cause,) = why.root_causes
    assert (cause.step, cause.code, cause.held_count) == ("call", "step_failed", 1)
    assert cause.child is not None
    (inner,) = cause.child.root_causes
    assert (cause.child.state, inner.step, inner.summary) == ("failed", "a", "no paper")


def test_what_holds_a_child_of_a_child_is_named(client: Client) -> None:
    parent, kid = started(client, child="call")
    inner = client.start_child(kid.id, "call", flow("a", "child"), lease=claim(client).lease)
    why = client.explain(parent.id)
    assert f"; in workflow {inner.id}, a (waiting_for_worker)" in why.diagnosis


def test_the_command_line_shows_parents_and_children(one_client: Client, cli: Cli) -> None:
    parent, kid = started(one_client)
    assert f"  child of {parent.id}, step call\n" in cli.ok("show", kid.id)
    assert f"waits for workflow {kid.id}" in cli.ok("show", parent.id)
    assert f"  call  [Waiting, awaiting_signal, runs {kid.id}]\n" in cli.ok("graph", parent.id)
    one_client.complete_step(kid.id, "a", "failed", summary="no paper")
    told = cli.ok("explain", parent.id)
    assert f"    child {kid.id} child failed\n" in told
    assert "      root cause a: failed (step_failed), holds 1" in told
    assert "        attempt 1: no paper\n" in told


def test_explanations_reach_into_children_to_a_depth(one_client: Client) -> None:
    top = above = one_client.insert(flow("call", "child")).id
    for _ in range(7):
        lease = claim(one_client).lease
        above = one_client.start_child(above, "call", flow("call", "child"), lease=lease).id
    (cause,) = one_client.explain(top).root_causes
    depth = 0
    while cause.child is not None and cause.child.root_causes:
        (cause,), depth = cause.child.root_causes, depth + 1
    assert (depth, cause.child and cause.child.problem) == (5, "too_much")


def test_of_many_children_some_are_looked_into(one_client: Client) -> None:
    parent = one_client.insert(flow(" ".join(f"s{n}" for n in range(30)), "parent"))
    for one in one_client.claim(["default"], worker_id="w", limit=30):
        one_client.start_child(parent.id, one.step, flow("a", "child"), lease=one.lease)
    causes = one_client.explain(parent.id).root_causes
    assert [cause.code for cause in causes] == ["waiting_on_workflow"] * 30
    assert sum(cause.child is not None for cause in causes) == 20
