"""Workflows, steps, graphs and queues, and pages of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from rwf.model.states import (
    EdgePolicy,
    OperatorStatus,
    StepCause,
    StepState,
    WorkflowCause,
    WorkflowState,
)
from rwf.model.views.base import View
from rwf.model.views.signals import AwaitView


class WorkflowView(View):
    """A workflow and its counters; ``failed_step_count`` counts failed, discarded and expired.

    ``acknowledged_at``, ``acknowledged_by`` and ``acknowledged_reason``: when, by whom and why its
    bad end was marked as dealt with.
    ``skipped_step_count``: how many of the completed steps were skipped. ``starts_at``: when it is
    to start, None once it has. ``deadline_at``: when it is asked to end, None once it was.
    ``tags``: what it was given to be found by.
    ``parent`` and ``parent_step``: of a child workflow the id of the workflow, and the name of its
    step, that has run it.
    """

    id: str
    name: str
    state: WorkflowState
    semantics_version: int
    definition_version: int
    context: Any
    step_count: int
    runnable_step_count: int
    completed_step_count: int
    cancelled_step_count: int
    failed_step_count: int
    terminal_cause: WorkflowCause | None
    cancel_requested_at: datetime | None
    cancel_reason: str | None
    inserted_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    last_transition_at: datetime
    duplicate: bool = False
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    acknowledged_reason: str | None = None
    skipped_step_count: int = 0
    starts_at: datetime | None = None
    deadline_at: datetime | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    parent: str | None = None
    parent_step: str | None = None
    traceparent: str | None = None
    """The W3C trace context of its insert, if that was traced."""


class AppendedBy(View):
    """The step that has appended another one, and in which attempt."""

    step: str
    attempt: int


class StepView(View):
    """A step. ``position`` is its place, from 0, in the topological order of the workflow as it was
    inserted, behind which appended steps follow; ``when`` is its condition as
    stored (``rwf.model.conditions``), and ``always`` whether it runs however the others end."""

    name: str
    worker: str
    queue: str
    priority: int
    state: StepState
    attempt: int
    max_attempts: int
    position: int
    dependency_count: int
    terminal_cause: StepCause | None
    input: Any
    context: Any
    lease_expires_at: datetime | None
    leased_by: str | None
    retry_at: datetime | None
    awaiting: AwaitView | None
    cancel_requested_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    last_transition_at: datetime
    when: list[Any] | None = None
    always: bool = False
    dispatched: bool = False
    """Whether the step has been dispatched by ``leased_by``, and nobody has started it (contract
    §15)."""
    appended_by: AppendedBy | None = None


class Edge(View):
    """A dependency of ``child`` on ``parent``."""

    parent: str
    child: str
    policy: EdgePolicy


class GraphView(View):
    """A workflow's graph: its steps in topological order, and the edges between them."""

    workflow: WorkflowView
    steps: tuple[StepView, ...]
    edges: tuple[Edge, ...]


class WorkflowCount(View):
    """How many workflows a filter holds of; at least so many, where it is not ``exact``.
    ``unreachable`` are the partitions that did not answer: what they have is missing."""

    count: int
    exact: bool
    unreachable: tuple[int, ...] = ()


class WorkflowPage(View):
    """A page of workflows; ``cursor`` is None on the last one.

    ``operator_statuses`` are theirs, in the same order. ``unreachable`` are the partitions that did
    not answer: what they have is missing.
    """

    workflows: tuple[WorkflowView, ...]
    operator_statuses: tuple[OperatorStatus, ...]
    cursor: str | None
    unreachable: tuple[int, ...] = ()


class StepPage(View):
    """A page of steps in topological order; ``cursor`` is None on the last one."""

    steps: tuple[StepView, ...]
    cursor: str | None


class QueueView(View):
    """A queue: how many steps wait in it, since when the first of them, and when somebody last
    asked for its steps; ``served`` while that is less than a minute ago."""

    name: str
    available: int
    oldest_at: datetime | None
    asked_at: datetime | None
    served: bool


class Event(View):
    """A hint that something has changed: ``step_available`` or ``workflow_terminal``."""

    event: str
    workflow_id: str
    queues: tuple[str, ...]
