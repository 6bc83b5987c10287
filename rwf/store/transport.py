"""The two drivers, sync and asyncio, and how a URL becomes a redis-py client."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.retry
import redis.asyncio.sentinel
import redis.cluster
import redis.connection
import redis.exceptions
import redis.sentinel
from redis.backoff import NoBackoff
from redis.retry import Retry

from rwf.embedded import EmbeddedServer, folder_of
from rwf.errors import CommandRejected
from rwf.model.states import Reason
from rwf.store.catalog import Op
from rwf.store.session import Action, Command, Revive, Send, SendTogether, Session, Steps, Wait

T = TypeVar("T")

_CONNECT_TIMEOUT: Final = 5.0
_REPLY_TIMEOUT: Final = 15.0
_SENTINEL_PORT: Final = 26379


def _invalid_url(message: str) -> CommandRejected:
    # The URL itself is never quoted: it may hold a password.
    return CommandRejected("connect", "client", Reason.INVALID_ARGUMENT, message)


def _check_url(url: str) -> None:
    """Raises ValueError for a URL that redis-py cannot use, options in its query included."""
    pool: Any = redis.ConnectionPool.from_url(url)
    try:
        pool.make_connection()  # made, not connected
    except (TypeError, redis.exceptions.ConnectionError) as error:
        raise ValueError from error


@dataclass(frozen=True, slots=True)
class Address:
    """A URL taken apart: which kind of store it names, and how redis-py is told."""

    # The URL and the options may hold a password.
    kind: str
    url: str = field(repr=False)
    hosts: tuple[tuple[str, int], ...] = ()
    service: str = ""
    options: Mapping[str, Any] | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> Address:
        """Raises CommandRejected (``invalid_argument``) for a URL of no known kind."""
        if not isinstance(url, str):
            raise _invalid_url("the URL must be a string")
        scheme, separator, rest = url.partition("://")
        if not separator:
            raise _invalid_url("the URL has no scheme, such as redis://")
        try:
            if scheme in ("redis", "rediss", "unix"):
                _check_url(url)
                return cls("server", url)
            if scheme == "embedded":
                return cls("embedded", url)
            if scheme in ("redis+cluster", "rediss+cluster"):
                plain = f"{scheme.partition('+')[0]}://{rest}"
                _check_url(plain)
                return cls("cluster", plain)
            if scheme in ("redis+sentinel", "rediss+sentinel"):
                return cls._sentinel(url, tls=scheme.startswith("rediss"))
        except ValueError:
            raise _invalid_url("the URL cannot be parsed") from None
        raise _invalid_url(
            "the scheme must be redis, rediss, unix, embedded, redis+cluster or redis+sentinel"
        )

    @classmethod
    def _sentinel(cls, url: str, *, tls: bool) -> Address:
        parts = urlsplit(url)
        login, _, places = parts.netloc.rpartition("@")
        hosts = tuple(_place(place) for place in places.split(","))
        service, _, database = parts.path.strip("/").partition("/")
        if not service:
            raise _invalid_url("a redis+sentinel URL ends with the service's name")
        # The rest is as in a URL of one server, so redis-py reads it.
        scheme = "rediss" if tls else "redis"
        plain = f"{scheme}://{login}@/{int(database or 0)}?{parts.query}"
        _check_url(plain)
        parse: Any = redis.connection.parse_url
        options = parse(plain)
        if options.pop("connection_class", None):
            options["ssl"] = True
        return cls("sentinel", url, hosts, service, options)


def _place(text: str) -> tuple[str, int]:
    """The host and the port of a Sentinel."""
    place = urlsplit(f"//{text}")
    if not place.hostname:
        raise _invalid_url("a redis+sentinel URL names the hosts of Sentinels")
    return place.hostname, place.port or _SENTINEL_PORT


def _options(retry: Any) -> dict[str, Any]:
    # No blind retries: the session resends, and knows when it does.
    return {
        "retry": retry,
        "socket_connect_timeout": _CONNECT_TIMEOUT,
        "socket_timeout": _REPLY_TIMEOUT,
        "health_check_interval": 0,
    }


def _arguments(address: Address, options: dict[str, Any]) -> dict[str, Any]:
    return {**options, **(address.options or {})}


def _with_tls(options: dict[str, Any], address: Address) -> dict[str, Any]:
    """The same, and what a URL says of TLS: Sentinels are asked as their primary is."""
    given = (address.options or {}).items()
    return {**options, **{name: value for name, value in given if name.startswith("ssl")}}


class _Store:
    """A redis-py client that was given, or the address of one to be made at the first command."""

    def __init__(self, client: Any, url: str) -> None:
        self._client = client
        self._given = client is not None
        self._address = None if self._given else Address.parse(url)
        self._embedded: EmbeddedServer | None = None
        if self._address is not None and self._address.kind == "embedded":
            self._embedded = EmbeddedServer(folder_of(url))

    @property
    def cluster(self) -> bool:
        """Whether it is a Redis Cluster; known before anything is connected."""
        if self._address is not None:
            return self._address.kind == "cluster"
        kinds = redis.cluster.RedisCluster, redis.asyncio.cluster.RedisCluster
        return isinstance(self._client, kinds)


class SyncStore(_Store):
    """A blocking client, and the driver on it."""

    def __init__(self, client: Any = None, url: str = "") -> None:
        super().__init__(client, url)
        self._lock = threading.Lock()

    def run(self, session: Session, op: Op[T]) -> T:
        """Carries out an operation on this thread."""
        return self.drive(session.run(op))

    def drive(self, steps: Steps[T]) -> T:
        """Does what a session asks for, until it ends."""
        reply: Any = None
        fault: Exception | None = None
        while True:
            try:
                action = steps.send(reply) if fault is None else steps.throw(fault)
            except StopIteration as end:
                result: T = end.value
                return result
            try:
                reply, fault = self._perform(action), None
            except _FAULTS as error:
                reply, fault = None, error

    def close(self) -> None:
        """Closes what this store has opened; a client that was given stays open."""
        if self._client is not None and not self._given:
            if self.cluster:
                # Its own close leaves the sockets to the garbage collector.
                self._client.disconnect_connection_pools()
            for sentinel in _sentinels(self._client, self._address):
                sentinel.close()
            self._client.close()
            self._client = None
        if self._embedded is not None:
            self._embedded.close()

    def _perform(self, action: Action) -> Any:
        match action:
            case Send(args, None, _, node):
                return self._broadcast(args, node)
            case Send(args, str(key), ()):
                client = self.client()
                return client.execute_command(*args, **_sending(client, key, self.cluster))
            case Send(args, str(key), behind):
                return self._acknowledged([args, *behind], key)
            case SendTogether(sends):
                return self._together(sends)
            case Wait(seconds):
                time.sleep(seconds)
            case Revive() if self._embedded is not None:
                self._embedded.ensure_running()
        return None

    def client(self) -> Any:
        """The redis-py client."""
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> Any:
        assert self._address is not None
        address, options = self._address, _options(Retry(NoBackoff(), 0))
        arguments = _arguments(address, options)
        if self._embedded is not None:
            self._embedded.ensure_running()
            return redis.Redis.from_url(self._embedded.url, **arguments)
        if address.kind == "sentinel":
            sentinel: Any = redis.sentinel.Sentinel
            sentinels = sentinel(address.hosts, sentinel_kwargs=_with_tls(options, address))
            return sentinels.master_for(address.service, **arguments)
        if address.kind == "cluster":
            return redis.cluster.RedisCluster.from_url(address.url, **arguments)
        return redis.Redis.from_url(address.url, **arguments)

    def _broadcast(self, args: Command, only: str | None) -> dict[str, Any]:
        client = self.client()
        if not self.cluster:
            return {"": client.execute_command(*args, NEVER_DECODE=True)}
        nodes = _chosen(client.get_primaries(), only)
        connections = {node.name: client.get_redis_connection(node) for node in nodes}
        with self._looking_anew():
            return {
                name: connection.execute_command(*args, NEVER_DECODE=True)
                for name, connection in connections.items()
            }

    def _acknowledged(self, commands: Sequence[Command], key: str) -> Any:
        client = self.client()
        node = client.get_node_from_key(key) if self.cluster else None
        return _both(self._pipelined(node, commands))

    def _together(self, sends: Sequence[Send]) -> list[Any]:
        replies: list[Any] = [None] * len(sends)
        for node, numbers in _by_node(self.client(), sends, self.cluster):
            try:
                found = self._pipelined(node, [sends[number].args for number in numbers])
            except _FAULTS as error:
                found = [error] * len(numbers)
            for number, reply in zip(numbers, found, strict=True):
                replies[number] = reply
        return replies

    def _pipelined(self, node: Any, commands: Sequence[Command]) -> list[Any]:
        client = self.client()
        if node is not None:
            client = client.get_redis_connection(node)
        pipeline = _filled(client.pipeline(transaction=False), commands)
        with self._looking_anew():
            replies: list[Any] = pipeline.execute(raise_on_error=False)
        if _has_moved(replies):
            self._client.nodes_manager.initialize()
        return replies

    @contextmanager
    def _looking_anew(self) -> Iterator[None]:
        """Has a cluster's client ask who has which slots when a node does not answer: redis-py
        does that by itself only where it chooses the node."""
        try:
            yield
        except _SILENT:
            if self.cluster:
                self._client.nodes_manager.initialize()
            raise


class AsyncStore(_Store):
    """The same on asyncio."""

    def __init__(self, client: Any = None, url: str = "") -> None:
        super().__init__(client, url)
        self._nodes: dict[str, Any] = {}

    async def run(self, session: Session, op: Op[T]) -> T:
        """Carries out an operation in this task."""
        return await self.drive(session.run(op))

    async def drive(self, steps: Steps[T]) -> T:
        """Does what a session asks for, until it ends."""
        reply: Any = None
        fault: Exception | None = None
        while True:
            try:
                action = steps.send(reply) if fault is None else steps.throw(fault)
            except StopIteration as end:
                result: T = end.value
                return result
            try:
                reply, fault = await self._perform(action), None
            except _FAULTS as error:
                reply, fault = None, error

    async def close(self) -> None:
        """Closes what this store has opened; a client that was given stays open."""
        for node in self._nodes.values():
            await node.aclose()
        self._nodes.clear()
        if self._client is not None and not self._given:
            for sentinel in _sentinels(self._client, self._address):
                await sentinel.aclose()
            await self._client.aclose()
            self._client = None
        if self._embedded is not None:
            await asyncio.to_thread(self._embedded.close)

    async def _perform(self, action: Action) -> Any:
        match action:
            case Wait(seconds):
                return await asyncio.sleep(seconds)
            case Revive():
                if self._embedded is not None:
                    await asyncio.to_thread(self._embedded.ensure_running)
                return None
        # One limit for all of it: redis-py's own makes a task to send, and a timer to read.
        async with asyncio.timeout(None if self._given else _REPLY_TIMEOUT):
            return await self._sent(action)

    async def _sent(self, action: Send | SendTogether) -> Any:
        match action:
            case Send(args, None, _, node):
                return await self._broadcast(args, node)
            case Send(args, str(key), ()):
                client = await self._ready()
                return await client.execute_command(*args, **_sending(client, key, self.cluster))
            case Send(args, str(key), behind):
                return await self._acknowledged([args, *behind], key)
            case SendTogether(sends):
                return await self._together(sends)

    async def client(self) -> Any:
        """The redis-py client."""
        if self._client is None:
            if self._embedded is not None:
                await asyncio.to_thread(self._embedded.ensure_running)
            self._client = self._client or self._connect()
        return self._client

    def _connect(self) -> Any:
        assert self._address is not None
        address = self._address
        options = _options(redis.asyncio.retry.Retry(NoBackoff(), 0))
        arguments = _arguments(address, {**options, "socket_timeout": None})
        if self._embedded is not None:
            return redis.asyncio.Redis.from_url(self._embedded.url, **arguments)
        if address.kind == "sentinel":
            sentinel: Any = redis.asyncio.sentinel.Sentinel
            sentinels = sentinel(address.hosts, sentinel_kwargs=_with_tls(options, address))
            return sentinels.master_for(address.service, **arguments)
        if address.kind == "cluster":
            return redis.asyncio.cluster.RedisCluster.from_url(address.url, **arguments)
        return redis.asyncio.Redis.from_url(address.url, **arguments)

    async def _broadcast(self, args: Command, only: str | None) -> dict[str, Any]:
        client = await self._ready()
        if not self.cluster:
            return {"": await client.execute_command(*args, NEVER_DECODE=True)}
        async with self._looking_anew():
            return {
                node.name: await node.execute_command(*args, NEVER_DECODE=True)
                for node in _chosen(client.get_primaries(), only)
            }

    async def _ready(self) -> Any:
        """The client, knowing the nodes of its cluster."""
        client = await self.client()
        if self.cluster:
            await client.initialize()
        return client

    async def _acknowledged(self, commands: Sequence[Command], key: str) -> Any:
        client = await self._ready()
        node = client.get_node_from_key(key) if self.cluster else None
        return _both(await self._pipelined(node, commands))

    async def _together(self, sends: Sequence[Send]) -> list[Any]:
        replies: list[Any] = [None] * len(sends)

        async def ask(node: Any, numbers: Sequence[int]) -> None:
            try:
                found = await self._pipelined(node, [sends[number].args for number in numbers])
            except _FAULTS as error:
                found = [error] * len(numbers)
            for number, reply in zip(numbers, found, strict=True):
                replies[number] = reply

        groups = _by_node(await self._ready(), sends, self.cluster)
        await asyncio.gather(*(ask(node, numbers) for node, numbers in groups))
        return replies

    async def _pipelined(self, node: Any, commands: Sequence[Command]) -> list[Any]:
        client = await self.client() if node is None else self._node(node)
        pipeline = _filled(client.pipeline(transaction=False), commands)
        async with self._looking_anew():
            replies: list[Any] = await pipeline.execute(raise_on_error=False)
        if _has_moved(replies):
            await self._client.nodes_manager.initialize()
        return replies

    @asynccontextmanager
    async def _looking_anew(self) -> AsyncIterator[None]:
        """The same as the blocking store's."""
        try:
            yield
        except _SILENT:
            if self.cluster:
                await self._client.nodes_manager.initialize()
            raise

    def _node(self, node: Any) -> Any:
        # A cluster's nodes have no pipeline of their own on asyncio.
        if node.name not in self._nodes:
            retry = redis.asyncio.retry.Retry(NoBackoff(), 0)
            options = {**node.connection_kwargs, "retry": retry}
            pool = redis.asyncio.ConnectionPool(connection_class=node.connection_class, **options)
            self._nodes[node.name] = redis.asyncio.Redis.from_pool(pool)
        return self._nodes[node.name]


