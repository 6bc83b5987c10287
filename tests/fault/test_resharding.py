"""Slots that move from one primary of a cluster to another, and how clients cope with it.

During a move a node refuses a call unless all declared keys exist and are on one side; so the call
waits, as most calls declare some that may not exist. Functions do not move with slots: each primary
loads the library by itself.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager

import pytest

from rwf import Client, NotFound, StoreUnavailable, Workflow
from rwf.repair import daemons
from rwf.runtime import Runtime
from tests.conftest import Pool, connect
from tests.fault.outages import at_hand, sent_again
from tests.support import invariants
from tests.support.daemons import serving
from tests.support.flows import flow, own_key
from tests.support.resharding import add_primary, move, moving
from tests.support.servers import KINDS, Cluster, Server, ask
from tests.support.waiting import until
from tests.support.workers import CLIENTS, at_work, blocking, client_of, until_ended

META = "rwf:{0}:meta"


@pytest.fixture(
    params=[
        "valkey91",
        *(pytest.param(kind, marks=(pytest.mark.long, pytest.mark.whole)) for kind in KINDS[:-1]),
    ]
)
def cluster(request: pytest.FixtureRequest, pool: Pool) -> Cluster:
    """Three empty primaries, with a replica each."""
    found = pool.topology("cluster", request.param)
    assert isinstance(found, Cluster)
    return found


def another(cluster: Cluster, key: str) -> Server:
    """A primary that does not have the slot of this key."""
    return next(node for node in cluster.primaries() if node is not cluster.primary_of(key))


def refused(node: Server, error: str) -> bool:
    """Whether a node has returned this error since its statistics were reset."""
    return f"errorstat_{error}" in ask(node, "INFO", "errorstats")


def reset(cluster: Cluster) -> None:
    for node in cluster.primaries():
        ask(node, "CONFIG RESETSTAT")


def connected(client: Client) -> None:
    """Connects a client, and has it read another partition than the namespace's record, in vain."""
    with pytest.raises(NotFound):
        client.get("1-aaaaaaaaaaaaaaaa")


# --- a slot on its way


@CLIENTS
@pytest.mark.parametrize("durability", ["server", "replicas:1"])
def test_a_key_that_has_gone_ahead_is_found(cluster: Cluster, kind: str, durability: str) -> None:
    """ASK: the rest of the slot has not moved."""
    with connect(cluster) as client:
        connected(client)
    reset(cluster)
    with (
        moving(cluster, META, another(cluster, META)) as found,
        blocking(kind, cluster, durability) as client,
    ):
        found.carry(META)
        connected(client)
        assert refused(found.source, "ASK")


@CLIENTS
def test_a_call_waits_until_its_keys_are_on_one_side(cluster: Cluster, kind: str) -> None:
    """TRYAGAIN, and then MOVED; also to a primary that does not have the library yet."""
    with blocking(kind, cluster) as client:
        view = client.insert(flow("a b:a"))
        key = own_key(view.id)
        target = another(cluster, key)
        ask(target, "FUNCTION FLUSH")
        reset(cluster)
        with ThreadPoolExecutor(1) as threads:
            with moving(cluster, key, target) as found:
                found.carry(key)
                call = threads.submit(client.complete_step, view.id, "a")
                until(lambda: refused(found.source, "TRYAGAIN"), what="a call that is refused")
                assert not call.done()
            assert call.result().outcome == "accepted"
        assert client.get(view.id).completed_step_count == 1
        assert invariants.check(cluster.client()) == []


@CLIENTS
@pytest.mark.parametrize("all_keys", [True, False], ids=["whole", "in_part"])
def test_plain_reads_find_keys_that_have_gone_ahead(
    cluster: Cluster, kind: str, all_keys: bool
) -> None:
    """ASK, for some of the keys or all, however long the rest of the slot takes."""
    with blocking(kind, cluster) as client:
        view = client.insert(Workflow("flow", context={"x": 1}).add("a", worker="work"))
        key = own_key(view.id)
        with moving(cluster, key, another(cluster, key)) as found:
            found.carry(own_key(view.id, "p"), *([key] if all_keys else []))
            assert client.get(view.id).context == {"x": 1}
            assert client.callbacks(view.id) == []
            assert refused(found.source, "ASK")
        assert client.get(view.id).context == {"x": 1}


