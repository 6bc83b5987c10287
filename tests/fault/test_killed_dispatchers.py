"""Workers and dispatchers are killed over and over: each end is one callback, delivered."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections import Counter
from multiprocessing.process import BaseProcess

import pytest
import redis

from rwf import Client, Worker
from rwf.model.views import Callback
from tests.support.flows import flow, raw
from tests.support.outbox import stat
from tests.support.servers import Server
from tests.support.waiting import until

WORKFLOWS = 60
KILLS = 25
LEASE = 0.5
RECEIVED = "received"
"""A list beside rwf's keys in which the receiver notes the callbacks that it gets."""


def work(url: str) -> None:
    """A worker process, until it is killed."""
    worker = Worker(Client.from_url(url), queues=["default"], concurrency=4, lease=LEASE)

    @worker.step("work")
    def handler() -> None:
        time.sleep(random.random() / 50)

    worker.run()


def dispatch(url: str) -> None:
    """A dispatcher process, until it is killed: at times between a delivery and its settlement."""
    notes = redis.Redis.from_url(url)

    def receive(envelope: Callback) -> None:
        notes.rpush(RECEIVED, envelope.callback_id)
        time.sleep(random.random() / 50)
        if random.random() < 0.1:
            raise OSError

    with Client.from_url(url) as client:
        while True:
            client.dispatch_callbacks(receive, lease=LEASE)
            time.sleep(0.01)


def started(target: object, url: str) -> BaseProcess:
    process = multiprocessing.get_context("spawn").Process(target=target, args=(url,), daemon=True)  # type: ignore[arg-type]
    process.start()
    return process


@pytest.mark.long
def test_one_callback_an_end_under_killed_workers_and_dispatchers(
    one_client: Client, one_server: Server
) -> None:
    ids = [one_client.insert(flow("a b:a c:a", max_attempts=100)).id for _ in range(WORKFLOWS)]
    kinds = [work, work, dispatch, dispatch]
    processes = [started(kind, one_server.url) for kind in kinds]
    try:
        until(lambda: raw(one_client).llen(RECEIVED), timeout=60, what="the first delivery")
        for _ in range(KILLS):
            number = random.randrange(len(kinds))
            processes[number].kill()
            processes[number].join()
            processes[number] = started(kinds[number], one_server.url)
            time.sleep(random.random() / 5)
        delivered = "cb|workflow.terminal|delivered"
        until(lambda: stat(one_client, delivered) == WORKFLOWS, timeout=120, what="all deliveries")
    finally:
        for process in processes:
            process.kill()
            process.join()
    received = Counter(one.decode() for one in raw(one_client).lrange(RECEIVED, 0, -1))
    raw(one_client).delete(RECEIVED)
    assert set(received) == {f"{workflow_id}/1" for workflow_id in ids}
    for workflow_id in ids:
        [callback] = one_client.callbacks(workflow_id)
        assert (callback.status, callback.data["state"]) == ("delivered", "completed")
    assert stat(one_client, "wt|completed|completed|completed|2") == WORKFLOWS
    assert stat(one_client, "gc|delivered") == WORKFLOWS
