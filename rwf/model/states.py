"""The semantics of workflow graphs, versions 2 and 3: the only place where they are written down.

Everything that decides on a transition reads these tables: the clients, the explanations, and the
server's Lua, whose constants and derivation functions are generated from here
(``rwf.protocol.generate``). They state the rules of contract §2, §4 and §13. Version 3 says the
same as version 2 of all that version 2 has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Generic, TypeVar

SEMANTICS_VERSION: Final = 2
"""The version of a workflow that uses nothing of a later one."""
BRANCHING_VERSION: Final = 3
"""The version of a workflow that uses anything of contract §13 or §14."""
SEMANTICS_VERSIONS: Final = (SEMANTICS_VERSION, BRANCHING_VERSION)
"""The versions that this release implements."""

T = TypeVar("T")


class StepState(StrEnum):
    """Where a step stands (contract §2)."""

    PENDING = "pending"
    AVAILABLE = "available"
    EXECUTING = "executing"
    AWAITING_SIGNAL = "awaiting_signal"
    RETRYABLE = "retryable"
    COMPLETED = "completed"
    FAILED = "failed"
    DISCARDED = "discarded"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class WorkflowState(StrEnum):
    """Where a workflow stands; always derived from its steps (contract §2)."""

    CANCEL_REQUESTED = "cancel_requested"
    AVAILABLE = "available"
    RUNNING = "running"
    PENDING = "pending"
    COMPLETED = "completed"
    EXPIRED = "expired"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepCause(StrEnum):
    """Why a step ended."""

    COMPLETED = "completed"
    COMPLETED_AFTER_CANCEL_REQUEST = "completed_after_cancel_request"
    OPERATOR_SKIPPED = "operator_skipped"
    STEP_FAILED = "step_failed"
    CANCELLED = "cancelled"
    OPERATOR_CANCELLED = "operator_cancelled"
    CANCELLED_BY_DEPENDENCY = "cancelled_by_dependency"
    EXPIRED_WAIT = "expired_wait"
    SKIPPED = "skipped"
    SUPERSEDED = "superseded"


class WorkflowCause(StrEnum):
    """Why a workflow ended; set only once all of its steps are terminal."""

    COMPLETED_AFTER_CANCEL_REQUEST = "completed_after_cancel_request"
    EXPIRED_WAIT = "expired_wait"
    STEP_FAILED = "step_failed"
    OPERATOR_CANCELLED = "operator_cancelled"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    COMPLETED = "completed"
    STEP_CANCELLED = "step_cancelled"


class EdgePolicy(StrEnum):
    """The effect on a child when its parent ends in another state than ``completed``.

    Over an ``on_failure`` edge the child runs then, and is skipped when no such parent has ended
    so.
    """

    CANCEL = "cancel"
    CONTINUE = "continue"
    ON_FAILURE = "on_failure"


class CompletionStatus(StrEnum):
    """The outcomes that ``complete_step`` may report."""

    COMPLETED = "completed"
    RETRYABLE = "retryable"
    FAILED = "failed"
    DISCARDED = "discarded"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


class OperatorStatus(StrEnum):
    """The status that an operator reads first, ordered by precedence (contract §7)."""

    NEEDS_REVIEW = "Needs Review"
    BLOCKED = "Blocked"
    WAITING = "Waiting"
    RUNNABLE = "Runnable"
    RESOLVED = "Resolved"


class RecoveryAction(StrEnum):
    """The actions that ``recover_step`` may take on a step (contract §6)."""

    RETRY = "retry"
    SKIP = "skip"
    CANCEL = "cancel"


class RecoveryScope(StrEnum):
    """Which descendants a recovery takes with its step (contract §6)."""

    STEP = "step"
    BLOCKED = "blocked"
    DOWNSTREAM = "downstream"


class WaitStatus(StrEnum):
    """Where a step's wait for a signal stands (contract §5)."""

    WAITING = "waiting"
    RESOLVED = "resolved"
    EXPIRED = "expired"
    ABANDONED = "abandoned"


class OnTimeout(StrEnum):
    """The fate of a step whose wait's deadline passes: it expires, or goes on."""

    EXPIRE = "expire"
    CONTINUE = "continue"


class SignalStatus(StrEnum):
    """The fate of a signal that was delivered (contract §5)."""

    CONSUMED = "consumed"
    UNMATCHED = "unmatched"
    AMBIGUOUS = "ambiguous"
    LATE = "late"
    RECORDED = "recorded"
    WITHDRAWN = "withdrawn"


