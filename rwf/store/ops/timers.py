"""What is due in a partition, found in the timers and carried out."""

from __future__ import annotations

from rwf.store.catalog import Arg, Op
from rwf.store.ops.advance import advance_all
from rwf.store.ops.base import Scope
from rwf.store.ops.due import Due
from rwf.store.ops.prune import prune
from rwf.store.ops.waits import judge_topic, settle, settle_waits


def fire_due(scope: Scope, partition: int) -> Op[int]:
    """Carries out what is due: retries, leases, waits, hand-offs, and what is over.

    Returns how many timers that were. What cannot be carried out is passed over.
    """
    due = Due(scope, partition)
    while not due.last:
        timers = yield from due.page()
        by_workflow: dict[str, list[Arg]] = {}
        for kind, owner, step in timers:
            if kind in ("r", "l"):
                by_workflow.setdefault(owner, []).extend([kind, step])
            elif kind == "w":
                by_workflow.setdefault(owner, [])
            elif kind == "x":
                yield from prune(scope, owner)
            elif kind == "s":
                yield from judge_topic(scope, owner)
        for workflow_id, steps in by_workflow.items():
            yield from _fire(scope, workflow_id, steps)
        yield from due.leave_behind(timers)
    return due.done


def _fire(scope: Scope, workflow_id: str, timers: list[Arg]) -> Op[None]:
    if timers:
        unfinished, untold = yield scope.on_workflow("fire", workflow_id, timers)
        if unfinished:
            yield from advance_all(scope, workflow_id)
        elif untold:
            yield from settle_waits(scope, workflow_id)
    else:
        yield from settle(scope, {workflow_id: True})
