"""Graphs from a line of text, and other helpers of the contract's tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import pytest

from rwf import Client, CommandRejected, Completion, Workflow
from rwf.model.views import CommandResult
from rwf.ops.complete import complete_step
from rwf.protocol.requests import Op, Request
from tests.support.waiting import until

T = TypeVar("T")
_POLICIES: Final = {"+": "continue", "!": "on_failure"}
TICK: Final = timedelta(milliseconds=1)
"""Stored times are rounded to milliseconds."""


def flow(
    text: str, name: str = "flow", *, tags: Mapping[str, str] | None = None, **options: Any
) -> Workflow:
    """A workflow from text: in ``flow("a b:a c:a,+b d:!c")`` b depends on a; c on a and, over a
    continue edge, on b; d, over an on_failure edge, on c. A step with ``*`` behind its name always
    runs.

    ``options`` are those of ``Workflow.add``, the same for every step.
    """
    workflow = Workflow(name, tags=tags)
    edges = []
    for word in text.split():
        step, _, parents = word.partition(":")
        always = {"always": True} if step.endswith("*") else {}
        step = step.rstrip("*")
        workflow.add(step, **{"worker": "work", **always, **options})
        edges += [(parent, step) for parent in parents.split(",") if parent]
    for parent, step in edges:
        policy = _POLICIES.get(parent[0], "cancel")
        workflow.connect(parent.lstrip("+!"), step, policy=policy)
    return workflow


def fan_out(width: int, policy: str = "") -> Workflow:
    """One step, ``root``, and ``width`` children c0, c1, ..."""
    return flow("root " + " ".join(f"c{n}:{policy}root" for n in range(width)))


def fan_in(width: int, policy: str = "") -> Workflow:
    """Steps p0, p1, ... and one child of them all, ``last``."""
    parents = ",".join(f"{policy}p{n}" for n in range(width))
    return flow(" ".join(f"p{n}" for n in range(width)) + f" last:{parents}")


def chain(length: int, policy: str = "") -> Workflow:
    """Steps s0, s1, ... one after the other."""
    return flow("s0 " + " ".join(f"s{n}:{policy}s{n - 1}" for n in range(1, length)))


def states(client: Client, workflow_id: str) -> str:
    """The states as text, ``"a=completed b=available"``, in topological order."""
    return " ".join(f"{step.name}={step.state}" for step in client.steps(workflow_id))


def refused(reason: str) -> Any:
    """Expects a refusal for this reason."""
    return pytest.raises(CommandRejected, match=f"^{reason}: ")


def effect(result: CommandResult) -> tuple[tuple[str, ...], int, tuple[str, ...], int]:
    """The steps that a completion says it moved."""
    return result.released, result.released_count, result.cancelled, result.cancelled_count


def noted(client: Client, workflow_id: str) -> list[tuple[str, str | None, str, str | None]]:
    """The evidence in its order: action, step, status, reason."""
    return [
        (entry.action, entry.step, entry.status, entry.reason_code)
        for entry in client.evidence(workflow_id)
    ]


def raw(client: Client) -> Any:
    """The redis-py client below a client, to change stored keys directly."""
    return client._store.client()


def server_time(client: Client) -> datetime:
    """The server's time."""
    seconds, micros = raw(client).time()
    return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=micros)


def until_past(client: Client, moment: datetime) -> None:
    """Waits until a moment has passed by the server's clock."""
    until(lambda: server_time(client) >= moment + TICK, what=f"{moment:%X.%f} to pass")


def stored(client: Client) -> dict[bytes, bytes]:
    """Every key of all partitions, serialized."""
    redis = raw(client)
    return {key: redis.dump(key) for key in sorted(redis.scan_iter(count=1000))}


def own_key(workflow_id: str, kind: str = "w", namespace: str = "rwf") -> str:
    """The name of a workflow's own key."""
    return f"{namespace}:{{{workflow_id.partition('-')[0]}}}:{kind}:{workflow_id}"


def partition_key(workflow_id: str, name: str, namespace: str = "rwf") -> str:
    """The name of a key of the workflow's partition."""
    return f"{namespace}:{{{workflow_id.partition('-')[0]}}}:{name}"


def other_semantics(client: Client, workflow_id: str) -> None:
    """Gives the workflow a semantics version that no release knows yet."""
    key = own_key(workflow_id)
    static = raw(client).hget(key, ":s")
    assert static.startswith(b"2,")
    raw(client).hset(key, ":s", b"9" + static[1:])


def end_pause(client: Client, workflow_id: str, step: str) -> None:
    """Makes the retry of a paused step due, as if its pause were over."""
    namespace = client._session.keys.namespace
    own, payloads = (own_key(workflow_id, kind, namespace) for kind in ("w", "p"))
    record = raw(client).hget(own, step).split(b",")
    paused = raw(client).hget(payloads, f"z:{step}").split(b",")
    assert record[10] == paused[2]
    record[10] = paused[2] = b"0"
    raw(client).hset(own, step, b",".join(record))
    raw(client).hset(payloads, f"z:{step}", b",".join(paused))


def make_start_due(client: Client, workflow_id: str) -> None:
    """Makes the start of a scheduled workflow due, as if its time had come."""
    namespace = client._session.keys.namespace
    branching = raw(client).hget(own_key(workflow_id, "w", namespace), ":b").split(b",")
    branching[1] = b"0"
    raw(client).hset(own_key(workflow_id, "w", namespace), ":b", b",".join(branching))


def outdate_reservations(client: Client) -> None:
    """Makes all insert keys look as if they were reserved long ago."""
    for name in raw(client).scan_iter("rwf:*:keys"):
        for digest, held in raw(client).hgetall(name).items():
            raw(client).hset(name, digest, held.rpartition(b" ")[0] + b" 1")


def drive(client: Client, op: Op[T], calls: int) -> T | None:
    """Carries out the first ``calls`` calls of an operation, and then stops as if killed.

    Returns the operation's result when it needed no more calls, else None.
    """
    reply: Any = None
    for number in range(calls + 1):
        try:
            call = op.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result
        if number < calls:
            reply = client._run(one_call(call))
    op.close()
    return None


def stepped(client: Client, op: Op[T], between: Callable[[], object]) -> T:
    """An operation's result; ``between`` runs after each of its calls."""
    reply: Any = None
    while True:
        try:
            call = op.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result
        reply = client._run(one_call(call))
        between()


def first_call_only(client: Client, workflow_id: str, step: str, status: str) -> None:
    """Completes a step, under the command id "cut", and dies before any further slice."""
    item = Completion(workflow_id=workflow_id, step=step, status=status, command_id="cut")
    assert drive(client, complete_step(client._ctx, item), 1) is None


def one_call(call: Request) -> Op[Any]:
    """An operation of one call, which returns the reply."""
    return (yield call)
