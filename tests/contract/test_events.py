"""Events: hints on one channel a partition, for both clients, that survive a lost connection."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rwf import AsyncClient, Client, Workflow
from rwf.model.views import Event
from tests.conftest import connect
from tests.servers import AnyServer
from tests.waiting import until


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
    """Collects what a client of its own hears, until a hint tells it to stop."""

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


def test_a_workflow_tells_of_its_steps_and_its_end(client: Client, server: AnyServer) -> None:
    found: list[Event] = []
    with listening(server, found):
        # What was published before the subscription is lost, as hints may be.
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
