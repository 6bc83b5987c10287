"""Literal rows that guard the tables of rwf.model.states (contract §2)."""

from __future__ import annotations

from itertools import combinations

import pytest

from rwf.model import states
from rwf.model.states import (
    CompletionStatus,
    EdgePolicy,
    Outcome,
    StepCause,
    StepState,
    WorkflowCause,
    WorkflowState,
    resolves,
    workflow_cause,
    workflow_state,
)

# The states of the steps; whether a cancel request is open; the workflow's state and cause.
ROWS = [
    # A cancel request is open and any step is not terminal.
    ("pending", True, "cancel_requested", None),
    ("available", True, "cancel_requested", None),
    ("executing", True, "cancel_requested", None),
    ("awaiting_signal", True, "cancel_requested", None),
    ("retryable", True, "cancel_requested", None),
    ("completed pending", True, "cancel_requested", None),
    ("expired failed executing", True, "cancel_requested", None),
    # Any available.
    ("available", False, "available", None),
    ("available executing retryable awaiting_signal pending", False, "available", None),
    ("available failed expired", False, "available", None),
    # Any executing or retryable.
    ("executing", False, "running", None),
    ("retryable", False, "running", None),
    ("executing awaiting_signal", False, "running", None),
    ("retryable pending completed", False, "running", None),
    ("executing expired", False, "running", None),
    # Any awaiting_signal.
    ("awaiting_signal", False, "pending", None),
    ("awaiting_signal completed", False, "pending", None),
    ("awaiting_signal failed", False, "pending", None),
    # None of those, and not all terminal.
    ("pending", False, "pending", None),
    ("pending completed", False, "pending", None),
    ("pending failed", False, "pending", None),
    ("pending expired", False, "pending", None),
    # All completed.
    ("completed", False, "completed", "completed"),
    ("completed", True, "completed", "completed_after_cancel_request"),
    # All terminal and any expired.
    ("expired", False, "expired", "expired_wait"),
    ("expired", True, "expired", "expired_wait"),
    ("expired completed", False, "expired", "expired_wait"),
    ("expired completed", True, "expired", "expired_wait"),
    ("expired failed", False, "expired", "expired_wait"),
    ("expired discarded cancelled", False, "expired", "expired_wait"),
    # All terminal and any failed or discarded.
    ("failed", False, "failed", "step_failed"),
    ("discarded", False, "failed", "step_failed"),
    ("failed", True, "failed", "step_failed"),
    ("discarded completed", True, "failed", "step_failed"),
    ("failed cancelled", False, "failed", "step_failed"),
    ("failed cancelled completed", True, "failed", "step_failed"),
    # All terminal, none of those: some cancelled.
    ("cancelled", False, "cancelled", "step_cancelled"),
    ("cancelled", True, "cancelled", "operator_cancelled"),
    ("cancelled completed", False, "cancelled", "step_cancelled"),
    ("cancelled completed", True, "cancelled", "operator_cancelled"),
]


@pytest.mark.parametrize(("steps", "cancel", "state", "cause"), ROWS)
@pytest.mark.parametrize("count", [1, 100_000])
def test_a_workflow_is_what_its_steps_make_it(
    steps: str, cancel: bool, state: str, cause: str | None, count: int
) -> None:
    counts = {StepState(step): count for step in steps.split()}
    assert workflow_state(counts, cancel=cancel) == state
    assert workflow_cause(counts, cancel=cancel) == cause
    zeros = dict.fromkeys(StepState, 0) | counts
    assert workflow_state(zeros, cancel=cancel) == state
    assert workflow_cause(zeros, cancel=cancel) == cause


OPEN = {"pending", "available", "executing", "awaiting_signal", "retryable"}
TERMINAL = {"completed", "failed", "discarded", "cancelled", "expired"}


