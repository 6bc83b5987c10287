"""Why a step or a workflow is where it is (contract §7)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rwf.model.states import EdgePolicy, OperatorStatus, StepState, WorkflowState
from rwf.model.views.base import View
from rwf.model.views.callbacks import CallbackPosture
from rwf.model.views.execution import EvidenceView


class Dependency(View):
    """A parent of an explained step; ``result_status`` is that of its latest result row."""

    step: str
    state: StepState
    policy: EdgePolicy
    result_status: str | None


class Blocker(View):
    """Why a step does not run now."""

    code: str
    summary: str
    scope: str
    since: datetime | None
    retry_at: datetime | None
    details: dict[str, Any]


class RootCause(View):
    """A step at the far end of the chain that holds others, or one that has failed.

    ``path`` leads from the root cause to the explained step; in a very long one ``...`` stands for
    the middle. ``held_count`` is how many steps it holds: exact, or a lower bound when
    ``truncated``. ``attempt`` and ``summary`` are those of the
    step's latest result, None where it has none. ``child`` is the workflow that the step waits for,
    or has failed by.
    """

    step: str
    state: StepState
    code: str
    path: tuple[str, ...]
    held_count: int
    truncated: bool
    legal_next_steps: tuple[str, ...]
    attempt: int | None = None
    summary: str | None = None
    child: ChildWorkflow | None = None


class ChildWorkflow(View):
    """A child workflow, and what holds it: its own root causes, those that hold the most steps
    first; where it has none, its steps that may run. At most 10 are listed, and children are looked
    into to a depth of 5, at most 20 for an explanation; ``root_cause_count`` is exact where it was
    looked into.

    ``problem`` says why it was not: ``gone``, ``unreachable``, ``unreadable``, or ``too_much``;
    name and state are None where these are not known.
    """

    workflow_id: str
    name: str | None = None
    state: WorkflowState | None = None
    problem: str | None = None
    root_causes: tuple[RootCause, ...] = ()
    root_cause_count: int = 0


class SkipOrigin(View):
    """A step that has skipped itself, or its branch; ``summary`` says why."""

    step: str
    attempt: int
    summary: str | None


class StepExplanation(View):
    """Why a step is where it is; lists hold at most 1,000, the counts are exact.

    ``skipped_by`` are the steps because of which it was skipped, empty where its edges alone did
    that.
    ``executable_actions`` are named with the options that they take now: ``retry_with_force``.
    """

    workflow_id: str
    step: str
    operator_status: OperatorStatus
    state: StepState
    diagnosis: str
    blockers: tuple[Blocker, ...]
    dependencies: tuple[Dependency, ...]
    dependency_count: int
    root_causes: tuple[RootCause, ...]
    root_cause_count: int
    executable_actions: tuple[str, ...]
    latest_rejection: EvidenceView | None
    skipped_by: tuple[SkipOrigin, ...] = ()


class WorkflowExplanation(View):
    """Why a workflow is where it is; root causes that hold the most steps come first."""

    workflow_id: str
    operator_status: OperatorStatus
    state: WorkflowState
    diagnosis: str
    counts: dict[StepState, int]
    root_causes: tuple[RootCause, ...]
    root_cause_count: int
    callbacks: CallbackPosture
    latest_recovery: dict[str, Any] | None
    latest_rejection: EvidenceView | None
