"""A sign for each status and state, so that nobody has to tell them by colour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rwf.model.states import OperatorStatus, StepState

STATUS_SIGNS: Final[Mapping[str, str]] = {
    OperatorStatus.NEEDS_REVIEW: "!",
    OperatorStatus.BLOCKED: "■",
    OperatorStatus.WAITING: "…",
    OperatorStatus.RUNNABLE: "▶",
    OperatorStatus.RESOLVED: "✓",
}
STATE_SIGNS: Final[Mapping[str, str]] = {
    StepState.PENDING: "○",
    StepState.AVAILABLE: "◇",
    StepState.EXECUTING: "▶",
    StepState.AWAITING_SIGNAL: "✉",
    StepState.RETRYABLE: "↻",
    StepState.COMPLETED: "✓",
    StepState.FAILED: "✕",
    StepState.DISCARDED: "⊗",
    StepState.CANCELLED: "⊘",
    StepState.EXPIRED: "◷",
}
