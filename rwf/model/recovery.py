"""The plan of a recovery, as a dry run shows it (contract §6, Placement).

It goes through the steps as ``recovery.lua`` does, on copies: it marks the steps to place again,
and then places all pending steps by their parents, both in topological order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rwf.model.states import (
    CANCELLED_BY_DEPENDENCY,
    CANCELLED_BY_REQUEST,
    SKIPPED_BY_OPERATOR,
    TERMINAL_STEPS,
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
    held: bool = False

    def end(self, outcome: Outcome) -> None:
        """Gives it another state."""
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
    before = {step.name: step.state for step in steps}
    root = by_name[target]
    if action is RecoveryAction.RETRY:
        root.lacks_result = False
        if root.state not in _STAYS:
            _hold(root)
    else:
        outcome = SKIPPED_BY_OPERATOR if action is RecoveryAction.SKIP else CANCELLED_BY_REQUEST
        root.end(outcome)
    position = next(number for number, step in enumerate(steps) if step is root)
    later = steps[position:]
    if action is not RecoveryAction.CANCEL:
        _mark(later[1:], by_name, target, scope)
    _place(later, by_name, cancel and not reopen)
    return list(_changes(steps, before))


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
        joined = taken = cancelled = False
        for name, policy in step.parents:
            parent = by_name[name]
            anchor = parent.held or name == target
            joined |= anchor and (policy is EdgePolicy.CANCEL or scope is RecoveryScope.DOWNSTREAM)
            taken |= parent.held
            cancelled |= not anchor and resolves(parent.state, policy) is False
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
        edges = [resolves(by_name[name].state, policy) for name, policy in step.parents]
        if False in edges or (cancel and None not in edges and not step.always):
            step.end(CANCELLED_BY_REQUEST if cancel else CANCELLED_BY_DEPENDENCY)
        elif None not in edges and not step.lacks_result:
            resolved = ResolvedEdges()
            for name, policy in step.parents:
                resolved.add(by_name[name].outcome, policy)
            step.end(resolved.outcome(len(step.parents), always=step.always))
        step.held = False


def _changes(steps: Sequence[Planned], before: Mapping[str, StepState]) -> Iterator[Change]:
    for step in steps:
        if step.state is not before[step.name]:
            yield Change(step=step.name, before=before[step.name], after=step.state)


def cancelling_parent(step: Planned, by_name: Mapping[str, Planned]) -> str | None:
    """The parent that would cancel a step again, if there is one."""
    for name, policy in step.parents:
        state = by_name[name].state
        if state in TERMINAL_STEPS and resolves(state, policy) is False:
            return name
    return None
