"""White-box cases beside those of ``contract/test_reconciler.py``."""

from __future__ import annotations

import asyncio
import logging
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from rwf import AsyncClient, Client, Reconciler
from rwf.model.views import Callback
from rwf.ops.base import OpContext
from rwf.protocol.requests import Op
from rwf.repair import daemons
from tests.conftest import connect
from tests.support.daemons import serving, ticked
from tests.support.flows import (
    flow,
    partition_key,
    raw,
    states,
    stored,
)
from tests.support.outbox import ended, stat
from tests.support.reconciler_cases import SHORT
from tests.support.servers import AnyServer, Server
from tests.support.waiting import until


def test_a_tick_asks_all_partitions_at_once(
    one_server: AnyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trips: list[int] = []
    with Client.from_url(one_server.url, partitions=64) as client:
        client.list()
        perform = client._store._perform

        def counted(action: Any) -> Any:
            trips.append(len(action.sends))
            return perform(action)

        monkeypatch.setattr(client._store, "_perform", counted)
        ticked(client)
    assert trips == [64]


def test_it_carries_out_restores_and_tells_of_itself(client: Client) -> None:
    late = client.insert(flow("a b:a"))
    client.complete_step(late.id, "a", "retryable", retry_in=0.2)
    lost = client.insert(flow("a"))
    raw(client).delete(partition_key(lost.id, "ready"))
    with serving(client, **SHORT) as daemon:
        until(lambda: states(client, late.id) == "a=available b=pending", what="the retry")
        until(lambda: raw(client).zcard(partition_key(lost.id, "ready")), what="the ready entry")
        until(lambda: daemon.sweep_age is not None, what="a whole round")
        assert daemon.partitions == tuple(range(client._ctx.keys.partitions))
        assert daemon.tick_age is not None
        assert daemon.sweep_age is not None
        assert 0 <= daemon.tick_age < 5
        assert 0 <= daemon.sweep_age < 5
    assert raw(client).zcard("rwf:{0}:daemons") == 0


def test_what_fails_each_time_is_told_once(
    one_client: Client, broken_on_purpose: None, caplog: pytest.LogCaptureFixture
) -> None:
    """Sweeps fail here, and ticks do not: so it is not a server that comes and goes."""
    caplog.set_level(logging.WARNING, "rwf")
    one_client.insert(flow("a"))
    raw(one_client).set("rwf:{0}:stats", "no hash")
    calls: list[str] = []
    one_client._session.observers["test"] = lambda function, _: calls.append(function)
    with serving(one_client, **SHORT):
        until(lambda: "has the wrong type" in caplog.text, what="word of it")
        calls.clear()
        until(
            lambda: calls.count("due_timers") > 5 and calls.count("count_gauges") > 2,
            what="more of it",
        )
    assert caplog.text.count("the server is unavailable") == 1
    assert "the server is back" not in caplog.text


def test_it_takes_no_leave_of_a_server_that_is_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that hangs would hold it up for longer than a supervisor waits."""
    leave, left = daemons.leave, 0

    def counted(ctx: OpContext, member: str, lease_ms: int) -> Op[None]:
        nonlocal left
        left += 1
        return leave(ctx, member, lease_ms)

    monkeypatch.setattr(daemons, "leave", counted)
    with Server.start("valkey91") as server, Client.from_url(server.url) as client:
        with serving(client, **SHORT):
            until(lambda: stored(client), what="the daemon")
        assert left == 1
        with serving(client, **SHORT):
            server.kill()
            until(lambda: "the server is unavailable" in caplog.text, what="word of it")
        assert left == 1


def is_available(client: Client, workflow_id: str, step: str) -> bool:
    return client.step(workflow_id, step).state == "available"


def test_five_at_once_change_nothing(client: Client, server: AnyServer) -> None:
    ids = [client.insert(flow("a b:a c:b")).id for _ in range(20)]
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(server)) for _ in range(5)]
        running = [stack.enter_context(serving(one, **SHORT)) for one in clients]
        until(lambda: raw(client).zcard("rwf:{0}:daemons") == 5, what="all of them to have joined")
        for step in "abc":
            for workflow_id in ids:
                client.complete_step(workflow_id, step, "retryable", retry_in=0.05)
            for workflow_id in ids:
                until(partial(is_available, client, workflow_id, step), what="the retry")
                client.complete_step(workflow_id, step)
        every = range(client._ctx.keys.partitions)

        def shared() -> bool:
            return sorted(p for one in running for p in one.partitions) == list(every)

        until(shared, what="each partition to be of one")
    assert {client.get(workflow_id).state for workflow_id in ids} == {"completed"}
    assert stat(client, "wt|completed|completed|completed|2") == 20
    assert stat(client, "sc|completed|completed|2") == 60
    assert sum(stat(client, f"rr|{kind}") for kind in ("ready_entry_missing", "counts_wrong")) == 0


def test_a_coroutine_that_hangs_is_cancelled_at_the_end_of_its_lease(
    one_server: AnyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rwf.reconciler.daemon._CALLBACK_LEASE", 0.2)

    async def handler(envelope: Callback) -> None:
        began.append(envelope.workflow_id)
        await asyncio.Event().wait()

    async def run() -> None:
        async with AsyncClient.from_url(one_server.url) as other:
            daemon = Reconciler(other, callbacks=handler, concurrency=1, **SHORT)
            serving = asyncio.create_task(daemon.serve())
            for _ in range(3000):
                if len(set(began)) == 3:
                    break
                await asyncio.sleep(0.01)
            daemon.stop()
            await serving

    began: list[str] = []
    with Client.from_url(one_server.url) as client:
        for _ in range(3):
            ended(client)
        asyncio.run(run())
        assert len(set(began)) == 3
        assert stat(client, "cb|workflow.terminal|failed") >= 2
