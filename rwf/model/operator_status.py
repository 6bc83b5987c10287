"""Operator status: one word for where a workflow or a step stands (contract §7)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from rwf.model.states import OPEN_STEPS, OperatorStatus, PauseReason, StepState, WorkflowState
from rwf.model.views import GraphView, StepView, WorkflowExplanation, WorkflowView

_OF_WORKFLOW: Final = {
    WorkflowState.CANCEL_REQUESTED: OperatorStatus.BLOCKED,
    WorkflowState.AVAILABLE: OperatorStatus.RUNNABLE,
    WorkflowState.RUNNING: OperatorStatus.RUNNABLE,
    WorkflowState.PENDING: OperatorStatus.WAITING,
    WorkflowState.COMPLETED: OperatorStatus.RESOLVED,
    WorkflowState.CANCELLED: OperatorStatus.RESOLVED,
    WorkflowState.FAILED: OperatorStatus.NEEDS_REVIEW,
    WorkflowState.EXPIRED: OperatorStatus.NEEDS_REVIEW,
}

_OF_STEP: Final = {
    StepState.PENDING: OperatorStatus.WAITING,
    StepState.AVAILABLE: OperatorStatus.RUNNABLE,
    StepState.EXECUTING: OperatorStatus.RUNNABLE,
    StepState.AWAITING_SIGNAL: OperatorStatus.WAITING,
    StepState.RETRYABLE: OperatorStatus.WAITING,
    StepState.COMPLETED: OperatorStatus.RESOLVED,
    StepState.FAILED: OperatorStatus.NEEDS_REVIEW,
    StepState.DISCARDED: OperatorStatus.NEEDS_REVIEW,
    StepState.CANCELLED: OperatorStatus.RESOLVED,
    StepState.EXPIRED: OperatorStatus.NEEDS_REVIEW,
}

# Blockers that somebody has to do something about, though the step itself waits or may run.
BLOCKING: Final = frozenset(
    {
        "waiting_on_retryable_dependency",
        "missing_dependency_result",
        "cancel_requested",
        *PauseReason,
    }
)


def state_status(state: WorkflowState) -> OperatorStatus:
    """The status that a workflow's state alone means."""
    return _OF_WORKFLOW[state]


def workflow_status(view: WorkflowView, *, review: bool = False) -> OperatorStatus:
    """A workflow's status: a failed step needs review, whatever else still runs, until somebody has
    acknowledged the end that it has led to.

    ``review``: so does something else, which the view does not tell, such as a dead callback.
    """
    if view.acknowledged_at is not None:
        return OperatorStatus.RESOLVED
    if review or view.failed_step_count:
        return OperatorStatus.NEEDS_REVIEW
    return _OF_WORKFLOW[view.state]


def step_status(
    state: StepState, blockers: frozenset[str], *, deserted: bool = False
) -> OperatorStatus:
    """A step's status, from its state and the codes of what blocks it.

    ``deserted``: no worker serves the queue of an available step any more.
    """
    if state in OPEN_STEPS and (deserted or blockers & BLOCKING):
        return OperatorStatus.BLOCKED
    return _OF_STEP[state]


def held_by_retries(graph: GraphView) -> Collection[str]:
    """The steps that wait for a step which will run again."""
    again = {step.name for step in graph.steps if step.state is StepState.RETRYABLE}
    return {edge.child for edge in graph.edges if edge.parent in again}


def blocked_by_themselves(why: WorkflowExplanation) -> Mapping[str, str]:
    """The steps that need somebody to act although they will run again or wait, such
    as one that no worker has a handler for; each with the code of what blocks it."""
    return {cause.step: cause.code for cause in why.root_causes if cause.code in BLOCKING}


def status_of(
    step: StepView, workflow: WorkflowView, held: Collection[str], blocked: Mapping[str, str]
) -> OperatorStatus:
    """A step's operator status; ``held`` are those that wait for a retry, ``blocked`` those that
    :func:`blocked_by_themselves` returns."""
    codes = {"waiting_on_retryable_dependency"} if step.name in held else set()
    if step.name in blocked:
        codes.add(blocked[step.name])
    if workflow.cancel_requested_at is not None:
        codes.add("cancel_requested")
    return step_status(step.state, frozenset(codes))
