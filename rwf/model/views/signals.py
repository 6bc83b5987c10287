"""Signals, and the waits for them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rwf.model.states import OnTimeout, SignalStatus, WaitStatus
from rwf.model.views.base import View


class AwaitView(View):
    """A step's wait for a signal, or for the end of the workflow ``child``: then signal and
    correlation key are empty."""

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
    on_timeout: OnTimeout = OnTimeout.EXPIRE
    child: str | None = None


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


class WakingSignal(View):
    """The signal that last woke a step."""

    id: str
    signal: str
    correlation_key: str
    payload: Any
