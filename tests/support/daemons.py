"""Helpers of the tests about the reconciler."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rwf import AsyncClient, Client, Reconciler
from rwf.model.views import ReconcileReport
from rwf.ops.timer_pages import PassedOver
from rwf.repair.timers import Fired, fire_due
from tests.support.flows import own_key, raw


def swept(client: Client) -> set[tuple[str, str | None]]:
    """Runs a whole sweep. Returns the repairs."""
    reports: list[ReconcileReport] = asyncio.run(Reconciler(client).sweep())
    return {(repair.kind, repair.step) for report in reports for repair in report.repairs}


def ticked(client: Client) -> None:
    """Runs a tick."""
    asyncio.run(Reconciler(client).tick())


def fired(client: Client, passed: PassedOver | None = None, partition: int = 0) -> Fired:
    """Fetches a page of due timers in a partition, and carries it out."""
    return client._run(fire_due(client._ctx, partition, passed or PassedOver()))


@contextmanager
def serving(client: Client | AsyncClient, **options: Any) -> Iterator[Reconciler]:
    """A daemon on a thread of its own; it must end when it is asked to."""
    daemon = Reconciler(client, **options)
    thread = threading.Thread(target=daemon.run)
    thread.start()
    try:
        yield daemon
    finally:
        daemon.stop()
        thread.join(timeout=60)
        assert not thread.is_alive()


def derived(client: Client) -> dict[bytes, list[tuple[bytes, float]]]:
    """Every sorted set of all partitions, except those that record when a process was last seen."""
    redis = raw(client)
    return {
        key: redis.zrange(key, 0, -1, withscores=True)
        for key in redis.scan_iter(count=1000)
        if redis.type(key) == b"zset" and not key.endswith((b":daemons", b":served", b":workers"))
    }


def contents(client: Client) -> dict[bytes, Any]:
    """Every key of all partitions, with unordered contents: a read may change the order in which a
    server stores them."""
    redis = raw(client)
    read = {
        b"hash": redis.hgetall,
        b"zset": lambda key: redis.zrange(key, 0, -1, withscores=True),
        b"list": lambda key: redis.lrange(key, 0, -1),
    }
    return {key: read[redis.type(key)](key) for key in redis.scan_iter(count=1000)}


def corrupt(client: Client, workflow_id: str, step: str) -> None:
    """Corrupts a step's record: its state can be read, and nothing else."""
    redis, key = raw(client), own_key(workflow_id)
    state, _, _, _, *rest = redis.hget(key, step).split(b",")
    rest[6] = b""
    order = b"x" if state == b"a" else b""
    redis.hset(key, step, b",".join([state, b"0", b"", order, *rest]))


def backlog(partition: int, count: int) -> list[str]:
    """Timers of workflows that do not exist: a daemon drops each of them."""
    letters = str.maketrans("0123456789", "abcdefghij")
    return [f"u|{partition}-{f'{number:016}'.translate(letters)}" for number in range(count)]
