"""Edges that wait for a failure, skipped steps and branches (contract §13)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from rwf import Client, Workflow, result
from tests.contract.test_recovery import recovered
from tests.support.flows import fan_in, flow, noted, own_key, raw, refused, states


def causes(client: Client, workflow_id: str) -> str:
    """The end of each step as text, ``"a=completed b=skipped"``: the cause of each that has ended,
    and the state of all others."""
    return " ".join(
        f"{step.name}={step.terminal_cause or step.state}" for step in client.steps(workflow_id)
    )


# --- on_failure


def test_a_step_that_waits_for_a_failure_runs_after_one(client: Client) -> None:
    view = client.insert(flow("pay undo:!pay"))
    assert (view.semantics_version, states(client, view.id)) == (3, "pay=available undo=pending")
    client.complete_step(view.id, "pay", "failed")
    assert states(client, view.id) == "pay=failed undo=available"
    client.complete_step(view.id, "undo")
    assert client.get(view.id).terminal_cause == "step_failed"


@pytest.mark.parametrize("status", ["failed", "discarded", "cancelled"])
def test_each_way_to_end_other_than_completed_counts(one_client: Client, status: str) -> None:
    view = one_client.insert(flow("pay undo:!pay"))
    one_client.complete_step(view.id, "pay", status)
    assert one_client.step(view.id, "undo").state == "available"


def test_it_is_skipped_when_none_has_failed(client: Client) -> None:
    view = client.insert(flow("pay ship undo:!pay,!ship after:undo"))
    client.complete_step(view.id, "pay")
    assert causes(client, view.id) == "pay=completed ship=available undo=pending after=pending"
    client.complete_step(view.id, "ship")
    assert causes(client, view.id) == "pay=completed ship=completed undo=skipped after=available"
    client.complete_step(view.id, "after")
    done = client.get(view.id)
    assert (done.state, done.terminal_cause) == ("completed", "completed")
    assert (done.completed_step_count, done.skipped_step_count) == (4, 1)
    assert client.result(view.id, "undo") is None


def test_it_runs_once_after_all_have_ended_and_only_when_one_failed(client: Client) -> None:
    view = client.insert(flow("a b c undo:!a,!b,!c"))
    client.complete_step(view.id, "a", "failed")
    client.complete_step(view.id, "b")
    assert client.step(view.id, "undo").state == "pending"
    client.complete_step(view.id, "c", "failed")
    assert client.step(view.id, "undo").state == "available"
    client.complete_step(view.id, "undo")
    assert client.get(view.id).state == "failed"


def test_its_other_edges_have_to_allow_it(client: Client) -> None:
    view = client.insert(flow("pay audit undo:!pay,audit"))
    client.complete_step(view.id, "pay", "failed")
    client.complete_step(view.id, "audit", "failed")
    assert causes(client, view.id) == (
        "pay=step_failed audit=step_failed undo=cancelled_by_dependency"
    )


def test_a_cancelled_step_is_a_failure_to_those_below_it(client: Client) -> None:
    view = client.insert(flow("pay ship:pay undo:!ship"))
    client.complete_step(view.id, "pay", "failed")
    assert states(client, view.id) == "pay=failed ship=cancelled undo=available"


def test_a_wide_join_counts_every_edge(client: Client) -> None:
    wide = fan_in(450, "!")
    view = client.insert(wide)
    for number in range(450):
        client.complete_step(view.id, f"p{number}", "failed" if number == 7 else "completed")
    assert client.step(view.id, "last").state == "available"
    none = client.insert(wide)
    for number in range(450):
        client.complete_step(none.id, f"p{number}")
    assert client.step(none.id, "last").terminal_cause == "skipped"


def test_a_graph_without_any_of_it_stays_under_version_2(client: Client) -> None:
    view = client.insert(flow("a b:a c:+b"))
    client.complete_step(view.id, "a")
    assert client.get(view.id).semantics_version == 2
    fields = raw(client).hgetall(own_key(view.id))
    assert b":b" not in fields
    assert fields[b":s"].startswith(b"2,")
    assert fields[b"a"].split(b"|")[0].count(b",") == 12


# --- skipping


def test_a_skipped_step_has_completed_without_a_result(client: Client) -> None:
    view = client.insert(flow("a b:a c:!a"))
    done = client.complete_step(view.id, "a", "skipped", summary="not today")
    assert (done.step.state, done.step.terminal_cause) == ("completed", "skipped")
    assert causes(client, view.id) == "a=skipped b=available c=skipped"
    row = client.result(view.id, "a")
    assert row is not None
    assert (row.status, row.payload, row.summary) == ("completed", None, "not today")
    assert client.get(view.id).skipped_step_count == 2


def test_a_skip_raises_the_version_of_an_older_workflow_with_evidence(client: Client) -> None:
    view = client.insert(flow("a b c:a,b"))
    client.complete_step(view.id, "b")
    assert client.get(view.id).semantics_version == 2
    client.complete_step(view.id, "a", "skipped", branch=True)
    assert client.get(view.id).semantics_version == 3
    assert noted(client, view.id)[1:] == [
        ("complete_step", "a", "accepted", "semantics_raised"),
        ("complete_step", "a", "accepted", None),
    ]
    # b has really completed, before the workflow recorded any skips.
    assert causes(client, view.id) == "a=skipped b=completed c=available"


def test_a_skipped_branch_goes_on_to_where_something_really_completed(client: Client) -> None:
    view = client.insert(flow("check pack:check ship:pack other join:ship,other tail:ship"))
    client.complete_step(view.id, "check", "skipped", branch=True, summary="nothing to do")
    assert causes(client, view.id) == (
        "check=skipped pack=skipped ship=skipped other=available join=pending tail=skipped"
    )
    client.complete_step(view.id, "other")
    assert client.step(view.id, "join").state == "available"
    assert client.get(view.id).skipped_step_count == 4


def test_a_join_of_skipped_branches_is_skipped(client: Client) -> None:
    view = client.insert(flow("a b join:a,b end:join"))
    client.complete_step(view.id, "a", "skipped", branch=True)
    assert client.step(view.id, "join").state == "pending"
    client.complete_step(view.id, "b", "skipped", branch=True)
    assert causes(client, view.id) == "a=skipped b=skipped join=skipped end=skipped"
    assert client.get(view.id).state == "completed"


def test_a_skipped_step_that_skips_no_branch_lets_its_children_run(client: Client) -> None:
    view = client.insert(flow("a b join:a,b"))
    client.complete_step(view.id, "a", "skipped", branch=True)
    client.complete_step(view.id, "b", "skipped")
    assert client.step(view.id, "join").state == "available"


def test_a_branch_of_a_thousand_steps_is_skipped_in_slices(client: Client) -> None:
    text = "root " + " ".join(f"c{n}:root d{n}:c{n}" for n in range(500))
    view = client.insert(flow(text))
    client.complete_step(view.id, "root", "skipped", branch=True)
    done = client.get(view.id)
    assert (done.state, done.skipped_step_count) == ("completed", 1001)


def test_the_same_report_again_is_a_duplicate_and_another_is_not(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    client.complete_step(view.id, "a", "skipped", branch=True)
    assert client.complete_step(view.id, "a", "skipped", branch=True).outcome == "duplicate"
    for status, branch in (("skipped", False), ("completed", False)):
        with refused("already_terminal"):
            client.complete_step(view.id, "a", status, branch=branch)


def test_options_that_do_not_go_together_are_refused(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    for options in (
        {"status": "skipped", "payload": 1},
        {"status": "completed", "branch": True},
        {"status": "skipped", "branch": 1},
        {"status": "skipped", "retry_in": 1},
    ):
        with refused("invalid_argument"):
            one_client.complete_step(view.id, "a", **options)  # type: ignore[arg-type]


def test_a_reference_to_a_skipped_step_is_null(client: Client) -> None:
    workflow = Workflow("w").add("a", worker="w").add("b", worker="w")
    workflow.add("c", worker="w", input={"a": result("a", "x"), "b": result("b")})
    view = client.insert(workflow)
    client.complete_step(view.id, "a", "skipped")
    client.complete_step(view.id, "b", payload=1)
    (claimed,) = client.claim(["default"], worker_id="w")
    assert (claimed.step, claimed.input) == ("c", {"a": None, "b": 1})


# --- recovery


def test_a_recovery_takes_a_compensation_back_that_has_not_begun(client: Client) -> None:
    view = client.insert(flow("a b undo:!a,!b"))
    client.complete_step(view.id, "a", "failed")
    client.complete_step(view.id, "b")
    assert recovered(client, view.id, "a", "retry") == ("a:failed>available undo:available>pending")
    client.complete_step(view.id, "a")
    assert causes(client, view.id) == "a=completed b=completed undo=skipped"


def test_a_compensation_that_waits_for_others_forgets_the_failure(client: Client) -> None:
    view = client.insert(flow("a b undo:!a,!b"))
    client.complete_step(view.id, "a", "failed")
    recovered(client, view.id, "a", "retry")
    client.complete_step(view.id, "a")
    client.complete_step(view.id, "b")
    assert causes(client, view.id) == "a=completed b=completed undo=skipped"


def test_a_skip_by_an_operator_is_no_failure(client: Client) -> None:
    view = client.insert(flow("a undo:!a after:a"))
    client.complete_step(view.id, "a", "failed")
    assert recovered(client, view.id, "a", "skip") == (
        "a:failed>completed after:cancelled>available"
    )
    assert causes(client, view.id) == "a=operator_skipped undo=available after=available"


def test_a_branch_that_was_skipped_runs_after_a_retry_of_all_below(client: Client) -> None:
    view = client.insert(flow("a b:a c:b"))
    client.complete_step(view.id, "a", "skipped", branch=True)
    assert client.get(view.id).skipped_step_count == 3
    assert recovered(client, view.id, "a", "retry", scope="downstream") == (
        "a:completed>available b:completed>pending c:completed>pending"
    )
    assert client.get(view.id).skipped_step_count == 0
    for step in "abc":
        client.complete_step(view.id, step)
    assert causes(client, view.id) == "a=completed b=completed c=completed"


def test_placing_skips_what_its_parents_skip(client: Client) -> None:
    view = client.insert(flow("a b undo:!a,!b end:undo"))
    client.complete_step(view.id, "a")
    client.complete_step(view.id, "b", "failed")
    client.complete_step(view.id, "undo")
    assert recovered(client, view.id, "b", "retry", scope="downstream") == (
        "b:failed>available undo:completed>pending end:available>pending"
    )
    client.complete_step(view.id, "b")
    assert causes(client, view.id) == "a=completed b=completed undo=skipped end=available"


# --- explaining


def test_explain_says_which_step_skipped_the_branch_and_why(client: Client) -> None:
    view = client.insert(flow("check pack:check ship:pack undo:!check"))
    client.complete_step(view.id, "check", "skipped", branch=True, summary="nothing to ship")
    found = client.explain_step(view.id, "ship")
    assert found.diagnosis == "ship was skipped: check skipped its branch: nothing to ship"
    assert [(one.step, one.attempt, one.summary) for one in found.skipped_by] == [
        ("check", 1, "nothing to ship")
    ]
    own = client.explain_step(view.id, "check")
    assert own.diagnosis == "check was skipped: nothing to ship"
    done = flow("pay undo:!pay")
    other = client.insert(done)
    client.complete_step(other.id, "pay")
    by_edges = client.explain_step(other.id, "undo")
    assert by_edges.diagnosis == ("undo was skipped: no step has failed whose failure it waits for")
    assert by_edges.skipped_by == ()
    assert client.explain(view.id).diagnosis == (
        "ended completed (completed): 4 of 4 steps completed, 4 of them skipped"
    )


def test_dependencies_tell_their_policies(one_client: Client) -> None:
    view = one_client.insert(flow("pay undo:!pay"))
    (found,) = one_client.explain_step(view.id, "undo").dependencies
    assert (found.step, found.policy) == ("pay", "on_failure")
    (edge,) = one_client.graph(view.id).edges
    assert (edge.parent, edge.child, edge.policy) == ("pay", "undo", "on_failure")


# --- what is derived


def test_counts_of_skipped_steps_are_audited_and_mended(client: Client) -> None:
    view = client.insert(flow("a b:!a c:b"))
    client.complete_step(view.id, "a")
    key = own_key(view.id)
    stored = raw(client).hget(key, ":b")
    assert stored == b"1,,,"
    raw(client).hset(key, ":b", "5,,,")
    assert client.get(view.id).skipped_step_count == 5
    assert client.rebuild().repairs == {"counts_wrong": 1}
    assert client.get(view.id).skipped_step_count == 1
    assert client.reconcile(view.id).repairs == ()


def test_a_skipped_workflow_is_removed_like_any_other(client: Client) -> None:
    view = client.insert(flow("a b:a"), retention=timedelta(0))
    client.complete_step(view.id, "a", "skipped", branch=True)
    assert client.prune().workflows == 1
    assert not [key for key in raw(client).scan_iter() if view.id.encode() in key]
