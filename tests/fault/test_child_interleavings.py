"""Schedules of the server calls of those who move a child workflow and its parent at once.

An operation is a generator that yields calls, so a schedule says who makes the next call. Some die
on the way: what they have left is finished by a daemon. Whatever the schedule and the graphs, the
step ends once, by the child whose results it has taken, or without one that still runs; what waits
for the step moves no sooner; and a child is kept for as long as its parent may need it.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

import pytest

from rwf import Client, CommandRejected, NotFound
from rwf.model.states import TERMINAL_WORKFLOWS
from rwf.ops.cancel import request_cancel
from rwf.ops.children import start_child
from rwf.ops.complete import Completion, complete_step
from rwf.ops.prune import prune_all
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


def starts(child: str) -> Actor:
    def start(client: Client, parent: str, lease: str) -> Op[Any]:
        return start_child(client._ctx, parent, "call", child_of(child), lease, None)

    return start


def cancels(client: Client, parent: str, _: str) -> Op[Any]:
    return request_cancel(client._ctx, parent, None, None)


def retries(client: Client, parent: str, _: str) -> Op[Any]:
    asked = Recovery(workflow_id=parent, step="call", action="retry", force=True)
    return recover_step(client._ctx, asked, False)


def reconciles(client: Client, parent: str, _: str) -> Op[Any]:
    return reconcile(client._ctx, parent)


def reports(status: str) -> Actor:
    """Reports the child's steps one after the other, once there is a child; the last one so."""

    def report(client: Client, parent: str, _: str) -> Op[Any] | None:
        kid = kid_of(client, parent)
        if kid is None or client.get(kid).runnable_step_count == 0:
            return None
        return report_all(client, kid, [step.name for step in client.steps(kid)])

    def report_all(client: Client, kid: str, names: list[str]) -> Op[Any]:
        for name in names:
            told = status if name == names[-1] else "completed"
            item = Completion(workflow_id=kid, step=name, status=told, payload=7)
            yield from complete_step(client._ctx, item)

    return report


def prunes(client: Client, parent: str, _: str) -> Op[Any]:
    kid = kid_of(client, parent)
    return prune_all(client._ctx, [parent] if kid is None else [kid, parent])


def settles(client: Client, parent: str, _: str) -> Op[Any] | None:
    kid = kid_of(client, parent)
    return None if kid is None else settle_waits(client._ctx, kid)


Cast = Callable[[Actor], tuple[Actor, ...]]
"""Who takes part, given who starts the child."""

CASTS: Final[Mapping[str, Cast]] = {
    "two starts": lambda start: (start, start, reports("completed")),
    "start and cancel": lambda start: (start, cancels, reports("completed")),
    "start and retry": lambda start: (start, retries, reports("completed"), settles),
    "two reports": lambda start: (start, reports("failed"), reports("completed"), settles),
    "repairs": lambda start: (start, reports("completed"), reconciles, settles, cancels),
    "a failure": lambda start: (start, reports("failed"), reconciles, settles, retries),
    "prune": lambda start: (start, reports("completed"), prunes, settles, prunes),
    "prune a failure": lambda start: (start, reports("failed"), prunes, settles, retries),
    "prune and cancel": lambda start: (start, cancels, prunes, reports("completed"), prunes),
}
PARENTS: Final = (
    "call",
    "call next:call",
    "call next:+call",
    "call next:!call",
    "call next*:call",
    "root call next:call,root",
    "call root next:+call,!root",
)
CHILDREN: Final = ("a", "a b", "a b:a", "a b:+a", "a b:!a")
GRAPHS: Final = tuple(itertools.product(PARENTS, CHILDREN))
"""Parents' and children's; a schedule has one pair of them, in turn."""


def play(client: Client, cast: Cast, graphs: tuple[str, str], chance: random.Random) -> str:
    """Plays a schedule; returns the parent."""
    parent = client.insert(flow(graphs[0], "parent"), retention=timedelta(0)).id
    lease = claim(client, "call").lease
    waiting = list(cast(starts(graphs[1])))
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
            replies.pop(id(op), None)
            continue
        try:
            request = op.send(replies.pop(id(op), None))
            replies[id(op)] = client._run(one_call(request))
        except (StopIteration, CommandRejected, NotFound):
            under_way.remove(op)
    return parent


def finish(client: Client, parent: str) -> None:
    """Finishes all that is on record, as a daemon does."""
    for _ in range(3):
        for one in client.list(limit=50).workflows:
            if parent in (one.id, one.parent):
                client.reconcile(one.id)


def judge(client: Client, parent: str) -> None:
    kids = [one for one in client.list(limit=50).workflows if one.parent == parent]
    running = [kid for kid in kids if kid.state not in TERMINAL_WORKFLOWS]
    try:
        view, step = client.get(parent), client.step(parent, "call")
    except NotFound:  # it has ended, and was removed
        assert running == [], "a child runs whose parent is gone"
        return
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
        taken = [kid for kid in kids if kid.id == row.payload["workflow_id"]]
        assert row.payload["state"] == step.state
        assert {kid.state for kid in taken} <= TERMINAL_WORKFLOWS
        assert taken or step.state == "completed", "the child by which the step failed is gone"
    elif step.state != "cancelled":
        later = [one for one in client.steps(parent) if one.name == "next"]
        assert {one.state for one in later} <= {"pending", "cancelled"}, "a step runs too soon"
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
        chance = random.Random(f"{cast} {seed}")
        graphs = GRAPHS[seed % len(GRAPHS)] if SCALE == "long" else chance.choice(GRAPHS)
        parent = play(client, CASTS[cast], graphs, chance)
        try:
            finish(client, parent)
            judge(client, parent)
            with suppress(CommandRejected):  # it has ended
                client.request_cancel(parent)
            finish(client, parent)
            judge(client, parent)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, {graphs}: {error}") from error
        for left in client.claim(["default"], worker_id="w", limit=100):  # finalizers
            client.complete(left)
        if seed % 10 == 0:
            assert invariants.check(client) == []
