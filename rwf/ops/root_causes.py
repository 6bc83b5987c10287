"""Root causes: the steps that hold a workflow or a step back (contract §7).

Pure: it reads what ``rwf.ops.explain`` has loaded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from rwf.model.limits import LISTED
from rwf.model.states import FAILED_STEPS, OPEN_STEPS, PauseReason, StepCause, StepState
from rwf.model.views import RootCause
from rwf.protocol.pauses import Pause
from rwf.protocol.records import Record

# How many steps are visited, over all root causes, to count how many each one holds.
_VISITS: Final = 200_000
# How many names all paths of an explanation hold, about; a path is not cut below the second number.
_PATH_NAMES: Final = 20_000
_SHORTEST_CUT: Final = 100
_GAP: Final = "..."

_LEGAL: Final[Mapping[str, tuple[str, ...]]] = {
    "waiting_for_worker": ("run_worker", "complete_step"),
    "executing": ("wait", "complete_with_force"),
    "dispatched": ("run_executor", "complete_with_force"),
    "retry_scheduled": ("wait", "complete_step", "recover_step"),
    "waiting_on_signal": ("deliver_signal", "recover_step"),
    "waiting_on_workflow": ("explain_child", "recover_step"),
    "waiting_on_parent": ("reconcile",),
    "release_in_progress": ("reconcile",),
    "scheduled": ("wait", "request_cancel"),
    "step_failed": ("inspect_step_result", "recover_step"),
    "expired_wait": ("recover_step",),
    "cancelled": ("recover_step",),
    "cancel_requested": ("wait",),
    "cancelled_by_dependency": ("explain_step",),
    "waiting_on_dependencies": ("explain_step",),
    "missing_dependency_result": ("recover_step",),
    PauseReason.NO_HANDLER: ("run_worker_with_handler", "complete_step", "recover_step"),
    PauseReason.INPUT_TOO_LARGE: ("raise_max_input", "complete_step", "recover_step"),
    PauseReason.INPUT_UNREADABLE: ("recover_step", "complete_step"),
}

_CODE_OF_STATE: Final = {
    StepState.AVAILABLE: "waiting_for_worker",
    StepState.EXECUTING: "executing",
    StepState.RETRYABLE: "retry_scheduled",
    StepState.AWAITING_SIGNAL: "waiting_on_signal",
    StepState.FAILED: "step_failed",
    StepState.DISCARDED: "step_failed",
    StepState.EXPIRED: "expired_wait",
    StepState.CANCELLED: "cancelled",
}
_MAY_RUN: Final = frozenset({StepState.AVAILABLE, StepState.EXECUTING})
_WAITING_STATES: Final = frozenset({StepState.AWAITING_SIGNAL, StepState.RETRYABLE})


def is_held(record: Record) -> bool:
    """Whether other steps are the reason for its state: it is pending, or cancelled by one."""
    return record.state is StepState.PENDING or record.cause is StepCause.CANCELLED_BY_DEPENDENCY


@dataclass(slots=True)
class Holds:
    """The part of a graph that holds something back: edges from parents that have not ended, or
    that cancelled their child. ``children`` maps a step to those it holds directly; ``requested``:
    a cancel request stands, which a recovery would have to close; ``scheduled``: the workflow has
    not started; ``for_parent``: it is a child that its parent's step does not wait for yet."""

    records: dict[str, Record] = field(default_factory=dict)
    parents: dict[str, list[str]] = field(default_factory=dict)
    children: dict[str, list[str]] = field(default_factory=dict)
    requested: bool = False
    scheduled: bool = False
    for_parent: bool = False
    pauses: Mapping[str, Pause] = field(default_factory=dict)
    """The pauses of root causes that wait for a retry."""
    run: Mapping[str, str] = field(default_factory=dict)
    """The child workflows of root causes that wait for them."""

    def add(self, child: str, parent: Record) -> None:
        self.records[parent.name] = parent
        self.parents.setdefault(child, []).append(parent.name)
        self.children.setdefault(parent.name, []).append(child)

    def roots(self) -> list[str]:
        """The steps at the far end: those that hold others and are not held themselves, those that
        have failed, whether they hold any or not, and held ones that no parent holds any more
        (their release is in progress)."""
        return [
            name
            for name, record in self.records.items()
            if (name in self.children and not is_held(record))
            or record.state in FAILED_STEPS
            or (record.state is StepState.PENDING and not self._waits(name))
        ]

    def waiting(self) -> list[str]:
        """The steps that hold no other, and wait for something else than a worker."""
        return [
            name
            for name, record in self.records.items()
            if name not in self.children and record.state in _WAITING_STATES
        ]

    def retryable(self) -> list[str]:
        """The steps among root causes that wait for a retry."""
        names = dict.fromkeys((*self.roots(), *self.waiting()))
        return [name for name in names if self.records[name].state is StepState.RETRYABLE]

    def awaiting(self) -> list[str]:
        """The steps among root causes that wait for a signal or a child workflow."""
        names = dict.fromkeys((*self.roots(), *self.waiting()))
        return [name for name in names if self.records[name].state is StepState.AWAITING_SIGNAL]

    def _waits(self, name: str) -> bool:
        return any(self.records[up].state in OPEN_STEPS for up in self.parents.get(name, ()))

    def code(self, name: str) -> str:
        """The code of a root cause."""
        record = self.records[name]
        if record.lacks_result:
            return "missing_dependency_result"
        if record.dispatched:
            return "dispatched"
        pause = self.pauses.get(name)
        if pause is not None and pause.holds(record):
            return pause.reason
        if is_held(record) and self.for_parent:
            return "waiting_on_parent"
        if is_held(record):
            return "scheduled" if self.scheduled else "release_in_progress"
        if record.state is StepState.AWAITING_SIGNAL and name in self.run:
            return "waiting_on_workflow"
        return _CODE_OF_STATE[record.state]

    def legal_next_steps(self, code: str) -> tuple[str, ...]:
        """Commands that may resolve a root cause."""
        reopened = {"recover_step": "recover_with_reopen"} if self.requested else {}
        return tuple(reopened.get(step, step) for step in _LEGAL[code])

    def held_by(self, name: str, limit: int) -> int:
        """How many steps this one holds; counts up to ``limit``."""
        seen = {name}
        queue = deque([name])
        while queue and len(seen) <= limit:
            for child in self.children.get(queue.popleft(), ()):
                if child not in seen:
                    seen.add(child)
                    queue.append(child)
        return min(len(seen) - 1, limit)

    def paths(self, target: str) -> dict[str, str]:
        """For each step above ``target``, the next step on a shortest way down to it."""
        below: dict[str, str] = {}
        queue = deque([target])
        while queue:
            name = queue.popleft()
            for parent in self.parents.get(name, ()):
                if parent not in below and parent != target:
                    below[parent] = name
                    queue.append(parent)
        return below


