"""A server's clock that was set back, as far as stored times show it."""

from __future__ import annotations

import re
from typing import Any

from rwf import Client
from tests.support.flows import raw

_SET: re.Pattern[bytes] = re.compile(rb"rwf:\{\d+\}:(timers|outbox|reserved|served)")
_TIME_OF_SWEEP: re.Pattern[bytes] = re.compile(rb"\w+:(began|seen|ended)")


def set_back(client: Client, seconds: float) -> None:
    """Moves stored times ahead by that much, or back with a negative number, as if the clock had
    been set since. Deadlines of waits, which users set, are left alone."""
    redis, ms = raw(client), round(seconds * 1000)
    for key in list(redis.scan_iter("rwf:*", count=1000)):
        if b":w:" in key and (static := redis.hget(key, ":s")):
            semantics, definition, steps, inserted, rest = static.split(b",", 4)
            moved = b"%d" % (int(inserted) + ms)
            redis.hset(key, ":s", b",".join([semantics, definition, steps, moved, rest]))
        elif _SET.fullmatch(key):
            for member, score in redis.zrange(key, 0, -1, withscores=True):
                redis.zadd(key, {member: score + ms})
        elif key.endswith((b":index", b":tags")):
            for member in redis.zrange(key, 0, -1):
                group, inserted, workflow_id = member.split(b"|")
                moved = b"%b|%011x|%b" % (group, int(inserted, 16) + ms, workflow_id)
                redis.zrem(key, member)
                redis.zadd(key, {moved: 0})
        elif key.endswith(b":sweep"):
            _move_sweep(redis, key, ms)


def _move_sweep(redis: Any, key: bytes, ms: int) -> None:
    for name, value in redis.hgetall(key).items():
        if _TIME_OF_SWEEP.fullmatch(name):
            redis.hset(key, name, int(value) + ms)
