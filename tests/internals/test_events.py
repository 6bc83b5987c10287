"""Events: hints on one channel a partition, for both clients, that survive a lost connection."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import pytest

from rwf import AsyncClient, Client, Workflow, internals
from rwf.model.views import Event
from tests.conftest import connect
from tests.support.proxy import Proxy
from tests.support.servers import AnyServer, Server
from tests.support.waiting import until
from tests.support.workers import CLIENTS


def two_steps() -> Workflow:
    return Workflow("w").add("a", worker="work").add("b", worker="work", queue="q", deps=["a"])


def run_one(client: Client) -> str:
    workflow_id = client.insert(two_steps()).id
    client.complete_step(workflow_id, "a")
    client.complete_step(workflow_id, "b")
    return workflow_id


def expected(workflow_id: str) -> list[Event]:
    rows = (("step_available", ("default",)), ("step_available", ("q",)), ("workflow_terminal", ()))
    return [Event(event=kind, workflow_id=workflow_id, queues=queues) for kind, queues in rows]


@contextmanager
def listening(server: AnyServer, found: list[Event]) -> Iterator[None]:
    """Collects the hints of a client of its own, until a hint tells it to stop."""

    def loop(client: Client) -> None:
        for event in client.events():
            if event.workflow_id == "stop":
                return
            found.append(event)

    with connect(server) as client:
        client.list()
        thread = threading.Thread(target=loop, args=(client,))
        thread.start()
        try:
            yield
        finally:
            redis: Any = server.client()
            publish = redis.spublish if server.kind == "cluster" else redis.publish
            text = '{"v":1,"event":"x","workflow_id":"stop","queues":[]}'
            until(
                lambda: publish("rwf:{0}:events", text) is not None and not thread.is_alive(),
                what="the listener's end",
            )


@contextmanager
def heard_by(kind: str, url: str, found: list[Event]) -> Iterator[None]:
    """Collects the hints that a client of this kind gets there, until the block ends."""
    ended = threading.Event()

    def listen() -> None:
        with Client.from_url(url) as client:
            for event in internals.hints(client):
                if ended.is_set():
                    return
                found.extend([event] if event else [])

    async def listen_on_asyncio() -> None:
        async with (
            AsyncClient.from_url(url) as client,
            aclosing(internals.hints_async(client)) as heard,
        ):
            async for event in heard:
                if ended.is_set():
                    return
                found.extend([event] if event else [])

    faults: list[BaseException] = []

    def run() -> None:
        try:
            listen() if kind == "sync" else asyncio.run(listen_on_asyncio())
        except BaseException as fault:
            faults.append(fault)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(20)
        assert not thread.is_alive()
        assert faults == []


def test_a_workflow_tells_of_its_steps_and_its_end(client: Client, server: AnyServer) -> None:
    found: list[Event] = []
    with listening(server, found):
        # Hints from before the subscription are lost, as hints may be.
        until(lambda: run_one(client) and len(found) >= 3, what="the first hints")
        workflow_id = run_one(client)
        until(lambda: len([e for e in found if e.workflow_id == workflow_id]) == 3, what="hints")
        assert [event for event in found if event.workflow_id == workflow_id] == expected(
            workflow_id
        )


def test_asyncio_hears_the_same(client: Client, server: AnyServer) -> None:
    async def hear() -> list[Event]:
        partitions = 16 if server.kind == "cluster" else None
        async with AsyncClient.from_url(server.url, partitions=partitions) as listener:
            found: list[Event] = []
            stream = listener.events()
            async with asyncio.timeout(20):
                asking = asyncio.ensure_future(anext(stream))
                while not asking.done():
                    await asyncio.to_thread(run_one, client)
                found.append(await asking)
                workflow_id = await asyncio.to_thread(run_one, client)
                while len([e for e in found if e.workflow_id == workflow_id]) < 3:
                    found.append(await anext(stream))
            await stream.aclose()
            return [event for event in found if event.workflow_id == workflow_id]

    heard = asyncio.run(hear())
    assert heard == expected(heard[0].workflow_id)


def test_a_listener_outlives_its_connection(one_client: Client, one_server: AnyServer) -> None:
    found: list[Event] = []
    redis: Any = one_server.client()
    with listening(one_server, found):
        until(lambda: run_one(one_client) and len(found) >= 3, what="the first hints")
        before = len(found)
        redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        until(lambda: run_one(one_client) and len(found) >= before + 3, what="hints again")


# --- no fault with hints ends a client


@CLIENTS
def test_a_connection_whose_peer_has_vanished_is_found_out_and_made_anew(
    kind: str, one_client: Client, one_server: AnyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing arrives on it, neither an end nor a reply. It is pinged."""
    monkeypatch.setattr("rwf.transport.events._PING_EVERY", 0.5)
    assert isinstance(one_server, Server)
    found: list[Event] = []
    with Proxy(one_server.port) as proxy, heard_by(kind, proxy.url, found):
        until(lambda: run_one(one_client) and found, what="the first hints")
        proxy.forget()
        before = len(found)
        until(lambda: run_one(one_client) and len(found) > before, timeout=60, what="hints again")


