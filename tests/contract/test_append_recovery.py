"""Recovering a step that has appended others (contract §14)."""

from __future__ import annotations

import pytest

from rwf import Change, Client, Fragment, Workflow, results
from rwf.model.states import StepState
from rwf.model.views import RecoveryResult
from tests.contract.test_append import edges, fragment
from tests.support.flows import flow, refused, states


def again(client: Client, workflow_id: str, step: str) -> RecoveryResult:
    """A step placed anew with all that follows; the dry run says the same."""
    dry = client.recover_step(workflow_id, step, "retry", scope="downstream", dry_run=True)
    done = client.recover_step(workflow_id, step, "retry", scope="downstream")

    def ordered(result: RecoveryResult) -> list[Change]:
        return sorted(result.changes, key=lambda change: change.step)

    assert ordered(dry) == ordered(done)
    return done


def causes(client: Client, workflow_id: str) -> str:
    return " ".join(
        f"{step.name}={step.terminal_cause or step.state}" for step in client.steps(workflow_id)
    )


def test_what_a_step_had_appended_is_superseded(client: Client) -> None:
    view = client.insert(flow("split join:split"))
    client.complete_step(view.id, "split", append=fragment("a b"))
    client.complete_step(view.id, "a")
    again(client, view.id, "split")
    assert causes(client, view.id) == "split=available join=pending a=superseded b=superseded"
    shown = client.get(view.id)
    assert (shown.cancelled_step_count, shown.completed_step_count) == (2, 0)
    fleet = client.stats().steps
    assert (fleet[StepState.CANCELLED], fleet[StepState.COMPLETED]) == (2, 0)
    client.complete_step(view.id, "split")
    assert client.step(view.id, "join").state == "available"
    ended = client.complete_step(view.id, "join").workflow
    assert (ended.state, ended.terminal_cause) == ("completed", "completed")


def test_the_same_names_take_their_place(client: Client) -> None:
    view = client.insert(flow("split join:split"))
    client.complete_step(view.id, "split", append=fragment("a b"))
    client.complete_step(view.id, "a", payload=1)
    client.complete_step(view.id, "b")
    client.complete_step(view.id, "join")
    again(client, view.id, "split")
    done = client.complete_step(view.id, "split", append=fragment("a c:a"))
    assert done.appended_count == 2
    assert causes(client, view.id) == (
        "split=completed join=pending a=available b=superseded c=pending"
    )
    assert edges(client, view.id) == ["a>c", "c>join", "split>a", "split>b", "split>join"]
    client.complete_step(view.id, "a", payload=2)
    assert [(one.attempt, one.payload) for one in client.results(view.id, step="a")] == [
        (1, 1),
        (2, 2),
    ]
    client.complete_step(view.id, "c")
    assert client.step(view.id, "join").state == "available"
    assert client.complete_step(view.id, "join").workflow.state == "completed"
    assert client.step(view.id, "a").appended_by.attempt == 2  # type: ignore[union-attr]


def test_twice_with_other_names(client: Client) -> None:
    wf = Workflow("w").add("split", worker="s")
    wf.add("join", worker="j", input=results("split"), deps=["split"])
    view = client.insert(wf)
    for number in range(3):
        client.complete_step(view.id, "split", append=fragment(f"a{number} b"))
        for name in (f"a{number}", "b"):
            client.complete_step(view.id, name, payload=number)
        (claim,) = client.claim(["default"], worker_id="w")
        assert (claim.step, claim.input) == ("join", [number, number])
        client.complete(claim)
        if number < 2:
            again(client, view.id, "split")
    ended = client.get(view.id)
    assert (ended.state, ended.step_count, ended.cancelled_step_count) == ("completed", 6, 2)


def test_what_appended_steps_had_appended_goes_with_them(client: Client) -> None:
    view = client.insert(flow("first split:first join:split"))
    client.complete_step(view.id, "first")
    client.complete_step(view.id, "split", append=fragment("a"))
    client.complete_step(view.id, "a", append=fragment("b"))
    client.complete_step(view.id, "b", append=fragment("c"))
    again(client, view.id, "first")
    assert causes(client, view.id) == (
        "first=available split=pending join=pending a=superseded b=superseded c=superseded"
    )
    client.complete_step(view.id, "first")
    client.complete_step(view.id, "split", append=fragment("a"))
    client.complete_step(view.id, "a")
    assert client.step(view.id, "join").state == "available"