def expected_state(present: set[str], cancel: bool) -> str:
    """The state by contract §2, sentence by sentence."""
    ended = not present & OPEN
    sentences = [
        (cancel and not ended, "cancel_requested"),
        ("available" in present, "available"),
        (bool(present & {"executing", "retryable"}), "running"),
        ("awaiting_signal" in present, "pending"),
        (present == {"completed"}, "completed"),
        (ended and "expired" in present, "expired"),
        (ended and bool(present & {"failed", "discarded"}), "failed"),
        (ended, "cancelled"),
    ]
    return next((state for holds, state in sentences if holds), "pending")


def expected_cause(present: set[str], cancel: bool) -> str | None:
    if present & OPEN:
        return None
    sentences = [
        (present == {"completed"} and cancel, "completed_after_cancel_request"),
        ("expired" in present, "expired_wait"),
        (bool(present & {"failed", "discarded"}), "step_failed"),
        (cancel, "operator_cancelled"),
        (present == {"completed"}, "completed"),
    ]
    return next((cause for holds, cause in sentences if holds), "step_cancelled")


@pytest.mark.parametrize("cancel", [False, True])
@pytest.mark.parametrize("size", range(1, 11))
def test_every_set_of_step_states(size: int, cancel: bool) -> None:
    for present in combinations(sorted(OPEN | TERMINAL), size):
        counts = {StepState(step): 1 for step in present}
        assert workflow_state(counts, cancel=cancel) == expected_state(set(present), cancel)
        assert workflow_cause(counts, cancel=cancel) == expected_cause(set(present), cancel)


def test_vocabulary() -> None:
    assert set(StepState) == OPEN | TERMINAL
    assert set(WorkflowState) == {
        "cancel_requested",
        "available",
        "running",
        "pending",
        "completed",
        "expired",
        "failed",
        "cancelled",
    }
    assert set(StepCause) == {
        "completed",
        "completed_after_cancel_request",
        "operator_skipped",
        "step_failed",
        "cancelled",
        "operator_cancelled",
        "cancelled_by_dependency",
        "expired_wait",
        "skipped",
        "superseded",
    }
    assert set(WorkflowCause) == {
        "completed_after_cancel_request",
        "expired_wait",
        "step_failed",
        "operator_cancelled",
        "deadline_exceeded",
        "completed",
        "step_cancelled",
    }
    assert set(EdgePolicy) == {"cancel", "continue", "on_failure"}
    assert states.SEMANTICS_VERSION == 2
    assert states.SEMANTICS_VERSIONS == (2, 3)


def test_sets_of_states() -> None:
    assert states.TERMINAL_STEPS == TERMINAL
    assert states.OPEN_STEPS == OPEN
    assert {"failed", "discarded", "expired"} == states.FAILED_STEPS
    assert {"completed", "expired", "failed", "cancelled"} == states.TERMINAL_WORKFLOWS
    assert {"available", "executing", "retryable", "awaiting_signal"} == states.COMPLETABLE


def test_stored_letters_never_change() -> None:
    assert states.STEP_CODE == {
        "pending": "p",
        "available": "a",
        "executing": "e",
        "awaiting_signal": "w",
        "retryable": "r",
        "completed": "c",
        "failed": "f",
        "discarded": "d",
        "cancelled": "x",
        "expired": "t",
    }
    assert states.CAUSE_CODE == {
        "completed": "c",
        "completed_after_cancel_request": "l",
        "operator_skipped": "s",
        "step_failed": "f",
        "cancelled": "x",
        "operator_cancelled": "o",
        "cancelled_by_dependency": "d",
        "expired_wait": "t",
    }


@pytest.mark.parametrize(
    ("status", "state", "cause"),
    [
        ("completed", "completed", "completed"),
        ("retryable", "retryable", None),
        ("failed", "failed", "step_failed"),
        ("discarded", "discarded", "step_failed"),
        ("cancelled", "cancelled", "cancelled"),
        ("skipped", "completed", "skipped"),
    ],
)
def test_what_a_report_makes_of_a_step(status: str, state: str, cause: str | None) -> None:
    outcome = states.COMPLETION[CompletionStatus(status)]
    assert (outcome.state, outcome.cause) == (state, cause)


def test_a_report_is_one_of_six() -> None:
    assert set(states.COMPLETION) == set(states.ASKED_CODE) == set(CompletionStatus)
    assert len(CompletionStatus) == 6
    letters = [*states.ASKED_CODE.values(), states.BRANCH_CODE]
    assert "".join(letters) == "crfdxsb"


