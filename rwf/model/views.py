"""The frozen models that clients return. All times are timezone-aware UTC (contract §11)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from rwf.model.states import (
    CallbackEvent,
    CallbackStatus,
    EdgePolicy,
    OperatorStatus,
    RecoveryAction,
    RecoveryScope,
    SignalStatus,
    StepCause,
    StepState,
    WaitStatus,
    WorkflowCause,
    WorkflowState,
)

T = TypeVar("T")


class View(BaseModel):
    """Base of all views."""

    model_config = ConfigDict(frozen=True)


class WorkflowView(View):
    """A workflow and its counters; ``failed_step_count`` counts failed, discarded and expired.

    ``acknowledged_at``, ``acknowledged_by`` and ``acknowledged_reason`` tell of an operator who has
    left it at a bad end.
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


class AwaitView(View):
    """A step's wait for a signal."""

    id: str
    workflow_id: str
    step: str
    signal: str
    correlation_key: str
    status: WaitStatus
    deadline: datetime | None
    registered_at: datetime
    resolved_at: datetime | None
    signal_id: str | None
    actor: str | None = None


class SignalView(View):
    """A signal, as it was first received, and what became of it.

    ``duplicate`` is true where this delivery changed nothing, because the same dedupe key is on
    record. ``actor`` is who has delivered it first.
    """

    id: str
    signal: str
    correlation_key: str
    dedupe_key: str
    status: SignalStatus
    payload: Any
    workflow_id: str | None
    step: str | None
    received_at: datetime
    actor: str | None = None
    duplicate: bool = False


class SignalPage(View):
    """A page of kept signals; ``cursor`` is None on the last one. ``unreachable`` are the
    partitions that did not answer: what they have is missing."""

    signals: tuple[SignalView, ...]
    cursor: str | None
    unreachable: tuple[int, ...] = ()


class StepView(View):
    """A step. ``position`` is its place in topological order, from 0."""

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


class WakingSignal(View):
    """The signal that last woke a step."""

    id: str
    signal: str
    correlation_key: str
    payload: Any


class ClaimedStep(View):
    """A step that a worker holds under a lease (contract §8).

    ``input`` has the results filled in that it refers to. ``timeout`` is how long the attempt may
    take, in seconds.
    """

    workflow_id: str
    step: str
    worker: str
    queue: str
    attempt: int
    max_attempts: int
    lease: str
    lease_expires_at: datetime
    timeout: float | None
    input: Any
    context: Any
    workflow_context: Any
    signal: WakingSignal | None


class HeartbeatReport(View):
    """The result of a heartbeat: claims that were ``extended``, with their new ends, and claims
    whose lease is ``lost``. Those of ``extended`` whose workflow has a cancel request stand in
    ``cancel_requested`` as well. Claims in the partitions that did not answer, ``unreachable``, are
    in none of them."""

    extended: tuple[ClaimedStep, ...]
    lost: tuple[ClaimedStep, ...]
    cancel_requested: tuple[ClaimedStep, ...]
    unreachable: tuple[int, ...] = ()


class QueueView(View):
    """A queue: how many steps wait in it, since when the first of them, and when somebody last
    asked for its steps; ``served`` while that is less than a minute ago."""

    name: str
    available: int
    oldest_at: datetime | None
    asked_at: datetime | None
    served: bool


class ResultView(View):
    """The result of one attempt of a step; ``payload_bytes`` are the bytes as stored.

    ``worker_id`` says who ran it, and ``claimed_at`` since when; both are None when it was reported
    without a claim. ``traceback`` is that of the exception by which the handler ended, if it was
    reported: the last 16 KiB of its text.
    """

    step: str
    attempt: int
    status: str
    payload: Any
    payload_bytes: bytes
    summary: str | None
    recorded_at: datetime
    claimed_at: datetime | None
    worker_id: str | None
    traceback: str | None


class EvidenceView(View):
    """One durable record of a command: accepted, refused or repeated."""

    id: str
    action: str
    scope: str
    step: str | None
    status: str
    reason_code: str | None
    message: str
    actor: str | None
    source: str
    requested_at: datetime
    before: str | None
    after: str | None
    metadata: dict[str, Any]


class CommandResult(View):
    """The effect of ``complete_step``; for a duplicate, the effect of the first call."""

    outcome: Literal["accepted", "duplicate"]
    step: StepView
    workflow: WorkflowView
    released: tuple[str, ...]
    released_count: int
    cancelled: tuple[str, ...]
    cancelled_count: int


class Change(View):
    """A step that a recovery has moved: its states before and after."""

    step: str
    before: StepState
    after: StepState


class RecoveryResult(View):
    """A recovery session. ``changes`` are in topological order, at most 1,000; the count is exact.

    ``session_id`` is None for a dry run.
    """

    session_id: str | None
    workflow: WorkflowView
    step: str
    action: RecoveryAction
    scope: RecoveryScope
    dry_run: bool
    duplicate: bool
    changes: tuple[Change, ...]
    change_count: int


