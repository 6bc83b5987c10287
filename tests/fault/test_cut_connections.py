"""Connections that are cut again and again, and calls that their tasks give up midway."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

from rwf import AsyncClient, Client, StepContext, Worker
from tests.conftest import connect
from tests.fault.outages import insisting
from tests.support import invariants
from tests.support.daemons import serving
from tests.support.flows import flow
from tests.support.servers import AnyServer, Cluster
from tests.support.workers import CLIENTS, at_work, client_of, until_ended

pytestmark = pytest.mark.usefixtures("cut_off")

PERIOD: Final = 0.15
WORKFLOWS: Final = 30
CALLERS: Final = 12
CALLS: Final = 60


@contextmanager
def cut_again_and_again(server: AnyServer) -> Iterator[None]:
    """Ends every connection to the server's nodes, except this one's own, every 0.15 s."""
    nodes: list[Any] = [server]
    if isinstance(server, Cluster):
        nodes = server.primaries()
    over = threading.Event()

    def cut() -> None:
        while not over.wait(PERIOD):
            for node in nodes:
                for kind in ("normal", "pubsub"):
                    node.client().client_kill_filter(_type=kind, skipme=True)

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def inserted(client: Client, key: str) -> str:
    return insisting(lambda: client.insert(flow("a b:a c:a d:b,c"), key=key)).id


@CLIENTS
def test_connections_cut_every_moment_lose_and_double_nothing(
    one_or_cluster: AnyServer, kind: str
) -> None:
    worker = Worker(client_of(kind, one_or_cluster), concurrency=8, lease=2.0)
    runs: Counter[tuple[str, str, int]] = Counter()

    @worker.step("work")
    async def work(ctx: StepContext) -> str:
        runs[ctx.workflow_id, ctx.step, ctx.attempt] += 1
        await asyncio.sleep(0.02)
        return ctx.step

    with connect(one_or_cluster) as client, connect(one_or_cluster) as other:
        client.list()
        with cut_again_and_again(one_or_cluster), at_work(worker), serving(other, interval=0.2):
            ids = [inserted(client, f"k{number}") for number in range(WORKFLOWS)]
            for workflow_id in ids:
                until_ended(client, workflow_id)
        assert len(set(ids)) == WORKFLOWS
        assert {client.get(workflow_id).state for workflow_id in ids} == {"completed"}
        for workflow_id in ids:
            found = {row.step: row.payload for row in client.results(workflow_id)}
            assert found == {step: step for step in "abcd"}
        assert set(runs.values()) == {1}
        assert invariants.check(client) == []


async def _given_up_midway(client: AsyncClient, workflow_id: str, steps: int, seed: int) -> int:
    """One caller's calls, half of them cancelled after a moment. Returns how many were."""
    chance = random.Random(seed)
    cancelled = 0
    for number in range(CALLS):
        step = f"s{chance.randrange(steps)}"
        call = asyncio.ensure_future(
            client.step(workflow_id, step)
            if number % 2
            else client.complete_step(workflow_id, step, payload=step)
        )
        if chance.random() < 0.5:
            await asyncio.sleep(chance.random() * 0.01)
            call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            answer: Any = await call
            assert getattr(answer, "step", answer).name == step
            continue
        cancelled += 1
    return cancelled


async def _all_of_them(server: AnyServer, workflow_id: str, steps: int) -> int:
    partitions = 16 if server.kind == "cluster" else None
    async with AsyncClient.from_url(server.url, partitions=partitions, max_connections=4) as client:
        found = await asyncio.gather(
            *(_given_up_midway(client, workflow_id, steps, seed) for seed in range(CALLERS))
        )
        # Replies that cancelled calls have left on a connection cost no other call anything.
        assert len(await asyncio.gather(*(client.get(workflow_id) for _ in range(8)))) == 8
    return sum(found)


def test_a_call_given_up_midway_leaves_its_answer_to_nobody(one_or_cluster: AnyServer) -> None:
    with connect(one_or_cluster) as client:
        view = client.insert(flow(" ".join(f"s{number}" for number in range(40))))
        cancelled = asyncio.run(_all_of_them(one_or_cluster, view.id, 40))
        assert CALLERS < cancelled < CALLERS * CALLS
        for row in client.results(view.id):
            assert row.payload == row.step
        assert invariants.check(client) == []
