"""Connections: how long a silent server is waited for, how many there are, and whose they are."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
import redis.asyncio

from rwf import AsyncClient, Client, StoreUnavailable, Worker
from tests.conftest import Pool
from tests.support import invariants
from tests.support.flows import flow, refused
from tests.support.hanging import Stopwatch, hanging
from tests.support.proxy import Proxy
from tests.support.sentinels import Sentinels
from tests.support.servers import AnyServer, Server, ask
from tests.support.waiting import until
from tests.support.workers import CLIENTS, at_work, blocking, client_of, until_ended

pytestmark = pytest.mark.usefixtures("cut_off")

SLACK = 6.0
"""Seconds by which a loaded machine may be late."""


# --- time limits


@CLIENTS
@pytest.mark.parametrize("new", [False, True], ids=["connected", "new"])
def test_a_server_that_hangs_is_given_up_after_the_time_limit(
    kind: str, new: bool, one_server: AnyServer
) -> None:
    assert isinstance(one_server, Server)
    with blocking(kind, one_server, socket_timeout=1.0) as client:
        if not new:
            client.list()
        with hanging(one_server), Stopwatch() as watch, pytest.raises(StoreUnavailable):
            client.list()
        assert watch.passed > 0.9
        assert watch.seconds < 1.0 + SLACK
        assert client.list().workflows == ()


def test_the_time_limit_is_5_seconds_by_default() -> None:
    for made in (Client, AsyncClient):
        options = inspect.signature(made.from_url).parameters
        assert (options["socket_timeout"].default, options["max_connections"].default) == (5.0, 100)


@CLIENTS
def test_a_primary_behind_sentinels_that_hangs_is_given_up_after_the_time_limit(
    kind: str, pool: Pool
) -> None:
    topology = pool.topology("sentinel", "valkey91")
    assert isinstance(topology, Sentinels)
    with blocking(kind, topology, socket_timeout=1.0) as client:
        client.list()
        with hanging(topology.primary), Stopwatch() as watch, pytest.raises(StoreUnavailable):
            client.list()
        assert watch.seconds < 1.0 + SLACK
    topology.revive()


@CLIENTS
def test_sentinels_that_hang_leave_time_to_ask_the_others(kind: str, pool: Pool) -> None:
    topology = pool.topology("sentinel", "valkey91")
    assert isinstance(topology, Sentinels)
    with (
        hanging(topology.watchers[0]),
        blocking(kind, topology, socket_timeout=3.0) as client,
        Stopwatch() as watch,
    ):
        assert client.list().workflows == ()
    assert watch.seconds < 3.0 + SLACK
    topology.wait()


@pytest.mark.parametrize("new", [False, True], ids=["connected", "new"])
def test_a_call_that_is_under_way_when_its_client_is_closed(
    new: bool, one_server: AnyServer
) -> None:
    """It opens no other connection, and leaves none open."""
    assert isinstance(one_server, Server)
    client = Client.from_url(one_server.url)
    if not new:
        client.list()
    with ThreadPoolExecutor(1) as threads:
        with hanging(one_server):
            call = threads.submit(client.list)
            until(lambda: client._store._client is not None, what="its connection")
            client.close()
        with pytest.raises(StoreUnavailable, match="the client was closed"):
            call.result(30)
    assert client._store._client is None


def test_a_call_of_a_task_that_is_under_way_when_its_client_is_closed(
    one_server: AnyServer,
) -> None:
    assert isinstance(one_server, Server)

    async def main() -> None:
        client = AsyncClient.from_url(one_server.url)
        await client.list()
        with hanging(one_server):
            call = asyncio.create_task(client.list())
            await asyncio.sleep(0)  # it has sent its command, or is about to
            await client.close()
        await asyncio.gather(call, return_exceptions=True)
        assert client._store._client is None

    asyncio.run(main())


def test_calls_that_begin_while_their_client_is_being_closed(one_server: AnyServer) -> None:
    """None of them leaves a connection behind once the client is closed again."""
    assert isinstance(one_server, Server)
    with one_server.client() as redis:

        async def main() -> None:
            clients = [AsyncClient.from_url(one_server.url) for _ in range(10)]
            for client in clients:
                await client.list()
                calls = [client.list() for _ in range(8)]
                await asyncio.gather(client.close(), *calls, return_exceptions=True)
                await client.close()
            until(lambda: redis.info("clients")["connected_clients"] == 1, what="their ends")

        asyncio.run(main())


@pytest.mark.parametrize("given", [0, -1, "5", True, 1e9, None])
def test_time_limits_that_cannot_be(given: Any) -> None:
    with refused("invalid_argument"):
        Client.from_url("redis://127.0.0.1:1", socket_timeout=given)


@pytest.mark.parametrize("given", [0, -1, "5", True, 1.5, None])
def test_numbers_of_connections_that_cannot_be(given: Any) -> None:
    with refused("invalid_argument"):
        Client.from_url("redis://127.0.0.1:1", max_connections=given)


# --- the pool


def test_more_reads_at_once_than_there_are_connections(one_client: Client) -> None:
    """101 on a pool of 100, in threads and in tasks."""
    url = (
        f"redis://127.0.0.1:{one_client._store.client().connection_pool.connection_kwargs['port']}"
    )
    view = one_client.insert(flow("a"))
    gate = threading.Barrier(101)
    with Client.from_url(url) as client, ThreadPoolExecutor(101) as threads:

        def read(_: int) -> str:
            gate.wait()
            return client.get(view.id).id

        assert set(threads.map(read, range(101))) == {view.id}

    async def run() -> set[str]:
        async with AsyncClient.from_url(url) as client:
            found = await asyncio.gather(*(client.get(view.id) for _ in range(301)))
            return {one.id for one in found}

    assert asyncio.run(run()) == {view.id}


@CLIENTS
def test_a_client_with_one_connection_does_all(kind: str, server: AnyServer) -> None:
    """A worker, its reconciler and its hints among it."""
    with blocking(kind, server, max_connections=1) as client:
        view = client.insert(flow("a b:a"))
        with ThreadPoolExecutor(8) as threads:
            if kind == "sync":
                assert set(threads.map(lambda _: client.get(view.id).id, range(32))) == {view.id}
        assert client.list(limit=1).workflows
        worker = Worker(client_of(kind, server, max_connections=1))
        worker.step("work")(lambda: None)
        with at_work(worker):
            until_ended(client, view.id)
            more = client.insert(flow("a b:a c:b"))
            until_ended(client, more.id)
            assert worker.health.error is None
    with Client.from_url(server.url) as anybody:
        assert invariants.check(anybody) == []


@CLIENTS
def test_a_worker_on_a_users_pool_of_one(
    kind: str, one_client: Client, one_server: AnyServer
) -> None:
    """It refuses instead of waiting."""
    view = one_client.insert(flow("a b:a"))

    async def run(client: Client | AsyncClient) -> None:
        worker = Worker(client)
        worker.step("work")(lambda: None)
        serving = asyncio.ensure_future(worker.serve())
        await asyncio.to_thread(until_ended, one_client, view.id)
        worker.stop()
        await serving

    async def run_on_asyncio() -> None:
        async with redis.asyncio.Redis.from_url(one_server.url, max_connections=1) as given:
            await run(AsyncClient.from_redis(given))

    if kind == "async":
        asyncio.run(run_on_asyncio())
        return
    with redis.Redis.from_url(one_server.url, max_connections=1) as given:
        asyncio.run(run(Client.from_redis(given)))


def test_a_pool_that_stays_full_is_told(one_server: AnyServer) -> None:
    with Client.from_url(one_server.url, max_connections=1, socket_timeout=0.5) as client:
        client.list()
        pool = client._store.client().connection_pool
        taken = pool.get_connection()
        with (
            Stopwatch() as watch,
            pytest.raises(StoreUnavailable, match="No connection available") as caught,
        ):
            client.list()
        assert caught.value.never_ran
        assert watch.seconds < 0.5 + SLACK
        pool.release(taken)
        client.list()


# --- an address that leads to another server


@contextlib.contextmanager
def _moved(first: Server, second: Server, proxy: Proxy) -> Iterator[None]:
    """The second is a replica of the first until the block begins, and its primary from then on."""
    ask(second, "REPLICAOF", "127.0.0.1", first.port)
    until(
        lambda: ask(second, "INFO", "replication").get("master_link_status") == "up",
        timeout=60,
        what="a replica in step",
    )
    yield
    ask(second, "REPLICAOF", "NO", "ONE")
    ask(first, "REPLICAOF", "127.0.0.1", second.port)
    proxy.lead_to(second.port)


@pytest.fixture
def pair() -> Iterator[tuple[Server, Server, Proxy]]:
    extra = ("--repl-diskless-sync-delay", "0")
    with (
        Server.start("valkey91", extra=extra) as first,
        Server.start("valkey91", extra=extra) as second,
        Proxy(first.port) as proxy,
    ):
        yield first, second, proxy


@pytest.mark.parametrize("given", [False, True], ids=["from_url", "from_redis"])
@CLIENTS
def test_a_primary_that_moves_behind_its_address(
    kind: str, given: bool, pair: tuple[Server, Server, Proxy]
) -> None:
    """The old one stays, as a replica, and no connection is cut: READONLY is the only sign."""
    first, second, proxy = pair

    def insert_all(client: Client) -> None:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda _: client.insert(flow("a")), range(8)))

    async def run(client: AsyncClient) -> None:
        for move in (True, False):
            await asyncio.gather(*(client.insert(flow("a")) for _ in range(8)))
            if move:
                with _moved(first, second, proxy):
                    pass

    async def run_on_asyncio() -> None:
        async with (
            redis.asyncio.Redis.from_url(proxy.url) as own,
            AsyncClient.from_redis(own) if given else AsyncClient.from_url(proxy.url) as client,
        ):
            await run(client)

    if kind == "async":
        asyncio.run(run_on_asyncio())
    else:
        with (
            redis.Redis.from_url(proxy.url) as own,
            Client.from_redis(own) if given else Client.from_url(proxy.url) as client,
        ):
            with _moved(first, second, proxy):
                insert_all(client)
            insert_all(client)
    with Client.from_url(second.url) as other:
        assert len(other.list(limit=500).workflows) == 16


@CLIENTS
def test_a_worker_whose_primary_moves_behind_its_address(
    kind: str, pair: tuple[Server, Server, Proxy]
) -> None:
    first, second, proxy = pair
    made = Client if kind == "sync" else AsyncClient
    worker = Worker(made.from_url(proxy.url))
    worker.step("work")(lambda: None)
    with at_work(worker):
        with Client.from_url(first.url) as before, _moved(first, second, proxy):
            view = before.insert(flow("a b:a"))
            until_ended(before, view.id)
        with Client.from_url(second.url) as after:
            until_ended(after, after.insert(flow("a b:a")).id)
            until(lambda: worker.health.error is None, what="the worker's health")
