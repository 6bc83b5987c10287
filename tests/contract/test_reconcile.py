"""Contract §1 and §10: derived keys are restored from the records, and health costs no write."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from rwf import Client, NotFound
from tests.conftest import connect
from tests.support import invariants
from tests.support.flows import (
    fan_out,
    flow,
    own_key,
    partition_key,
    raw,
    states,
    stored,
)
from tests.support.reconcile_cases import kinds
from tests.support.servers import AnyServer


def test_a_healthy_workflow_is_left_alone(client: Client) -> None:
    view = client.insert(fan_out(600))
    assert kinds(client, view.id) == []
    client.complete_step(view.id, "root", payload=[1])
    client.complete_step(view.id, "c3", "retryable", retry_in=600)
    client.complete_step(view.id, "c4", "failed")
    before = stored(client)
    report = client.reconcile(view.id)
    assert (report.workflow_id, report.repairs) == (view.id, ())
    assert stored(client) == before


def test_an_ended_workflow_is_left_alone(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    client.complete_step(view.id, "a", "failed")
    before = stored(client)
    assert kinds(client, view.id) == []
    assert stored(client) == before


def _lose_ready(redis: Any, partition: str, _: str) -> None:
    redis.delete(f"{partition}ready")


def _lose_timers(redis: Any, partition: str, _: str) -> None:
    redis.delete(f"{partition}timers")


def _move_timer(redis: Any, partition: str, workflow_id: str) -> None:
    redis.zadd(f"{partition}timers", {f"r|{workflow_id}|late": 1})


def _lose_index(redis: Any, partition: str, _: str) -> None:
    redis.delete(f"{partition}index")


def _lose_all(redis: Any, partition: str, _: str) -> None:
    redis.delete(*(f"{partition}{name}" for name in ("ready", "timers", "index")))


LOSSES: list[tuple[Callable[[Any, str, str], None], set[tuple[str, str | None]]]] = [
    (_lose_ready, {("ready_entry_missing", "open"), ("ready_entry_missing", "high")}),
    (_lose_timers, {("retry_timer_missing", "late")}),
    (_move_timer, {("retry_timer_missing", "late")}),
    (_lose_index, {("index_entry_missing", None)}),
    (
        _lose_all,
        {
            ("ready_entry_missing", "open"),
            ("ready_entry_missing", "high"),
            ("retry_timer_missing", "late"),
            ("index_entry_missing", None),
        },
    ),
]


@pytest.mark.parametrize(("lose", "repaired"), LOSSES)
def test_what_was_lost_is_restored_as_it_was(
    client: Client,
    lose: Callable[[Any, str, str], None],
    repaired: set[tuple[str, str | None]],
) -> None:
    wf = flow("open late done child:open")
    wf.add("high", worker="w", queue="q", priority=5)
    view = client.insert(wf)
    client.complete_step(view.id, "late", "retryable", retry_in=600)
    client.complete_step(view.id, "done")
    partition = partition_key(view.id, "")
    names = [f"{partition}{name}" for name in ("ready", "timers", "index")]
    before = [raw(client).zrange(name, 0, -1, withscores=True) for name in names]
    lose(raw(client), partition, view.id)
    assert invariants.check(client) != []
    assert set(kinds(client, view.id)) == repaired
    assert [raw(client).zrange(name, 0, -1, withscores=True) for name in names] == before
    assert kinds(client, view.id) == []
    counted = raw(client).hgetall(partition_key(view.id, "stats"))
    assert sum(int(n) for name, n in counted.items() if name.startswith(b"rr|")) == len(repaired)


def test_a_lost_listing_of_an_ended_workflow(client: Client) -> None:
    view = client.insert(flow("a"))
    client.complete_step(view.id, "a")
    raw(client).delete(partition_key(view.id, "index"))
    assert client.list().workflows == ()
    assert kinds(client, view.id) == [("index_entry_missing", None)]
    assert [found.id for found in client.list(state="completed").workflows] == [view.id]


def test_counts_that_are_off_are_put_right(client: Client) -> None:
    view = client.insert(fan_out(600))
    client.complete_step(view.id, "root")
    true = raw(client).hget(own_key(view.id), ":c")
    assert true.startswith(b"a600c1")
    # The gauges are counted apart, and stay right.
    raw(client).hset(own_key(view.id), ":c", true.replace(b"a600c1", b"a590c9", 1))
    assert kinds(client, view.id) == [("counts_wrong", None)]
    assert client.get(view.id).runnable_step_count == 600
    assert kinds(client, view.id) == []


def test_counts_that_hid_an_end(client: Client) -> None:
    view = client.insert(flow("a"))
    client.complete_step(view.id, "a")
    key = own_key(view.id)
    counts = raw(client).hget(key, ":c")
    assert counts.startswith(b"c1;")
    # As if the end had not been counted: open, and listed so.
    last, started = counts[3:].split(b",")[:2]
    raw(client).hset(key, ":c", b"a1;%b,%b," % (last, started))
    index = partition_key(view.id, "index")
    [member] = raw(client).zrange(index, 0, -1)
    raw(client).delete(index)
    raw(client).zadd(index, {b"o" + member[1:]: 0})
    assert kinds(client, view.id) == [
        ("retention_timer_missing", None),  # an open workflow has no retention
        ("index_entry_missing", None),
        ("index_entry_wrong", None),
        ("counts_wrong", None),
    ]
    ended = client.get(view.id)
    assert (ended.state, ended.terminal_cause) == ("completed", "completed")
    assert ended.finished_at is not None


def test_counts_that_told_of_another_end_tell_nobody_again(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    one_client.complete_step(view.id, "a")
    key = own_key(view.id)
    counts = raw(one_client).hget(key, ":c")
    assert counts.startswith(b"c1;")
    raw(one_client).hset(key, ":c", b"f" + counts[1:])
    assert one_client.get(view.id).state == "failed"
    assert ("counts_wrong", None) in kinds(one_client, view.id)
    assert raw(one_client).hget(key, ":c").startswith(b"c1;")
    assert one_client.get(view.id).state == "completed"
    assert len(one_client.callbacks(view.id)) == 1
    assert kinds(one_client, view.id) == []


@pytest.mark.parametrize("kind", ["r", "l"])
def test_a_timer_of_a_step_that_needs_none_goes(one_client: Client, kind: str) -> None:
    view = one_client.insert(flow("a"))
    timers, timer = partition_key(view.id, "timers"), f"{kind}|{view.id}|a"
    raw(one_client).zadd(timers, {timer: 9e14})
    assert kinds(one_client, view.id) == [("timer_wrong", "a")]
    assert raw(one_client).zscore(timers, timer) is None


def test_due_retries_are_fired_and_others_are_not(client: Client) -> None:
    view = client.insert(flow("a b c d:a"))
    client.complete_step(view.id, "a", "retryable", retry_in=0)
    client.complete_step(view.id, "b", "retryable", retry_in=600)
    client.complete_step(view.id, "c", "retryable", retry_in=0)
    assert client.get(view.id).state == "running"
    assert kinds(client, view.id) == [("retry_due", "a"), ("retry_due", "c")]
    assert states(client, view.id) == "a=available b=retryable c=available d=pending"
    assert client.get(view.id).state == "available"
    assert kinds(client, view.id) == []
    assert client.complete_step(view.id, "a").step.attempt == 2


def test_a_due_retry_whose_timer_is_lost_is_fired_too(client: Client) -> None:
    view = client.insert(flow("a"))
    client.complete_step(view.id, "a", "retryable", retry_in=0)
    raw(client).delete(partition_key(view.id, "timers"))
    assert kinds(client, view.id) == [("retry_due", "a")]


def test_reconciling_while_others_complete(client: Client, server: AnyServer) -> None:
    view = client.insert(fan_out(400))
    client.complete_step(view.id, "root")
    done = threading.Event()
    found: list[object] = []

    def reconcile() -> None:
        with connect(server) as other:
            while not done.is_set():
                found.extend(other.reconcile(view.id).repairs)

    thread = threading.Thread(target=reconcile)
    thread.start()
    try:
        for number in range(400):
            client.complete_step(view.id, f"c{number}")
    finally:
        done.set()
        thread.join()
    assert client.get(view.id).state == "completed"
    assert found == []


def test_a_workflow_that_does_not_exist(client: Client) -> None:
    view = client.insert(flow("a"))
    with pytest.raises(NotFound):
        client.reconcile(f"{view.id.partition('-')[0]}-{'a' * 16}")