def test_an_appended_step_can_be_recovered_by_itself(client: Client) -> None:
    view = client.insert(flow("split join:split after:join"))
    client.complete_step(view.id, "split", append=fragment("a b:a"))
    client.complete_step(view.id, "a", "failed")
    assert causes(client, view.id) == (
        "split=completed join=cancelled_by_dependency after=cancelled_by_dependency"
        " a=step_failed b=cancelled_by_dependency"
    )
    dry = client.recover_step(view.id, "a", "retry", dry_run=True)
    done = client.recover_step(view.id, "a", "retry")
    assert {change.step: change.after for change in dry.changes} == {
        change.step: change.after for change in done.changes
    }
    assert states(client, view.id) == (
        "split=completed join=pending after=pending a=available b=pending"
    )
    for name in ("a", "b", "join", "after"):
        client.complete_step(view.id, name)
    assert client.get(view.id).state == "completed"


def test_a_superseded_step_cannot_be_recovered(client: Client) -> None:
    view = client.insert(flow("split join:split"))
    client.complete_step(view.id, "split", append=fragment("a"))
    again(client, view.id, "split")
    for action in ("retry", "skip"):
        with refused("illegal_transition"):
            client.recover_step(view.id, "a", action)


def test_a_superseded_step_holds_nobody_in_explanations(client: Client) -> None:
    view = client.insert(flow("split join:split"))
    client.complete_step(view.id, "split", append=fragment("a"))
    again(client, view.id, "split")
    gone = client.explain_step(view.id, "a")
    assert (gone.operator_status, gone.executable_actions) == ("Resolved", ())
    join = client.explain_step(view.id, "join")
    assert [cause.step for cause in join.root_causes] == ["split"]


def test_a_cancelled_sink_is_skipped_over_when_the_step_appends_anew(client: Client) -> None:
    view = client.insert(flow("split other join:split"))
    client.complete_step(view.id, "split", append=fragment("a:other b"))
    again(client, view.id, "split")
    client.complete_step(view.id, "split", append=fragment("a"))
    # It does not depend on the other step any more.
    client.complete_step(view.id, "other", "failed")
    assert states(client, view.id).split()[-2:] == ["a=available", "b=cancelled"]
    client.complete_step(view.id, "a")
    assert client.step(view.id, "join").state == "available"


def test_only_the_step_that_had_appended_a_name_may_take_it_again(client: Client) -> None:
    view = client.insert(flow("split other join:split"))
    client.complete_step(view.id, "split", append=fragment("a"))
    again(client, view.id, "split")
    with pytest.raises(Exception, match="duplicate_step_name"):
        client.complete_step(view.id, "other", append=fragment("a"))
    client.complete_step(view.id, "split", append=Fragment())
    assert client.step(view.id, "join").state == "available"


def test_who_has_stopped_waiting_for_a_superseded_step_does_not_wait_for_the_next_of_its_name(
    client: Client,
) -> None:
    view = client.insert(flow("split join:split"))
    client.complete_step(view.id, "split", append=fragment("a"))
    client.complete_step(view.id, "a", append=fragment("b"))
    again(client, view.id, "split")
    client.complete_step(view.id, "split", append=fragment("a"))  # the join waits for it alone
    client.complete_step(view.id, "a", append=fragment("b"), join=False)
    assert causes(client, view.id) == "split=completed join=available a=completed b=available"
    assert edges(client, view.id) == ["a>b", "a>join", "split>a", "split>join"]


def test_a_superseded_step_whose_name_is_taken_again_is_no_skipped_branch_any_more(
    client: Client,
) -> None:
    view = client.insert(flow("split join:split"))
    client.complete_step(view.id, "split", append=fragment("a"))
    client.complete_step(view.id, "a")
    again(client, view.id, "split")
    client.complete_step(view.id, "split", append=fragment("a"), join=False)
    assert causes(client, view.id) == "split=completed join=pending a=available"
    client.complete_step(view.id, "a", "skipped", branch=True)
    # Of its two parents one was skipped with its branch, so it runs.
    assert causes(client, view.id) == "split=completed join=available a=skipped"
