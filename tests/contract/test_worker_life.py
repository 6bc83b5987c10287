"""A worker's loops: ending, waking up, idling, and a server that comes and goes (contract §8)."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from rwf import AsyncClient, Client, StepContext, StoreMisconfigured, StoreUnavailable, Worker
from tests.support.flows import fan_out, flow
from tests.support.servers import AnyServer, Server, free_port
from tests.support.waiting import until
from tests.support.worker_life_cases import Gate
from tests.support.workers import CLIENTS, at_work, client_of, until_ended


@pytest.mark.parametrize("plain", [True, False])
def test_a_worker_that_ends_lets_its_steps_end(
    one_client: Client, one_server: AnyServer, plain: bool
) -> None:
    worker, gate = Worker(client_of("async", one_server), concurrency=1), Gate()
    worker.step("work")(gate.plain if plain else gate.coroutine)
    view = one_client.insert(flow("a b"))
    with at_work(worker, told=True):
        until(lambda: gate.entered, what="a step")
        worker.stop()
        gate.open.set()
    steps = one_client.steps(view.id)
    assert sorted(step.state for step in steps) == ["available", "completed"]
    assert sum(step.attempt for step in steps) == 1


@CLIENTS
@pytest.mark.parametrize("plain", [True, False])
def test_what_does_not_end_in_time_is_given_back(
    one_client: Client, one_server: AnyServer, kind: str, plain: bool
) -> None:
    worker, gate = Worker(client_of(kind, one_server), concurrency=2, grace=0.1), Gate()
    worker.step("work")(gate.plain if plain else gate.coroutine)
    view = one_client.insert(flow("a b c"))
    with at_work(worker, told=True):
        until(lambda: len(gate.entered) == 2, what="two steps")
        worker.stop()
    assert {(step.state, step.attempt) for step in one_client.steps(view.id)} == {("available", 0)}
    gate.open.set()


def test_the_second_time_gives_back_at_once(one_client: Client, one_server: AnyServer) -> None:
    worker, gate = Worker(client_of("async", one_server), grace=3600), Gate()
    worker.step("work")(gate.coroutine)
    view = one_client.insert(flow("a"))
    with at_work(worker, told=True):
        until(lambda: gate.entered, what="the step")
        worker.stop()
        worker.stop()
    assert one_client.step(view.id, "a").state == "available"
    gate.open.set()


def test_a_cancelled_task_gives_back(one_client: Client, one_server: AnyServer) -> None:
    async def cancelled() -> None:
        async with AsyncClient.from_url(one_server.url) as client:
            worker, entered = Worker(client, grace=3600), asyncio.Event()

            @worker.step("work")
            async def work() -> None:
                entered.set()
                await asyncio.Event().wait()

            task = asyncio.create_task(worker.serve())
            await asyncio.wait_for(entered.wait(), 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    view = one_client.insert(flow("a"))
    asyncio.run(cancelled())
    assert one_client.step(view.id, "a").state == "available"


def test_a_worker_can_begin_again(one_client: Client, one_server: AnyServer) -> None:
    worker = Worker(client_of("async", one_server))
    worker.step("work")(lambda: None)
    worker.stop()  # does nothing yet
    for _ in range(2):
        view = one_client.insert(flow("a b:a"))
        with at_work(worker):
            until_ended(one_client, view.id)
    assert worker.health.running == worker.health.unreported == 0
    assert worker.health.ended == 2


def test_health(one_client: Client, one_server: AnyServer) -> None:
    worker, gate = Worker(client_of("async", one_server)), Gate()
    worker.step("work")(gate.coroutine)
    assert worker.health.error is None
    view = one_client.insert(flow("a b"))
    with at_work(worker):
        until(lambda: worker.health.running == 2, what="two running steps")
        gate.open.set()
        until(lambda: worker.health.ended == 2, what="their end")
        until_ended(one_client, view.id)


def round_trips(server: AnyServer) -> int:
    """How many commands clients have sent, except those of this function."""
    redis: Any = server.client()
    nodes = redis.get_primaries() if server.kind == "cluster" else [None]
    stats = [
        (redis if node is None else redis.get_redis_connection(node)).info("commandstats")
        for node in nodes
    ]
    return sum(
        int(row["calls"])
        for found in stats
        for name, row in found.items()
        if name in ("cmdstat_fcall", "cmdstat_fcall_ro")
    )


@CLIENTS
def test_an_idle_worker_hardly_asks(one_server: AnyServer, kind: str) -> None:
    with Client.from_url(one_server.url) as client:
        client.list()
        worker = Worker(client_of(kind, one_server), reconcile=False)
        with at_work(worker):
            until(client.workers, what="the worker to have told that it is there")
            before, started = round_trips(one_server), time.monotonic()
            until(lambda: round_trips(one_server) - before >= 3, what="three trips")
            seconds = time.monotonic() - started
    # The first poll may fall into the measured time, and so may what it tells of itself.
    assert seconds > 1


@CLIENTS
def test_a_hint_wakes_a_worker(client: Client, server: AnyServer, kind: str) -> None:
    worker = Worker(client_of(kind, server))
    ran = threading.Event()
    worker.step("work")(ran.set)
    with at_work(worker):
        # That it is subscribed shows in a step that runs sooner than any poll would find it.
        def soon() -> bool:
            ran.clear()
            client.insert(flow("a"))
            return ran.wait(0.3)

        for _ in range(3):
            until(soon, what="a step that a hint has started")


@CLIENTS
def test_many_steps_at_once(client: Client, server: AnyServer, kind: str) -> None:
    worker = Worker(client_of(kind, server), concurrency=16)
    runs: list[str] = []
    most: list[int] = []

    @worker.step("work")
    async def work(ctx: StepContext) -> None:
        runs.append(f"{ctx.workflow_id}/{ctx.step}")
        most.append(worker.health.running)
        await asyncio.sleep(0)

    ids = [client.insert(fan_out(40)).id for _ in range(10)]
    with at_work(worker):
        for workflow_id in ids:
            until_ended(client, workflow_id)
    assert {client.get(workflow_id).state for workflow_id in ids} == {"completed"}
    assert len(runs) == len(set(runs)) == 10 * 41
    assert max(most) <= 16


def test_a_worker_without_a_server_says_so() -> None:
    worker = Worker(AsyncClient.from_url(f"redis://127.0.0.1:{free_port()}"))
    with pytest.raises(StoreUnavailable):
        worker.run()


def test_a_misconfigured_server_is_refused() -> None:
    with Server.start("valkey91", extra=("--maxmemory-policy", "allkeys-lru")) as server:
        worker = Worker(Client.from_url(server.url))
        with pytest.raises(StoreMisconfigured):
            worker.run()


def test_a_call_that_fails_holds_up_no_other(
    one_client: Client, one_server: AnyServer, broken_on_purpose: None
) -> None:
    """A workflow whose record is damaged while its step runs: the server function fails."""
    worker, gate = Worker(client_of("async", one_server)), Gate()
    worker.step("work")(gate.coroutine)
    broken, whole = one_client.insert(flow("a")), one_client.insert(flow("a b:a"))
    redis: Any = one_server.client()
    with at_work(worker):
        until(lambda: len(gate.entered) == 2, what="both steps")
        redis.hset(f"rwf:{{0}}:w:{broken.id}", "a", "garbage")
        gate.open.set()
        until_ended(one_client, whole.id)
    assert one_client.get(whole.id).state == "completed"
