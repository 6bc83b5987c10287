"""White-box cases beside those of ``contract/test_worker_life.py``."""

from __future__ import annotations

import logging
import time

import pytest

from rwf import AsyncClient, Client, Worker
from tests.support import invariants
from tests.support.flows import chain, flow
from tests.support.servers import ALWAYS, AnyServer, Server
from tests.support.waiting import until
from tests.support.worker_life_cases import Gate
from tests.support.workers import at_work, client_of, until_ended


def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the worker get no more hints."""
    monkeypatch.setattr("rwf.transport.events.hint_in", lambda message: None)


@pytest.mark.parametrize(("partitions", "longest"), [(1, 4.0), (64, 10.0)])
def test_polling_finds_what_no_hint_told(
    one_server: AnyServer, partitions: int, longest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf(monkeypatch)
    with Client.from_url(one_server.url, partitions=partitions) as client:
        client.list()
        worker = Worker(AsyncClient.from_url(one_server.url))
        ran: list[float] = []
        worker.step("work")(lambda: ran.append(time.monotonic()))
        with at_work(worker):
            until(lambda: client.queues(), what="the first look")
            started = time.monotonic()
            for _ in range(20):
                client.insert(flow("a"))
            until(lambda: len(ran) == 20, timeout=60, what="all steps")
        assert max(ran) - started < longest


def test_a_chain_needs_no_polling(
    one_client: Client, one_server: AnyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf(monkeypatch)
    worker = Worker(client_of("async", one_server))
    worker.step("work")(lambda: None)
    view = one_client.insert(chain(50))
    with at_work(worker):
        until_ended(one_client, view.id)
    found = one_client.get(view.id)
    assert found.started_at is not None
    assert found.finished_at is not None
    # With polls alone, one a second, it would take most of a minute.
    assert (found.finished_at - found.started_at).total_seconds() < 25


def test_a_server_that_restarts(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rwf.transport.patience._PAUSES", (0.01,))
    with (
        Server.start("valkey91", aof=True, extra=ALWAYS) as server,
        Client.from_url(server.url) as client,
    ):
        worker, gate = Worker(AsyncClient.from_url(server.url)), Gate()
        worker.step("work")(gate.coroutine)
        view = client.insert(flow("a b:a"))
        with caplog.at_level(logging.WARNING, logger="rwf.worker"), at_work(worker):
            until(lambda: gate.entered, what="the step")
            server.kill()
            gate.open.set()
            until(lambda: worker.health.error is not None, what="the loss")
            assert worker.health.unreported == 1
            server.restart()
            until_ended(client, view.id)
            until(lambda: worker.health.error is None, what="the server's return")
        assert [step.attempt for step in client.steps(view.id)] == [1, 1]
        assert invariants.check(client) == []
    told = [one.getMessage() for one in caplog.records if one.name == "rwf.worker"]
    assert sum("is unavailable" in line for line in told) == 1
    assert sum("is back" in line for line in told) == 1
