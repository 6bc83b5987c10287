"""Making redis-py clients: their pools, their time limits, and where their server is."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.retry
import redis.asyncio.sentinel
import redis.cluster
import redis.exceptions
import redis.sentinel
from redis.backoff import NoBackoff
from redis.retry import Retry

from rwf.embedded import EmbeddedServer
from rwf.errors import CommandRejected
from rwf.model.states import Reason
from rwf.transport.address import Address
from rwf.transport.packing import Packer, packed
from rwf.transport.sentinels import AsyncSentinels, Sentinels

MAX_CONNECTIONS: Final = 100
"""Connections of a client by default, to each node of a cluster."""
_LONGEST: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How many connections a client has at most, to each node, and for how many seconds it waits:
    for a connection of its pool to be free, for a new one, and for each reply.

    Raises CommandRejected (``invalid_argument``).
    """

    max_connections: int
    timeout: float

    def __post_init__(self) -> None:
        if type(self.max_connections) is not int or self.max_connections < 1:
            raise _invalid("max_connections must be an integer of 1 or more")
        number = isinstance(self.timeout, int | float) and not isinstance(self.timeout, bool)
        if not number or not 0 < self.timeout <= _LONGEST:
            raise _invalid(f"socket_timeout must be more than 0 and at most {_LONGEST:.0f} seconds")


def _invalid(message: str) -> CommandRejected:
    return CommandRejected("connect", "client", Reason.INVALID_ARGUMENT, message)


class _AsyncPool(redis.asyncio.ConnectionPool):
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


class _SentinelPool(redis.sentinel.SentinelConnectionPool, redis.BlockingConnectionPool):
    """Connections to the primary that Sentinels tell of, waited for when all are in use."""


class _AsyncSentinelPool(redis.asyncio.sentinel.SentinelConnectionPool, _AsyncPool):
    """Those of an asyncio client."""


class _Cluster(redis.cluster.RedisCluster):
    """A cluster's client that asks no node which commands it knows: redis-py asks the primary of
    the first slot, which may be the one that is away. rwf says itself where its commands go."""

    def command(self) -> dict[str, Any]:  # type: ignore[override]
        """No commands."""
        return {}


class _NoCommands:
    async def initialize(self, node: Any = None) -> None:
        """Asks nothing."""


class _AsyncCluster(redis.asyncio.cluster.RedisCluster):
    """The same of an asyncio client."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.commands_parser: Any = _NoCommands()


def _options(retry: Any, timeout: float) -> dict[str, Any]:
    # No blind retries: the session resends, and knows when it does.
    return {
        "retry": retry,
        "socket_connect_timeout": timeout,
        "socket_timeout": timeout,
        "health_check_interval": 0,
    }


def _pool_options(limits: Limits) -> dict[str, Any]:
    # Less than a call may take, so that it is told what it has waited for.
    return {"max_connections": limits.max_connections, "timeout": limits.timeout * 0.9}


def _blocking_pool_options(limits: Limits) -> dict[str, Any]:
    return {**_pool_options(limits), "command_packer": Packer()}


def _sentinel_options(address: Address, options: dict[str, Any]) -> dict[str, Any]:
    """How Sentinels are asked: over TLS if their primary is, and with so little patience that one
    call can ask all of them in half its time, and the primary then."""
    given = (address.options or {}).items()
    share = options["socket_connect_timeout"] / 2 / len(address.hosts)
    return {
        **options,
        "socket_connect_timeout": share,
        "socket_timeout": share,
        **{name: value for name, value in given if name.startswith("ssl")},
    }


def connect(address: Address, embedded: EmbeddedServer | None, limits: Limits) -> Any:
    """A blocking client; an embedded server, if there is one, runs."""
    options = _options(Retry(NoBackoff(), 0), limits.timeout)
    if address.kind == "cluster":
        return _Cluster.from_url(address.url, **options)
    pooled = {**options, **_blocking_pool_options(limits), **(address.options or {})}
    if address.kind == "sentinel":
        sentinel: Any = Sentinels
        found = sentinel(address.hosts, sentinel_kwargs=_sentinel_options(address, options))
        return found.master_for(address.service, connection_pool_class=_SentinelPool, **pooled)
    url, login = _place(address, embedded)
    return redis.Redis.from_pool(redis.BlockingConnectionPool.from_url(url, **pooled, **login))


def connect_async(address: Address, embedded: EmbeddedServer | None, limits: Limits) -> Any:
    """A client on asyncio. The time limit for its replies is the store's own: redis-py's makes a
    task to send, and a timer to read."""
    options = _options(redis.asyncio.retry.Retry(NoBackoff(), 0), limits.timeout)
    unlimited = {**options, "socket_timeout": None}
    if address.kind == "cluster":
        return _AsyncCluster.from_url(address.url, **unlimited)
    pooled = {**unlimited, **_pool_options(limits), **(address.options or {})}
    if address.kind == "sentinel":
        sentinel: Any = AsyncSentinels
        found = sentinel(address.hosts, sentinel_kwargs=_sentinel_options(address, options))
        return found.master_for(address.service, connection_pool_class=_AsyncSentinelPool, **pooled)
    url, login = _place(address, embedded)
    return redis.asyncio.Redis.from_pool(_AsyncPool.from_url(url, **pooled, **login))


def _place(address: Address, embedded: EmbeddedServer | None) -> tuple[str, dict[str, Any]]:
    """The URL of a single server, and what it takes to log in there."""
    if embedded is None:
        return address.url, {}
    return embedded.url, {"credential_provider": embedded.credentials}


def node_client(node: Any, limits: Limits) -> redis.Redis:
    """A client of one node of a cluster. Not the cluster's own of that node: it connects all of its
    anew when it looks anew, in the middle of what others are about, and its pool does not wait."""
    pool = node.connection_pool
    options = {**pool.connection_kwargs, **_blocking_pool_options(limits)}
    own: Any = redis.BlockingConnectionPool
    return redis.Redis.from_pool(own(connection_class=pool.connection_class, **options))


def async_node_client(node: Any, limits: Limits) -> redis.asyncio.Redis:
    """The client of one node on asyncio, where a cluster's nodes have no pipelines of their own."""
    options = {**node.connection_kwargs, **_pool_options(limits)}
    options["retry"] = redis.asyncio.retry.Retry(NoBackoff(), 0)
    return redis.asyncio.Redis.from_pool(
        _AsyncPool(connection_class=node.connection_class, **options)
    )


def sentinels(client: Any, address: Address | None) -> list[Any]:
    """The clients of the Sentinels that a client asks for its primary; it does not close them."""
    if address is None or address.kind != "sentinel":
        return []
    found: list[Any] = client.connection_pool.sentinel_manager.sentinels
    return found
