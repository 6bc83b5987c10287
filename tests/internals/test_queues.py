"""Very many queues are read in pages, and those that nobody asks for are forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from rwf import Client
from rwf.model.limits import SERVED_KEPT, SERVED_KEPT_MS
from rwf.ops.queues import queues
from rwf.protocol.functions.statistics import ListQueues
from rwf.protocol.requests import Together
from tests.support.flows import flow, one_call, partition_key, raw

MANY = 1500


def replies(client: Client) -> list[Any]:
    """The replies that it takes to list the queues of one partition."""
    found: list[Any] = []
    op, reply = queues(client._ctx), None
    while True:
        try:
            call = op.send(reply)
        except StopIteration:
            return found
        reply = client._run(one_call(call))
        if isinstance(call, Together):
            found += reply


def now_ms(client: Client) -> int:
    seconds, _ = raw(client).time()
    return int(seconds) * 1000


def test_very_many_queues_are_read_in_pages(client: Client, broken_on_purpose: None) -> None:
    view = client.insert(flow("a", queue="q0003"))
    ready, served = (partition_key(view.id, name) for name in ("ready", "served"))
    order = "0" * 10 + "0" * 13 + "0001"
    entries = [f"q{number:04}:1000|{order}|{view.id}|s" for number in range(MANY)]
    raw(client).zadd(ready, dict.fromkeys(entries, 0))
    raw(client).zadd(served, {f"q{number:04}": 1 for number in range(MANY // 2, 2 * MANY)})
    found = client.queues()
    assert [one.name for one in found] == [f"q{number:04}" for number in range(2 * MANY)]
    assert [one.available for one in found[:5]] == [1, 1, 1, 2, 1]
    assert [one.available for one in found[-2:]] == [0, 0]
    assert found[0].asked_at is None
    assert found[-1].asked_at is not None
    told = [len(ListQueues.decoded(reply).queues) for reply in replies(client)]
    assert sum(told) >= 2 * MANY
    assert max(told) <= 500


def test_queues_that_nobody_asks_for_are_forgotten(one_client: Client) -> None:
    one_client.list()
    long_ago = now_ms(one_client) - SERVED_KEPT_MS - 60_000
    raw(one_client).zadd("rwf:{0}:served", {f"old{number}": long_ago for number in range(500)})
    recently = now_ms(one_client) - SERVED_KEPT_MS + 3_600_000
    raw(one_client).zadd("rwf:{0}:served", {"kept": recently})
    for number in range(2):
        one_client.claim([f"new{number}"], worker_id="w")
    assert {one.name for one in one_client.queues()} == {"kept", "new0", "new1"}


def test_of_too_many_queues_the_longest_unasked_are_forgotten(one_client: Client) -> None:
    one_client.list()
    now = now_ms(one_client)
    names = {f"q{number:05}": now - number for number in range(SERVED_KEPT + 450)}
    raw(one_client).zadd("rwf:{0}:served", names)
    for number in range(3):
        one_client.claim([f"new{number}"], worker_id="w")
    assert raw(one_client).zcard("rwf:{0}:served") <= SERVED_KEPT + 3
    assert raw(one_client).zscore("rwf:{0}:served", "q00000") is not None
    assert raw(one_client).zscore("rwf:{0}:served", f"q{SERVED_KEPT + 440}") is None


@pytest.mark.parametrize("ahead", [3_600_000, -3_600_000])
def test_a_queue_is_served_by_who_has_asked_lately_by_any_clock(
    one_client: Client, ahead: int
) -> None:
    """A time that lies an hour ahead was noted before the clock was set back."""
    one_client.list()
    raw(one_client).zadd("rwf:{0}:served", {"default": now_ms(one_client) + ahead})
    assert [one.served for one in one_client.queues()] == [False]
    one_client.claim(["default"], worker_id="w")
    assert [one.served for one in one_client.queues()] == [True]
