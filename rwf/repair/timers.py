"""Timers of a partition: finding those that are due, and carrying them out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from rwf.ops.advance import advance_all
from rwf.ops.base import OpContext, Slots, side_by_side, warn_of
from rwf.ops.prune import prune_all
from rwf.ops.scans import scan
from rwf.ops.timer_pages import Due, Page, PassedOver
from rwf.ops.waits import judge_topic, settle_waits
from rwf.protocol.functions.repairs import RepairCallbacks
from rwf.protocol.functions.timers import FiredTimer, FiredWorkflow, FireTimers
from rwf.protocol.keys import partition_of
from rwf.protocol.members import Timer
from rwf.protocol.requests import Op, ask

Batch = Mapping[str, Sequence[Timer]]
"""Timers that travel in one call, by their workflows."""
Work = tuple[str, Op[Any]]
"""An operation's subject, for people, and the operation."""

_FLOWS_PER_CALL: Final = 64
# How many operations travel side by side, each with a call of its own in a round trip.
_SIDE_BY_SIDE: Final = 32
_WALKING: Final = frozenset("ubd")
"""Kinds of timers that have much walked: what is left, a start, a deadline."""


class Fired(NamedTuple):
    """How many timers were carried out, and the seconds until the next is due, None without one.
    ``following`` is the next page of them, where it is known already."""

    done: int
    next_in: float | None
    following: Page | None = None


def fire_due(ctx: OpContext, partition: int, passed: PassedOver) -> Op[Fired]:
    """Carries out a page of the due timers of a partition; one call when none is due.

    What cannot be carried out stays in ``passed``.
    """
    due = Due(ctx, partition, passed)
    page = yield from due.page()
    return (yield from fire(due, page))


def fire(due: Due, page: Page) -> Op[Fired]:
    """Carries out a page of a partition's timers: retries, leases, waits, walks, hand-offs, and
    what is over."""
    ctx = due.ctx
    if not page.members and not due.passed.places:
        return Fired(0, page.next_in)
    yield from carry_out(ctx, due.partition, due.timers(page))
    if due.passed.places:
        yield from _follow_clock(due)
    rest = yield from due.leave_behind(page)
    more = rest.more or due.passed.places
    return Fired(rest.done, 0.0 if more else rest.next_in, rest.following)


def carry_out(ctx: OpContext, partition: int, timers: Iterable[Timer]) -> Op[None]:
    """Carries out these timers of a partition, as far as they are due."""
    by_workflow: dict[str, list[Timer]] = {}
    apart: list[Work] = []
    over: list[str] = []
    for timer in timers:
        if timer.kind == "s":
            apart.append((f"topic {timer.owner}", judge_topic(ctx, timer.owner)))
        elif timer.kind == "x":
            over.append(timer.owner)
        else:
            by_workflow.setdefault(timer.owner, []).append(timer)
    yield from _fire_workflows(ctx, partition, by_workflow)
    yield from _carry_out(apart)
    yield from prune_all(ctx, over)


def _follow_clock(due: Due) -> Op[None]:
    """Brings some of what was set before the server's clock was set back to the clock as it is:
    what stands in the timers, and callbacks, is compared with the records."""
    scope, passed = due.ctx, due.passed
    sets = {
        name: (scope.keys.derived(due.partition, name), cursor)
        for name, cursor in passed.places.items()
    }
    pages = yield from scan(*sets.values())
    by_workflow: dict[str, list[Timer]] = {}
    apart: list[Work] = []
    for name, page in zip(sets, pages, strict=True):
        if page is None or page.cursor == 0:
            del passed.places[name]
        else:
            passed.places[name] = page.cursor
        if page is None:
            continue
        if name == "outbox":
            apart += _callbacks_compared(due, page.members)
            continue
        for timer in due.timers(Page(page.members, (), None)):
            if timer.kind == "s":
                apart.append((f"topic {timer.owner}", judge_topic(scope, timer.owner)))
            elif timer.kind != "x":  # moved with its workflow; else it is late by what it must
                by_workflow.setdefault(timer.owner, []).append(timer)
    yield from _fire_workflows(scope, due.partition, by_workflow, passed.before)
    yield from _carry_out(apart)


