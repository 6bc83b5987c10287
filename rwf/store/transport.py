"""The two drivers, sync and asyncio, and the redis-py clients below them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.retry
import redis.client
import redis.cluster
import redis.connection
import redis.exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from rwf.embedded import EmbeddedServer, folder_of
from rwf.store.address import Address
from rwf.store.catalog import Op
from rwf.store.sentinels import AsyncSentinels, Sentinels
from rwf.store.session import (
    Action,
    Command,
    Revive,
    Send,
    SendInTurn,
    SendTogether,
    Session,
    Steps,
    Wait,
)

T = TypeVar("T")

_CONNECT_TIMEOUT: Final = 5.0
_REPLY_TIMEOUT: Final = 15.0


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
            except FAULTS as error:
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
            case Send(args, str(), ()) if not self.cluster:
                return self.client().execute_command(*args, NEVER_DECODE=True)
            case Send(args, str(key), behind):
                return _settled(self._redirected([args, *behind], key))
            case SendInTurn(commands, key):
                return self._in_turn(commands, key)
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
            arguments["credential_provider"] = self._embedded.credentials
            return redis.Redis.from_url(self._embedded.url, **arguments)
        if address.kind == "sentinel":
            sentinel: Any = Sentinels
            sentinels = sentinel(address.hosts, sentinel_kwargs=_with_tls(options, address))
            return sentinels.master_for(address.service, **arguments)
        if address.kind == "cluster":
            return redis.cluster.RedisCluster.from_url(address.url, **arguments)
        return redis.Redis.from_url(address.url, **arguments)

    def look_anew(self) -> None:
        """Has a cluster's client ask who has which slots; nothing for any other."""
        client = self.client()
        if self.cluster:
            client.nodes_manager.initialize()

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

    def _in_turn(self, commands: Sequence[Command], key: str) -> list[Any]:
        client = self.client()
        node = client.get_node_from_key(key) if self.cluster else None
        return _unmoved(self._pipelined(node, commands))

    def _redirected(self, commands: Sequence[Command], key: str) -> list[Any]:
        """The replies to commands about a key, also while its slot is on its way to another
        node."""
        client = self.client()
        node = client.get_node_from_key(key) if self.cluster else None
        replies = self._pipelined(node, commands)
        if asked := _asked(client, replies[0]):
            replies = self._pipelined(asked, _asking(commands))[1::2]
        return replies

    def _together(self, sends: Sequence[Send]) -> list[Any]:
        replies: list[Any] = [None] * len(sends)
        for node, numbers in _by_node(self.client(), _keys(sends), self.cluster):
            try:
                found = self._pipelined(node, [sends[number].args for number in numbers])
            except FAULTS as error:
                found = [error] * len(numbers)
            for number, reply in zip(numbers, found, strict=True):
                replies[number] = reply
        return replies

    def _pipelined(self, node: Any, commands: Sequence[Command]) -> list[Any]:
        pipeline = _filled(self._node(node).pipeline(transaction=False), commands)
        with self._looking_anew():
            replies: list[Any] = pipeline.execute(raise_on_error=False)
        if _is_behind(self._client, replies):
            self.look_anew()
        return replies

    def pubsubs(self, channels: Sequence[str]) -> list[tuple[Any, list[str]]]:
        """A redis-py PubSub for each node, not yet subscribed, and the channels to hear there."""
        groups = _by_node(self.client(), channels, self.cluster)
        return [(self._pubsub(node), [channels[n] for n in found]) for node, found in groups]

    def _pubsub(self, node: Any) -> Any:
        client = self._node(node)
        if node is None:
            return client.pubsub()
        # On a connection of its own: a cluster's client connects all of its anew when it looks
        # anew, and subscribes in one command to channels of several slots, which is refused.
        pool = client.connection_pool
        own = redis.ConnectionPool(pool.connection_class, **pool.connection_kwargs)
        return redis.client.PubSub(own)

    def _node(self, node: Any) -> Any:
        """The client of a node; None stands for the only one."""
        client = self.client()
        return client if node is None else client.get_redis_connection(node)

    @contextmanager
    def _looking_anew(self) -> Iterator[None]:
        """Has a cluster's client ask who has which slots when a node does not answer: redis-py
        does that by itself only where it chooses the node."""
        try:
            yield
        except _SILENT:
            self.look_anew()
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
            except FAULTS as error:
                reply, fault = None, error

    async def close(self) -> None:
        """Closes what this store has opened; a client that was given stays open."""
        for node in self._nodes.values():
            await node.aclose()
        self._nodes.clear()
        if self._client is not None and not self._given:
            await self._client.aclose()
            # Behind it: what it still connects asks them.
            for sentinel in _sentinels(self._client, self._address):
                await sentinel.aclose()
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

    async def _sent(self, action: Send | SendTogether | SendInTurn) -> Any:
        match action:
            case Send(args, None, _, node):
                return await self._broadcast(args, node)
            case Send(args, str(), ()) if not self.cluster:
                return await (await self.client()).execute_command(*args, NEVER_DECODE=True)
            case Send(args, str(key), behind):
                return _settled(await self._redirected([args, *behind], key))
            case SendInTurn(commands, key):
                return await self._in_turn(commands, key)
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
            arguments["credential_provider"] = self._embedded.credentials
            return redis.asyncio.Redis.from_url(self._embedded.url, **arguments)
        if address.kind == "sentinel":
            sentinel: Any = AsyncSentinels
            sentinels = sentinel(address.hosts, sentinel_kwargs=_with_tls(options, address))
            return sentinels.master_for(address.service, **arguments)
        if address.kind == "cluster":
            return redis.asyncio.cluster.RedisCluster.from_url(address.url, **arguments)
        return redis.asyncio.Redis.from_url(address.url, **arguments)

    async def look_anew(self) -> None:
        """The same as the blocking store's."""
        client = await self._ready()
        if self.cluster:
            await client.nodes_manager.initialize()

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

    async def _in_turn(self, commands: Sequence[Command], key: str) -> list[Any]:
        client = await self._ready()
        node = client.get_node_from_key(key) if self.cluster else None
        return _unmoved(await self._pipelined(node, commands))

    async def _redirected(self, commands: Sequence[Command], key: str) -> list[Any]:
        """The same as the blocking store's."""
        client = await self._ready()
        node = client.get_node_from_key(key) if self.cluster else None
        replies = await self._pipelined(node, commands)
        if asked := _asked(client, replies[0]):
            replies = (await self._pipelined(asked, _asking(commands)))[1::2]
        return replies

    async def _together(self, sends: Sequence[Send]) -> list[Any]:
        replies: list[Any] = [None] * len(sends)

        async def ask(node: Any, numbers: Sequence[int]) -> None:
            try:
                found = await self._pipelined(node, [sends[number].args for number in numbers])
            except FAULTS as error:
                found = [error] * len(numbers)
            for number, reply in zip(numbers, found, strict=True):
                replies[number] = reply

        groups = _by_node(await self._ready(), _keys(sends), self.cluster)
        await asyncio.gather(*(ask(node, numbers) for node, numbers in groups))
        return replies

    async def _pipelined(self, node: Any, commands: Sequence[Command]) -> list[Any]:
        pipeline = _filled((await self._node(node)).pipeline(transaction=False), commands)
        async with self._looking_anew():
            replies: list[Any] = await pipeline.execute(raise_on_error=False)
        if _is_behind(self._client, replies):
            await self.look_anew()
        return replies

    async def pubsubs(self, channels: Sequence[str]) -> list[tuple[Any, list[str]]]:
        """The same as the blocking store's."""
        groups = _by_node(await self._ready(), channels, self.cluster)
        return [
            ((await self._node(node)).pubsub(), [channels[n] for n in found])
            for node, found in groups
        ]

    @asynccontextmanager
    async def _looking_anew(self) -> AsyncIterator[None]:
        """The same as the blocking store's."""
        try:
            yield
        except _SILENT:
            await self.look_anew()
            raise

    async def _node(self, node: Any) -> Any:
        """The same as the blocking store's."""
        if node is None:
            return await self.client()
        # A cluster's nodes have no pipeline of their own on asyncio.
        if node.name not in self._nodes:
            retry = redis.asyncio.retry.Retry(NoBackoff(), 0)
            options = {**node.connection_kwargs, "retry": retry}
            pool = redis.asyncio.ConnectionPool(connection_class=node.connection_class, **options)
            self._nodes[node.name] = redis.asyncio.Redis.from_pool(pool)
        return self._nodes[node.name]


