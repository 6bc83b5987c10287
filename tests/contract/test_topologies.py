"""The core cases behind Sentinels and on a cluster with replicas, with both clients."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from rwf import Client, Completion, Reconciler, Worker, result
from tests.conftest import Pool, Topology, connect
from tests.support import invariants
from tests.support.flows import effect, fan_out, flow, partition_key, refused, states
from tests.support.sentinels import Sentinels
from tests.support.waiting import until
from tests.support.workers import CLIENTS, at_work, blocking, client_of, until_ended


@pytest.fixture(params=["sync", "async"])
def either(request: pytest.FixtureRequest, topology: Topology) -> Iterator[Client]:
    """Each of the two clients in turn; all stored keys must agree at the end."""
    with blocking(request.param, topology) as client:
        yield client
    assert invariants.check(topology.client()) == []


def test_from_insert_to_end(either: Client) -> None:
    wf = flow("a b:a c:a d:b,c")
    wf.add("e", worker="work", input={"of": result("d")})
    view = either.insert(wf, key="k")
    assert either.insert(wf, key="k").duplicate
    [first] = either.claim(["default"], worker_id="w")
    assert either.release([first]) == 1
    [again] = either.claim(["default"], worker_id="w")
    assert len(either.heartbeat([again]).extended) == 1
    with refused("stale_lease"):
        either.complete(first)
    assert effect(either.complete(again, payload=1)) == (("b", "c"), 2, (), 0)
    claimed = either.claim(["default"], worker_id="w", limit=2)
    batch = either.complete_many(
        [
            Completion(
                workflow_id=one.workflow_id, step=one.step, payload=one.step, lease=one.lease
            )
            for one in claimed
        ],
        claim_next=1,
        worker_id="w",
    )
    [last] = batch.claimed
    assert either.complete(last, payload="d").released == ("e",)
    [end] = either.claim(["default"], worker_id="w")
    assert end.input == {"of": "d"}
    either.complete(end)
    assert either.get(view.id).state == "completed"
    assert [row.payload for row in either.results(view.id)] == [1, "b", "c", "d", None]


def test_a_release_in_slices(either: Client) -> None:
    view = either.insert(fan_out(1200))
    assert either.complete_step(view.id, "root").released_count == 1200
    assert either.complete_step(view.id, "root").outcome == "duplicate"
    assert either.request_cancel(view.id, reason="enough").state == "cancelled"


def test_signals_across_partitions(either: Client) -> None:
    early = either.deliver_signal("go", "k0", payload=0)
    assert early.status == "unmatched"
    ids = [either.insert(flow("a b:a")).id for _ in range(8)]
    for number, workflow_id in enumerate(ids):
        either.await_step(workflow_id, "a", signal="go", correlation_key=f"k{number}")
    for number, workflow_id in enumerate(ids[1:], start=1):
        found = either.deliver_signal("go", f"k{number}", payload=number)
        assert (found.status, found.workflow_id) == ("consumed", workflow_id)
    for claim in either.claim(["default"], worker_id="w", limit=8):
        assert claim.signal is not None
        assert claim.workflow_id == ids[int(claim.signal.correlation_key[1:])]
        either.complete(claim)
    assert [states(either, one) for one in ids] == ["a=completed b=available"] * 8


def test_cancel_and_recover(either: Client) -> None:
    view = either.insert(flow("a b:a c:b"))
    assert either.complete_step(view.id, "a", "failed").cancelled_count == 2
    assert either.get(view.id).terminal_cause == "step_failed"
    either.recover_step(view.id, "a", "retry")
    assert states(either, view.id) == "a=available b=pending c=pending"
    either.request_cancel(view.id)
    with refused("already_terminal"):
        either.complete_step(view.id, "a")
    assert either.get(view.id).terminal_cause == "operator_cancelled"
    assert either.evidence(view.id)[-1].reason_code == "already_terminal"


def test_callbacks(either: Client) -> None:
    ids = {either.insert(flow("a")).id for _ in range(6)}
    for workflow_id in ids:
        either.complete_step(workflow_id, "a")
    told: list[str] = []
    report = either.dispatch_callbacks(lambda callback: told.append(callback.workflow_id))
    assert (report.delivered, set(told)) == (6, ids)


def test_reconcile(either: Client, topology: Topology) -> None:
    view = either.insert(flow("a b:a x"))
    either.complete_step(view.id, "a", "retryable", retry_in=0)
    assert [repair.kind for repair in either.reconcile(view.id).repairs] == ["retry_due"]
    lost: Any = topology.client()
    lost.delete(partition_key(view.id, "ready"), partition_key(view.id, "index"))
    assert either.rebuild().workflows == 1
    assert len(either.claim(["default"], worker_id="w", limit=2)) == 2
    assert [found.id for found in either.list().workflows] == [view.id]


@CLIENTS
def test_a_worker_and_a_reconciler_to_the_end(topology: Topology, kind: str) -> None:
    with connect(topology) as client:
        view = client.insert(fan_out(100))
        lost: Any = topology.client()
        lost.delete(partition_key(view.id, "ready"))
        asyncio.run(Reconciler(client).sweep())
        worker, heard = Worker(client_of(kind, topology)), []
        worker.step("work")(lambda: heard.append(1))
        with at_work(worker):
            until_ended(client, view.id)
            # An insert from here on publishes a hint.
            more = [client.insert(flow("a b:a")).id for _ in range(10)]
            until(lambda: len(heard) == 101 + 20, what="all steps")
            for workflow_id in more:
                until_ended(client, workflow_id)
        assert invariants.check(client) == []


@CLIENTS
def test_a_closed_client_leaves_no_sentinel_behind(pool: Pool, kind: str) -> None:
    topology = pool.topology("sentinel", "valkey91")
    assert isinstance(topology, Sentinels)
    servers: list[Any] = [server.client() for server in (*topology.watchers, *topology.nodes)]

    def connections() -> list[int]:
        return [
            # Sentinels have names, and come and go.
            sum(not one["name"] for one in server.client_list(_type="normal"))
            for server in servers
        ]

    async def used() -> None:
        client = client_of(kind, topology)
        if isinstance(client, Client):
            with client:
                client.list()
                assert connections() != before
        else:
            async with client:
                await client.list()
                assert connections() != before

    before = connections()
    asyncio.run(used())
    until(lambda: connections() == before, what="the end of its connections")
