"""A cluster of which one primary is dead, or hangs: work on the others goes on, and missing
partitions are named."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from rwf import AsyncClient, Client, StepContext, StoreUnavailable, Worker
from rwf.metrics import FleetCollector
from rwf.model.views import Callback
from tests.support.commandline import Cli
from tests.support.daemons import serving
from tests.support.flows import flow
from tests.support.hanging import Stopwatch, hanging
from tests.support.servers import Cluster, Server
from tests.support.waiting import until
from tests.support.workers import CLIENTS, at_work, blocking, client_of

pytestmark = pytest.mark.usefixtures("cut_off")

PARTITIONS = 16
TIMEOUT = 1.5
SLACK = 10.0
"""Seconds by which a loaded machine may be late."""


@pytest.fixture(scope="module")
def whole() -> Iterator[Cluster]:
    with Cluster.start(aof=True, extra=("--cluster-require-full-coverage", "no")) as cluster:
        yield cluster


@pytest.fixture
def partial_cluster(whole: Cluster) -> Iterator[Cluster]:
    """A cluster that serves the slots it can, empty and whole at the start of the test."""
    whole.flush()
    yield whole
    whole.revive()


HOW = pytest.mark.parametrize("how", ["dead", "hung"])
EACH = pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("sync", "dead"),
        ("async", "hung"),
        pytest.param("sync", "hung", marks=pytest.mark.long),
        pytest.param("async", "dead", marks=pytest.mark.long),
    ],
)
"""Both clients and both ways in two tests, and all four of them in the long tests."""


def home(cluster: Cluster, partition: int) -> Server:
    return cluster.primary_of(f"rwf:{{{partition}}}:meta")


def partitions_of(cluster: Cluster, server: Server) -> tuple[int, ...]:
    return tuple(n for n in range(PARTITIONS) if home(cluster, n) is server)


@contextlib.contextmanager
def away(cluster: Cluster, server: Server, how: str) -> Iterator[None]:
    """The server is killed, or hangs, until the block ends."""
    if how == "hung":
        with hanging(server):
            yield
        return
    server.kill()
    try:
        yield
    finally:
        cluster.revive()


def another(cluster: Cluster) -> Server:
    """A node without the namespace's record, which a new client has to read."""
    return next(node for node in cluster.nodes if node is not home(cluster, 0))


def connected(kind: str, cluster: Cluster) -> contextlib.AbstractContextManager[Client]:
    return blocking(kind, cluster, socket_timeout=TIMEOUT)


def scraped(client: Client) -> float:
    """How many partitions a scrape names as unreachable."""
    metrics = {one.name: one for one in FleetCollector(client).collect()}
    return float(metrics["rwf_partitions_unreachable"].samples[0].value)


def partition_of(workflow_id: str) -> int:
    return int(workflow_id.partition("-")[0])


def one_in_each(client: Client) -> list[str]:
    """Workflows, at least one in each partition."""
    ids: list[str] = []
    while {partition_of(one) for one in ids} != set(range(PARTITIONS)):
        ids.append(client.insert(flow("a b:a")).id)
    return ids


@EACH
@pytest.mark.parametrize("first", [True, False], ids=["with the record", "another"])
def test_what_is_reachable_is_served_and_the_rest_is_named(
    kind: str, how: str, first: bool, partial_cluster: Cluster
) -> None:
    node = home(partial_cluster, 0) if first else another(partial_cluster)
    lost = partitions_of(partial_cluster, node)
    with connected(kind, partial_cluster) as client:
        ids = one_in_each(client)
        living = {one for one in ids if partition_of(one) not in lost}
        held = client.claim(["default"], worker_id="w", limit=len(ids))
        assert held.unreachable == ()
        assert len(held) == len(ids)
        client.release(held[::2])
        held = cast(Any, held[1::2])
        with away(partial_cluster, node, how):
            calls: dict[str, Callable[[], Any]] = {
                "list": lambda: client.list(limit=500),
                "queues": client.queues,
                "claim": lambda: client.claim(["default"], worker_id="w", limit=500),
                "heartbeat": lambda: client.heartbeat(held),
                "evidence": client.evidence,
                "prune": client.prune,
                "doctor": client.doctor,
            }
            found = {}
            with Stopwatch() as watch:
                for name, call in calls.items():
                    found[name] = call()
                more = [client.insert(flow("a")).id for _ in range(40)]
            # In any call, a node that hangs costs its time limit once.
            assert watch.seconds < (TIMEOUT if how == "hung" else 0) + SLACK
            expected = dict.fromkeys(calls, lost)
            expected["heartbeat"] = tuple(
                n for n in lost if n in {partition_of(claim.workflow_id) for claim in held}
            )
            assert {name: one.unreachable for name, one in found.items()} == expected
            assert {view.id for view in found["list"].workflows} == living
            assert sum(queue.available for queue in found["queues"]) == len(found["claim"])
            assert {claim.workflow_id for claim in found["claim"]} <= living
            kept = {claim.workflow_id for claim in found["heartbeat"].extended}
            assert kept == {c.workflow_id for c in held if c.workflow_id in living}
            assert found["heartbeat"].lost == ()
            assert not found["doctor"].healthy
            assert not {partition_of(one) for one in more} & set(lost)
            if kind == "sync":
                assert scraped(client) == len(lost)
        until(lambda: client.list(limit=500).unreachable == (), what="all partitions", timeout=30)
        assert {view.id for view in client.list(limit=500).workflows} == {*ids, *more}