def test_a_call_that_waits_for_too_long(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rwf.transport.patience._PAUSES", (0.01,))
    with connect(cluster) as client:
        view = client.insert(flow("a"))
        key = own_key(view.id)
        with (
            moving(cluster, key, another(cluster, key)),
            pytest.raises(StoreUnavailable, match="TRYAGAIN"),
        ):
            client.complete_step(view.id, "a")
        assert client.complete_step(view.id, "a").outcome == "accepted"


def test_a_call_that_is_cut_short(cluster: Cluster) -> None:
    """A node that gives a slot away lets no function touch a key that it has just emptied."""
    with connect(cluster) as client:
        leave = daemons.leave(client._ctx, "daemon", 60_000)
        client._run(daemons.join(client._ctx, "daemon", 60_000))
        with ThreadPoolExecutor(1) as threads:
            with moving(cluster, META, another(cluster, META)) as found:
                call = threads.submit(client._run, leave)
                key = client._ctx.keys.daemons()
                until(lambda: key not in found.left(), what="the emptied key")
            call.result()
        assert client._run(daemons.join(client._ctx, "other", 60_000)) == list(range(16))


@pytest.mark.long
def test_a_primary_that_nobody_knows_yet() -> None:
    """ASK names a node with no slot of its own; clients meet it once it has some."""
    with Cluster.start() as cluster, connect(cluster) as client:
        newcomer = add_primary(cluster)
        view = client.insert(flow("a b:a"))
        key = own_key(view.id)
        with ThreadPoolExecutor(1) as threads:
            with moving(cluster, key, newcomer) as found:
                found.carry(*found.left())
                call = threads.submit(client.complete_step, view.id, "a")
                until(lambda: refused(found.source, "ASK"), what="a call that is sent on")
            assert call.result().outcome == "accepted"
        assert client.get(view.id).completed_step_count == 1


@contextmanager
def listening(cluster: Cluster, kind: str) -> Iterator[set[str]]:
    """The ids of workflows in the hints that a client gets, which makes no calls."""
    heard: set[str] = set()
    over = threading.Event()

    async def listen() -> None:
        runtime = Runtime(client_of(kind, cluster))
        async with aclosing(runtime.hints()) as hints:
            async for hint in hints:
                if hint is not None:
                    heard.add(hint.workflow_id)
                if over.is_set():
                    break
        await runtime.close()

    with ThreadPoolExecutor(1) as threads:
        listener = threads.submit(asyncio.run, listen())
        try:
            yield heard
        finally:
            over.set()
        listener.result()


@CLIENTS
def test_hints_go_on_after_a_move(cluster: Cluster, kind: str) -> None:
    """A node that has given a slot away ends the subscriptions to its channels."""

    def hint_comes() -> None:
        ended: list[str] = []

        def one_more() -> bool:
            if (workflow_id := client.insert(flow("a")).id).startswith("0-"):
                ended.append(workflow_id)
                client.complete_step(workflow_id, "a")
            return not heard.isdisjoint(ended)

        until(one_more, what="a hint from partition 0")

    with connect(cluster) as client, listening(cluster, kind) as heard:
        hint_comes()
        move(cluster, META, another(cluster, META))
        hint_comes()


def test_hints_outlive_a_look_at_the_cluster(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look at the cluster, by which redis-py connects anew, and would subscribe to several slots
    in one command."""
    for module in ("blocking.hints", "events"):
        monkeypatch.setattr(f"rwf.transport.{module}.FAULTS", ())
    with connect(cluster) as client:
        hints = client._hints()
        for _ in range(2):
            for _ in range(2 * 16):
                next(hints)  # a confirmation of each subscription, and nothing else
            client._store.look_anew()
        hints.close()


# --- amid work


@pytest.mark.long
@pytest.mark.parametrize("kind", ["async", "sync"])
def test_slots_move_amid_work(cluster: Cluster, kind: str) -> None:
    """Each partition's slot, there and back. Acknowledged writes are kept, and all work ends."""
    reset(cluster)
    with connect(cluster) as client, connect(cluster) as other:
        inserted: dict[str, str] = {}

        def insert() -> None:
            for number in range(100):
                inserted[f"k{number}"] = sent_again(client, f"k{number}")

        worker = at_hand(cluster, kind, inserted)
        with at_work(worker), serving(other, interval=0.2, sweep_interval=1.0):
            with ThreadPoolExecutor(1) as threads:
                inserting = threads.submit(insert)
                for partition in range(16):
                    key = f"rwf:{{{partition}}}:stats"
                    source = cluster.primary_of(key)
                    move(cluster, key, another(cluster, key))
                    move(cluster, key, source)
            inserting.result()
            for workflow_id in inserted.values():
                until_ended(client, workflow_id)
        assert {client.get(one).state for one in inserted.values()} == {"completed"}
        # Which of these errors clients meet is a matter of moments; each has a test of its own
        # above.
        words = "TRYAGAIN", "ASK", "MOVED"
        assert any(refused(node, word) for node in cluster.primaries() for word in words)
        assert invariants.check(cluster.client()) == []
