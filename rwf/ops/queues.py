"""What waits in the queues, and whether anybody serves them (SPEC section 8)."""

from __future__ import annotations

from typing import Any, Final

from rwf.model.views import PartialList, QueueView
from rwf.ops.base import OpContext, all_partitions, ask_each
from rwf.protocol.codecs import time_of, time_of_micros
from rwf.protocol.declare import Arg
from rwf.protocol.requests import Call, Op

# A worker that is idle asks each partition at least this often, in milliseconds.
_SERVED_MS: Final = 60_000
_BEGIN: Final = ":"
# The time when a step came in is a part of its entry's order: round, microseconds, number.
_CAME_IN: Final = slice(10, 23)


def queues(ctx: OpContext) -> Op[PartialList[QueueView]]:
    """All queues, by name; the next pages of all partitions travel together."""
    numbers = yield from all_partitions(ctx)
    found: dict[int, dict[str, QueueView]] = {number: {} for number in numbers}
    places: dict[int, Arg] = dict.fromkeys(numbers, _BEGIN)
    unreachable: set[int] = set()
    while places:
        replies, away = yield from ask_each(
            ctx,
            {n: Call("queues", ctx.keys.partition(n), [at]) for n, at in places.items()},
        )
        unreachable.update(away)
        for number, (now, place, *rows) in replies.items():
            views = (_view(int(now), *row) for row in rows)
            found[number].update((view.name, view) for view in views)
            places[number] = place
        places = {n: at for n, at in places.items() if at and n not in unreachable}
    total: dict[str, QueueView] = {}
    for views_of in found.values():
        for name, view in views_of.items():
            total[name] = _sum(total[name], view) if name in total else view
    return PartialList([total[name] for name in sorted(total)], sorted(unreachable))


def queue_of(ctx: OpContext, workflow_id: str, name: str) -> Op[QueueView]:
    """A queue as it is in the partition of a workflow."""
    partition = int(workflow_id.partition("-")[0])
    now, _, row = yield Call("queues", ctx.keys.partition(partition), [name])
    return _view(int(now), *row)


def _view(now: int, name: bytes, available: bytes, first: bytes | None, asked: Any) -> QueueView:
    oldest = None if first is None else int(first.split(b"|")[1][_CAME_IN], 16)
    last = None if asked is None else int(asked)
    return QueueView(
        name=name.decode(),
        available=int(available),
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