@EACH
@pytest.mark.parametrize("first", [True, False], ids=["with the record", "another"])
def test_callbacks_and_signals_that_are_reachable_are_served(
    kind: str, how: str, first: bool, partial_cluster: Cluster
) -> None:
    node = home(partial_cluster, 0) if first else another(partial_cluster)
    lost = partitions_of(partial_cluster, node)
    with connected(kind, partial_cluster) as client:
        ids = one_in_each(client)
        for one in ids:
            client.complete_step(one, "a")
            client.complete_step(one, "b")
        sent = [client.deliver_signal("s", f"{n}") for n in range(60)]
        living = {one for one in ids if partition_of(one) not in lost}
        got: list[str] = []
        with away(partial_cluster, node, how), Stopwatch() as watch:
            page = client.signals()
            report = client.dispatch_callbacks(lambda one: got.append(one.workflow_id), limit=500)
        # The record of the namespace, which says that there is a dispatcher, is read separately.
        assert watch.seconds < (4 * TIMEOUT if how == "hung" else 0) + SLACK
        assert page.unreachable == report.unreachable == lost
        assert {one.id for one in page.signals} == {
            one.id for one in sent if partition_of(one.id) not in lost
        }
        assert set(got) == living
        assert len(got) == report.delivered == len(living)
        until(lambda: client.signals().unreachable == (), what="all partitions", timeout=30)
        report = client.dispatch_callbacks(lambda one: got.append(one.workflow_id), limit=500)
        assert (report.unreachable, set(got), len(got)) == ((), set(ids), len(ids))


@CLIENTS
def test_what_a_node_had_leased_when_it_died_holds_up_no_other_callback(
    kind: str, partial_cluster: Cluster
) -> None:
    """A node dies while the handlers of its callbacks are at work; a daemon goes on with others."""
    node = another(partial_cluster)
    lost = partitions_of(partial_cluster, node)
    dead, got = threading.Event(), queue.SimpleQueue[str]()
    client = client_of(kind, partial_cluster, socket_timeout=TIMEOUT)

    def handler(one: Callback) -> None:
        got.put(one.workflow_id)
        if partition_of(one.workflow_id) in lost:
            dead.wait(60)

    with connected("sync", partial_cluster) as other:
        ids = one_in_each(other)
        doomed = [one for one in ids if partition_of(one) in lost]
        for one in doomed:
            other.complete_step(one, "a", "failed")
        with serving(client, interval=0.2, callbacks=handler, concurrency=len(doomed) + 4):
            assert {got.get(timeout=60) for _ in doomed} == set(doomed)
            with away(partial_cluster, node, "dead"):
                dead.set()
                living = [one for one in ids if one not in doomed]
                for one in living:
                    other.complete_step(one, "a", "failed")
                assert {got.get(timeout=60) for _ in living} == set(living)
                until(
                    lambda: all(other.callbacks(one)[0].status == "delivered" for one in living),
                    what="all that can be reached",
                )


@pytest.mark.parametrize("command", ["ls", "queues", "signals", "evidence", "prune"])
def test_the_command_line_says_what_it_did_not_reach(
    command: str, partial_cluster: Cluster, tmp_path: Path
) -> None:
    with connected("sync", partial_cluster) as client:
        one_in_each(client)
    node = another(partial_cluster)
    lost = partitions_of(partial_cluster, node)
    cli = Cli(f"redis+cluster://127.0.0.1:{home(partial_cluster, 0).port}", tmp_path)
    with away(partial_cluster, node, "dead"):
        plain, as_json = cli(command), cli(command, "--json")
    assert plain.exit_code == as_json.exit_code == 0
    which = ", ".join(map(str, lost))
    message = f"what partitions {which} have is missing: they did not answer"
    assert plain.stderr == f"rwf: warning: {message}\n"
    warning = {"warning": "partitions_unreachable", "message": message}
    assert json.loads(as_json.stderr) == warning
    assert cli(command).stderr == ""


