"""The blocking driver of sessions, and what it has in common with that on asyncio."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

import redis
import redis.asyncio.cluster
import redis.client
import redis.cluster

from rwf.embedded import EmbeddedServer, folder_of
from rwf.protocol.requests import Op
from rwf.transport.actions import (
    Action,
    Command,
    Reconnect,
    Revive,
    Send,
    SendEverywhere,
    SendInTurn,
    SendTogether,
    Steps,
    Wait,
)
from rwf.transport.address import Address
from rwf.transport.connecting import (
    MAX_CONNECTIONS,
    Limits,
    connect,
    node_client,
    sentinels,
)
from rwf.transport.faults import FAULTS, UNREACHED
from rwf.transport.nodes import (
    Silences,
    asked,
    asking,
    by_node,
    chosen,
    filled,
    is_behind,
    packed,
    replaced,
    settled,
    taken_out,
    unmoved,
    unpacked,
)
from rwf.transport.session import DEFAULT_TIMEOUT, Session

T = TypeVar("T")

# Nodes that one call asks at the same time; the others wait for the first of them.
_NODES_AT_ONCE: Final = 32


class Store:
    """A redis-py client that was given, or the address of one to be made at the first command."""

    def __init__(self, client: Any, url: str, max_connections: int, timeout: float) -> None:
        self.limits = Limits(max_connections, timeout)
        self._client = client
        self._given = client is not None
        self._address = None if self._given else Address.parse(url)
        self._embedded: EmbeddedServer | None = None
        if self._address is not None and self._address.kind == "embedded":
            self._embedded = EmbeddedServer(folder_of(url))
        self._silences = Silences(timeout)
        self._nodes: dict[str, Any] = {}

    @property
    def cluster(self) -> bool:
        """Whether it is a Redis Cluster; known before anything is connected."""
        if self._address is not None:
            return self._address.kind == "cluster"
        kinds = redis.cluster.RedisCluster, redis.asyncio.cluster.RedisCluster
        return isinstance(self._client, kinds)

    def _check(self, node: Any, patient: bool) -> None:
        """Raises NodeSilent for a node that has not answered others just before."""
        if node is not None and not patient:
            self._silences.check(node.name)

    @contextmanager
    def _watching(self, node: Any) -> Iterator[None]:
        """Notes whether a cluster's node answers."""
        try:
            yield
        except UNREACHED as error:
            if node is not None:
                self._silences.failed(node.name, error)
            raise
        if node is not None:
            self._silences.answered(node.name)