class Callback(View):
    """The envelope of a callback: one of the two below, with what its event tells.

    The same ``callback_id`` may come more than once. ``key`` is the insert key, None for a workflow
    that was inserted without one or by a release that did not keep keys. ``state`` is the state
    that the workflow ended in or, of any other event, that it was in when the callback was sent.
    """

    callback_id: str
    event: CallbackEvent
    workflow_id: str
    name: str
    key: str | None
    state: WorkflowState
    semantics_version: int
    envelope_version: int
    occurred_at: datetime


class WorkflowTerminal(Callback):
    """A workflow has ended, or its end has changed."""

    terminal_cause: WorkflowCause


class RecoveryCompleted(Callback):
    """A recovery has been carried out to its end."""

    session_id: str
    step: str
    action: RecoveryAction
    change_count: int


class CallbackView(View):
    """Where a callback stands.

    ``attempts`` counts from when it was written or sent again; ``due_at`` is when it is sent next
    or, while it is leased, when the lease ends, and None once it is delivered or dead. ``data`` are
    the fields that its event adds to the envelope.
    """

    callback_id: str
    event: CallbackEvent
    workflow_id: str
    status: CallbackStatus
    attempts: int
    due_at: datetime | None
    occurred_at: datetime
    data: dict[str, Any]


class DispatchReport(View):
    """How many callbacks a dispatch has delivered, and how many have failed; ``unreachable`` are
    the partitions that did not answer."""

    delivered: int
    failed: int
    unreachable: tuple[int, ...] = ()


class PruneReport(View):
    """The removed records: workflows whose retention was over, and signals that no workflow took in
    time. ``unreachable`` are the partitions that did not answer."""

    workflows: int
    signals: int
    unreachable: tuple[int, ...] = ()


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


class PartialList(list[T]):
    """A list of what could be reached: all of it, unless ``unreachable`` names partitions that did
    not answer."""

    def __init__(self, items: Iterable[T] = (), unreachable: Iterable[int] = ()) -> None:
        super().__init__(items)
        self.unreachable: tuple[int, ...] = tuple(unreachable)


class WorkflowPage(View):
    """A page of workflows, newest first; ``cursor`` is None on the last one.

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


class Repair(View):
    """One difference between stored state and what the records imply, mended."""

    kind: str
    step: str | None
    details: dict[str, Any]


class ReconcileReport(View):
    """The repairs that ``reconcile`` made; empty on a healthy workflow."""

    workflow_id: str
    repairs: tuple[Repair, ...]


class RebuildProgress(View):
    """How far a rebuild is; ``repairs`` is how many there were so far."""

    stage: Literal["workflows", "topics", "orphans"]
    workflows: int
    topics: int
    repairs: int


class RebuildFailure(View):
    """A workflow or a topic that could not be restored, and why."""

    id: str
    message: str


class GaugeDifference(View):
    """A gauge of a partition that its workflows do not add up to, such as ``gs|available``."""

    partition: int
    gauge: str
    stored: int
    expected: int


class RebuildReport(View):
    """The extent of a ``rebuild``, and the repairs it made.

    ``repairs`` says how many of each kind. ``failures`` holds at most 1,000, beside their exact
    count. ``gauges`` tells of those that were wrong and were put right, which takes that nothing
    happens in their partition meanwhile.
    """

    workflows: int
    topics: int
    repairs: dict[str, int]
    failures: tuple[RebuildFailure, ...]
    failure_count: int
    gauges: tuple[GaugeDifference, ...]


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
    the middle. ``held_count`` is how many steps it
    holds: exact, or a lower bound when ``truncated``. ``attempt`` and ``summary`` are those of the
    step's latest result, None where it has none.
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


class StepExplanation(View):
    """Why a step is where it is; lists hold at most 1,000, the counts are exact.

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


class CallbackPosture(View):
    """How many callbacks of a workflow stand in each status."""

    pending: int = 0
    delivered: int = 0
    dead: int = 0


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


class MigrationReport(View):
    """The result of ``migrate``; ``loaded`` when the library was missing on some primary."""

    library: str
    loaded: bool
    namespace: str
    partitions: int


class Check(View):
    """One thing that the doctor looked at; ``advice`` says what to do unless it is ok."""

    name: str
    status: Literal["ok", "warning", "failed"]
    found: str
    advice: str | None


class DoctorReport(View):
    """All checks; ``healthy`` when none has failed. ``unreachable`` are the partitions that did not
    answer."""

    healthy: bool
    checks: tuple[Check, ...]
    unreachable: tuple[int, ...] = ()


class Event(View):
    """A hint that something has changed: ``step_available`` or ``workflow_terminal``."""

    event: str
    workflow_id: str
    queues: tuple[str, ...]
