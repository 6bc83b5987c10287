"""Queues: the steps that wait in them, and whether anybody serves them (contract §8)."""

from __future__ import annotations

from typing import Final

from rwf.model.views import PartialList, QueueView
from rwf.ops.base import OpContext, all_partitions, ask_partitions
from rwf.protocol.codecs import time_of, time_of_micros
from rwf.protocol.functions.statistics import DescribeQueue, ListQueues, StoredQueue
from rwf.protocol.keys import home_of
from rwf.protocol.members import QueueEntry
from rwf.protocol.requests import Op, ask

# A worker that is idle asks each partition at least this often, in milliseconds.
_SERVED_MS: Final = 60_000
_BEGIN: Final = ":"


def queues(ctx: OpContext) -> Op[PartialList[QueueView]]:
    """All queues, by name; the next pages of all partitions travel together."""
    numbers = yield from all_partitions(ctx)
    found: dict[int, dict[str, QueueView]] = {number: {} for number in numbers}
    cursors: dict[int, str] = dict.fromkeys(numbers, _BEGIN)
    unreachable: set[int] = set()
    while cursors:
        pages, away = yield from ask_partitions(
            ctx, {n: ListQueues(cursor) for n, cursor in cursors.items()}
        )
        unreachable.update(away)
        cursors = {}
        for number, page in pages.items():
            views = (_view(page.now_ms, queue) for queue in page.queues)
            found[number].update((view.name, view) for view in views)
            if page.cursor:
                cursors[number] = page.cursor
    total: dict[str, QueueView] = {}
    for views_of in found.values():
        for name, view in views_of.items():
            total[name] = _sum(total[name], view) if name in total else view
    return PartialList([total[name] for name in sorted(total)], sorted(unreachable))


def queue_of(ctx: OpContext, workflow_id: str, name: str) -> Op[QueueView]:
    """A queue as it is in the partition of a workflow."""
    partition = home_of(workflow_id)
    found = yield from ask(ctx.keys.partition(partition), DescribeQueue(name))
    return _view(found.now_ms, found.queue)


def _view(now: int, queue: StoredQueue) -> QueueView:
    first, last = queue.first, queue.asked_at_ms
    oldest = None if first is None else QueueEntry.parse(first).came_in_us
    return QueueView(
        name=queue.name,
        available=queue.waiting,
        oldest_at=None if oldest is None else time_of_micros(oldest),
        asked_at=None if last is None else time_of(last),
        # By a clock that was set back since, a time that lies far ahead is an old one.
        served=last is not None and abs(now - last) < _SERVED_MS,
    )


def _sum(one: QueueView, other: QueueView) -> QueueView:
    oldest = [at for at in (one.oldest_at, other.oldest_at) if at is not None]
    asked = [at for at in (one.asked_at, other.asked_at) if at is not None]
    return QueueView(
        name=one.name,
        available=one.available + other.available,
        oldest_at=min(oldest, default=None),
        asked_at=max(asked, default=None),
        served=one.served or other.served,
    )
