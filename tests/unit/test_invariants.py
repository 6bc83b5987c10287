"""The invariants detect damage: a check that finds nothing in anything would prove nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rwf import Client, Workflow
from tests.support import invariants

BASE = "rwf:{0}"


def _of(redis: Any, key: str) -> str:
    found: bytes = redis.zrange(f"{BASE}:{key}", 0, 0)[0]
    return found.decode()


def _replace(redis: Any, key: str, field: str, old: bytes, new: bytes) -> None:
    value: bytes = redis.hget(key, field)
    assert old in value
    redis.hset(key, field, value.replace(old, new, 1))


DAMAGE: dict[str, Callable[[Any, str], object]] = {
    "a ready entry is lost": lambda r, w: r.zrem(f"{BASE}:ready", _of(r, "ready")),
    "a ready entry is doubled": lambda r, w: r.zadd(f"{BASE}:ready", {_of(r, "ready") + "x": 0}),
    "a timer is lost": lambda r, w: r.delete(f"{BASE}:timers"),
    "a timer has another time": lambda r, w: r.zadd(f"{BASE}:timers", {_of(r, "timers"): 5}),
    "a timer too many": lambda r, w: r.zadd(f"{BASE}:timers", {f"r|{w}|open": 5}),
    "the index entry is lost": lambda r, w: r.delete(f"{BASE}:index"),
    "a gauge is off": lambda r, w: r.hincrby(f"{BASE}:stats", "gs|available", 1),
    "a key of no class": lambda r, w: r.set("rwf:stray", 1),
    "a key of a strange partition": lambda r, w: r.rpush("rwf:{7}:log", "x"),
    "evidence of nothing": lambda r, w: r.rpush(f"{BASE}:n:0-aaaaaaaaaaaaaaaa", "x"),
    "something staged, no end": lambda r, w: r.hset(f"{BASE}:w:0-aaaaaaaaaaaaaaaa", "a", 1),
    "a count is off": lambda r, w: _replace(r, f"{BASE}:w:{w}", ":c", b"p1", b"p2"),
    "a step waits for more": lambda r, w: _replace(r, f"{BASE}:w:{w}", "child", b"p,2", b"p,3"),
    "a step runs early": lambda r, w: _replace(r, f"{BASE}:w:{w}", "open", b"a,0", b"p,0"),
    "a result row is lost": lambda r, w: r.hdel(f"{BASE}:p:{w}", "r:late:1"),
    "a payload of no attempt": lambda r, w: r.hset(f"{BASE}:p:{w}", "o:open:1", "1"),
    "a command id is lost": lambda r, w: r.hdel(f"{BASE}:p:{w}", "@late:one"),
    "a command id of no row": lambda r, w: r.hset(f"{BASE}:p:{w}", "@open:one", "r:1"),
    "a command id of another row": lambda r, w: r.hset(f"{BASE}:p:{w}", "@late:one", "r:2"),
    "a command id of no step": lambda r, w: r.hset(f"{BASE}:p:{w}", "@stranger:one", "r:1"),
    "a walk entry of nothing": lambda r, w: r.hset(f"{BASE}:w:{w}", ">0", "|open"),
    "a field of nothing": lambda r, w: r.hset(f"{BASE}:w:{w}", "stranger", "1"),
    "the insert key is lost": lambda r, w: r.delete(f"{BASE}:keys"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_seen(one_client: Client, what: str, broken_on_purpose: None) -> None:
    flow = Workflow("flow")
    flow.add("open", worker="w").add("late", worker="w")
    flow.add("child", worker="w", deps=["open", "late"])
    view = one_client.insert(flow, key="key")
    one_client.complete_step(view.id, "late", "retryable", retry_in=60, command_id="one")
    redis: Any = one_client._store.client()
    assert invariants.check(redis) == []
    DAMAGE[what](redis, view.id)
    assert invariants.check(redis) != []


OF_CALLBACKS: dict[str, Callable[[Any, str], object]] = {
    "an outbox entry is lost": lambda r, w: r.delete(f"{BASE}:outbox"),
    "an outbox entry has another time": lambda r, w: r.zadd(f"{BASE}:outbox", {f"{w}|1": 5}),
    "an outbox entry too many": lambda r, w: r.zadd(f"{BASE}:outbox", {f"{w}|2": 5}),
    "a gauge of callbacks is off": lambda r, w: r.hincrby(f"{BASE}:stats", "gc|pending", 1),
    "the end is not told": lambda r, w: r.hdel(f"{BASE}:w:{w}", "@1"),
    "another end is told": lambda r, w: _replace(
        r, f"{BASE}:w:{w}", "@1", b"completed,completed", b"failed,step_failed"
    ),
    "a callback too many": lambda r, w: r.hset(
        f"{BASE}:w:{w}", "@2", r.hget(f"{BASE}:w:{w}", "@1")
    ),
    "a dead one is not counted": lambda r, w: _replace(r, f"{BASE}:w:{w}", "@1", b",p,", b",x,"),
    "an open one is not counted": lambda r, w: _replace(
        r, f"{BASE}:w:{w}", ":c", b",1,1,0,0,,", b",1,0,0,0,,"
    ),
}


OF_RETENTION: dict[str, Callable[[Any, str], object]] = {
    "the end of the retention is lost": lambda r, w: r.zrem(f"{BASE}:timers", f"x|{w}"),
    "it has another time": lambda r, w: r.zadd(f"{BASE}:timers", {f"x|{w}": 5}),
    "the end of a signal is lost": lambda r, w: r.zrem(f"{BASE}:timers", _topic_timer(r)),
    "a signal's end has another time": lambda r, w: r.zadd(f"{BASE}:timers", {_topic_timer(r): 5}),
    "a dedupe record is left": lambda r, w: r.hset(_topic(r), "dother", "5"),
    "a dedupe record is lost": lambda r, w: r.hdel(_topic(r), "dk"),
    "a payload is left": lambda r, w: r.hset(_topic(r), "p5", "1"),
    "a topic holds nothing": lambda r, w: r.hset(
        f"{BASE}:sig:{'0' * 40}", ":", "1,0,0,,,,|go|other"
    ),
    "a topic knows of a workflow that is gone": lambda r, w: r.hset(
        _topic(r), "l0-aaaaaaaaaaaaaaaa|a", "1,g,5"
    ),
    "a removal that nobody goes on with": lambda r, w: r.hset(
        f"{BASE}:w:0-aaaaaaaaaaaaaaaa", ":x", "2,0,1,1"
    ),
    "an id is unusable for ever": lambda r, w: r.hset(f"{BASE}:w:0-aaaaaaaaaaaaaaaa", ":x", "1"),
}


def _topic(redis: Any) -> bytes:
    (name,) = redis.scan_iter(f"{BASE}:sig:*")
    found: bytes = name
    return found


def _topic_timer(redis: Any) -> bytes:
    return b"s|" + _topic(redis).rpartition(b":")[2]


@pytest.mark.parametrize("what", OF_RETENTION)
def test_damage_to_what_is_to_leave_is_seen(
    one_client: Client, what: str, broken_on_purpose: None
) -> None:
    view = one_client.insert(Workflow("flow").add("a", worker="w"))
    one_client.complete_step(view.id, "a")
    one_client.dispatch_callbacks(lambda _envelope: None)
    one_client.deliver_signal("go", "k", payload=1)
    redis: Any = one_client._store.client()
    assert invariants.check(redis) == []
    OF_RETENTION[what](redis, view.id)
    assert invariants.check(redis) != []


@pytest.mark.parametrize("what", OF_CALLBACKS)
def test_damage_to_callbacks_is_seen(
    one_client: Client, what: str, broken_on_purpose: None
) -> None:
    view = one_client.insert(Workflow("flow").add("a", worker="w"))
    one_client.complete_step(view.id, "a")
    redis: Any = one_client._store.client()
    assert invariants.check(redis) == []
    OF_CALLBACKS[what](redis, view.id)
    assert invariants.check(redis) != []