@CLIENTS
def test_a_quiet_connection_is_kept(
    kind: str, one_client: Client, one_server: AnyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rwf.transport.events._PING_EVERY", 0.1)
    assert isinstance(one_server, Server)
    found: list[Event] = []
    with Proxy(one_server.port) as proxy, heard_by(kind, proxy.url, found):
        until(lambda: run_one(one_client) and found, what="the first hints")
        connections = proxy.connections
        until(lambda: proxy.sent(b"PING") > 5, what="some pings")
        assert proxy.connections == connections


@CLIENTS
def test_rights_to_the_channels_that_are_taken_away_end_nobody(
    kind: str,
    one_client: Client,
    one_server: AnyServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("rwf.transport.events._PAUSE_REFUSED", 0.1)
    redis: Any = one_server.client()
    redis.acl_setuser("deaf", enabled=True, nopass=True, keys=["*"], commands=["+@all"])
    redis.execute_command("ACL", "SETUSER", "deaf", "allchannels")
    try:
        found: list[Event] = []
        url = one_server.url.replace("redis://", "redis://deaf:x@")
        with heard_by(kind, url, found), caplog.at_level(logging.WARNING, "rwf"):
            until(lambda: run_one(one_client) and found, what="the first hints")
            redis.execute_command("ACL", "SETUSER", "deaf", "resetchannels")
            until(lambda: "no hints" in caplog.text, what="the warning")
            with Client.from_url(url) as deaf:
                assert deaf.get(run_one(deaf)).state == "completed"
            redis.execute_command("ACL", "SETUSER", "deaf", "allchannels")
            before = len(found)
            until(lambda: run_one(one_client) and len(found) > before, what="hints again")
        assert caplog.text.count("no hints") == 1
    finally:
        redis.acl_deluser("deaf")


def test_closing_a_client_ends_its_events(one_server: AnyServer) -> None:
    client = connect(one_server)
    thread = threading.Thread(target=lambda: list(client.events()), daemon=True)
    thread.start()
    until(lambda: is_heard(one_server), what="the subscription")
    client.close()
    until(lambda: not thread.is_alive() and not is_heard(one_server), what="the end")


def test_closing_an_async_client_ends_its_events(one_server: AnyServer) -> None:
    async def run() -> list[Event]:
        client = AsyncClient.from_url(one_server.url)

        async def listen() -> list[Event]:
            return [event async for event in client.events()]

        task = asyncio.create_task(listen())
        await asyncio.to_thread(until, lambda: is_heard(one_server), what="the subscription")
        await client.close()
        return await asyncio.wait_for(task, 30)

    assert asyncio.run(run()) == []


def is_heard(server: AnyServer) -> bool:
    redis: Any = server.client()
    return bool(redis.pubsub_numsub("rwf:{0}:events")[0][1])
