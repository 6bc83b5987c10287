"""Faults of a worker itself: they are logged, shown by its health, and end no loop (contract
§8)."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
import redis
import redis.asyncio

from rwf import AsyncClient, Client, StoreUnavailable, Worker
from rwf.runtime import Runtime
from rwf.worker.completer import Completer
from rwf.worker.heartbeat import Heartbeat
from rwf.worker.poller import Poller
from tests.support.flows import flow
from tests.support.servers import AnyServer
from tests.support.waiting import until
from tests.support.workers import CLIENTS, at_work, client_of, until_ended

LOOPS = [(Poller, "listen"), (Poller, "poll"), (Completer, "run"), (Heartbeat, "_beat")]


class Broken:
    """A method that fails while it is told to."""

    def __init__(self, kind: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        self.fails = True
        method = getattr(kind, name)

        def call(*args: Any) -> Any:
            self.calls += 1
            if self.fails:
                raise ZeroDivisionError("nobody expected this")
            return method(*args)

        monkeypatch.setattr(kind, name, call)


@pytest.mark.parametrize(("kind", "name"), LOOPS, ids=lambda one: getattr(one, "__name__", one))
def test_a_loop_that_fails_is_logged_and_begins_again(
    one_client: Client,
    one_server: AnyServer,
    kind: Any,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = Broken(kind, name, monkeypatch)
    worker = Worker(client_of("async", one_server), lease=0.6)
    worker.step("work")(lambda: None)
    with at_work(worker):
        until(lambda: broken.calls >= 3, what="the third try")
        broken.fails = False
        view = one_client.insert(flow("a b:a"))
        until_ended(one_client, view.id)
    assert one_client.get(view.id).state == "completed"
    told = [one for one in caplog.records if one.exc_info and one.exc_info[0] is ZeroDivisionError]
    assert told
    assert all(one.levelno == logging.ERROR for one in told)


def test_an_error_that_nobody_expected_loses_no_outcome(
    one_client: Client, one_server: AnyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes in the middle of a round trip, whose outcomes then travel one by one."""
    worker = Worker(client_of("async", one_server))
    worker.step("work")(lambda: None)
    failed: list[str] = []
    run = AsyncClient._run

    async def once(self: AsyncClient, op: Any) -> Any:
        if op.__name__ == "exchange" and op.gi_frame.f_locals["items"] and not failed:
            failed.append(op.__name__)
            raise AttributeError("of a library's own")
        return await run(self, op)

    monkeypatch.setattr(AsyncClient, "_run", once)
    view = one_client.insert(flow("a b c"))
    with at_work(worker):
        until_ended(one_client, view.id)
        until(lambda: not worker.health.unreported, what="all reports")
    assert failed == ["exchange"]
    assert [step.attempt for step in one_client.steps(view.id)] == [1, 1, 1]


def test_a_reconciler_that_fails_ends_no_worker(
    one_client: Client,
    one_server: AnyServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from rwf import Reconciler

    served: list[int] = []
    serve = Reconciler.serve

    async def failing(self: Reconciler) -> None:
        served.append(1)
        if len(served) == 1:
            raise ZeroDivisionError
        await serve(self)

    monkeypatch.setattr(Reconciler, "serve", failing)
    worker = Worker(client_of("async", one_server))
    worker.step("work")(lambda: None)
    with at_work(worker):
        until(lambda: len(served) == 2, what="another reconciler")
        view = one_client.insert(flow("a"))
        until_ended(one_client, view.id)
    assert any("the reconciler has stopped" in one.getMessage() for one in caplog.records)


def test_health_tells_of_a_call_that_failed(
    one_client: Client, one_server: AnyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example, for want of a free connection."""
    worker = Worker(client_of("async", one_server), reconcile=False)
    worker.step("work")(lambda: None)
    with at_work(worker):
        until(lambda: worker._runner is not None, what="its start")
        run = AsyncClient._run

        async def refused(self: AsyncClient, op: Any) -> Any:
            op.close()
            raise StoreUnavailable("no free connection")

        monkeypatch.setattr(AsyncClient, "_run", refused)
        until(lambda: worker.health.error == "no free connection", what="its health")
        monkeypatch.setattr(AsyncClient, "_run", run)
        view = one_client.insert(flow("a"))
        until_ended(one_client, view.id)
        until(lambda: worker.health.error is None, what="its health")


def test_health_tells_that_hints_are_heard_again(
    one_server: AnyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, heard, calls = (
        Worker(client_of("async", one_server), reconcile=False),
        Runtime.hints,
        [],
    )

    async def refused_once(self: Runtime) -> Any:
        calls.append(self)
        if len(calls) == 1:
            raise StoreUnavailable("no hints")
        async for hint in heard(self):
            yield hint

    monkeypatch.setattr(Runtime, "hints", refused_once)
    with at_work(worker):
        until(lambda: worker.health.error == "no hints", what="its health")
        until(lambda: worker.health.error is None, what="its health")


@CLIENTS
@pytest.mark.parametrize("given", ["url", "redis"])
def test_a_worker_does_with_one_connection(
    one_client: Client, one_server: AnyServer, kind: str, given: str
) -> None:
    async def work() -> None:
        made: Any = Client if kind == "sync" else AsyncClient
        library: Any = redis if kind == "sync" else redis.asyncio
        pool = library.BlockingConnectionPool.from_url(one_server.url, max_connections=1)
        own = library.Redis.from_pool(pool)
        client = (
            made.from_redis(own)
            if given == "redis"
            else made.from_url(one_server.url, max_connections=1)
        )
        worker = Worker(client, lease=0.6, concurrency=4)
        worker.step("work")(lambda: asyncio.sleep(1))  # past the lease, which is extended
        serving = asyncio.create_task(worker.serve())
        await asyncio.to_thread(until_ended, one_client, view.id)
        worker.stop()
        await serving
        for one in (client.close, own.close if kind == "sync" else own.aclose):
            closing = one()
            if closing is not None:
                await closing

    view = one_client.insert(flow("a b c d e:a,b,c,d", max_attempts=1))
    asyncio.run(work())
    assert one_client.get(view.id).state == "completed"
