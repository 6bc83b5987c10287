"""Removals cut off between any two calls, done by several at once, or with lost replies."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from rwf import Client
from rwf.ops.prune import prune
from rwf.ops.timer_pages import PassedOver
from rwf.repair.timers import fire_due
from tests.conftest import connect
from tests.fault.test_lost_replies import (  # noqa: F401 - fixtures
    Cut,
    cut,
    direct,
    impatient,
    lossy,
    proxy,
)
from tests.support import invariants
from tests.support.flows import drive, flow, raw, stored
from tests.support.outbox import ignore
from tests.support.servers import AnyServer

NOW = timedelta(0)


def finished(client: Client, waits: int = 3) -> str:
    """A workflow with an insert key whose step has waited for several signals, and consumed one."""
    view = client.insert(flow("a b:a"), key="key", retention=NOW)
    for number in range(waits):
        client.await_step(view.id, "a", signal="go", correlation_key=str(number))
    client.deliver_signal("go", str(waits - 1), payload={"n": 1})
    client.complete_step(view.id, "a")
    client.complete_step(view.id, "b")
    client.dispatch_callbacks(ignore)
    return view.id


def leftovers(client: Client, workflow_id: str) -> list[bytes]:
    """Keys that its removal should have deleted; that its id stays unusable for a while is
    right."""
    redis = raw(client)
    kept = [key for key in stored(client) if redis.type(key) == b"hash" and redis.ttl(key) > 0]
    found = [key for key in stored(client) if workflow_id.encode() in key and key not in kept]
    found += [key for key in stored(client) if b":sig:" in key or b":reg:" in key]
    return found + [key for key in stored(client) if key.endswith(b"}:keys")]


@pytest.mark.parametrize("calls", range(1, 7))
def test_a_removal_cut_off(client: Client, calls: int) -> None:
    workflow_id = finished(client)
    done = drive(client, prune(client._ctx, workflow_id), calls)
    assert invariants.check(client) == []
    partition = int(workflow_id.partition("-")[0])
    assert client._run(fire_due(client._ctx, partition, PassedOver())).done == (0 if done else 1)
    assert leftovers(client, workflow_id) == []
    assert client.deliver_signal("go", "2").status == "unmatched"
    assert not client.insert(flow("a b:a"), key="key").duplicate


def test_the_cuts_were_everywhere(one_client: Client) -> None:
    """The removal above takes six calls."""
    workflow_id = finished(one_client)
    assert drive(one_client, prune(one_client._ctx, workflow_id), 5) is None
    assert one_client.prune().workflows == 1


def test_a_removal_cut_off_among_many_waits(one_client: Client) -> None:
    """Another client goes on where the first has stopped."""
    workflow_id = finished(one_client, waits=250)
    drive(one_client, prune(one_client._ctx, workflow_id), 210)
    assert drive(one_client, prune(one_client._ctx, workflow_id), 60)
    assert leftovers(one_client, workflow_id) == []


def test_several_at_once(client: Client, server: AnyServer) -> None:
    ids = [finished(client)]
    for _ in range(20):
        ids.append(client.insert(flow("a"), retention=NOW).id)
        client.complete_step(ids[-1], "a")
    client.dispatch_callbacks(ignore, limit=100)
    start, removed = threading.Barrier(3), []

    def run() -> None:
        with connect(server) as other:
            other.list()
            start.wait()
            removed.append(other.prune().workflows)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(removed) == len(ids)
    assert [key for workflow_id in ids for key in leftovers(client, workflow_id)] == []
    assert client.list().workflows == ()


def test_lost_replies(direct: Client, lossy: Client, cut: Cut) -> None:  # noqa: F811
    workflow_id = finished(direct)
    for function in ("prune", "release_key", "forget"):
        cut(function)
    assert lossy.prune().signals == 0
    assert leftovers(direct, workflow_id) == []
    stats = raw(direct).hgetall("rwf:{0}:stats")
    assert {name for name in stats if name[:2] == b"gw" and stats[name] != b"0"} == set()
