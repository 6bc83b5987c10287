"""White-box cases beside those of ``contract/test_worker_hanging.py``."""

from __future__ import annotations

import asyncio
import threading

import pytest

from rwf import AsyncClient, Client, StepContext, Worker
from tests.support.flows import flow
from tests.support.servers import ALWAYS, Server
from tests.support.waiting import until
from tests.support.workers import CLIENTS, at_work, client_of, until_ended


@CLIENTS
@pytest.mark.parametrize("plain", [True, False])
def test_a_handlers_own_heartbeat_waits_for_a_server_that_is_away(
    kind: str, plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rwf.transport.patience._PAUSES", (0.01,))
    with (
        Server.start("valkey91", aof=True, extra=ALWAYS) as server,
        Client.from_url(server.url) as client,
    ):
        worker = Worker(client_of(kind, server), lease=20)
        started, away, beaten = threading.Event(), threading.Event(), threading.Event()
        answers: list[bool] = []

        def work(ctx: StepContext) -> None:
            started.set()
            away.wait(10)
            answers.append(ctx.heartbeat())
            beaten.set()

        async def awork(ctx: StepContext) -> None:
            started.set()
            while not away.is_set():  # noqa: ASYNC110 - another thread sets it
                await asyncio.sleep(0.01)
            answers.append(await ctx.heartbeat())
            beaten.set()

        worker.step("work")(work if plain else awork)
        view = client.insert(flow("a", max_attempts=1))
        with at_work(worker):
            assert started.wait(10)
            server.kill()
            away.set()
            assert not beaten.wait(1)
            server.restart()
            until_ended(client, view.id)
        assert answers == [True]
        assert client.get(view.id).state == "completed"


def test_a_handlers_own_heartbeat_ends_with_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rwf.transport.patience._PAUSES", (0.01,))
    with Server.start("valkey91") as server, Client.from_url(server.url) as client:
        worker = Worker(AsyncClient.from_url(server.url), lease=1, grace=0)
        started, away = threading.Event(), threading.Event()
        answers: list[bool] = []

        @worker.step("work")
        def work(ctx: StepContext) -> None:
            started.set()
            away.wait(10)
            answers.append(ctx.heartbeat())

        client.insert(flow("a"))
        with at_work(worker):
            assert started.wait(10)
            server.kill()
            away.set()
            until(lambda: answers, what="the answer")
        assert answers == [False]