# What may be the server's doing. Not every error of a cluster's client is a RedisError.
_FAULTS: Final = (
    redis.exceptions.RedisError,
    redis.exceptions.RedisClusterException,
    OSError,
)


# A node that does not answer.
_SILENT: Final = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError)


def _sentinels(client: Any, address: Address | None) -> list[Any]:
    """The clients of the Sentinels that a client asks for its primary; it does not close them."""
    if address is None or address.kind != "sentinel":
        return []
    found: list[Any] = client.connection_pool.sentinel_manager.sentinels
    return found


def _sending(client: Any, key: str, cluster: bool) -> dict[str, Any]:
    """How a command is sent: its reply is bytes, and a cluster's client need not ask a node where
    the keys of a function are."""
    options: dict[str, Any] = {"NEVER_DECODE": True}
    if cluster:
        options["target_nodes"] = client.get_node_from_key(key)
    return options


def _by_node(client: Any, sends: Sequence[Send], cluster: bool) -> list[tuple[Any, list[int]]]:
    """The places of commands by the node they go to; None stands for the only one."""
    groups: dict[str, tuple[Any, list[int]]] = {}
    for number, send in enumerate(sends):
        node: Any = client.get_node_from_key(send.key) if cluster else None
        groups.setdefault(node.name if cluster else "", (node, []))[1].append(number)
    return list(groups.values())


def _filled(pipeline: Any, commands: Sequence[Command]) -> Any:
    for command in commands:
        pipeline.execute_command(*command, NEVER_DECODE=True)
    return pipeline


def _chosen(primaries: list[Any], only: str | None) -> list[Any]:
    """All primaries, or the one of that name; raises ConnectionError when it is none any more."""
    found = [node for node in primaries if only in (None, node.name)]
    if only is not None and not found:
        raise redis.exceptions.ConnectionError(f"{only} is no primary any more")
    return found


def _has_moved(replies: list[Any]) -> bool:
    return any(isinstance(reply, redis.exceptions.MovedError) for reply in replies)


def _both(replies: list[Any]) -> tuple[Any, Any]:
    """A command's reply and its acknowledgement, the last; an error of any is raised."""
    if _has_moved(replies):
        # The next try asks the node that has the slot now.
        raise redis.exceptions.TryAgainError("the slot has moved")
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies[0], replies[-1]
