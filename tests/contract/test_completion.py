"""Contract §2 and §4: completing a step, on every kind of server."""

from __future__ import annotations

from datetime import UTC, timedelta
from itertools import product

import pytest

from rwf import Backoff, Client, Completion, Workflow
from rwf.model.views import CommandResult
from tests.support.flows import (
    chain,
    effect,
    fan_in,
    fan_out,
    flow,
    noted,
    refused,
    states,
)

ENDS = {
    "completed": ("completed", "completed"),
    "failed": ("failed", "step_failed"),
    "discarded": ("discarded", "step_failed"),
    "cancelled": ("cancelled", "cancelled"),
}
"""The outcome of a status for its step: state and cause."""

WORKFLOW_ENDS = {
    "completed": ("completed", "completed"),
    "failed": ("failed", "step_failed"),
    "discarded": ("failed", "step_failed"),
    "cancelled": ("cancelled", "step_cancelled"),
}
"""And for a workflow of this one step."""


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
    # Without a daemon, the reconciliation by hand fires it.
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


def test_a_cascade_that_a_call_cannot_finish_resolves_each_edge_once(one_client: Client) -> None:
    """Four times 60 edges are more than a call walks; ``z`` still waits for each of the
    children."""
    middle = [f"m{n}:root" for n in range(4)]
    children = [f"c{n}:+m{n % 4},z" for n in range(240)]
    view = one_client.insert(flow(" ".join(["z", "root", *middle, *children])))
    after = one_client.complete_step(view.id, "root", "failed").workflow
    assert (after.cancelled_step_count, after.runnable_step_count) == (4, 1)
    assert one_client.complete_step(view.id, "z").released_count == 240


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
