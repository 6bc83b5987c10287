"""Claims, results, evidence, and the effects of commands on steps."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from rwf.model.states import RecoveryAction, RecoveryScope, StepState
from rwf.model.views.base import View
from rwf.model.views.signals import WakingSignal
from rwf.model.views.workflows import StepView, WorkflowView


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
    timed_out: bool = False
    """Whether the step's latest wait went on because its deadline passed."""
    traceparent: str | None = None
    """The W3C trace context of the workflow's insert, if it was traced."""
    priority: int = 0


class Ticket(View):
    """A step that a dispatcher holds for whoever starts it (contract §15).

    ``str(ticket)`` is a short text without spaces that stands for it, in a message to an executor.
    ``worker`` is the name of the step's handler; ``queue`` and ``priority`` are the step's. It is
    void from ``expires_at`` on.
    """

    workflow_id: str
    step: str
    worker: str
    queue: str
    priority: int
    lease: str
    expires_at: datetime

    def __str__(self) -> str:
        return f"{self.workflow_id}/{self.step}/{self.lease.rstrip('.')}"


class HeartbeatReport(View):
    """The result of a heartbeat: claims that were ``extended``, with their new ends, and claims
    whose lease is ``lost``. Those of ``extended`` whose workflow has a cancel request are in
    ``cancel_requested`` as well. Claims in the partitions that did not answer, ``unreachable``, are
    in none of them."""

    extended: tuple[ClaimedStep, ...]
    lost: tuple[ClaimedStep, ...]
    cancel_requested: tuple[ClaimedStep, ...]
    unreachable: tuple[int, ...] = ()


class ResultView(View):
    """The result of one attempt of a step; ``payload_bytes`` are the bytes as stored.

    ``worker_id`` says who ran it, ``claimed_at`` since when, and ``available_at`` since when it was
    to be had; all are None when it was reported without a claim. ``traceback`` is that of the
    exception by which the handler ended, if it was reported: the last 16 KiB of its text.
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
    available_at: datetime | None = None


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
    """The effect of ``complete_step``; for a duplicate, the effect of the first call.

    ``appended_count``: how many steps it has appended.
    """

    outcome: Literal["accepted", "duplicate"]
    step: StepView
    workflow: WorkflowView
    released: tuple[str, ...]
    released_count: int
    cancelled: tuple[str, ...]
    cancelled_count: int
    appended_count: int = 0


class AppendResult(View):
    """The effect of ``append``; for a duplicate, how many steps the first call has appended."""

    outcome: Literal["accepted", "duplicate"]
    workflow: WorkflowView
    appended_count: int


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