class SyncStore(Store):
    """A blocking client, and the driver on it."""

    def __init__(
        self,
        client: Any = None,
        url: str = "",
        *,
        max_connections: int = MAX_CONNECTIONS,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        super().__init__(client, url, max_connections, timeout)
        self._lock = threading.Lock()
        self._threads: tuple[int, ThreadPoolExecutor] | None = None

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
        for node in self._nodes.values():
            node.close()
        self._nodes.clear()
        if self._threads is not None:
            self._threads[1].shutdown(wait=False)
            self._threads = None
        if self._client is not None and not self._given:
            if self.cluster:
                # Its own close leaves the sockets to the garbage collector.
                self._client.disconnect_connection_pools()
            for sentinel in sentinels(self._client, self._address):
                sentinel.close()
            self._client.close()
            self._client = None
        if self._embedded is not None:
            self._embedded.close()

    def _perform(self, action: Action) -> Any:
        match action:
            case Send(args, _, ()) if not self.cluster:
                return self.client().execute_command(*args, NEVER_DECODE=True)
            case Send(args, key, behind):
                return settled(self._redirected([args, *behind], key))
            case SendInTurn(commands, key):
                return self._in_turn(commands, key)
            case SendTogether(sends):
                return self._together(sends)
            case SendEverywhere(args, node):
                return self._everywhere(args, node)
            case Wait(seconds):
                time.sleep(seconds)
            case Revive() if self._embedded is not None:
                self._embedded.ensure_running()
            case Reconnect(key):
                self._reconnect(key)
        return None

    def client(self) -> Any:
        """The redis-py client."""
        with self._lock:
            if self._client is None:
                assert self._address is not None
                if self._embedded is not None:
                    self._embedded.ensure_running()
                self._client = connect(self._address, self._embedded, self.limits)
            return self._client

    def look_anew(self) -> None:
        """Has a cluster's client ask who has which slots, but no node that is silent; nothing for
        any other."""
        if not self.cluster:
            return
        client = self.client()
        nodes = client.nodes_manager.startup_nodes
        taken = taken_out(self._silences.names, nodes)
        try:
            if nodes:
                client.nodes_manager.initialize()
        finally:
            for node in replaced(taken, client.nodes_manager.startup_nodes):
                if node.redis_connection is not None:
                    node.redis_connection.close()

    def _everywhere(self, args: Command, only: str | None) -> dict[str, Any]:
        client = self.client()
        if not self.cluster:
            return {"": client.execute_command(*args, NEVER_DECODE=True)}
        nodes = chosen(client.get_primaries(), only)

        def ask(node: Any, patient: bool) -> Any:
            try:
                self._check(node, patient)
                # The cluster's own client of the node reads replies as redis-py would.
                with self._watching(node):
                    connection = client.get_redis_connection(node)
                    return connection.execute_command(*args, NEVER_DECODE=True)
            except FAULTS as error:
                return error

        found = self._at_once(ask, nodes)
        self._look_anew_after(found)
        return {node.name: reply for node, reply in zip(nodes, found, strict=True)}

    def _in_turn(self, commands: Sequence[Command], key: str) -> list[Any]:
        client = self.client()
        node = client.get_node_from_key(key) if self.cluster else None
        with self._looking_anew():
            return unmoved(self._pipelined(node, commands))

    def _redirected(self, commands: Sequence[Command], key: str) -> list[Any]:
        """The replies to commands about a key, also while its slot is on its way to another
        node."""
        client = self.client()
        node = client.get_node_from_key(key) if self.cluster else None
        with self._looking_anew():
            replies = self._pipelined(node, commands)
        if other := asked(client, replies[0]):
            replies = self._pipelined(other, asking(commands))[1::2]
        return replies

    def _together(self, sends: Sequence[Send]) -> list[Any]:
        groups = by_node(self.client(), [send.key for send in sends], self.cluster)

        def ask(group: tuple[Any, list[int]], patient: bool) -> list[Any]:
            node, numbers = group
            own = [sends[number] for number in numbers]
            try:
                if isinstance(node, Exception):
                    raise node
                return unpacked(own, self._pipelined(node, packed(own), patient=patient))
            except FAULTS as error:
                return [error] * len(own)

        replies: list[Any] = [None] * len(sends)
        for (_, numbers), found in zip(groups, self._at_once(ask, groups), strict=True):
            for number, reply in zip(numbers, found, strict=True):
                replies[number] = reply
        self._look_anew_after(replies)
        return replies

    def _at_once(self, ask: Callable[[Any, bool], Any], nodes: Sequence[Any]) -> list[Any]:
        """What comes of asking each, all at the same time; a silent one is not asked, unless it is
        the only one."""
        if len(nodes) == 1:
            return [ask(nodes[0], True)]
        pid, threads = self._threads or (0, None)
        if threads is None or pid != os.getpid():  # the threads of a parent are not a child's
            threads = ThreadPoolExecutor(_NODES_AT_ONCE, thread_name_prefix="rwf-nodes")
            self._threads = os.getpid(), threads
        return list(threads.map(lambda node: ask(node, False), nodes))

    def _pipelined(
        self, node: Any, commands: Sequence[Command], *, patient: bool = False
    ) -> list[Any]:
        self._check(node, patient)
        pipeline = filled(self._node(node).pipeline(transaction=False), commands)
        with self._watching(node):
            replies: list[Any] = pipeline.execute(raise_on_error=False)
        if is_behind(self._client, replies):
            self.look_anew()
        return replies

    def _reconnect(self, key: str) -> None:
        client = self.client()
        if not self.cluster:
            client.connection_pool.disconnect(inuse_connections=False)
            return
        for node, _ in by_node(client, [key], True):
            own = None if isinstance(node, Exception) else self._nodes.get(node.name)
            if own is not None:
                own.connection_pool.disconnect(inuse_connections=False)

    def pubsubs(self, channels: Sequence[str]) -> list[tuple[Any, list[str]]]:
        """A redis-py PubSub for each node, not yet subscribed, and the channels to hear there.

        Each on a connection of its own, which takes no place in the pool. Raises what a node's
        absence raises.
        """
        groups = by_node(self.client(), channels, self.cluster)
        return [(self._pubsub(node), [channels[n] for n in found]) for node, found in groups]

    def _pubsub(self, node: Any) -> Any:
        if isinstance(node, Exception):
            raise node
        pool = self._node(node).connection_pool
        own = redis.ConnectionPool(pool.connection_class, **pool.connection_kwargs)
        return redis.client.PubSub(own)

    def _node(self, node: Any) -> Any:
        """The client of a node; None stands for the only one."""
        client = self.client()
        if node is None:
            return client
        with self._lock:
            if node.name not in self._nodes:
                self._nodes[node.name] = node_client(client.get_redis_connection(node), self.limits)
            return self._nodes[node.name]

    @contextmanager
    def _looking_anew(self) -> Iterator[None]:
        """Has a cluster's client ask who has which slots when a node does not answer: redis-py does
        that by itself only where it chooses the node."""
        try:
            yield
        except UNREACHED:
            with suppress(*FAULTS):
                self.look_anew()
            raise

    def _look_anew_after(self, replies: Sequence[Any]) -> None:
        """The same when one of several nodes has not answered; once they have been asked."""
        if any(isinstance(reply, UNREACHED) for reply in replies):
            with suppress(*FAULTS):
                self.look_anew()