# What may be the server's doing. Not every error of a cluster's client is a RedisError.
FAULTS: Final = (
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


def _keys(sends: Sequence[Send]) -> list[str]:
    return [send.key or "" for send in sends]


def _by_node(client: Any, keys: Sequence[str], cluster: bool) -> list[tuple[Any, list[int]]]:
    """The places of keys by the node that has them; None stands for the only one."""
    groups: dict[str, tuple[Any, list[int]]] = {}
    for number, key in enumerate(keys):
        node: Any = client.get_node_from_key(key) if cluster else None
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


def _is_behind(client: Any, replies: list[Any]) -> bool:
    """Whether nodes have slots that a cluster's client does not know of."""
    asks = [reply for reply in replies if isinstance(reply, redis.exceptions.AskError)]
    return any(_asked(client, reply) is None for reply in asks)


def _unmoved(replies: list[Any]) -> list[Any]:
    """These replies; raises TryAgainError where a slot is, or goes, elsewhere."""
    if any(isinstance(reply, redis.exceptions.AskError) for reply in replies):
        # Or MOVED, which is one of them. The next try asks the node that has the slot now.
        raise redis.exceptions.TryAgainError("the slot has moved")
    return replies


def _asked(client: Any, reply: Any) -> Any:
    """The node to ask this once, as a reply says, and None for another reply; and for a node whose
    first slot is on its way, which nobody tells of yet."""
    if not isinstance(reply, redis.exceptions.AskError):
        return None
    if isinstance(reply, redis.exceptions.MovedError):
        return None
    return client.get_node(node_name=f"{reply.host}:{reply.port}")


def _asking(commands: Sequence[Command]) -> list[Command]:
    """Each behind the word that lets it into a slot that has not all of its keys yet."""
    return [one for command in commands for one in (("ASKING",), command)]


def _settled(replies: list[Any]) -> Any:
    """The only reply; or a command's and its acknowledgement, the last. An error of any is
    raised."""
    for reply in _unmoved(replies):
        if isinstance(reply, Exception):
            raise reply
    return replies[0] if len(replies) == 1 else (replies[0], replies[-1])