@EACH
def test_a_new_client_finds_what_is_reachable(
    kind: str, how: str, partial_cluster: Cluster
) -> None:
    with connected("sync", partial_cluster) as other:
        ids = one_in_each(other)
    node = another(partial_cluster)
    lost = partitions_of(partial_cluster, node)
    entry = home(partial_cluster, 0)
    options: dict[str, Any] = {"socket_timeout": TIMEOUT}
    url = f"redis+cluster://127.0.0.1:{entry.port}"
    with away(partial_cluster, node, how):
        with Stopwatch() as watch:
            if kind == "sync":
                with Client.from_url(url, **options) as client:
                    page, report = client.list(limit=500), client.doctor()
            else:

                async def run() -> tuple[Any, Any]:
                    async with AsyncClient.from_url(url, **options) as client:
                        return await client.list(limit=500), await client.doctor()

                page, report = asyncio.run(run())
        assert watch.seconds < (TIMEOUT if how == "hung" else 0) + SLACK
        assert page.unreachable == report.unreachable == lost
        assert {view.id for view in page.workflows} == {
            one for one in ids if partition_of(one) not in lost
        }
        failed = {check.name: check.found for check in report.checks if check.status == "failed"}
        assert f"127.0.0.1:{node.port} did not" in failed["reachable"]


@EACH
def test_a_worker_goes_on_with_what_is_reachable(
    kind: str, how: str, partial_cluster: Cluster
) -> None:
    """Nothing is reserved and dropped on the living partitions, and no lease there is lost."""
    node = another(partial_cluster)
    lost = partitions_of(partial_cluster, node)
    ran: list[tuple[str, int]] = []
    with connected("sync", partial_cluster) as client:
        one_in_each(client)
        worker = Worker(client_of(kind, partial_cluster, socket_timeout=TIMEOUT), concurrency=8)

        @worker.step("work")
        async def work(ctx: StepContext) -> None:
            ran.append((ctx.workflow_id, ctx.attempt))

        with at_work(worker):
            until(lambda: len(ran) >= 4, what="its first steps")
            with away(partial_cluster, node, how):
                assert client.list().unreachable == lost
                more = [client.insert(flow("a b:a")).id for _ in range(30)]
                assert not {partition_of(one) for one in more} & set(lost)
                until(
                    lambda: all(client.get(one).state == "completed" for one in more),
                    timeout=30,
                    what="all that can be reached",
                )
            until(
                lambda: {view.state for view in client.list(limit=500).workflows} == {"completed"},
                timeout=60,
                what="all the rest",
            )
        assert {attempt for one, attempt in ran if partition_of(one) not in lost} == {1}


@HOW
def test_it_is_logged_once(
    how: str, partial_cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    node = another(partial_cluster)
    with connected("sync", partial_cluster) as client:
        client.list()
        with away(partial_cluster, node, how), caplog.at_level(logging.WARNING, "rwf"):
            for _ in range(5):
                client.list()
        until(lambda: client.list().unreachable == (), what="all partitions", timeout=30)
    said = [record.getMessage() for record in caplog.records if record.name == "rwf"]
    assert len([text for text in said if "unreachable" in text]) == 1
    assert len([text for text in said if "reachable again" in text]) == 1


def test_where_none_answers_that_is_an_error(partial_cluster: Cluster) -> None:
    with connected("sync", partial_cluster) as client:
        client.list()
        with hanging(*partial_cluster.nodes), Stopwatch() as watch:
            calls: tuple[Callable[[], Any], ...] = (
                client.list,
                client.queues,
                lambda: client.insert(flow("a")),
            )
            for call in calls:
                with pytest.raises(StoreUnavailable):
                    call()
        # Nodes that hang are asked at the same time.
        assert watch.seconds < len(calls) * TIMEOUT + SLACK


def test_a_childs_end_reaches_a_parent_that_was_away(partial_cluster: Cluster) -> None:
    """Its own report succeeds, and the parent's explanation is to be had again; a daemon tells."""
    with connected("sync", partial_cluster) as client:
        node = another(partial_cluster)
        lost = partitions_of(partial_cluster, node)
        while True:
            parent = client.insert(flow("call", "parent")).id
            (held,) = client.claim(["default"], worker_id="w")
            child = client.start_child(parent, "call", flow("a", "child"), lease=held.lease).id
            if partition_of(parent) in lost and partition_of(child) not in lost:
                break
            client.request_cancel(parent)
        with away(partial_cluster, node, "dead"):
            assert client.complete_step(child, "a", payload=1).workflow.state == "completed"
        with serving(client):
            until(lambda: client.get(parent).state == "completed", what="the parent's end")
        assert client.reconcile(parent).repairs == ()
        assert client.reconcile(child).repairs == ()


def test_a_child_that_is_away_is_explained_so(partial_cluster: Cluster) -> None:
    with connected("sync", partial_cluster) as client:
        node = another(partial_cluster)
        lost = partitions_of(partial_cluster, node)
        while True:
            parent = client.insert(flow("call next:call", "parent")).id
            (held,) = client.claim(["default"], worker_id="w")
            child = client.start_child(parent, "call", flow("a", "child"), lease=held.lease).id
            if partition_of(parent) not in lost and partition_of(child) in lost:
                break
            client.request_cancel(parent)
        with away(partial_cluster, node, "dead"):
            (cause,) = client.explain(parent).root_causes
            assert cause.child is not None
            assert (cause.code, cause.child.problem) == ("waiting_on_workflow", "unreachable")
            client.request_cancel(parent)
            assert client.get(parent).state == "cancelled"
        with serving(client):
            until(lambda: client.get(child).state == "cancelled", what="the child's end")
