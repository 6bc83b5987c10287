"""Making redis-py's clients on asyncio, and what is its own about them.

``rwf.transport.blocking.connecting`` is its counterpart, with the same names.
"""

from __future__ import annotations

import asyncio
from typing import Any

import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.sentinel
import redis.exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from rwf.embedded import EmbeddedServer
from rwf.transport.address import Address
from rwf.transport.aio.sentinels import AsyncSentinels
from rwf.transport.connecting import (
    Limits,
    connection_options,
    place,
    pool_options,
    sentinel_options,
    sentinels,
)
from rwf.transport.packing import packed


class _Pool(redis.asyncio.ConnectionPool):
    """Connections that are waited for when all are in use, for ``timeout`` seconds.

    redis-py's own pool that waits takes a lock, and makes a timer, for each command. This one does
    when it has to wait.
    """

    def __init__(self, *, timeout: float, **options: Any) -> None:
        super().__init__(**options)
        self._timeout = timeout
        self._free = asyncio.Semaphore(self.max_connections)

    def make_connection(self) -> Any:
        """A new connection, which has its commands packed by hiredis."""
        connection: Any = super().make_connection()  # type: ignore[no-untyped-call]
        connection.pack_command = packed
        return connection

    async def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:
        """A connected connection; raises redis-py's ConnectionError when none becomes free."""
        await self._wait()
        connection = self.get_available_connection()  # type: ignore[no-untyped-call]
        try:
            await self.ensure_connection(connection)
        except BaseException:
            await self.release(connection)
            raise
        return connection

    async def _wait(self) -> None:
        if not self._free.locked():
            await self._free.acquire()  # at once
            return
        try:
            async with asyncio.timeout(self._timeout):
                await self._free.acquire()
        except TimeoutError:
            raise redis.exceptions.ConnectionError("No connection available.") from None

    async def release(self, connection: Any) -> None:
        """Takes a connection back, for the next who waits."""
        try:
            await super().release(connection)
        finally:
            self._free.release()


class _SentinelPool(redis.asyncio.sentinel.SentinelConnectionPool, _Pool):
    """Connections to the primary that Sentinels tell of, waited for when all are in use."""


class _NoCommands:
    async def initialize(self, node: Any = None) -> None:
        """Asks nothing."""


class _Cluster(redis.asyncio.cluster.RedisCluster):
    """A cluster's client that asks no node which commands it knows: redis-py asks the primary of
    the first slot, which may be the one that is away. rwf says itself where its commands go."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.commands_parser: Any = _NoCommands()


def connect(address: Address, embedded: EmbeddedServer | None, limits: Limits) -> Any:
    """A client; an embedded server, if there is one, runs.

    The time limit for its replies is the store's own: redis-py's makes a task to send, and a timer
    to read.
    """
    options = connection_options(Retry(NoBackoff(), 0), limits.timeout)
    unlimited = {**options, "socket_timeout": None}
    if address.kind == "cluster":
        return _Cluster.from_url(address.url, **unlimited)
    pooled = {**unlimited, **pool_options(limits), **(address.options or {})}
    if address.kind == "sentinel":
        made: Any = AsyncSentinels
        found = made(address.hosts, sentinel_kwargs=sentinel_options(address, options))
        return found.master_for(address.service, connection_pool_class=_SentinelPool, **pooled)
    url, login = place(address, embedded)
    return redis.asyncio.Redis.from_pool(_Pool.from_url(url, **pooled, **login))


async def close(client: Any, address: Address | None) -> None:
    """Closes a client and all that belongs to it."""
    await client.aclose()
    # Behind it: what it still connects asks them.
    for sentinel in sentinels(client, address):
        await sentinel.aclose()


async def find_nodes(client: Any) -> None:
    """Makes a cluster's client know its nodes."""
    await client.initialize()


def cluster_node(_client: Any, node: Any) -> Any:
    """Runs commands on one node of a cluster, over the cluster client's own connections."""
    return node


def node_client(_client: Any, node: Any, limits: Limits) -> Any:
    """A client of one node of a cluster, whose nodes have no pipelines of their own."""
    options = {**node.connection_kwargs, **pool_options(limits)}
    options["retry"] = Retry(NoBackoff(), 0)
    return redis.asyncio.Redis.from_pool(_Pool(connection_class=node.connection_class, **options))


async def close_node(node: Any) -> None:
    """Closes the connections of a node that a cluster's client has replaced."""
    await node.disconnect()
