"""What is due: retries, leases, waits and hand-offs, found in the timers and carried out."""

from __future__ import annotations

from typing import Final

from rwf.store.catalog import Arg, Call, Op
from rwf.store.ops.advance import advance_all
from rwf.store.ops.base import Scope
from rwf.store.ops.waits import finish_hand_off, settle, settle_waits

_TIMERS_PER_CALL: Final = 100


def fire_due(scope: Scope, partition: int) -> Op[int]:
    """Carries out what is due in a partition; returns how many timers that were.

    What cannot be carried out stays, and is passed over: it never holds up what comes behind it.
    """
    done = passed_over = 0
    while True:
        keys = scope.keys.partition(partition)
        members = yield Call("timers", keys, [passed_over, _TIMERS_PER_CALL])
        by_workflow: dict[str, list[Arg]] = {}
        for member in members:
            kind, owner, *step = member.decode().split("|")
            if kind in ("r", "l"):
                by_workflow.setdefault(owner, []).extend([kind, *step])
            elif kind == "w":
                by_workflow.setdefault(owner, [])
            elif kind == "s":
                yield from finish_hand_off(scope, owner)
        for workflow_id, timers in by_workflow.items():
            yield from _fire(scope, workflow_id, timers)
        left = yield Call("timers", keys, [0, passed_over + len(members)])
        stuck = len(set(left) & set(members))
        done += len(members) - stuck
        passed_over += stuck
        if len(members) < _TIMERS_PER_CALL:
            return done


def _fire(scope: Scope, workflow_id: str, timers: list[Arg]) -> Op[None]:
    if timers:
        unfinished, untold = yield scope.on_workflow("fire", workflow_id, timers)
        if unfinished:
            yield from advance_all(scope, workflow_id)
        elif untold:
            yield from settle_waits(scope, workflow_id)
    else:
        yield from settle(scope, {workflow_id: True})
