"""The plan of a recovery, as a dry run shows it (contract §6, Placement).

On copies of the steps it comes to what ``recovery.lua`` does: it marks the steps to place again,
and then places all pending steps by their parents, both in topological order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rwf.model.dag import topological_order
from rwf.model.states import (
    CANCELLED_BY_DEPENDENCY,
    CANCELLED_BY_REQUEST,
    SKIPPED_BY_OPERATOR,
    SUPERSEDED,
    EdgePolicy,
    Outcome,
    RecoveryAction,
    RecoveryScope,
    ResolvedEdges,
    StepCause,
    StepState,
    resolves,
)
from rwf.model.views import Change

_STAYS = frozenset({StepState.PENDING, StepState.AVAILABLE})
# By other steps, or by a cancel request: this recovery or an earlier one has closed it.
_REVIVABLE = frozenset({StepCause.CANCELLED_BY_DEPENDENCY, StepCause.OPERATOR_CANCELLED})
_HELD = Outcome(StepState.PENDING, None)
_TAKEN_BACK = frozenset({StepState.AVAILABLE, StepState.RETRYABLE})


@dataclass(slots=True)
class Planned:
    """A step on the way: its state and cause, and whether a recovery holds it.

    ``singled_out``: an operator has cancelled it, not a cancel request. ``lacks_result``: it stays
    pending until it is recovered itself, or what its input refers to. ``branch``: it has skipped
    its branch; ``always``: it runs whatever becomes of the others.
    """

    name: str
    state: StepState
    cause: StepCause | None
    parents: Sequence[tuple[str, EdgePolicy]]
    singled_out: bool
    lacks_result: bool
    branch: bool = False
    always: bool = False
    by: str | None = None
    """The step that has appended this one, if any."""
    held: bool = False
    gone: bool = False
    """Whether this recovery has superseded the step."""

    def end(self, outcome: Outcome) -> None:
        """Gives the step its new state, and its cause."""
        self.state, self.cause, self.branch = outcome.state, outcome.cause, outcome.branch

    @property
    def outcome(self) -> Outcome:
        """Its present outcome."""
        return Outcome(self.state, self.cause, self.branch)


def plan(
    steps: Sequence[Planned],
    target: str,
    action: RecoveryAction,
    scope: RecoveryScope,
    *,
    cancel: bool,
    reopen: bool,
) -> list[Change]:
    """The changes of a recovery of ``target``; ``steps`` are in topological order, and are changed.

    ``cancel``: a cancel request stands; ``reopen`` closes it.
    """
    by_name = {step.name: step for step in steps}
    grown = any(step.by is not None for step in steps)
    ordered = _in_order(steps) if grown else steps
    before = {step.name: step.state for step in steps}
    root = by_name[target]
    if action is RecoveryAction.RETRY:
        root.lacks_result = False
        if root.state not in _STAYS:
            _hold(root)
    else:
        outcome = SKIPPED_BY_OPERATOR if action is RecoveryAction.SKIP else CANCELLED_BY_REQUEST
        root.end(outcome)
    position = next(number for number, step in enumerate(ordered) if step is root)
    # Steps are outdated with the one that has appended them, wherever they stand.
    later = ordered if grown else ordered[position:]
    if action is not RecoveryAction.CANCEL:
        _mark([step for step in later if step is not root], by_name, target, scope)
    _place(later, by_name, cancel and not reopen)
    return list(_changes(steps, before))


def _in_order(steps: Sequence[Planned]) -> list[Planned]:
    """The steps in topological order, each also behind the one that has appended it."""
    index = {step.name: number for number, step in enumerate(steps)}
    above = [
        {index[name] for name in (*(name for name, _ in step.parents), step.by) if name in index}
        for step in steps
    ]
    return [steps[number] for number in topological_order(above)]


def _hold(step: Planned) -> None:
    step.end(_HELD)
    step.held = True


def _mark(
    later: Sequence[Planned],
    by_name: Mapping[str, Planned],
    target: str,
    scope: RecoveryScope,
) -> None:
    for step in later:
        if step.cause is StepCause.SUPERSEDED:
            continue
        appending = by_name[step.by] if step.by else None
        if appending is not None and (appending.held or appending.gone):
            step.end(SUPERSEDED)
            step.gone = True
            continue
        joined = taken = cancelled = False
        for name, policy in step.parents:
            parent = by_name[name]
            anchor = parent.held or parent.gone or name == target
            joined |= anchor and (policy is EdgePolicy.CANCEL or scope is RecoveryScope.DOWNSTREAM)
            taken |= parent.held
            cancelled |= not anchor and resolves(parent.state, policy, parent.cause) is False
        if scope is RecoveryScope.DOWNSTREAM:
            member = joined
        else:
            by_others = step.cause in _REVIVABLE and not step.singled_out
            member = scope is RecoveryScope.BLOCKED and by_others and joined and not cancelled
        if member or (taken and step.state in _TAKEN_BACK):
            _hold(step)


def _place(later: Sequence[Planned], by_name: Mapping[str, Planned], cancel: bool) -> None:
    for step in later:
        if step.state is not StepState.PENDING:
            continue
        parents = [(by_name[name], policy) for name, policy in step.parents]
        edges = [resolves(parent.state, policy, parent.cause) for parent, policy in parents]
        if False in edges or (cancel and None not in edges and not step.always):
            step.end(CANCELLED_BY_REQUEST if cancel else CANCELLED_BY_DEPENDENCY)
        elif None not in edges and not step.lacks_result:
            resolved = ResolvedEdges()
            for parent, policy in parents:
                resolved.add(parent.outcome, policy)
            step.end(resolved.outcome(len(step.parents), always=step.always))
        step.held = False


def _changes(steps: Sequence[Planned], before: Mapping[str, StepState]) -> Iterator[Change]:
    for step in steps:
        if step.state is not before[step.name]:
            yield Change(step=step.name, before=before[step.name], after=step.state)


def cancelling_parent(step: Planned, by_name: Mapping[str, Planned]) -> str | None:
    """The parent that would cancel a step again, if there is one."""
    for name, policy in step.parents:
        parent = by_name[name]
        if resolves(parent.state, policy, parent.cause) is False:
            return name
    return None
