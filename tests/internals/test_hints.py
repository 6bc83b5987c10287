"""Which hints are sent, and how many (contract §9); ``test_events`` tests who gets them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from redis import Redis

from rwf import Client
from rwf.model.views import Event
from tests.conftest import connect
from tests.support.flows import fan_out, flow, partition_key
from tests.support.servers import AnyServer
from tests.support.waiting import until


class Listener:
    """Collects the events of ``client.events()``, on a thread of its own."""

    def __init__(self, server: AnyServer) -> None:
        self.events: list[Event] = []
        self._server = server
        self._done = threading.Event()
        self._client = connect(server)
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        for event in self._client.events():
            if event.workflow_id == "end":
                return
            self.events.append(event)

    def of(self, workflow_id: str) -> list[tuple[str, tuple[str, ...]]]:
        return [
            (event.event, event.queues) for event in self.events if event.workflow_id == workflow_id
        ]

    def stop(self) -> None:
        end = json.dumps({"v": 1, "event": "end", "workflow_id": "end", "queues": []})
        until(lambda: publish(self._server, "rwf:{0}:events", end), what="the listener")
        self._thread.join()
        self._client.close()


def publish(server: AnyServer, channel: str, message: str) -> int:
    redis: Any = server.client()
    return int(redis.publish(channel, message))


@pytest.fixture
def listener(one_server: AnyServer, one_client: Client) -> Iterator[Listener]:
    server = one_server
    one_client.list()
    found = Listener(server)
    try:
        until(lambda: publish(server, "rwf:{0}:events", "{}"), what="a listener")
        yield found
    finally:
        found.stop()


def test_what_is_told(one_client: Client, listener: Listener) -> None:
    wf = flow("a", queue="billing")
    wf.add("b", worker="w", deps=["a"])
    view = one_client.insert(wf)
    one_client.complete_step(view.id, "a")
    one_client.complete_step(view.id, "b", "failed")
    until(lambda: len(listener.of(view.id)) >= 3, what="three hints")
    assert listener.of(view.id) == [
        ("step_available", ("billing",)),
        ("step_available", ("default",)),
        ("workflow_terminal", ()),
    ]


def test_a_queue_is_told_once_of_all_its_priorities(one_client: Client, listener: Listener) -> None:
    wf = flow("a")
    for priority in range(3):
        wf.add(f"b{priority}", worker="w", queue="q", priority=priority, deps=["a"])
    view = one_client.insert(wf)
    one_client.complete_step(view.id, "a")
    until(lambda: len(listener.of(view.id)) >= 2, what="two hints")
    assert listener.of(view.id)[1] == ("step_available", ("q",))


def test_a_queue_that_was_not_empty_is_not_told_again(
    one_client: Client, listener: Listener
) -> None:
    ids = [one_client.insert(flow("a")).id for _ in range(3)]
    last = one_client.insert(flow("z"))
    one_client.complete_step(last.id, "z")
    until(lambda: ("workflow_terminal", ()) in listener.of(last.id), what="the last hint")
    told = [event for event in listener.events if event.event == "step_available"]
    assert told
    by_partition = {id_.partition("-")[0] for id_ in (*ids, last.id)}
    assert len(told) == len(by_partition)


def test_a_queue_of_two_priorities_is_named_once(one_client: Client, listener: Listener) -> None:
    view = one_client.insert(flow("a").add("b", worker="w", priority=5))
    until(lambda: listener.of(view.id), what="a hint")
    assert listener.of(view.id) == [("step_available", ("default",))]


def test_a_wide_release_is_one_hint_a_call(one_client: Client, listener: Listener) -> None:
    view = one_client.insert(fan_out(1200))
    (root,) = one_client.claim(["default"], worker_id="w")  # which leaves the queue empty
    one_client.complete(root)
    last = one_client.insert(flow("z"))
    one_client.complete_step(last.id, "z")
    until(lambda: ("workflow_terminal", ()) in listener.of(last.id), what="the last hint")
    # The hint of the insert, and one of the release, however many calls that takes.
    assert listener.of(view.id) == [("step_available", ("default",))] * 2


def test_after_a_hint_that_many_have_heard_others_are_not_told_for_a_while(
    one_client: Client, one_server: AnyServer
) -> None:
    one_client.list()
    heard: list[Any] = []
    with ExitStack() as open_:
        redis: Any = open_.enter_context(Redis.from_url(one_server.url, max_connections=200))
        for _ in range(101):
            heard.append(open_.enter_context(redis.pubsub(ignore_subscribe_messages=True)))
            heard[-1].subscribe("rwf:{0}:events")
        until(lambda: publish(one_server, "rwf:{0}:events", "first") == 101, what="all")
        one_client.insert(flow("a", queue="told"))
        quiet_until, now = int(redis.hget("rwf:{0}:stats", "hq")), int(redis.time()[0]) * 1000
        assert 0 < quiet_until - now < 2_000 or quiet_until < now
        redis.hset("rwf:{0}:stats", "hq", now + 9_000)
        one_client.insert(flow("a", queue="untold"))
        redis.hset("rwf:{0}:stats", "hq", now - 1)
        one_client.insert(flow("a", queue="told-again"))
        redis.hset("rwf:{0}:stats", "hq", now + 3_600_000)  # of a clock that was set back since
        one_client.insert(flow("a", queue="told-after-all"))
        messages: list[bytes] = []

        def told_of_the_last() -> bool:
            if message := heard[0].get_message(timeout=0.1):
                messages.append(message["data"])
            return b"after-all" in messages[-1] if messages else False

        until(told_of_the_last, what="the last hint")
    queues = [json.loads(message)["queues"] for message in messages if message[:1] == b"{"]
    assert queues == [["told"], ["told-again"], ["told-after-all"]]


def test_messages_of_no_sense_are_skipped(
    one_client: Client, one_server: AnyServer, listener: Listener
) -> None:
    view = one_client.insert(flow("a"))
    channel = partition_key(view.id, "events")
    for message in (
        "",
        "x",
        "5",
        "null",
        "[]",
        '"x"',
        "{}",
        '{"v":2}',
        '{"v":1}',
        '{"v":1,"event":1}',
    ):
        publish(one_server, channel, message)
    one_client.complete_step(view.id, "a")
    until(lambda: ("workflow_terminal", ()) in listener.of(view.id), what="the hint behind them")


def test_the_message_as_it_is_sent(one_client: Client, one_server: AnyServer) -> None:
    redis: Any = one_server.client()
    with redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe("rwf:{0}:events")
        view = one_client.insert(flow("a"))
        message = until(pubsub.get_message, what="a message")
    assert json.loads(message["data"]) == {
        "v": 1,
        "event": "step_available",
        "workflow_id": view.id,
        "queues": ["default"],
    }
