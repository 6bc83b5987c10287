"""Stored data of a release: workflows in every state that they can be left in.

:func:`populate` makes them with the release that runs; :func:`dump` and :func:`load` carry keys
between a server and a file with a JSON line per key, which every kind of server can take.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from rwf import Client, CommandRejected, Workflow, result
from tests.support.flows import fan_out, first_call_only, flow

WORKER: Final = "frozen"


def populate(client: Client) -> None:
    """Inserts and moves workflows, until each kind of record is there."""
    for fill in (_ended, _running, _waiting, _recovered, _unfinished, _refused):
        fill(client)


def order() -> Workflow:
    """A workflow with everything that a definition may hold."""
    workflow = Workflow("order", context={"order": 5}, definition_version=3)
    workflow.add("charge", worker="work", input={"cents": 2**53 + 1, "tags": []})
    workflow.add("pack", worker="pack", queue="slow", priority=7, deps=["charge"], timeout=60)
    workflow.add("ship", worker="ship", input={"of": result("charge", "id")}, deps=["pack"])
    return workflow


def _running(client: Client) -> None:
    fresh = client.insert(order(), key="fresh")
    client.complete_step(client.insert(order()).id, "charge", payload={"id": "r-1"}, actor="ann")
    retried = client.insert(order(), key="retried")
    client.complete_step(retried.id, "charge", "retryable", summary="busy", retry_in=0.05)
    client.insert(flow("a b:a", name="claimed"))
    (lost,) = client.claim(["default"], worker_id=WORKER, lease=0.05)
    (held, *_) = client.claim(["default"], worker_id=WORKER, limit=2, lease=86_000)
    client.heartbeat([held], lease=86_000)
    assert lost.lease != held.lease
    client.insert(fan_out(450), key="wide")
    assert client.get(fresh.id).state in ("available", "running")


def _ended(client: Client) -> None:
    done = client.insert(flow("a b:a"), key="done", retention=timedelta(seconds=1))
    client.complete_step(done.id, "a", payload=[1, {"x": None}], command_id="c1")
    client.complete_step(done.id, "a", payload=[1, {"x": None}], command_id="c1")
    client.complete_step(done.id, "b")
    bad = client.insert(flow("a b:a c:+a d:b"), key="bad", retention=None)
    client.complete_step(bad.id, "a", "failed", summary="no address")
    client.complete_step(bad.id, "c", "discarded")
    asked = client.insert(flow("a b:a"), key="asked to end")
    client.claim(["default"], worker_id=WORKER, limit=1_000, lease=86_000)
    client.request_cancel(asked.id, actor="ann", reason="no longer wanted")


def _waiting(client: Client) -> None:
    def wait(name: str, **options: Any) -> str:
        view = client.insert(flow("w after:w", name="waits"))
        client.await_step(view.id, "w", signal="approved", correlation_key=name, **options)
        return view.id

    wait("waits")
    wait("has a deadline", deadline=timedelta(days=3))
    wait("expires", deadline=timedelta(0))
    woken = wait("is woken")
    client.deliver_signal("approved", "is woken", payload={"by": "ann"})
    client.deliver_signal("approved", "is woken", payload={"by": "ann"})
    wait("two of a kind")
    wait("two of a kind")
    client.deliver_signal("approved", "two of a kind", dedupe_key="d1")
    client.deliver_signal("approved", "nobody", payload=[])
    client.deliver_signal("approved", "expires")
    left = wait("is left")
    client.complete_step(left, "w", "cancelled")
    assert client.get(woken).state == "available"


def _recovered(client: Client) -> None:
    view = client.insert(flow("a b:a c:b"), key="recovered")
    client.complete_step(view.id, "a", "failed", payload={"no": 1})
    client.recover_step(view.id, "a", "retry", actor="ann", reason="again")
    client.complete_step(view.id, "a")
    client.recover_step(view.id, "a", "retry", scope="downstream", command_id="r1")
    skipped = client.insert(flow("a b:a"), key="skipped")
    client.recover_step(skipped.id, "a", "skip")


def _unfinished(client: Client) -> None:
    view = client.insert(fan_out(700), key="unfinished release")
    first_call_only(client, view.id, "root", "completed")
    other = client.insert(fan_out(700), key="unfinished cascade")
    first_call_only(client, other.id, "root", "failed")


def _refused(client: Client) -> None:
    view = client.insert(flow("a b:a"), key="refused")
    for step, lease in (("b", None), ("a", "1-stale")):
        try:
            client.complete_step(view.id, step, lease=lease)
        except CommandRejected:
            continue
        raise AssertionError(f"{step} was completed")


# --- keys


def dump(client: Client) -> Iterator[str]:
    """Each key as a line: its name, type and content."""
    redis = client._store.client()
    for key in sorted(redis.scan_iter(count=1000)):
        kind = redis.type(key).decode()
        yield json.dumps([_text(key), kind, _content(redis, kind, key)], separators=(",", ":"))


def _content(redis: Any, kind: str, key: bytes) -> list[Any]:
    if kind == "hash":
        return [[_text(name), _text(value)] for name, value in sorted(redis.hgetall(key).items())]
    if kind == "zset":
        scored = redis.zrange(key, 0, -1, withscores=True)
        return [[_text(member), repr(score)] for member, score in scored]
    assert kind == "list", (key, kind)
    return [_text(item) for item in redis.lrange(key, 0, -1)]


def _text(value: bytes) -> str:
    """Text as it is; other bytes as base64, marked."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return "\0" + base64.b64encode(value).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text[1:]) if text.startswith("\0") else text.encode()


def load(client: Client, file: Path) -> int:
    """Sets the keys of a file. Returns how many there are."""
    redis, lines = client._store.client(), file.read_text().splitlines()
    for line in lines:
        key, kind, content = json.loads(line)
        if kind == "list":
            redis.rpush(_bytes(key), *map(_bytes, content))
            continue
        pairs = {_bytes(name): _bytes(value) for name, value in content}
        redis.hset(_bytes(key), mapping=pairs) if kind == "hash" else redis.zadd(_bytes(key), pairs)
    return len(lines)