class PauseReason(StrEnum):
    """Why a claimed step could not be begun, and was given back for a while, uncounted."""

    NO_HANDLER = "no_handler"
    INPUT_TOO_LARGE = "input_too_large"
    INPUT_UNREADABLE = "input_unreadable"


class TicketStatus(StrEnum):
    """The stages of tickets that are counted (contract §15)."""

    ISSUED = "issued"
    STARTED = "started"
    VOID = "void"


class CallbackEvent(StrEnum):
    """The events for which callbacks are sent (contract §6)."""

    WORKFLOW_TERMINAL = "workflow.terminal"
    RECOVERY_COMPLETED = "workflow.recovery_completed"


class CallbackStatus(StrEnum):
    """Where a callback stands; ``leased`` while a dispatcher's handler has it (contract §6)."""

    PENDING = "pending"
    LEASED = "leased"
    DELIVERED = "delivered"
    DEAD = "dead"


class Reason(StrEnum):
    """Why a command was refused."""

    WORKFLOW_NOT_FOUND = "workflow_not_found"
    STEP_NOT_FOUND = "step_not_found"
    UNSUPPORTED_SEMANTICS = "unsupported_semantics"
    DEPENDENCIES_UNRESOLVED = "dependencies_unresolved"
    ALREADY_TERMINAL = "already_terminal"
    STALE_LEASE = "stale_lease"
    STALE_TICKET = "stale_ticket"
    ALREADY_STARTED = "already_started"
    LEASE_REQUIRED = "lease_required"
    ILLEGAL_TRANSITION = "illegal_transition"
    UNSUPPORTED_RECOVERY_ACTION = "unsupported_recovery_action"
    CANCEL_REQUESTED = "cancel_requested"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    NON_SERIALIZABLE_PAYLOAD = "non_serializable_payload"
    INVALID_ARGUMENT = "invalid_argument"
    KEY_CONFLICT = "key_conflict"
    SIGNAL_NOT_FOUND = "signal_not_found"
    ALREADY_CONSUMED_SIGNAL = "already_consumed_signal"


class Action(StrEnum):
    """Commands, as evidence, refusals and their counts name them."""

    INSERT = "insert"
    APPEND = "append"
    COMPLETE_STEP = "complete_step"
    AWAIT_STEP = "await_step"
    START_CHILD = "start_child"
    DELIVER_SIGNAL = "deliver_signal"
    WITHDRAW_SIGNAL = "withdraw_signal"
    REQUEST_CANCEL = "request_cancel"
    RECOVER_STEP = "recover_step"
    ACKNOWLEDGE = "acknowledge"
    SET_RETENTION = "set_retention"
    DISPATCH_CALLBACKS = "dispatch_callbacks"
    RESEND_CALLBACK = "resend_callback"
    CLAIM = "claim"
    DISPATCH = "dispatch"
    START = "start"
    RECONCILE = "reconcile"


class MoveScope(StrEnum):
    """The cause of moves of steps that no command named: a parent's end, or a recovery."""

    DEPENDENCY = "dependency"
    RECOVERY = "recovery"


class CallbackOutcome(StrEnum):
    """The outcome of one try to deliver a callback; the last failed try counts as ``dead`` too."""

    DELIVERED = "delivered"
    FAILED = "failed"
    DEAD = "dead"


class RepairKind(StrEnum):
    """The kinds of repairs that a reconciliation makes (contract §10)."""

    RELEASE_UNFINISHED = "release_unfinished"
    COUNTS_WRONG = "counts_wrong"
    READY_ENTRY_MISSING = "ready_entry_missing"
    RETRY_DUE = "retry_due"
    RETRY_TIMER_MISSING = "retry_timer_missing"
    LEASE_EXPIRED = "lease_expired"
    LEASE_TIMER_MISSING = "lease_timer_missing"
    WAIT_EXPIRED = "wait_expired"
    WAIT_TIMER_MISSING = "wait_timer_missing"
    TIMER_WRONG = "timer_wrong"
    INDEX_ENTRY_MISSING = "index_entry_missing"
    INDEX_ENTRY_WRONG = "index_entry_wrong"
    TAG_ENTRY_MISSING = "tag_entry_missing"
    TAG_ENTRY_WRONG = "tag_entry_wrong"
    CALLBACK_ENTRY_MISSING = "callback_entry_missing"
    CALLBACK_ENTRY_WRONG = "callback_entry_wrong"
    REGISTRATION_UNFINISHED = "registration_unfinished"
    REGISTRATION_MISSING = "registration_missing"
    REGISTRATION_WRONG = "registration_wrong"
    HANDOFF_UNFINISHED = "handoff_unfinished"
    HANDOFF_TIMER_MISSING = "handoff_timer_missing"
    SLICE_TIMER_MISSING = "slice_timer_missing"
    START_DUE = "start_due"
    START_TIMER_MISSING = "start_timer_missing"
    DEADLINE_DUE = "deadline_due"
    DEADLINE_TIMER_MISSING = "deadline_timer_missing"
    RETENTION_TIMER_MISSING = "retention_timer_missing"
    READY_ENTRY_WRONG = "ready_entry_wrong"
    RESERVED_ENTRY_WRONG = "reserved_entry_wrong"
    WAIT_NOTICE_WRONG = "wait_notice_wrong"
    STAGED_ENTRY_MISSING = "staged_entry_missing"
    STAGED_ENTRY_WRONG = "staged_entry_wrong"
    KEY_OVERWRITTEN = "key_overwritten"
    GAUGE_WRONG = "gauge_wrong"
    CLOCK_SET_BACK = "clock_set_back"


