"""Callbacks: envelopes as handlers get them, and where they stand."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from rwf.model.states import (
    CallbackEvent,
    CallbackStatus,
    RecoveryAction,
    WorkflowCause,
    WorkflowState,
)
from rwf.model.views.base import View


class Callback(View):
    """The envelope of a callback: one of the two below, with the fields of its event.

    The same ``callback_id`` may come more than once. ``key`` is the insert key, None for a workflow
    that was inserted without one or by a release that did not keep keys; ``tags`` are the
    workflow's. ``state`` is the state that the workflow ended in or, of any other event, that it
    was in when the callback was sent.
    """

    callback_id: str
    event: CallbackEvent
    workflow_id: str
    name: str
    key: str | None
    tags: dict[str, str] = Field(default_factory=dict)
    state: WorkflowState
    semantics_version: int
    envelope_version: int
    occurred_at: datetime


class WorkflowTerminal(Callback):
    """A workflow has ended, or its end has changed; ``skipped_step_count`` counts the steps that
    were skipped."""

    terminal_cause: WorkflowCause
    skipped_step_count: int = 0


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


class CallbackPosture(View):
    """How many callbacks of a workflow have each status."""

    pending: int = 0
    delivered: int = 0
    dead: int = 0


class DispatchReport(View):
    """How many callbacks a dispatch has delivered, and how many have failed; ``unreachable`` are
    the partitions that did not answer."""

    delivered: int
    failed: int
    unreachable: tuple[int, ...] = ()
