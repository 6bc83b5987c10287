"""Workers: what they tell of themselves, and who is there (contract §17)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote

from rwf.model.limits import WORKER_NAMES
from rwf.model.views import PartialList, WorkerView
from rwf.ops.base import OpContext, all_partitions, ask_each, wire_text
from rwf.protocol.codecs import time_of
from rwf.protocol.functions.workers import ListWorkers, RegisterWorker, StoredWorker
from rwf.protocol.requests import CONNECT, Op, ask, call_of
from rwf.protocol.stored import WorkerRecord

_BEGIN: Final = "0"
TOLD_EVERY: Final = 3.0
"""How often, in seconds, a worker tells that it is there."""
_ALIVE_MS: Final = 10_000


def register(ctx: OpContext, worker: str, about: WorkerRecord) -> Op[None]:
    """Tells that a worker is there, and what it does."""
    yield from _tell(ctx, worker, about.text().encode(), stops=False)


def leave(ctx: OpContext, worker: str) -> Op[None]:
    """Tells that a worker has stopped."""
    yield from _tell(ctx, worker, b"", stops=True)


def _tell(ctx: OpContext, worker: str, about: bytes, *, stops: bool) -> Op[None]:
    if not ctx.keys.partitions:
        yield CONNECT
    yield from ask(ctx.keys.workers(worker), RegisterWorker(worker, about, stops))


def names_told(names: Iterable[str]) -> tuple[str, ...]:
    """Those of a worker's names that there is room for, as its record has them."""
    found, room = [], WORKER_NAMES // 2
    for name in map(wire_text, names):
        room -= len(name) + 1
        if room < 0:
            break
        found.append(name)
    return tuple(found)


def workers(ctx: OpContext) -> Op[PartialList[WorkerView]]:
    """All workers, by name; the next pages of all partitions travel together."""
    yield from all_partitions(ctx)
    cursors = dict.fromkeys(range(ctx.keys.home_partitions), _BEGIN)
    found: dict[str, WorkerView] = {}
    unreachable: set[int] = set()
    while cursors:
        asked = {
            number: call_of(ctx.keys.workers_of(number), ListWorkers(cursor))
            for number, cursor in cursors.items()
        }
        replies, away = yield from ask_each(ctx, asked)
        unreachable.update(away)
        cursors = {}
        for number, reply in replies.items():
            page = ListWorkers.decoded(reply)
            found |= {one.worker: _view(one, page.now_ms) for one in page.workers if one.about}
            if page.cursor != _BEGIN:
                cursors[number] = page.cursor
    return PartialList([found[name] for name in sorted(found)], sorted(unreachable))


def _view(stored: StoredWorker, now_ms: int) -> WorkerView:
    about = WorkerRecord.parse(stored.about or b"")
    return WorkerView(
        id=stored.worker,
        queues=tuple(map(unquote, about.queues)),
        queue_count=about.queue_count,
        handlers=tuple(map(unquote, about.handlers)),
        handler_count=about.handler_count,
        concurrency=about.concurrency,
        running=about.running,
        abandoned=about.abandoned,
        started_at=time_of(stored.seen_ms - about.up),
        seen_at=time_of(stored.seen_ms),
        # By a clock that was set back since, a time that lies far ahead is an old one.
        alive=abs(now_ms - stored.seen_ms) < _ALIVE_MS,
        trouble=about.trouble or None,
    )