def _callbacks_compared(due: Due, members: Sequence[bytes]) -> Iterator[Work]:
    for workflow_id in dict.fromkeys(one.decode(errors="replace").split("|")[0] for one in members):
        if partition_of(workflow_id) == due.partition:
            yield f"workflow {workflow_id}", _check_callbacks(due.ctx, workflow_id)


def _check_callbacks(ctx: OpContext, workflow_id: str) -> Op[None]:
    yield from ask(ctx.workflow_keys(workflow_id), RepairCallbacks(1))


def _fire_workflows(
    ctx: OpContext, partition: int, by_workflow: Batch, before: int | None = None
) -> Op[None]:
    """Carries out timers of workflows, many workflows in a call; what these leave to be walked or
    told is followed to its end. ``before`` is for those that are looked at because the clock was
    set back since that time."""
    batches = list(_batches(by_workflow))
    found = yield from _results([_fire(ctx, partition, batch, before) for batch in batches])
    # Where a record cannot be read, the others of its call are carried out without it.
    alone = [
        {workflow_id: timers}
        for batch, reply in zip(batches, found, strict=True)
        if isinstance(reply, Exception)
        for workflow_id, timers in batch.items()
    ]
    again = yield from _results([_fire(ctx, partition, one, before) for one in alone])
    rest: list[Work] = []
    for batch, reply in zip(batches, found, strict=True):
        if not isinstance(reply, Exception):
            rest += _left(ctx, batch, reply)
    for one, reply in zip(alone, again, strict=True):
        if isinstance(reply, Exception):
            warn_of(f"workflow {next(iter(one))}", reply)
        else:
            rest += _left(ctx, one, reply)
    yield from _carry_out(rest)


def _left(ctx: OpContext, batch: Batch, fired: Sequence[FiredWorkflow]) -> Iterator[Work]:
    """Operations that are still to be run for the workflows of a call."""
    for workflow_id, workflow in zip(batch, fired, strict=True):
        if workflow.unfinished:
            yield f"workflow {workflow_id}", advance_all(ctx, workflow_id)
        elif workflow.has_notices:
            yield f"workflow {workflow_id}", settle_waits(ctx, workflow_id)


def _batches(by_workflow: Batch) -> Iterator[Batch]:
    """Workflows whose timers travel in one call; one that has much to be walked is alone."""
    rest = {}
    for workflow_id, timers in by_workflow.items():
        if any(timer.kind in _WALKING for timer in timers):
            yield {workflow_id: timers}
        else:
            rest[workflow_id] = timers
    waiting = iter(rest.items())
    while batch := dict(islice(waiting, _FLOWS_PER_CALL)):
        yield batch


def _fire(
    ctx: OpContext, partition: int, batch: Batch, before: int | None
) -> Op[list[FiredWorkflow]]:
    slots = Slots(ctx, partition)
    fired = [
        FiredTimer(slots.of(workflow_id), timer.kind, timer.step)
        for workflow_id, timers in batch.items()
        for timer in timers
    ]
    return (yield from ask(slots.keys, FireTimers(before, fired)))


def _carry_out(work: Sequence[Work]) -> Op[None]:
    """Carries out operations side by side; those that fail are skipped, with a warning."""
    results = yield from _results([op for _, op in work])
    for (whose, _), result in zip(work, results, strict=True):
        if isinstance(result, Exception):
            warn_of(whose, result)


def _results(ops: Sequence[Op[Any]]) -> Op[list[Any]]:
    """The result of each, or the error by which it failed."""
    found: list[Any] = []
    for start in range(0, len(ops), _SIDE_BY_SIDE):
        found += yield from side_by_side(ops[start : start + _SIDE_BY_SIDE])
    return found
