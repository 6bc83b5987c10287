"""SPEC sections 2 and 4: what completing a step does, on every kind of server."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest

from rwf import Backoff, Client, CommandRejected, Completion, Workflow
from rwf.model.limits import EDGES_PER_CALL, LISTED
from rwf.model.views import CommandResult
from tests.contract.flows import (
    chain,
    drive,
    effect,
    fan_in,
    fan_out,
    flow,
    noted,
    own_key,
    raw,
    refused,
    states,
)

ENDS = {
    "completed": ("completed", "completed"),
    "failed": ("failed", "step_failed"),
    "discarded": ("discarded", "step_failed"),
    "cancelled": ("cancelled", "cancelled"),
}
"""What a status makes of its step: state and cause."""

WORKFLOW_ENDS = {
    "completed": ("completed", "completed"),
    "failed": ("failed", "step_failed"),
    "discarded": ("failed", "step_failed"),
    "cancelled": ("cancelled", "step_cancelled"),
}
"""And of a workflow of this one step."""


# --- one step


@pytest.mark.parametrize("status", ENDS)
def test_the_end_of_a_step(client: Client, status: str) -> None:
    view = client.insert(flow("a"))
    assert (view.state, view.runnable_step_count, view.terminal_cause) == ("available", 1, None)
    assert view.started_at is None
    assert view.finished_at is None
    result = client.complete_step(view.id, "a", status)
    assert result.outcome == "accepted"
    assert (result.step.state, result.step.terminal_cause) == ENDS[status]
    assert (result.workflow.state, result.workflow.terminal_cause) == WORKFLOW_ENDS[status]
    assert result.workflow == client.get(view.id)
    assert result.step == client.step(view.id, "a")
    assert result.step.attempt == 1
    assert effect(result) == ((), 0, (), 0)
    finished = result.step.finished_at
    assert finished is not None
    assert finished.tzinfo == UTC
    assert result.step.started_at == finished
    assert result.workflow.started_at == result.workflow.finished_at == finished
    assert result.workflow.last_transition_at == result.step.last_transition_at == finished
    counted = (
        result.workflow.runnable_step_count,
        result.workflow.completed_step_count,
        result.workflow.cancelled_step_count,
        result.workflow.failed_step_count,
    )
    assert counted == (
        0,
        int(status == "completed"),
        int(status == "cancelled"),
        int(status in ("failed", "discarded")),
    )


def test_status_is_completed_by_default(client: Client) -> None:
    view = client.insert(flow("a"))
    assert client.complete_step(view.id, "a").step.state == "completed"


def test_a_retry(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    result = client.complete_step(view.id, "a", "retryable", retry_in=60)
    assert result.step.state == "retryable"
    assert result.step.terminal_cause is None
    assert result.step.finished_at is None
    assert result.step.started_at is not None
    assert result.step.retry_at == result.step.last_transition_at + timedelta(seconds=60)
    assert result.workflow.state == "running"
    assert result.workflow.runnable_step_count == 0
    assert result.workflow.finished_at is None
    assert effect(result) == ((), 0, (), 0)
    assert states(client, view.id) == "a=retryable b=pending"


def test_a_step_that_waits_for_its_retry_can_be_completed(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    first = client.complete_step(view.id, "a", "retryable", retry_in=60)
    result = client.complete_step(view.id, "a")
    assert (result.outcome, result.step.attempt, result.released) == ("accepted", 2, ("b",))
    assert result.step.retry_at is None
    # A step starts once, however often it is tried.
    assert result.step.started_at == first.step.started_at


def test_retry_in_takes_a_timedelta(client: Client) -> None:
    view = client.insert(flow("a"))
    step = client.complete_step(view.id, "a", "retryable", retry_in=timedelta(minutes=2)).step
    assert step.retry_at == step.last_transition_at + timedelta(seconds=120)


def test_a_retry_that_is_due_is_available_again(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    client.complete_step(view.id, "a", "retryable", retry_in=0)
    # Without a daemon the reconciliation by hand is who fires it.
    report = client.reconcile(view.id)
    assert [(repair.kind, repair.step) for repair in report.repairs] == [("retry_due", "a")]
    step = client.step(view.id, "a")
    assert (step.state, step.attempt, step.retry_at) == ("available", 1, None)
    assert client.get(view.id).state == "available"
    assert client.complete_step(view.id, "a").step.attempt == 2


def test_attempts_are_counted_and_run_out(client: Client) -> None:
    view = client.insert(flow("a b:a", max_attempts=3))
    for attempt in (1, 2):
        result = client.complete_step(view.id, "a", "retryable", retry_in=9)
        assert (result.step.state, result.step.attempt) == ("retryable", attempt)
        assert result.step.max_attempts == 3
    last = client.complete_step(view.id, "a", "retryable", retry_in=9, payload={"n": 3})
    assert (last.step.state, last.step.terminal_cause) == ("discarded", "step_failed")
    assert last.step.attempt == 3
    assert last.step.retry_at is None
    assert last.cancelled == ("b",)
    assert last.workflow.state == "failed"
    assert last.workflow.failed_step_count == 1
    assert noted(client, view.id) == [
        ("complete_step", "a", "accepted", None),
        ("complete_step", "a", "accepted", None),
        ("complete_step", "a", "accepted", "attempts_exhausted"),
        ("complete_step", "a", "accepted", None),
    ]
    results = client.results(view.id, step="a")
    assert [(row.attempt, row.status) for row in results] == [
        (1, "retryable"),
        (2, "retryable"),
        (3, "discarded"),
    ]


@pytest.mark.parametrize("status", ["completed", "failed", "discarded", "cancelled"])
def test_the_last_attempt_may_end_in_any_way(client: Client, status: str) -> None:
    view = client.insert(flow("a", max_attempts=1))
    assert client.complete_step(view.id, "a", status).step.state == status
    assert noted(client, view.id) == [("complete_step", "a", "accepted", None)]


def test_a_single_attempt_leaves_no_retry(client: Client) -> None:
    view = client.insert(flow("a", max_attempts=1))
    assert client.complete_step(view.id, "a", "retryable").step.state == "discarded"


# --- backoff


def _delay(result: CommandResult) -> float:
    assert result.step.retry_at is not None
    return (result.step.retry_at - result.step.last_transition_at).total_seconds()


def test_the_default_backoff_doubles_up_to_its_cap_with_full_jitter(one_client: Client) -> None:
    flows = [one_client.insert(flow("a", max_attempts=1000)).id for _ in range(12)]
    delays: dict[int, list[float]] = {}
    for attempt in range(1, 13):
        items = [Completion(workflow_id=id_, step="a", status="retryable") for id_ in flows]
        for result in one_client.complete_many(items):
            assert isinstance(result, CommandResult)
            delays.setdefault(attempt, []).append(_delay(result))
    for attempt, found in delays.items():
        assert 0 <= min(found) <= max(found) <= min(300, 2 ** (attempt - 1))
        # Jitter draws from all of the range: twelve equal draws, or none above a third of it, would
        # happen once in half a million times.
        assert len(set(found)) > 1
        assert max(found) > min(300, 2 ** (attempt - 1)) / 3


@pytest.mark.parametrize(
    ("backoff", "delays"),
    [
        (Backoff(base=2, factor=3, cap=20, jitter="none"), [2, 6, 18, 20, 20]),
        (Backoff(base=0.25, factor=1, jitter="none"), [0.25, 0.25, 0.25]),
        (Backoff(base=1e9, factor=1e9, cap=1e9, jitter="none"), [1e9, 1e9, 1e9]),
        (5, [5, 5, 5]),
        (timedelta(seconds=1.5), [1.5, 1.5]),
        (0, [0, 0]),
    ],
)
def test_a_backoff_of_ones_own(client: Client, backoff: Backoff, delays: list[float]) -> None:
    view = client.insert(Workflow("w").add("a", worker="w", max_attempts=9, backoff=backoff))
    found = [_delay(client.complete_step(view.id, "a", "retryable")) for _ in delays]
    assert found == pytest.approx(delays, abs=0.001)


def test_the_hundredth_attempt_overflows_nothing(one_client: Client) -> None:
    wf = Workflow("w").add(
        "a",
        worker="w",
        max_attempts=1000,
        backoff=Backoff(base=1, factor=1e9, cap=7, jitter="none"),
    )
    view = one_client.insert(wf)
    for _ in range(99):
        one_client.complete_step(view.id, "a", "retryable", retry_in=9)
    assert _delay(one_client.complete_step(view.id, "a", "retryable")) == 7


def test_retry_in_goes_before_the_backoff(client: Client) -> None:
    view = client.insert(flow("a", backoff=77))
    assert _delay(client.complete_step(view.id, "a", "retryable", retry_in=0.5)) == 0.5


# --- release and cascade


def test_a_child_is_released_by_the_last_of_its_parents(client: Client) -> None:
    view = client.insert(flow("a b c:a,b"))
    assert effect(client.complete_step(view.id, "a")) == ((), 0, (), 0)
    assert states(client, view.id) == "a=completed b=available c=pending"
    result = client.complete_step(view.id, "b")
    assert effect(result) == (("c",), 1, (), 0)
    assert result.workflow.runnable_step_count == 1
    assert states(client, view.id) == "a=completed b=completed c=available"


EDGES = [
    (policy, status)
    for policy, status in product(("", "+"), ("completed", "failed", "discarded", "cancelled"))
]


@pytest.mark.parametrize(("policy", "status"), EDGES)
def test_what_an_edge_does(client: Client, policy: str, status: str) -> None:
    view = client.insert(flow(f"a b:{policy}a"))
    result = client.complete_step(view.id, "a", status)
    child = client.step(view.id, "b")
    if status == "completed" or policy == "+":
        assert effect(result) == (("b",), 1, (), 0)
        assert (child.state, child.terminal_cause) == ("available", None)
        assert child.started_at is None
        assert result.workflow.state == "available"
    else:
        assert effect(result) == ((), 0, ("b",), 1)
        assert (child.state, child.terminal_cause) == ("cancelled", "cancelled_by_dependency")
        assert child.finished_at is not None
        assert child.attempt == 0
        assert result.workflow.cancelled_step_count == 1 + (status == "cancelled")
        assert result.workflow.finished_at is not None


def test_a_cancel_edge_goes_before_open_parents(client: Client) -> None:
    view = client.insert(flow("a b c:a,b d:c"))
    result = client.complete_step(view.id, "a", "failed")
    assert effect(result) == ((), 0, ("c", "d"), 2)
    assert result.workflow.state == "available"  # b
    late = client.complete_step(view.id, "b")
    assert effect(late) == ((), 0, (), 0)
    assert client.step(view.id, "c").state == "cancelled"
    assert late.workflow.state == "failed"


def test_a_cancel_edge_goes_before_continue_edges(client: Client) -> None:
    view = client.insert(flow("a b c:+a,b"))
    client.complete_step(view.id, "a", "failed")
    assert states(client, view.id) == "a=failed b=available c=pending"
    assert effect(client.complete_step(view.id, "b", "failed")) == ((), 0, ("c",), 1)


def test_a_continue_edge_waits_for_its_parent(client: Client) -> None:
    view = client.insert(flow("a b c:+a,b"))
    client.complete_step(view.id, "b")
    client.complete_step(view.id, "a", "retryable", retry_in=60)
    assert client.step(view.id, "c").state == "pending"
    assert client.complete_step(view.id, "a", "discarded").released == ("c",)


def test_a_cascade_stops_at_continue_edges(client: Client) -> None:
    view = client.insert(flow("a b:a c:+b d:c"))
    result = client.complete_step(view.id, "a", "failed")
    assert effect(result) == (("c",), 1, ("b",), 1)
    assert states(client, view.id) == "a=failed b=cancelled c=available d=pending"
    client.complete_step(view.id, "c")
    end = client.complete_step(view.id, "d").workflow
    assert (end.state, end.terminal_cause) == ("failed", "step_failed")


def test_a_child_reached_twice_by_one_cascade_is_told_once(client: Client) -> None:
    view = client.insert(flow("a b:a c:a d:b,c e:+b,+c"))
    result = client.complete_step(view.id, "a", "failed")
    assert sorted(result.cancelled) == ["b", "c", "d"]
    assert result.cancelled_count == 3
    assert effect(result)[:2] == (("e",), 1)


def test_a_cascade_of_any_depth(client: Client) -> None:
    view = client.insert(chain(1203))
    result = client.complete_step(view.id, "s0", "failed")
    assert result.cancelled_count == 1202
    assert result.cancelled == tuple(f"s{n}" for n in range(1, 1001))
    assert result.workflow.cancelled_step_count == 1202
    assert (result.workflow.state, result.workflow.terminal_cause) == ("failed", "step_failed")
    assert client.step(view.id, "s1202").terminal_cause == "cancelled_by_dependency"


def test_a_cascade_along_continue_edges_only_releases(client: Client) -> None:
    view = client.insert(chain(3, "+"))
    for number in range(3):
        result = client.complete_step(view.id, f"s{number}", "failed")
        assert result.cancelled == ()
    assert result.workflow.failed_step_count == 3


@pytest.mark.parametrize("policy", ["", "+"])
def test_a_child_of_many_parents(client: Client, policy: str) -> None:
    view = client.insert(fan_in(70, policy))  # more than a record holds inline
    items = [Completion(workflow_id=view.id, step=f"p{n}", status="completed") for n in range(69)]
    for result in client.complete_many(items):
        assert isinstance(result, CommandResult)
        assert result.released == ()
    status = "failed" if policy else "completed"
    assert client.complete_step(view.id, "p69", status).released == ("last",)
    assert client.step(view.id, "last").dependency_count == 70


# --- slices


ONE, TWO, MANY = EDGES_PER_CALL, 2 * EDGES_PER_CALL, 5 * EDGES_PER_CALL


@pytest.mark.parametrize("width", [ONE - 1, ONE, ONE + 1, TWO, TWO + 1, MANY, MANY + 1, 1250])
@pytest.mark.parametrize("status", ["completed", "failed"])
def test_a_wide_completion_is_whole_when_it_returns(
    one_client: Client, width: int, status: str
) -> None:
    view = one_client.insert(fan_out(width))
    result = one_client.complete_step(view.id, "root", status, payload=[1])
    names = tuple(f"c{n}" for n in range(min(width, LISTED)))
    moved = (names, width)
    expected = (*moved, (), 0) if status == "completed" else ((), 0, *moved)
    assert effect(result) == expected
    assert result.workflow == one_client.get(view.id)
    assert result.workflow.runnable_step_count == (width if status == "completed" else 0)
    assert result.workflow.cancelled_step_count == (0 if status == "completed" else width)
    again = one_client.complete_step(view.id, "root", status, payload=[1])
    assert again.outcome == "duplicate"
    assert effect(again) == expected


def test_a_wide_completion_on_every_server(client: Client) -> None:
    view = client.insert(fan_out(1234, "+"))
    result = client.complete_step(view.id, "root", "discarded", command_id="once")
    assert (result.released_count, len(result.released), result.cancelled_count) == (1234, 1000, 0)
    again = client.complete_step(view.id, "root", "failed", command_id="once")
    assert again.outcome == "duplicate"
    assert effect(again) == effect(result)


def test_released_and_cancelled_are_capped_each(one_client: Client) -> None:
    words = ["root", *(f"r{n}:+root" for n in range(1100)), *(f"x{n}:root" for n in range(1050))]
    view = one_client.insert(flow(" ".join(words)))
    result = one_client.complete_step(view.id, "root", "failed")
    assert (result.released_count, result.cancelled_count) == (1100, 1050)
    assert (len(result.released), len(result.cancelled)) == (1000, 1000)
    assert {name[0] for name in result.released} == {"r"}
    assert {name[0] for name in result.cancelled} == {"x"}


def _first_call_only(client: Client, workflow_id: str, step: str, status: str) -> None:
    """Completes a step and dies before any further slice."""
    from rwf.store.ops.complete import complete_step

    item = Completion(workflow_id=workflow_id, step=step, status=status, command_id="cut")
    assert drive(client, complete_step(client._scope, item), 1) is None


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_an_unfinished_release_is_not_an_end_and_runs_nothing_early(
    client: Client, status: str
) -> None:
    wf = fan_out(700)
    wf.add("after", worker="w", deps=[f"c{n}" for n in range(700)])
    view = client.insert(wf)
    _first_call_only(client, view.id, "root", status)
    now = client.get(view.id)
    assert now.terminal_cause is None
    assert now.finished_at is None
    counted = [str(step.state) for step in client.steps(view.id)]
    assert counted.count("pending") > 0
    assert now.runnable_step_count == counted.count("available")
    assert now.cancelled_step_count == counted.count("cancelled")
    # The same command again finishes it, and answers for all of it.
    again = client.complete_step(view.id, "root", "completed", command_id="cut")
    assert again.outcome == "duplicate"
    assert again.released_count + again.cancelled_count == (700 if status == "completed" else 701)
    assert client.get(view.id).state == ("available" if status == "completed" else "failed")


def test_another_completion_finishes_only_what_is_its_own(client: Client) -> None:
    wf = fan_out(1200)
    wf.add("other", worker="w").add("next", worker="w", deps=["other"])
    view = client.insert(wf)
    _first_call_only(client, view.id, "root", "completed")
    result = client.complete_step(view.id, "other")
    assert effect(result) == (("next",), 1, (), 0)
    again = client.complete_step(view.id, "root", command_id="cut")
    assert (again.released_count, again.outcome) == (1200, "duplicate")
    assert "next" not in again.released


def test_two_unfinished_releases_keep_their_own_counts(one_client: Client) -> None:
    words = ["a", "b", *(f"x{n}:a" for n in range(800)), *(f"y{n}:b" for n in range(900))]
    view = one_client.insert(flow(" ".join(words)))
    _first_call_only(one_client, view.id, "a", "completed")
    _first_call_only(one_client, view.id, "b", "failed")
    second = one_client.complete_step(view.id, "b", command_id="cut")
    first = one_client.complete_step(view.id, "a", command_id="cut")
    assert (first.released_count, first.cancelled_count) == (800, 0)
    assert (second.released_count, second.cancelled_count) == (0, 900)
    assert {name[0] for name in first.released} == {"x"}
    assert {name[0] for name in second.cancelled} == {"y"}


def test_a_step_released_by_a_slice_may_complete_before_the_release_is_done(
    client: Client,
) -> None:
    view = client.insert(fan_out(600))
    _first_call_only(client, view.id, "root", "completed")
    first = next(step.name for step in client.steps(view.id) if step.state == "available")
    assert client.complete_step(view.id, first, "failed").outcome == "accepted"
    again = client.complete_step(view.id, "root", command_id="cut")
    assert again.released_count == 600
    workflow = client.get(view.id)
    assert (workflow.runnable_step_count, workflow.failed_step_count) == (599, 1)


def test_a_pending_step_of_an_unfinished_release_is_refused(client: Client) -> None:
    view = client.insert(fan_out(600))
    _first_call_only(client, view.id, "root", "completed")
    waiting = next(step.name for step in client.steps(view.id) if step.state == "pending")
    with refused("dependencies_unresolved"):
        client.complete_step(view.id, waiting)
    client.reconcile(view.id)
    assert client.complete_step(view.id, waiting).outcome == "accepted"


# --- refusals


def test_a_pending_step_cannot_be_completed(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    for status in ("completed", "retryable", "failed", "discarded", "cancelled"):
        before = client.steps(view.id), client.get(view.id)
        with refused("dependencies_unresolved") as caught:
            client.complete_step(view.id, "b", status)
        assert (client.steps(view.id), client.get(view.id)) == before
    error = caught.value
    assert (error.action, error.scope) == ("complete_step", "step")
    assert error.reason_code == "dependencies_unresolved"
    assert error.message
    assert error.legal_next_steps == ("explain_step",)
    assert isinstance(error.requested_at, datetime)
    assert error.requested_at.tzinfo == UTC
    entry = client.evidence(view.id)[-1]
    assert (entry.status, entry.reason_code) == ("rejected", "dependencies_unresolved")
    assert entry.requested_at == error.requested_at
    assert len(client.evidence(view.id)) == 5


def test_a_step_that_does_not_exist(client: Client) -> None:
    view = client.insert(flow("a"))
    with refused("step_not_found"):
        client.complete_step(view.id, "b")
    assert noted(client, view.id) == [("complete_step", "b", "rejected", "step_not_found")]


def test_a_workflow_that_does_not_exist(client: Client) -> None:
    view = client.insert(flow("a"))
    stranger = view.id[:-1] + ("a" if view.id[-1] != "a" else "b")
    with refused("workflow_not_found") as caught:
        client.complete_step(stranger, "a")
    assert caught.value.requested_at is not None
    assert caught.value.legal_next_steps == ("list_workflows", "insert")


@pytest.mark.parametrize("first", ENDS)
def test_a_late_report_on_a_step_that_has_ended(client: Client, first: str) -> None:
    view = client.insert(flow("a b:+a"))
    client.complete_step(view.id, "a", first, payload={"n": 1})
    before = client.steps(view.id), client.get(view.id), client.results(view.id)
    for status in (*ENDS, "retryable"):
        with refused("already_terminal"):
            client.complete_step(view.id, "a", status, payload={"n": 2})
    for status in {*ENDS, "retryable"} - {first}:
        with refused("already_terminal"):
            client.complete_step(view.id, "a", status, payload={"n": 1})
    with refused("already_terminal"):
        client.complete_step(view.id, "a", first)  # no payload is another payload
    assert (client.steps(view.id), client.get(view.id), client.results(view.id)) == before


def test_a_step_that_a_cascade_cancelled_takes_no_report(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    client.complete_step(view.id, "a", "failed")
    for status in ("completed", "cancelled"):
        with refused("already_terminal") as caught:
            client.complete_step(view.id, "b", status)
    assert caught.value.legal_next_steps == ("inspect_step_result", "recover_step")
    assert client.result(view.id, "b") is None


# --- duplicates


@pytest.mark.parametrize("status", ENDS)
def test_the_same_end_again_is_a_duplicate(client: Client, status: str) -> None:
    view = client.insert(flow("a b:a c:+a"))
    first = client.complete_step(view.id, "a", status, payload={"n": [1]})
    before = client.steps(view.id), client.get(view.id), client.results(view.id)
    again = client.complete_step(view.id, "a", status, payload={"n": [1]})
    assert again.outcome == "duplicate"
    assert effect(again) == effect(first)
    assert (again.step, again.workflow) == (first.step, first.workflow)
    assert (client.steps(view.id), client.get(view.id), client.results(view.id)) == before
    assert noted(client, view.id) == [
        ("complete_step", "a", "accepted", None),
        ("complete_step", "a", "duplicate", "duplicate_completion"),
    ]


def test_a_duplicate_shows_the_step_and_the_workflow_as_they_are_now(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    client.complete_step(view.id, "a")
    client.complete_step(view.id, "b")
    again = client.complete_step(view.id, "a")
    assert effect(again) == (("b",), 1, (), 0)
    assert again.workflow.state == "completed"


def test_payloads_are_compared_as_bytes(client: Client) -> None:
    view = client.insert(flow("a"))
    client.complete_step(view.id, "a", payload={"a": 1, "b": 2})
    with refused("already_terminal"):
        client.complete_step(view.id, "a", payload={"b": 2, "a": 1})
    with refused("already_terminal"):
        client.complete_step(view.id, "a", payload={"a": 1.0, "b": 2})
    assert client.complete_step(view.id, "a", payload={"a": 1, "b": 2}).outcome == "duplicate"


def test_falsy_payloads_are_told_apart(client: Client) -> None:
    values: list[Any] = [None, [], {}, 0, False, "", 0.0]
    for number, value in enumerate(values):
        view = client.insert(flow("a"), key=str(number))
        client.complete_step(view.id, "a", payload=value)
        for other in values:
            if type(other) is type(value):
                assert client.complete_step(view.id, "a", payload=other).outcome == "duplicate"
            else:
                with refused("already_terminal"):
                    client.complete_step(view.id, "a", payload=other)


def test_an_exhausted_step_takes_the_same_retry_as_a_duplicate(client: Client) -> None:
    view = client.insert(flow("a", max_attempts=1))
    client.complete_step(view.id, "a", "retryable", retry_in=5)
    # The status asked for counts, not what became of it.
    assert client.complete_step(view.id, "a", "retryable", retry_in=5).outcome == "duplicate"
    with refused("already_terminal"):
        client.complete_step(view.id, "a", "discarded")


def test_the_latest_result_is_what_a_late_report_is_compared_with(client: Client) -> None:
    view = client.insert(flow("a", max_attempts=2))
    client.complete_step(view.id, "a", "retryable", payload=1, retry_in=5)
    client.complete_step(view.id, "a", "completed", payload=2)
    with refused("already_terminal"):
        client.complete_step(view.id, "a", "retryable", payload=1, retry_in=5)


def test_without_an_id_another_retry_is_another_attempt(client: Client) -> None:
    view = client.insert(flow("a"))
    for attempt in (1, 2):
        result = client.complete_step(view.id, "a", "retryable", payload=1, retry_in=5)
        assert (result.outcome, result.step.attempt) == ("accepted", attempt)


def test_a_command_id_is_a_duplicate_in_every_state(client: Client) -> None:
    view = client.insert(flow("a b:a"))

    def send(**changed: object) -> CommandResult:
        options = {"payload": [1], "retry_in": 0, "command_id": "one", **changed}
        return client.complete_step(view.id, "a", "retryable", **options)  # type: ignore[arg-type]

    first = send()
    assert (first.outcome, first.step.state) == ("accepted", "retryable")
    assert send().outcome == "duplicate"  # retryable
    client.reconcile(view.id)
    waiting = send()  # available
    assert (waiting.outcome, waiting.step.state) == ("duplicate", "available")
    # Another request under the same id gets the first one's answer too.
    assert send(payload=[2]).outcome == "duplicate"
    other = client.complete_step(view.id, "a", "completed", payload=[3], command_id="one")
    assert (other.outcome, other.step.state) == ("duplicate", "available")
    second = client.complete_step(view.id, "a", "completed", payload=[3], command_id="two")
    assert second.outcome == "accepted"
    late = send()  # terminal
    assert (late.outcome, late.step.state) == ("duplicate", "completed")
    assert effect(late) == effect(first) == ((), 0, (), 0)
    third = client.complete_step(view.id, "a", "completed", payload=[3], command_id="two")
    assert effect(third) == (("b",), 1, (), 0)
    assert len(client.results(view.id)) == 2


def test_a_command_id_is_on_record_however_many_attempts_followed(client: Client) -> None:
    view = client.insert(flow("a", max_attempts=100))
    for number in range(20):
        client.complete_step(view.id, "a", "retryable", retry_in=9, command_id=str(number))
    for number in (0, 10, 19):
        again = client.complete_step(view.id, "a", command_id=str(number))
        assert (again.outcome, again.step.attempt) == ("duplicate", 20)
    assert len(client.results(view.id)) == 20


def test_a_new_command_id_on_an_ended_step_is_refused_though_all_else_is_equal(
    client: Client,
) -> None:
    view = client.insert(flow("a"))
    client.complete_step(view.id, "a", payload=1, command_id="one")
    with refused("already_terminal"):
        client.complete_step(view.id, "a", payload=1, command_id="two")
    # Without any id, status and payload decide.
    assert client.complete_step(view.id, "a", payload=1).outcome == "duplicate"


def test_a_command_id_says_nothing_about_other_steps(client: Client) -> None:
    view = client.insert(flow("a b"))
    assert client.complete_step(view.id, "a", command_id="same").outcome == "accepted"
    assert client.complete_step(view.id, "b", command_id="same").outcome == "accepted"


def test_a_refused_command_id_is_not_on_record(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    with refused("dependencies_unresolved"):
        client.complete_step(view.id, "b", command_id="one")
    client.complete_step(view.id, "a")
    assert client.complete_step(view.id, "b", command_id="one").outcome == "accepted"


@pytest.mark.parametrize(
    "command_id", ["a,b|c", "{}:\n\x00", "ключ", "%2C", "x" * 512, "r:a:1", " ", '"'], ids=repr
)
def test_command_ids_of_any_text(client: Client, command_id: str) -> None:
    view = client.insert(flow("a", max_attempts=9))
    for outcome in ("accepted", "duplicate", "duplicate"):
        result = client.complete_step(
            view.id, "a", "retryable", retry_in=5, command_id=command_id, summary="s"
        )
        assert (result.outcome, result.step.attempt) == (outcome, 1)
    assert client.results(view.id)[0].summary == "s"


# --- leases


@pytest.mark.parametrize("status", ["completed", "retryable", "failed"])
def test_a_token_that_is_not_the_current_one_is_stale_in_every_state(
    client: Client, status: str
) -> None:
    view = client.insert(flow("a b:a c"))
    client.complete_step(view.id, "c")
    for step in ("a", "b", "c"):  # available, pending, completed
        with refused("stale_lease") as caught:
            client.complete_step(view.id, step, status, lease="mine")
    assert caught.value.legal_next_steps == ("drop_claim", "inspect_step")
    client.complete_step(view.id, "a", "retryable", retry_in=60)
    with refused("stale_lease"):
        client.complete_step(view.id, "a", status, lease="mine")
    with refused("stale_lease"):
        client.complete_step(view.id, "a", status, lease="mine", force=True)
    assert states(client, view.id) == "a=retryable b=pending c=completed"


def test_a_command_id_on_record_goes_before_a_stale_lease(client: Client) -> None:
    view = client.insert(flow("a"))
    client.complete_step(view.id, "a", command_id="one")
    assert client.complete_step(view.id, "a", command_id="one", lease="x").outcome == "duplicate"
    with refused("stale_lease"):
        client.complete_step(view.id, "a", command_id="two", lease="x")


def test_a_lease_on_record_is_compared_with_its_request(client: Client) -> None:
    """No claim gives a lease yet, so one is written into the row of a completion."""
    view = client.insert(flow("a b:a"))
    first = client.complete_step(view.id, "a", payload=[1])
    key = own_key(view.id, "p")
    head, rest = raw(client).hget(key, "r:a:1").split(b"|", 1)
    parts = head.split(b",")
    assert parts[5] == b""
    raw(client).hset(key, "r:a:1", b",".join([*parts[:5], b"1-mine", *parts[6:]]) + b"|" + rest)
    again = client.complete_step(view.id, "a", payload=[1], lease="1-mine")
    assert (again.outcome, effect(again)) == ("duplicate", effect(first))
    for status, payload in (("completed", [2]), ("failed", [1]), ("completed", None)):
        with refused("already_terminal"):
            client.complete_step(view.id, "a", status, payload=payload, lease="1-mine")
    for other in ("1-other", "2-mine", "01-mine", "mine", "1", "-1-mine", "1-", f"{2**64}-mine"):
        with refused("stale_lease"):
            client.complete_step(view.id, "a", payload=[1], lease=other)


def test_force_changes_nothing_for_a_step_that_nobody_holds(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    with refused("dependencies_unresolved"):
        client.complete_step(view.id, "b", force=True)
    assert client.complete_step(view.id, "a", force=True).outcome == "accepted"
    with refused("already_terminal"):
        client.complete_step(view.id, "a", "failed", force=True)


# --- semantics of another version


def _other_semantics(client: Client, workflow_id: str) -> None:
    key = own_key(workflow_id)
    static = raw(client).hget(key, ":s")
    assert static.startswith(b"2,")
    raw(client).hset(key, ":s", b"3" + static[1:])


def test_another_semantics_version_refuses_commands_and_allows_reads(
    client: Client, broken_on_purpose: None
) -> None:
    view = client.insert(flow("a b:a"))
    client.complete_step(view.id, "a", command_id="one")
    before = client.steps(view.id)
    _other_semantics(client, view.id)
    for step, command in (("b", None), ("a", "one"), ("nobody", None)):
        with refused("unsupported_semantics") as caught:
            client.complete_step(view.id, step, command_id=command)
    assert caught.value.legal_next_steps == ("upgrade_library",)
    assert client.get(view.id).semantics_version == 3
    assert client.steps(view.id) == before
    assert client.result(view.id, "a") is not None
    assert client.explain_step(view.id, "b").state == "available"
    assert client.explain(view.id).state == "available"
    assert [entry[2:] for entry in noted(client, view.id)[1:]] == [
        ("rejected", "unsupported_semantics")
    ] * 3


def test_reconciling_another_semantics_version_is_refused(
    client: Client, broken_on_purpose: None
) -> None:
    view = client.insert(fan_out(600))
    _first_call_only(client, view.id, "root", "completed")
    _other_semantics(client, view.id)
    before = raw(client).hgetall(own_key(view.id))
    with refused("unsupported_semantics"):
        client.reconcile(view.id)
    assert raw(client).hgetall(own_key(view.id)) == before
    assert [entry[2:] for entry in noted(client, view.id)][1:] == [
        ("rejected", "unsupported_semantics")
    ]


# --- many at once


def test_a_batch_answers_each_item_in_its_place(client: Client) -> None:
    ids = [client.insert(flow("a b:a")).id for _ in range(9)]
    items = [Completion(workflow_id=id_, step="a", payload=n) for n, id_ in enumerate(ids)]
    items[3] = Completion(workflow_id=ids[3], step="b")  # pending
    items[5] = Completion(workflow_id="nobody", step="a")
    items[6] = Completion(workflow_id=ids[6], step="zzz")
    items[7] = Completion(workflow_id=ids[7], step="a", status="retryable", retry_in=-1)
    answers = client.complete_many(items)
    assert len(answers) == 9
    reasons = {
        number: answer.reason_code.value
        for number, answer in enumerate(answers)
        if isinstance(answer, CommandRejected)
    }
    assert reasons == {
        3: "dependencies_unresolved",
        5: "workflow_not_found",
        6: "step_not_found",
        7: "invalid_argument",
    }
    for number, answer in enumerate(answers):
        if number not in reasons:
            assert isinstance(answer, CommandResult)
            assert answer.workflow.id == ids[number]
            assert effect(answer) == (("b",), 1, (), 0)
            result = client.result(ids[number], "a")
            assert result is not None
            assert result.payload == number
        else:
            assert client.step(ids[number], "a").state == "available"


def test_an_empty_batch(client: Client) -> None:
    assert client.complete_many([]) == []


def test_a_batch_of_more_than_one_call(client: Client) -> None:
    ids = [client.insert(flow("a")).id for _ in range(150)]
    answers = client.complete_many(Completion(workflow_id=id_, step="a") for id_ in ids)
    assert [answer.workflow.id for answer in answers if isinstance(answer, CommandResult)] == ids


def test_a_batch_is_taken_in_its_order(client: Client) -> None:
    view = client.insert(flow("a b:a c:b"))
    answers = client.complete_many(
        Completion(workflow_id=view.id, step=step) for step in ("c", "a", "b", "c")
    )
    assert isinstance(answers[0], CommandRejected)
    assert answers[0].reason_code == "dependencies_unresolved"
    rest = [answer for answer in answers[1:] if isinstance(answer, CommandResult)]
    assert [answer.released for answer in rest] == [("b",), ("c",), ()]
    assert client.get(view.id).state == "completed"


def test_the_same_step_twice_in_a_batch(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    one = Completion(workflow_id=view.id, step="a", payload=[1])
    other = Completion(workflow_id=view.id, step="a", payload=[2])
    first, second, third = client.complete_many([one, one, other])
    assert isinstance(first, CommandResult)
    assert isinstance(second, CommandResult)
    assert isinstance(third, CommandRejected)
    assert (first.outcome, second.outcome) == ("accepted", "duplicate")
    assert effect(second) == effect(first) == (("b",), 1, (), 0)
    assert third.reason_code == "already_terminal"


def test_the_same_command_id_twice_in_a_batch(client: Client) -> None:
    view = client.insert(flow("a"))
    item = Completion(
        workflow_id=view.id, step="a", status="retryable", retry_in=9, command_id="one"
    )
    first, second = client.complete_many([item, item])
    assert isinstance(first, CommandResult)
    assert isinstance(second, CommandResult)
    assert (first.outcome, second.outcome) == ("accepted", "duplicate")
    assert second.step.attempt == 1


def test_several_attempts_in_a_batch(client: Client) -> None:
    view = client.insert(flow("a", max_attempts=2))
    retry = Completion(workflow_id=view.id, step="a", status="retryable", retry_in=9)
    answers = client.complete_many([retry, retry])
    done = [answer for answer in answers if isinstance(answer, CommandResult)]
    assert [answer.outcome for answer in done] == ["accepted", "accepted"]
    assert client.step(view.id, "a").state == "discarded"


def test_wide_completions_in_one_batch_share_the_calls_but_not_the_counts(client: Client) -> None:
    wide, other = client.insert(fan_out(600)), client.insert(fan_out(450))
    items = [
        Completion(workflow_id=wide.id, step="root"),
        Completion(workflow_id=other.id, step="root", status="failed"),
    ]
    first, second = client.complete_many(items)
    assert isinstance(first, CommandResult)
    assert isinstance(second, CommandResult)
    assert (first.released_count, first.cancelled_count) == (600, 0)
    assert (second.released_count, second.cancelled_count) == (0, 450)
    assert first.workflow == client.get(wide.id)
    assert second.workflow == client.get(other.id)


# --- from many sides


def test_of_those_who_race_one_is_accepted(client: Client) -> None:
    view = client.insert(fan_out(40))
    client.complete_step(view.id, "root")
    start = threading.Barrier(6)

    def race(number: int) -> list[str]:
        start.wait()
        said: list[str] = []
        for step in range(40):
            try:
                done = client.complete_step(view.id, f"c{step}", payload=number % 3)
                said.append(done.outcome)
            except CommandRejected as error:
                said.append(error.reason_code.value)
        return said

    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(race, range(6)))
    for step in range(40):
        said = sorted(answer[step] for answer in answers)
        # One wins, the other with the same payload repeats it, four come too late.
        assert said == ["accepted", *["already_terminal"] * 4, "duplicate"]
    assert client.get(view.id).state == "completed"
    assert len(client.results(view.id)) == 41


def test_those_who_release_the_same_child_release_it_once(client: Client) -> None:
    view = client.insert(fan_in(48))
    start = threading.Barrier(6)

    def complete(part: int) -> int:
        start.wait()
        steps = range(part, 48, 6)
        return sum(client.complete_step(view.id, f"p{n}").released_count for n in steps)

    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(complete, range(6))) == 1
    assert client.step(view.id, "last").state == "available"


# --- the core of it on the fake


def test_the_rules_on_the_fake(fake_client: Client) -> None:
    client = fake_client
    view = client.insert(flow("a b:a c:+b d:c", max_attempts=2), key="k")
    assert client.insert(flow("a b:a c:+b d:c", max_attempts=2), key="k").duplicate
    assert client.complete_step(view.id, "a", "retryable", retry_in=0).step.state == "retryable"
    assert [repair.kind for repair in client.reconcile(view.id).repairs] == ["retry_due"]
    with refused("dependencies_unresolved"):
        client.complete_step(view.id, "b")
    assert client.complete_step(view.id, "a", payload=[2**53 + 1]).released == ("b",)
    assert client.complete_step(view.id, "a", payload=[2**53 + 1]).outcome == "duplicate"
    assert effect(client.complete_step(view.id, "b", "failed")) == (("c",), 1, (), 0)
    assert client.explain_step(view.id, "d").blockers[0].code == "waiting_on_dependencies"
    assert effect(client.complete_step(view.id, "c", "cancelled")) == ((), 0, ("d",), 1)
    end = client.get(view.id)
    assert (end.state, end.terminal_cause) == ("failed", "step_failed")
    with refused("already_terminal"):
        client.complete_step(view.id, "d")
    result = client.result(view.id, "a")
    assert result is not None
    assert result.payload == [2**53 + 1]
    assert len(client.evidence(view.id)) == 8
    assert [found.id for found in client.list(state="failed").workflows] == [view.id]


def test_slices_on_the_fake(fake_client: Client) -> None:
    view = fake_client.insert(fan_out(1300))
    result = fake_client.complete_step(view.id, "root", "failed")
    assert (result.cancelled_count, len(result.cancelled)) == (1300, 1000)
    assert fake_client.get(view.id).state == "failed"


def test_fakes_share_nothing(fake_client: Client) -> None:
    view = fake_client.insert(flow("a"))
    with Client.fake() as other:
        assert other.list().workflows == ()
    assert fake_client.get(view.id) == view
