"""Schedules of the server calls of those who move a child workflow and its parent at once.

An operation is a generator that yields calls, so a schedule says who makes the next call. Some die
on the way: what they have left is finished by a daemon. Whatever the schedule, the step ends once,
by the child whose results it has taken, or without one that still runs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, Final

import pytest

from rwf import Client, CommandRejected
from rwf.model.states import TERMINAL_WORKFLOWS
from rwf.ops.cancel import request_cancel
from rwf.ops.children import start_child
from rwf.ops.complete import Completion, complete_step
from rwf.ops.recover import Recovery, recover_step
from rwf.ops.waits import settle_waits
from rwf.protocol.requests import Op
from rwf.repair.reconcile import reconcile
from tests.conftest import SCALE, Pool
from tests.support import invariants
from tests.support.children_cases import child_of, claim
from tests.support.flows import flow, one_call
from tests.support.servers import KINDS, AnyServer

SCHEDULES: Final = {"long": 3_000, "slice": 100}.get(SCALE, 6)

Actor = Callable[[Client, str, str], Op[Any] | None]
"""An operation on a parent, whose lease is given; None where there is nothing to do."""


def kid_of(client: Client, parent: str) -> str | None:
    found = [one.id for one in client.list(limit=20).workflows if one.parent == parent]
    return found[0] if found else None


def starts(client: Client, parent: str, lease: str) -> Op[Any]:
    return start_child(client._ctx, parent, "call", child_of("a"), lease, None)


def cancels(client: Client, parent: str, _: str) -> Op[Any]:
    return request_cancel(client._ctx, parent, None, None)


def retries(client: Client, parent: str, _: str) -> Op[Any]:
    asked = Recovery(workflow_id=parent, step="call", action="retry", force=True)
    return recover_step(client._ctx, asked, False)


def reconciles(client: Client, parent: str, _: str) -> Op[Any]:
    return reconcile(client._ctx, parent)


def reports(status: str) -> Actor:
    """Reports the child's step, once there is a child."""

    def report(client: Client, parent: str, _: str) -> Op[Any] | None:
        kid = kid_of(client, parent)
        if kid is None or client.get(kid).runnable_step_count == 0:
            return None
        item = Completion(workflow_id=kid, step="a", status=status, payload=7)
        return complete_step(client._ctx, item)

    return report


def settles(client: Client, parent: str, _: str) -> Op[Any] | None:
    kid = kid_of(client, parent)
    return None if kid is None else settle_waits(client._ctx, kid)


CASTS: Final[Mapping[str, tuple[Actor, ...]]] = {
    "two starts": (starts, starts, reports("completed")),
    "start and cancel": (starts, cancels, reports("completed")),
    "start and retry": (starts, retries, reports("completed"), settles),
    "two reports": (starts, reports("failed"), reports("completed"), settles),
    "repairs": (starts, reports("completed"), reconciles, settles, cancels),
    "a failure": (starts, reports("failed"), reconciles, settles, retries),
}


def play(client: Client, cast: tuple[Actor, ...], chance: random.Random) -> str:
    """Plays a schedule; returns the parent."""
    parent = client.insert(flow("call next:call", "parent")).id
    lease = claim(client, "call").lease
    waiting = list(cast)
    under_way: list[Op[Any]] = []
    replies: dict[int, Any] = {}
    while waiting or under_way:
        if waiting and (not under_way or chance.random() < 0.4):
            actor = waiting.pop(chance.randrange(len(waiting)) if under_way else 0)
            op = actor(client, parent, lease)
            if op is not None:
                under_way.append(op)
            continue
        op = chance.choice(under_way)
        if chance.random() < 0.05:  # it dies
            under_way.remove(op)
            continue
        try:
            request = op.send(replies.pop(id(op), None))
            replies[id(op)] = client._run(one_call(request))
        except (StopIteration, CommandRejected):
            under_way.remove(op)
    return parent


def finish(client: Client, parent: str) -> None:
    """Finishes all that is on record, as a daemon does."""
    for _ in range(3):
        for one in client.list(limit=50).workflows:
            if parent in (one.id, one.parent):
                client.reconcile(one.id)


def judge(client: Client, parent: str) -> None:
    view, step = client.get(parent), client.step(parent, "call")
    kids = [one for one in client.list(limit=50).workflows if one.parent == parent]
    running = [kid for kid in kids if kid.state not in TERMINAL_WORKFLOWS]
    awaited = step.awaiting.child if step.awaiting and step.state == "awaiting_signal" else None
    held = [kid for kid in running if kid.runnable_step_count == 0]
    if step.state == "executing":
        assert running == held, "a child runs whose step has not come to wait"
    else:
        assert {kid.id for kid in running} <= {awaited}
    ended = [row for row in client.results(parent) if row.step == "call"]
    assert len(ended) <= 1
    if step.state in ("completed", "failed"):
        (row,) = ended
        taken = next(kid for kid in kids if kid.id == row.payload["workflow_id"])
        assert row.payload["state"] == step.state
        assert taken.state in TERMINAL_WORKFLOWS
    assert (step.state == "cancelled") <= (view.cancel_requested_at is not None)


LONG: Final = (*KINDS[1:], "cluster")


WHOLE: Final = (pytest.mark.long, pytest.mark.whole)


@pytest.fixture(params=[KINDS[0], *(pytest.param(kind, marks=WHOLE) for kind in LONG)])
def server(request: pytest.FixtureRequest, pool: Pool) -> AnyServer:
    """One server; in the long tests the others, and a cluster, where a child and its parent are on
    different nodes."""
    return pool.get(request.param)


@pytest.mark.scaled
@pytest.mark.parametrize("cast", CASTS)
def test_whatever_the_order(client: Client, cast: str) -> None:
    for seed in range(SCHEDULES):
        parent = play(client, CASTS[cast], random.Random(f"{cast} {seed}"))
        finish(client, parent)
        try:
            judge(client, parent)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        client.request_cancel(parent) if client.get(parent).finished_at is None else None
        finish(client, parent)
        if seed % 10 == 0:
            assert invariants.check(client) == []