def root_causes_of_step(holds: Holds, target: str) -> tuple[list[RootCause], int]:
    """The root causes that hold one step, nearest first, each with the way down; and how many. A
    step that waits for a child workflow is one itself."""
    below = holds.paths(target)
    roots = {*holds.roots(), *holds.run}
    order = [name for name in (target, *below) if name in roots]
    longest = min(max(_PATH_NAMES // max(len(order), 1), _SHORTEST_CUT), LISTED)
    causes = [
        _root_cause(holds, name, _path(below, name, longest), 1, False) for name in order[:LISTED]
    ]
    return causes, len(order)


def _path(below: Mapping[str, str], name: str, longest: int) -> tuple[str, ...]:
    """The way down from a root cause; the middle of one that is too long is left out."""
    path = [name]
    while path[-1] in below:
        path.append(below[path[-1]])
    if len(path) > longest:
        path[longest // 2 : 1 - longest // 2] = [_GAP]
    return tuple(path)


def root_causes_of_workflow(holds: Holds) -> tuple[list[RootCause], int]:
    """A workflow's root causes, those that hold the most steps first; and how many.

    Of those that hold none, steps that have failed come first, then those that hold up the workflow
    alone.
    """
    budget = _VISITS
    found: list[tuple[int, bool, str]] = []
    roots = holds.roots()
    for name in roots:
        # Every root cause gets its share, so that one that holds much leaves some for the others.
        allowed = max(budget // max(len(roots) - len(found), 1), len(holds.children.get(name, ())))
        held = holds.held_by(name, allowed)
        budget = max(budget - held, 0)
        found.append((held, held == allowed and held > 0, name))
    found += ((0, False, name) for name in holds.waiting())
    found.sort(key=lambda row: -row[0])
    listed = [
        _root_cause(holds, name, (name,), held, truncated)
        for held, truncated, name in found[:LISTED]
    ]
    return listed, len(found)


def steps_that_may_run(holds: Holds, limit: int) -> list[RootCause]:
    """The steps of a workflow that nothing holds, and that are still to be done; at most so
    many."""
    names = [name for name, record in holds.records.items() if record.state in _MAY_RUN]
    return [_root_cause(holds, name, (name,), 0, False) for name in names[:limit]]


def _root_cause(
    holds: Holds, name: str, path: tuple[str, ...], held: int, truncated: bool
) -> RootCause:
    code = holds.code(name)
    return RootCause(
        step=name,
        state=holds.records[name].state,
        code=code,
        path=path,
        held_count=held,
        truncated=truncated,
        legal_next_steps=holds.legal_next_steps(code),
    )
