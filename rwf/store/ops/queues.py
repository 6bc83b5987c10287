"""What waits in the queues, and whether anybody serves them (SPEC section 8)."""

from __future__ import annotations

from typing import Any, Final

from rwf.model.views import QueueView
from rwf.store.catalog import CONNECT, Call, Op
from rwf.store.ops.base import Scope
from rwf.store.stored import time_of, time_of_micros

# A worker that is idle asks each partition at least this often, in milliseconds.
_SERVED_MS: Final = 60_000
# The time when a step came in is a part of its entry's order: round, microseconds, number.
_CAME_IN: Final = slice(10, 23)


def queues(scope: Scope) -> Op[list[QueueView]]:
    """All queues, by name."""
    if not scope.keys.partitions:
        yield CONNECT
    found: dict[str, QueueView] = {}
    for partition in range(scope.keys.partitions):
        for view in (yield from _queues_in(scope, partition, ())):
            found[view.name] = _sum(found[view.name], view) if view.name in found else view
    return [found[name] for name in sorted(found)]


def queue_of(scope: Scope, workflow_id: str, name: str) -> Op[QueueView]:
    """A queue as it is in the partition of a workflow."""
    partition = int(workflow_id.partition("-")[0])
    return (yield from _queues_in(scope, partition, (name,)))[0]


def _queues_in(scope: Scope, partition: int, names: tuple[str, ...]) -> Op[list[QueueView]]:
    now, *rows = yield Call("queues", scope.keys.partition(partition), names)
    return [_view(int(now), *row) for row in rows]


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
