"""Waiting for the end of a workflow (contract §6)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
import redis

from rwf import AsyncClient, Client, NotFound
from tests.support.commandline import NO_ID
from tests.support.flows import flow, raw, refused
from tests.support.servers import AnyServer
from tests.support.wait_cases import LONG, later, subscribed
from tests.support.waiting import until


@contextmanager
def no_hints(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hints are lost: none ever comes."""
    with monkeypatch.context() as patched:
        patched.setattr("rwf.transport.events.hint_in", lambda message: None)
        yield


def test_what_has_ended_is_returned_at_once(client: Client) -> None:
    for status in ("completed", "failed", "cancelled"):
        view = client.insert(flow("a"))
        client.complete_step(view.id, "a", status)
        assert client.wait(view.id) == client.get(view.id)
        assert client.wait(view.id, timeout=0).state == status
        assert client.wait(view.id, timeout=10**400).state == status


def test_a_wait_returns_when_the_workflow_ends(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    client.complete_step(view.id, "a")
    with later(lambda: client.complete_step(view.id, "b")):
        done = client.wait(view.id, timeout=LONG)
    assert (done.state, done.terminal_cause) == ("completed", "completed")


def test_a_wait_whose_time_has_passed(client: Client) -> None:
    view = client.insert(flow("a"))
    for timeout in (0, 0.2, timedelta(milliseconds=200)):
        began = time.monotonic()
        with pytest.raises(TimeoutError, match=view.id):
            client.wait(view.id, timeout=timeout)
        assert time.monotonic() - began < LONG / 2
    assert client.get(view.id).state == "available"


def test_a_wait_works_without_hints(one_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    view = one_client.insert(flow("a"))
    with no_hints(monkeypatch), later(lambda: one_client.complete_step(view.id, "a")):
        assert one_client.wait(view.id, timeout=LONG).state == "completed"


def test_many_waits_share_one_listener_and_hold_no_connections(
    one_client: Client, one_server: AnyServer
) -> None:
    ids = [view.id for view in one_client.insert_many([flow("a")] * 60)]
    # At most one connection for hints, and one for all calls of the waits.
    pool = redis.BlockingConnectionPool.from_url(one_server.url, max_connections=2, timeout=LONG)
    with redis.Redis(connection_pool=pool) as given, Client.from_redis(given) as other:
        done: list[str] = []
        threads = [
            threading.Thread(target=lambda id_=id_: done.append(other.wait(id_, timeout=LONG).id))
            for id_ in ids
        ]
        for thread in threads:
            thread.start()
        until(lambda: subscribed(one_client), what="the subscription")
        until(lambda: len(other._waits._waiting) == 60, what="all waits")
        listening = [one for one in threading.enumerate() if one.name == "rwf-waits"]
        assert len(listening) == 1
        [(_, subscriptions)] = raw(one_client).pubsub_numsub("rwf:{0}:events")
        assert subscriptions == 1
        for id_ in ids:
            other.complete_step(id_, "a")
        for thread in threads:
            thread.join(LONG)
        assert sorted(done) == sorted(ids)
        until(lambda: not subscribed(one_client), what="the end of the listening")


def test_a_workflow_that_is_revived_is_waited_for_again(client: Client) -> None:
    view = client.insert(flow("a"))
    client.complete_step(view.id, "a", "failed")
    client.recover_step(view.id, "a", "retry")
    with pytest.raises(TimeoutError):
        client.wait(view.id, timeout=0.1)
    with later(lambda: client.complete_step(view.id, "a")):
        assert client.wait(view.id, timeout=LONG).state == "completed"


def test_of_what_is_not_there_or_leaves(one_client: Client) -> None:
    with pytest.raises(NotFound):
        one_client.wait(NO_ID)
    view = one_client.insert(flow("a"), retention=timedelta(0))

    def end() -> None:
        one_client.complete_step(view.id, "a")
        while one_client.dispatch_callbacks(lambda _: None).delivered:
            pass
        one_client.prune()

    # It may have left before the wait looks again.
    with later(end), suppress(NotFound):
        assert one_client.wait(view.id, timeout=LONG).state == "completed"


@pytest.mark.parametrize("timeout", [-1, -0.1, "5", True, float("nan"), timedelta(-1), [1]])
def test_what_is_no_time(one_client: Client, timeout: Any) -> None:
    view = one_client.insert(flow("a"))
    one_client.complete_step(view.id, "a")
    with refused("invalid_argument"):
        one_client.wait(view.id, timeout=timeout)


# --- on asyncio


def test_tasks_wait_side_by_side(server: AnyServer) -> None:
    async def main() -> list[str]:
        partitions = 16 if server.kind == "cluster" else None
        async with AsyncClient.from_url(server.url, partitions=partitions) as client:
            views = await client.insert_many([flow("a")] * 30)
            waits = [asyncio.create_task(client.wait(view.id, timeout=LONG)) for view in views]
            await asyncio.sleep(0.3)
            for view in views:
                await client.complete_step(view.id, "a")
            found = [(await one).state.value for one in waits]
            with pytest.raises(TimeoutError):
                await client.wait((await client.insert(flow("a"))).id, timeout=0.1)
            return found

    assert asyncio.run(main()) == ["completed"] * 30


def test_a_task_that_waits_can_be_cancelled(one_server: AnyServer) -> None:
    async def main() -> None:
        async with AsyncClient.from_url(one_server.url) as client:
            view = await client.insert(flow("a"))
            task = asyncio.create_task(client.wait(view.id))
            await asyncio.sleep(0.3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert client._waits._waiting == {}
            await client.complete_step(view.id, "a")
            assert (await client.wait(view.id)).state == "completed"

    asyncio.run(main())


def test_on_a_fake_server(fake_client: Client) -> None:
    view = fake_client.insert(flow("a"))
    with later(lambda: fake_client.complete_step(view.id, "a")):
        assert fake_client.wait(view.id, timeout=LONG).state == "completed"
