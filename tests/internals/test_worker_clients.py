"""A worker extends its leases with any client it is given, and closes those that it opened."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.cluster

from rwf import AsyncClient, Client, Worker
from rwf.internals import client_elsewhere, twin_of
from tests.support.flows import flow
from tests.support.servers import AnyServer
from tests.support.waiting import until
from tests.support.workers import until_ended

ON_ONE: dict[str, Callable[[str], Any]] = {
    "url": Client.from_url,
    "async_url": AsyncClient.from_url,
    "redis": lambda url: Client.from_redis(redis.Redis.from_url(url)),
    "async_redis": lambda url: AsyncClient.from_redis(redis.asyncio.Redis.from_url(url)),
}


def kept(client: Client, made: Client | AsyncClient) -> None:
    """Steps that take three leases run once; then the worker's client is closed."""

    async def work() -> None:
        worker = Worker(made, lease=0.6)
        worker.step("work")(lambda: asyncio.sleep(1.8))
        serving = asyncio.create_task(worker.serve())
        await asyncio.to_thread(until_ended, client, view.id)
        worker.stop()
        await serving
        assert (twin_of(made) is None) == without_twin(made)
        given = made._store.given_client
        if isinstance(made, AsyncClient):
            await made.close()
            if given is not None:
                await given.aclose()
        elif made is not client:
            made.close()
            if given is not None:
                given.close()

    view = client.insert(flow("a b c:a,b", max_attempts=1))
    asyncio.run(work())
    assert client.get(view.id).state == "completed"


def without_twin(made: Client | AsyncClient) -> bool:
    """Whether it has no second client: it was given an asyncio client of a cluster."""
    return isinstance(made._store.given_client, redis.asyncio.cluster.RedisCluster)


@pytest.mark.parametrize("kind", ON_ONE)
def test_leases_are_kept_on_one_server(
    one_client: Client, one_server: AnyServer, kind: str
) -> None:
    kept(one_client, ON_ONE[kind](one_server.url))


@pytest.mark.parametrize("kind", ["url", "async_url", "redis", "async_redis"])
def test_leases_are_kept_on_a_cluster(pool: Any, kind: str) -> None:
    server = pool.get("cluster")
    url = server.url.replace("redis+cluster", "redis")
    made: dict[str, Callable[[], Any]] = {
        "url": lambda: Client.from_url(server.url),
        "async_url": lambda: AsyncClient.from_url(server.url),
        "redis": lambda: Client.from_redis(redis.cluster.RedisCluster.from_url(url)),
        "async_redis": lambda: AsyncClient.from_redis(
            redis.asyncio.cluster.RedisCluster.from_url(url)
        ),
    }
    with Client.from_url(server.url, partitions=16) as inserting:
        inserting.list()
        kept(inserting, made[kind]())


def test_leases_are_kept_on_a_fake() -> None:
    client = Client.fake()
    kept(client, client)


def test_leases_are_kept_on_a_fake_of_asyncio() -> None:
    async def run() -> None:
        async with AsyncClient.fake() as client:
            worker = Worker(client, lease=0.6)
            worker.step("work")(lambda: asyncio.sleep(1.8))
            view = await client.insert(flow("a b c:a,b", max_attempts=1))
            serving = asyncio.create_task(worker.serve())
            async with asyncio.timeout(20):
                while (await client.get(view.id)).state != "completed":  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            worker.stop()
            await serving

    asyncio.run(run())


def connections(server: AnyServer) -> int:
    return len(server.client().client_list())


@pytest.mark.parametrize("kind", ["url", "async_url", "async_redis"])
def test_its_own_connections_are_closed_when_it_ends(
    one_client: Client, one_server: AnyServer, kind: str
) -> None:
    one_client.list()
    before = connections(one_server)
    kept(one_client, ON_ONE[kind](one_server.url))
    until(lambda: connections(one_server) <= before, what="closed connections")


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_client_elsewhere_keeps_its_options(kind: Any, one_server: AnyServer) -> None:
    own = kind.from_url(
        "redis://127.0.0.1:1",
        namespace="own",
        durability="aof",
        require_aof=True,
        partitions=3,
        max_payload=1000,
        max_connections=7,
        socket_timeout=2.0,
    )

    def options(client: Any) -> tuple[Any, ...]:
        session, store = client._session, client._store
        return (
            session.durability,
            session.require_aof,
            session.wanted_partitions,
            client._ctx.max_payload,
            store.limits,
        )

    other = client_elsewhere(own, one_server.url, None)
    assert type(other) is kind
    assert options(other) == options(own)
    assert other._ctx.keys.namespace == "own"
    renamed = client_elsewhere(own, None, "other")
    assert options(renamed) == options(own)
    assert renamed._ctx.keys.namespace == "other"
    address = renamed._store.address
    assert address is not None
    assert address.url == "redis://127.0.0.1:1"
