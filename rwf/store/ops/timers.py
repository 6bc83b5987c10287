"""What is due in a partition, found in the timers and carried out."""

from __future__ import annotations

from typing import NamedTuple

from rwf.store.catalog import Arg, Op
from rwf.store.ops.advance import advance_all
from rwf.store.ops.base import Scope, passing_over
from rwf.store.ops.due import Due, Page, PassedOver
from rwf.store.ops.prune import prune
from rwf.store.ops.waits import judge_topic, settle_waits


class Fired(NamedTuple):
    """How many timers were carried out, and the seconds until the next is due, None without one."""

    done: int
    next_in: float | None


def fire_due(scope: Scope, partition: int, passed: PassedOver) -> Op[Fired]:
    """Carries out what is due in a partition, up to a page of it; one call when that is nothing.

    What cannot be carried out stays in ``passed``.
    """
    due = Due(scope, partition, passed)
    page = yield from due.page()
    return (yield from fire(due, page))


def fire(due: Due, page: Page) -> Op[Fired]:
    """Carries out a page of a partition's timers: retries, leases, waits, walks, hand-offs, and
    what is over."""
    scope = due.scope
    if not page.members:
        return Fired(0, page.next_in)
    by_workflow: dict[str, list[Arg]] = {}
    for kind, owner, step in due.timers(page):
        if kind == "s":
            yield from passing_over(judge_topic(scope, owner), f"topic {owner}")
        elif kind == "x":
            yield from passing_over(prune(scope, owner), f"workflow {owner}")
        else:
            by_workflow.setdefault(owner, []).extend([kind, step])
    for workflow_id, timers in by_workflow.items():
        yield from passing_over(_fire(scope, workflow_id, timers), f"workflow {workflow_id}")
    rest = yield from due.leave_behind(page)
    return Fired(rest.done, 0.0 if rest.more else rest.next_in)


def _fire(scope: Scope, workflow_id: str, timers: list[Arg]) -> Op[None]:
    unfinished, untold = yield scope.on_workflow("fire", workflow_id, timers)
    if unfinished:
        yield from advance_all(scope, workflow_id)
    elif untold:
        yield from settle_waits(scope, workflow_id)