# One letter a state, as stored in step records. A letter is never given a second meaning.
STEP_CODE: Final[Mapping[StepState, str]] = MappingProxyType(
    {
        StepState.PENDING: "p",
        StepState.AVAILABLE: "a",
        StepState.EXECUTING: "e",
        StepState.AWAITING_SIGNAL: "w",
        StepState.RETRYABLE: "r",
        StepState.COMPLETED: "c",
        StepState.FAILED: "f",
        StepState.DISCARDED: "d",
        StepState.CANCELLED: "x",
        StepState.EXPIRED: "t",
    }
)

# The letters of causes in records, and of the states of a workflow that has ended. ``skipped`` and
# ``superseded`` have none: they are stored as ``completed``, with marks that releases which know
# version 2 only do not see.
CAUSE_CODE: Final[Mapping[StepCause, str]] = MappingProxyType(
    {
        StepCause.COMPLETED: "c",
        StepCause.COMPLETED_AFTER_CANCEL_REQUEST: "l",
        StepCause.OPERATOR_SKIPPED: "s",
        StepCause.STEP_FAILED: "f",
        StepCause.CANCELLED: "x",
        StepCause.OPERATOR_CANCELLED: "o",
        StepCause.CANCELLED_BY_DEPENDENCY: "d",
        StepCause.EXPIRED_WAIT: "t",
    }
)

# The marks of a step that was skipped, and of one whose branch was.
SKIP_MARK: Final = "s"
BRANCH_MARK: Final = "sb"
SKIPPED_MARKS: Final = frozenset({SKIP_MARK, BRANCH_MARK})
# The mark of an appended step that a recovery of the one which appended it has superseded.
SUPERSEDED_MARK: Final = "z"

WORKFLOW_CODE: Final[Mapping[WorkflowState, str]] = MappingProxyType(
    {
        WorkflowState.COMPLETED: "c",
        WorkflowState.EXPIRED: "t",
        WorkflowState.FAILED: "f",
        WorkflowState.CANCELLED: "x",
    }
)

# The letters of callbacks in records: their events, and their states.
EVENT_CODE: Final[Mapping[CallbackEvent, str]] = MappingProxyType(
    {
        CallbackEvent.WORKFLOW_TERMINAL: "t",
        CallbackEvent.RECOVERY_COMPLETED: "r",
    }
)

CALLBACK_CODE: Final[Mapping[CallbackStatus, str]] = MappingProxyType(
    {
        CallbackStatus.PENDING: "p",
        CallbackStatus.LEASED: "l",
        CallbackStatus.DELIVERED: "d",
        CallbackStatus.DEAD: "x",
    }
)

TERMINAL_STEPS: Final = frozenset(
    {
        StepState.COMPLETED,
        StepState.FAILED,
        StepState.DISCARDED,
        StepState.CANCELLED,
        StepState.EXPIRED,
    }
)
OPEN_STEPS: Final = frozenset(StepState) - TERMINAL_STEPS
FAILED_STEPS: Final = frozenset({StepState.FAILED, StepState.DISCARDED, StepState.EXPIRED})
TERMINAL_WORKFLOWS: Final = frozenset(WORKFLOW_CODE)
# The causes of a completion whose result is null, whatever the step reported before.
WITHOUT_RESULT: Final = frozenset({StepCause.OPERATOR_SKIPPED, StepCause.SKIPPED})

