"""Helpers of the tests about callbacks."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from rwf import Client
from rwf.model.views import Callback
from rwf.ops.callbacks import Claim, Dispatch, Outcome
from tests.support.flows import flow, own_key, partition_key, raw


class Failing:
    """A handler that fails, and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, envelope: Callback) -> None:
        self.calls += 1
        raise OSError("no")


def ended(client: Client, status: str = "completed") -> str:
    """The id of a new workflow that has ended."""
    view = client.insert(flow("a"))
    client.complete_step(view.id, "a", status)
    return view.id


def hasten(client: Client, workflow_id: str, number: int = 1) -> None:
    """Makes a callback due that a test cannot wait for."""
    redis, key, field = raw(client), own_key(workflow_id), f"@{number}"
    inserted = int(redis.hget(key, ":s").split(b",")[3])
    head, bar, fields = redis.hget(key, field).partition(b"|")
    event, since, status, attempts, due, token = head.split(b",")
    assert due, "it is not to be sent any more"
    redis.hset(key, field, b",".join([event, since, status, attempts, since, token]) + bar + fields)
    outbox = partition_key(workflow_id, "outbox")
    redis.zadd(outbox, {f"{workflow_id}|{number}": inserted + int(since)})


def fail(client: Client, workflow_id: str, times: int) -> None:
    """Has the first callback fail so many times."""
    handler = Failing()
    for _ in range(times):
        hasten(client, workflow_id)
        client.dispatch_callbacks(handler)
    assert handler.calls == times


def with_callbacks(client: Client, workflow_id: str, count: int) -> None:
    """Gives a workflow with a single, pending callback so many more copies of it."""
    redis, key = raw(client), own_key(workflow_id)
    counts = redis.hget(key, ":c")
    assert counts.endswith(b",1,1,0,0,,")
    others = range(2, count + 1)
    redis.hset(key, mapping={f"@{number}": redis.hget(key, "@1") for number in others})
    redis.hset(key, ":c", counts[:-10] + b",%d,%d,0,0,," % (count, count))
    redis.hincrby(partition_key(workflow_id, "stats"), "gc|pending", len(others))
    outbox = partition_key(workflow_id, "outbox")
    due = redis.zscore(outbox, f"{workflow_id}|1")
    redis.zadd(outbox, {f"{workflow_id}|{number}": due for number in others})


def ignore(envelope: Callback) -> None:
    """A handler that does nothing."""


def claimed(client: Client, lease: float = 30.0) -> Claim:
    """Claims callbacks as a dispatcher that then dies."""
    [claim] = client._run(Dispatch(client._ctx, ignore, 1, lease).claim(1))
    return claim


def settled(client: Client, claim: Claim, error: Exception | None = None) -> None:
    """Settles that claim, as if the dispatcher had come back."""
    client._run(Dispatch(client._ctx, ignore, 1, 30.0).settle([Outcome(claim, error)]))


def stat(client: Client, name: str) -> int:
    """One statistic, summed over all partitions."""
    redis = raw(client)
    keys = [client._ctx.keys.partition(n)[3] for n in range(client._ctx.keys.partitions)]
    return sum(int(redis.hget(key, name) or 0) for key in keys)


@contextmanager
def counted(client: Client, **expected: int) -> Generator[None]:
    """By how much the outcomes of terminal callbacks grow within the block."""
    names = {what: f"cb|workflow.terminal|{what}" for what in ("delivered", "failed", "dead")}
    before = {what: stat(client, name) for what, name in names.items()}
    yield
    grown = {what: stat(client, name) - before[what] for what, name in names.items()}
    assert {what: by for what, by in grown.items() if by} == expected