def test_a_deadline_that_has_asked_a_workflow_to_end_is_the_cause_of_its_end() -> None:
    cancelled = {StepState.CANCELLED: 1, StepState.COMPLETED: 1}
    assert workflow_cause(cancelled, cancel=True, overdue=True) == "deadline_exceeded"
    assert workflow_cause({StepState.FAILED: 1}, cancel=True, overdue=True) == "step_failed"
    completed = {StepState.COMPLETED: 1}
    late = workflow_cause(completed, cancel=True, overdue=True)
    assert late == "completed_after_cancel_request"


@pytest.mark.parametrize(
    ("parents", "becomes"),
    [
        # Each parent: "c" completed, "f" failed, "s" skipped, "b" skipped its branch; then "!" over
        # an on_failure edge.
        ("c", "available"),
        ("f!", "available"),
        ("c!", "skipped"),
        ("c! f!", "available"),
        ("c! c! c", "skipped"),
        ("f! c", "available"),
        ("s", "available"),
        ("s!", "skipped"),
        ("b", "branch"),
        ("b!", "branch"),
        ("b b", "branch"),
        ("b c", "available"),
        ("b f", "available"),
        ("b s", "available"),
        ("b c!", "skipped"),
        ("b f!", "available"),
        ("b! c", "skipped"),
    ],
)
def test_what_resolved_edges_make_of_a_step(parents: str, becomes: str) -> None:
    ends = {
        "c": Outcome(StepState.COMPLETED, StepCause.COMPLETED),
        "f": Outcome(StepState.FAILED, StepCause.STEP_FAILED),
        "s": states.SKIPPED,
        "b": states.BRANCH_SKIPPED,
    }
    found = states.ResolvedEdges()
    for parent in parents.split():
        found.add(ends[parent[0]], EdgePolicy.ON_FAILURE if "!" in parent else EdgePolicy.CONTINUE)
    expected = {"available": states.RELEASED, "skipped": states.SKIPPED}
    outcome = found.outcome(len(parents.split()), always=False)
    assert outcome == expected.get(becomes, states.BRANCH_SKIPPED)
    assert found.outcome(len(parents.split()), always=True) == states.RELEASED


@pytest.mark.parametrize(
    ("outcome", "state", "cause"),
    [
        (states.COMPLETED_LATE, "completed", "completed_after_cancel_request"),
        (states.ATTEMPTS_EXHAUSTED, "discarded", "step_failed"),
        (states.CANCELLED_BY_DEPENDENCY, "cancelled", "cancelled_by_dependency"),
        (states.CANCELLED_BY_REQUEST, "cancelled", "operator_cancelled"),
    ],
)
def test_other_ends_of_a_step(outcome: Outcome, state: str, cause: str) -> None:
    assert (outcome.state, outcome.cause) == (state, cause)


@pytest.mark.parametrize(
    ("parent", "over_cancel", "over_continue"),
    [
        ("pending", None, None),
        ("available", None, None),
        ("executing", None, None),
        ("awaiting_signal", None, None),
        ("retryable", None, None),
        ("completed", True, True),
        ("failed", False, True),
        ("discarded", False, True),
        ("cancelled", False, True),
        ("expired", False, True),
    ],
)
def test_what_an_edge_does(
    parent: str, over_cancel: bool | None, over_continue: bool | None
) -> None:
    assert resolves(StepState(parent), EdgePolicy.CANCEL) is over_cancel
    assert resolves(StepState(parent), EdgePolicy.CONTINUE) is over_continue


def test_operator_statuses_in_their_order() -> None:
    assert list(states.OperatorStatus) == [
        "Needs Review",
        "Blocked",
        "Waiting",
        "Runnable",
        "Resolved",
    ]


def test_every_reason_says_what_may_be_done() -> None:
    assert set(states.LEGAL_NEXT_STEPS) == set(states.Reason)
    assert all(states.LEGAL_NEXT_STEPS.values())
