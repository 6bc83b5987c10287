"""What waits in the queues, and whether anybody serves them (SPEC section 8)."""

from __future__ import annotations

from typing import Any, Final

from rwf.model.views import PartialList, QueueView
from rwf.store.catalog import Call, Op
from rwf.store.ops.base import Scope, all_partitions, ask_each
from rwf.store.stored import time_of, time_of_micros

# A worker that is idle asks each partition at least this often, in milliseconds.
_SERVED_MS: Final = 60_000
# The time when a step came in is a part of its entry's order: round, microseconds, number.
_CAME_IN: Final = slice(10, 23)


def queues(scope: Scope) -> Op[PartialList[QueueView]]:
    """All queues, by name."""
    numbers = yield from all_partitions(scope)
    replies, unreachable = yield from ask_each(
        scope, {number: Call("queues", scope.keys.partition(number)) for number in numbers}
    )
    found: dict[str, QueueView] = {}
    for now, *rows in replies.values():
        for view in (_view(int(now), *row) for row in rows):
            found[view.name] = _sum(found[view.name], view) if view.name in found else view
    return PartialList([found[name] for name in sorted(found)], unreachable)


def queue_of(scope: Scope, workflow_id: str, name: str) -> Op[QueueView]:
    """A queue as it is in the partition of a workflow."""
    partition = int(workflow_id.partition("-")[0])
    now, row = yield Call("queues", scope.keys.partition(partition), [name])
    return _view(int(now), *row)


def _view(now: int, name: bytes, available: bytes, first: bytes | None, asked: Any) -> QueueView:
    oldest = None if first is None else int(first.split(b"|")[1][_CAME_IN], 16)
    last = None if asked is None else int(asked)
    return QueueView(
        name=name.decode(),
        available=int(available),
        oldest_at=None if oldest is None else time_of_micros(oldest),
        asked_at=None if last is None else time_of(last),
        served=last is not None and now - last < _SERVED_MS,
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