# The states that a completion is accepted from, whatever it reports.
COMPLETABLE: Final = frozenset(
    {
        StepState.AVAILABLE,
        StepState.EXECUTING,
        StepState.RETRYABLE,
        StepState.AWAITING_SIGNAL,
    }
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A step's new state and, when that is terminal, its cause; ``branch``: whether children that
    depend on nothing else are skipped."""

    state: StepState
    cause: StepCause | None
    branch: bool = False


# The outcome of a step after each accepted status.
COMPLETION: Final[Mapping[CompletionStatus, Outcome]] = MappingProxyType(
    {
        CompletionStatus.COMPLETED: Outcome(StepState.COMPLETED, StepCause.COMPLETED),
        CompletionStatus.RETRYABLE: Outcome(StepState.RETRYABLE, None),
        CompletionStatus.FAILED: Outcome(StepState.FAILED, StepCause.STEP_FAILED),
        CompletionStatus.DISCARDED: Outcome(StepState.DISCARDED, StepCause.STEP_FAILED),
        CompletionStatus.CANCELLED: Outcome(StepState.CANCELLED, StepCause.CANCELLED),
        CompletionStatus.SKIPPED: Outcome(StepState.COMPLETED, StepCause.SKIPPED),
    }
)
# The letters of what a report asks for; BRANCH_CODE when a skipped step's branch is skipped.
ASKED_CODE: Final[Mapping[CompletionStatus, str]] = MappingProxyType(
    {
        CompletionStatus.COMPLETED: "c",
        CompletionStatus.RETRYABLE: "r",
        CompletionStatus.FAILED: "f",
        CompletionStatus.DISCARDED: "d",
        CompletionStatus.CANCELLED: "x",
        CompletionStatus.SKIPPED: "s",
    }
)
BRANCH_CODE: Final = "b"
COMPLETED_LATE: Final = Outcome(StepState.COMPLETED, StepCause.COMPLETED_AFTER_CANCEL_REQUEST)
ATTEMPTS_EXHAUSTED: Final = Outcome(StepState.DISCARDED, StepCause.STEP_FAILED)
CANCELLED_BY_DEPENDENCY: Final = Outcome(StepState.CANCELLED, StepCause.CANCELLED_BY_DEPENDENCY)
CANCELLED_BY_REQUEST: Final = Outcome(StepState.CANCELLED, StepCause.OPERATOR_CANCELLED)
SKIPPED_BY_OPERATOR: Final = Outcome(StepState.COMPLETED, StepCause.OPERATOR_SKIPPED)
SKIPPED: Final = COMPLETION[CompletionStatus.SKIPPED]
BRANCH_SKIPPED: Final = Outcome(StepState.COMPLETED, StepCause.SKIPPED, branch=True)
SUPERSEDED: Final = Outcome(StepState.CANCELLED, StepCause.SUPERSEDED, branch=True)
RELEASED: Final = Outcome(StepState.AVAILABLE, None)
WAIT_EXPIRED: Final = Outcome(StepState.EXPIRED, StepCause.EXPIRED_WAIT)


@dataclass(frozen=True, slots=True)
class Transition:
    """An event that may move a step from any of ``sources`` to any of ``targets``."""

    event: str
    sources: frozenset[StepState]
    targets: frozenset[StepState]


def _transition(event: str, sources: str, targets: str) -> Transition:
    return Transition(
        event,
        frozenset(map(StepState, sources.split())),
        frozenset(map(StepState, targets.split())),
    )


_REVIVABLE = "failed discarded cancelled expired retryable awaiting_signal"
_PLACED = "available pending cancelled completed"

# Every move that a step can make; whatever is not here does not happen.
TRANSITIONS: Final[tuple[Transition, ...]] = (
    _transition("all dependencies are resolved", "pending", "available"),
    _transition("a parent ends over a cancel edge", "pending", "cancelled"),
    _transition("all dependencies are resolved, and skip it", "pending", "completed"),
    _transition("claimed, or dispatched", "available", "executing"),
    *(
        Transition(f"reported {status}", COMPLETABLE, frozenset({outcome.state}))
        for status, outcome in COMPLETION.items()
    ),
    Transition(
        "reported retryable, no attempt left", COMPLETABLE, frozenset({ATTEMPTS_EXHAUSTED.state})
    ),
    _transition("the retry is due", "retryable", "available"),
    _transition("the lease has passed", "executing", "available discarded"),
    _transition("given back, or its ticket is void", "executing", "available"),
    _transition("given back, no handler", "executing", "retryable"),
    _transition("given back, a result is missing", "executing", "pending"),
    _transition("awaits a signal", "available executing", "awaiting_signal"),
    _transition("the signal is consumed", "awaiting_signal", "available"),
    _transition("waits for a child workflow", "executing", "awaiting_signal"),
    _transition("the child workflow has completed", "awaiting_signal", "completed"),
    _transition("the child workflow ends otherwise", "awaiting_signal", "failed"),
    _transition("the wait's deadline passes", "awaiting_signal", "expired"),
    _transition("the wait's deadline passes, and it goes on", "awaiting_signal", "available"),
    _transition("cancel request", "pending available retryable awaiting_signal", "cancelled"),
    _transition("cancel request, forced, or nobody has started it", "executing", "cancelled"),
    _transition("recovery: retry", f"{_REVIVABLE} executing", _PLACED),
    _transition("recovery: a descendant is placed anew", f"{_REVIVABLE} completed", _PLACED),
    _transition("recovery: a parent is revived", "available retryable", "pending"),
    Transition(
        "recovery: the step that has appended it is placed anew",
        frozenset(StepState),
        frozenset({StepState.CANCELLED}),
    ),
    _transition("appended again", "cancelled", "pending"),
    _transition("recovery: skip", f"pending available executing {_REVIVABLE}", "completed"),
    _transition(
        "recovery: cancel", "pending available executing retryable awaiting_signal", "cancelled"
    ),
)


def resolves(parent: StepState, policy: EdgePolicy, cause: StepCause | None = None) -> bool | None:
    """Whether an edge from ``parent`` is resolved; ``False``: it cancels its child, ``None``: it is
    still open. The edge of a superseded parent is resolved, whatever its policy."""
    if parent not in TERMINAL_STEPS:
        return None
    if cause is StepCause.SUPERSEDED:
        return True
    return parent is StepState.COMPLETED or policy is not EdgePolicy.CANCEL


@dataclass(slots=True)
class ResolvedEdges:
    """A step's resolved edges, which decide its outcome once all are resolved (contract §13).

    ``favourable`` and ``unfavourable``: whether a parent over an ``on_failure`` edge ended other
    than completed, or completed. ``branches``: how many parents have skipped their branch.
    """

    favourable: bool = False
    unfavourable: bool = False
    branches: int = 0

    def add(self, parent: Outcome, policy: EdgePolicy) -> None:
        """Takes in an edge that is resolved."""
        self.branches += parent.branch
        if policy is EdgePolicy.ON_FAILURE and parent.cause is not StepCause.SUPERSEDED:
            failed = parent.state is not StepState.COMPLETED
            self.favourable |= failed
            self.unfavourable |= not failed

    def outcome(self, parents: int, *, always: bool) -> Outcome:
        """The outcome of the step, which has this many parents."""
        if always:
            return RELEASED
        if parents and self.branches == parents:
            return BRANCH_SKIPPED
        return SKIPPED if self.unfavourable and not self.favourable else RELEASED


@dataclass(frozen=True, slots=True)
class Rule(Generic[T]):
    """A row of a derivation: it matches when all of its conditions hold.

    ``cancel``: a cancel request stands; ``overdue``: the workflow's deadline has made it.
    ``any_of``: some step is in one of these states.
    ``all_of``: every step is. ``ended``: no slice of a release, a cancellation or a recovery is
    left to be done (contract §4: until then the workflow is not terminal).
    """

    result: T
    cancel: bool = False
    overdue: bool = False
    any_of: frozenset[StepState] = frozenset()
    all_of: frozenset[StepState] = frozenset()
    ended: bool = False

    def matches(
        self, counts: Mapping[StepState, int], cancel: bool, unfinished: bool, overdue: bool = False
    ) -> bool:
        if (self.cancel and not cancel) or (self.ended and unfinished):
            return False
        if self.overdue and not overdue:
            return False
        if self.any_of and not any(counts.get(state, 0) for state in self.any_of):
            return False
        if not self.all_of:
            return True
        return not any(count for state, count in counts.items() if state not in self.all_of)


_COMPLETED = frozenset({StepState.COMPLETED})
_EXPIRED = frozenset({StepState.EXPIRED})
_FAILED = frozenset({StepState.FAILED, StepState.DISCARDED})

# First match wins; the last row always matches.
WORKFLOW_STATE_RULES: Final[tuple[Rule[WorkflowState], ...]] = (
    Rule(WorkflowState.CANCEL_REQUESTED, cancel=True, any_of=OPEN_STEPS),
    Rule(WorkflowState.AVAILABLE, any_of=frozenset({StepState.AVAILABLE})),
    Rule(WorkflowState.RUNNING, any_of=frozenset({StepState.EXECUTING, StepState.RETRYABLE})),
    Rule(WorkflowState.PENDING, any_of=frozenset({StepState.AWAITING_SIGNAL})),
    Rule(WorkflowState.COMPLETED, all_of=_COMPLETED, ended=True),
    Rule(WorkflowState.EXPIRED, any_of=_EXPIRED, all_of=TERMINAL_STEPS, ended=True),
    Rule(WorkflowState.FAILED, any_of=_FAILED, all_of=TERMINAL_STEPS, ended=True),
    Rule(WorkflowState.CANCELLED, all_of=TERMINAL_STEPS, ended=True),
    Rule(WorkflowState.PENDING),
)

# The rules for the cause of a workflow that has ended; the first match wins.
WORKFLOW_CAUSE_RULES: Final[tuple[Rule[WorkflowCause], ...]] = (
    Rule(WorkflowCause.COMPLETED_AFTER_CANCEL_REQUEST, cancel=True, all_of=_COMPLETED),
    Rule(WorkflowCause.EXPIRED_WAIT, any_of=_EXPIRED),
    Rule(WorkflowCause.STEP_FAILED, any_of=_FAILED),
    Rule(WorkflowCause.DEADLINE_EXCEEDED, cancel=True, overdue=True),
    Rule(WorkflowCause.OPERATOR_CANCELLED, cancel=True),
    Rule(WorkflowCause.COMPLETED, all_of=_COMPLETED),
    Rule(WorkflowCause.STEP_CANCELLED),
)


def workflow_state(
    counts: Mapping[StepState, int], *, cancel: bool, unfinished: bool = False
) -> WorkflowState:
    """The state that these step counts imply.

    ``cancel``: a cancel request stands. ``unfinished``: slices of a release, a cancellation or a
    recovery are left to be done.
    """
    return next(
        rule.result for rule in WORKFLOW_STATE_RULES if rule.matches(counts, cancel, unfinished)
    )


def workflow_cause(
    counts: Mapping[StepState, int],
    *,
    cancel: bool,
    unfinished: bool = False,
    overdue: bool = False,
) -> WorkflowCause | None:
    """Why the workflow ended, or ``None`` while it has not; ``overdue``: its deadline has made the
    cancel request."""
    if unfinished or any(counts.get(state, 0) for state in OPEN_STEPS):
        return None
    return next(
        rule.result
        for rule in WORKFLOW_CAUSE_RULES
        if rule.matches(counts, cancel, unfinished, overdue)
    )


# The next steps that the caller of a refused command may take.
LEGAL_NEXT_STEPS: Final[Mapping[Reason, tuple[str, ...]]] = MappingProxyType(
    {
        Reason.WORKFLOW_NOT_FOUND: ("list_workflows", "insert"),
        Reason.STEP_NOT_FOUND: ("list_steps",),
        Reason.UNSUPPORTED_SEMANTICS: ("upgrade_library",),
        Reason.DEPENDENCIES_UNRESOLVED: ("explain_step",),
        Reason.ALREADY_TERMINAL: ("inspect_step_result", "recover_step"),
        Reason.STALE_LEASE: ("drop_claim", "inspect_step"),
        Reason.STALE_TICKET: ("drop_ticket", "explain_step"),
        Reason.ALREADY_STARTED: ("drop_ticket", "explain_step"),
        Reason.LEASE_REQUIRED: ("complete_with_lease", "complete_with_force"),
        Reason.ILLEGAL_TRANSITION: ("inspect_step",),
        Reason.UNSUPPORTED_RECOVERY_ACTION: ("explain_step",),
        Reason.CANCEL_REQUESTED: ("explain_workflow", "recover_with_reopen"),
        Reason.PAYLOAD_TOO_LARGE: ("send_smaller_payload",),
        Reason.NON_SERIALIZABLE_PAYLOAD: ("send_json_payload",),
        Reason.INVALID_ARGUMENT: ("correct_argument",),
        Reason.KEY_CONFLICT: ("insert_with_new_key", "inspect_workflow"),
        Reason.SIGNAL_NOT_FOUND: ("list_signals",),
        Reason.ALREADY_CONSUMED_SIGNAL: ("explain_step", "recover_step"),
    }
)
