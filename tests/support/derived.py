"""A store in which every derived key holds something, and ways to damage it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from rwf import Client
from rwf.model.limits import INSERT_MS, RESERVED_MS
from rwf.ops.claims import Claimer, claim_in
from rwf.ops.insert import insert
from tests.support.flows import drive, fan_out, flow, raw

Entries = dict[bytes, float]

_FORM: Final = re.compile(
    rb"rwf:\{(\d+)\}:(ready|reserved|timers|outbox|index|tags|staged|(?:d|reg):.+)"
)
CLASSES: Final = ("ready", "reserved", "timers", "outbox", "index", "tags", "staged", "d", "reg")


@dataclass
class Store:
    """A client, and one of its workflows: steps a (available), done (ended), and others."""

    client: Client
    workflow_id: str

    @classmethod
    def busy(cls, client: Client) -> Store:
        """Fills the store: steps in every state, callbacks, waits, a workflow whose retention runs,
        a reserved entry, an unfinished insert."""
        kept = client.insert(flow("kept"))
        client.complete_step(kept.id, "kept")
        client.dispatch_callbacks(lambda callback: None)
        steps = "a done late held:done timed:done open:done child:a"
        view = client.insert(flow(steps, tags={"account": "42", "region": "eu|1"}))
        client.complete_step(view.id, "done")
        client.complete_step(view.id, "late", "retryable", retry_in=600)
        client.await_step(view.id, "timed", signal="go", correlation_key="k", deadline=_LONG)
        client.await_step(view.id, "open", signal="go", correlation_key="other")
        ended = client.insert(flow("one"))
        client.complete_step(ended.id, "one")
        taken = client.insert(flow("taken", queue="reserving"))
        claimer = Claimer.checked(["reserving"], "w", 30.0)
        partition = int(taken.id.partition("-")[0])
        drive(client, claim_in(client._ctx, partition, claimer, 1), 1)
        client.insert(flow("running", queue="running"))
        client.claim(["running"], worker_id="w", lease=600)
        drive(client, insert(client._ctx, fan_out(3000), None, None), 2)
        return cls(client, view.id)

    def keys(self, kind: str) -> list[tuple[int, bytes]]:
        """The derived keys of a class, each with its partition."""
        found = []
        for key in sorted(raw(self.client).scan_iter(count=1000)):
            match = _FORM.fullmatch(key)
            if match and match[2].split(b":")[0].decode() == kind:
                found.append((int(match[1]), key))
        return found

    def snapshot(self) -> dict[bytes, Entries]:
        """All derived keys, as far as records determine them.

        Reserved entries are shown in the ready queue. When a reservation runs out, and when an
        unfinished insert is given up, is not in the records, and is left out.
        """
        redis = raw(self.client)
        found: dict[bytes, Entries] = {}
        for kind in CLASSES:
            for _, key in self.keys(kind):
                if redis.type(key) != b"zset":
                    found[key] = {b"overwritten": 0.0}
                    continue
                entries = dict(redis.zrange(key, 0, -1, withscores=True))
                limit = {"reserved": RESERVED_MS, "staged": INSERT_MS}.get(kind)
                if limit is not None:
                    latest = _now(redis) + limit
                    entries = {member: float(at > latest) for member, at in entries.items()}
                name = key.replace(b":reserved", b":ready")
                found[name] = found.get(name, {}) | entries
        return found

    def finish(self) -> None:
        """Has workers complete every step that is or becomes available."""
        while claimed := self.client.claim(["default"], worker_id="w", limit=50):
            for one in claimed:
                self.client.complete(one)


_LONG: Final = timedelta(hours=1)


def _now(redis: Any) -> float:
    # A cluster's client answers for each node.
    found = redis.time()
    seconds, micros = found if isinstance(found, tuple) else next(iter(found.values()))
    return float(seconds * 1000 + micros / 1000)


def writes(client: Client) -> int:
    """How many changes the servers have made; commands that changed nothing do not count."""
    infos = client._store._everywhere(("INFO", "persistence"), None)
    return sum(info["rdb_changes_since_last_save"] for info in infos.values())


def delete(store: Store, partition: int, key: bytes) -> None:
    raw(store.client).delete(key)


def drop_some(store: Store, partition: int, key: bytes) -> None:
    redis = raw(store.client)
    redis.zrem(key, *redis.zrange(key, 0, -1)[::2])


def move(store: Store, partition: int, key: bytes) -> None:
    """Gives every entry a wrong time, or a wrong place."""
    redis = raw(store.client)
    redis.zadd(key, dict.fromkeys(redis.zrange(key, 0, -1), 9e14))


def overwrite(store: Store, partition: int, key: bytes) -> None:
    raw(store.client).set(key, "not a sorted set")


def dangle(store: Store, partition: int, key: bytes) -> None:
    """Adds entries of workflows and steps that do not exist, or are not due there, and malformed
    ones."""
    missing, elsewhere = f"{partition}-{'a' * 16}", f"{partition + 1}-{'a' * 16}"
    here = store.workflow_id if store.workflow_id.startswith(f"{partition}-") else missing
    kind = key.split(b":")[2].decode()
    bad: list[str | bytes] = ["garbage", "", b"\xff|\xfe|", "1|b|c|d|e|f", "!", "1|2"]
    for owner in (missing, elsewhere, here):
        if kind in ("ready", "reserved"):
            bad += [f"default:1000|{'0' * 21}|{owner}|{step}" for step in ("a", "done", "nobody")]
        elif kind == "timers":
            bad += [f"{k}|{owner}|{step}" for k in "rl" for step in ("a", "done", "nobody")]
            bad += [f"w|{owner}|a", "s|short", f"s|{'0' * 40}"] + (
                [f"w|{owner}"] if owner != here else []
            )
        elif kind == "outbox":
            bad += [f"{owner}|{number}" for number in ("1", "99", "0", "01", "x")]
        elif kind == "index":
            bad += [f"{group}|00000000000|{owner}" for group in "ocz"]
        elif kind == "tags":
            bad += [f"{tag}|00000000000|{owner}" for tag in ("account=42", "account=4", "x")]
        elif kind == "staged":
            bad += [owner]
        elif kind == "d":
            bad += ["nobody", "!nobody", "a", "!a", "done", "!late", "open", "!timed"]
        else:
            bad += [f"{state}|{owner}|17|a|1" for state in "wxg"]
    raw(store.client).zadd(key, dict.fromkeys(bad, 5))


DAMAGES: Final[tuple[Callable[[Store, int, bytes], None], ...]] = (
    delete, drop_some, move, overwrite, dangle,
)  # fmt: skip
