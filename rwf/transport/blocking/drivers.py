# Made of rwf/transport/aio/drivers.py by tools/blocking.py: do not edit.
"""The driver of sessions: does what a session asks for, on redis-py's clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar
from weakref import WeakSet

import redis
import redis.client

from rwf.errors import ClientClosed
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
from rwf.transport.blocking import connecting
from rwf.transport.blocking.concurrency import Lock, SideBySide, call, sleep, time_limit
from rwf.transport.connecting import MAX_CONNECTIONS
from rwf.transport.faults import FAULTS, UNREACHED
from rwf.transport.nodes import (
    asked,
    asking,
    by_node,
    chosen,
    filled,
    gone_ahead,
    is_behind,
    packed,
    replaced,
    settled,
    taken_out,
    unmoved,
    unpacked,
)
from rwf.transport.session import DEFAULT_TIMEOUT, Session
from rwf.transport.store import BaseStore

T = TypeVar("T")

# Nodes that one call asks at the same time.
_NODES_AT_ONCE: Final = 32


class Store(BaseStore):
    """A redis-py client, and the driver on it.

    A client that was given stays open when the store is closed, unless the store owns it.
    """

    def __init__(
        self,
        client: Any = None,
        url: str = "",
        *,
        max_connections: int = MAX_CONNECTIONS,
        timeout: float = DEFAULT_TIMEOUT,
        owned: bool = False,
    ) -> None:
        super().__init__(client, url, max_connections, timeout, owned)
        # One time limit for all that a node is asked, beginning with a free connection; a client
        # that was given has limits of its own.
        self._limit = timeout if self._owns_client else None
        self._lock = Lock()
        self._side_by_side = SideBySide("rwf-nodes", _NODES_AT_ONCE)
        self._closings = 0
        # Clients that were closed, as long as a call uses them.
        self._closed = WeakSet[Any]()

    def run(self, session: Session, op: Op[T]) -> T:
        """Carries out an operation."""
        return self.drive(session.run(op))

    def drive(self, steps: Steps[T]) -> T:
        """Does what a session asks for, until it ends; no more of it once the store was closed."""
        reply: Any = None
        fault: Exception | None = None
        begun = self._closings
        while True:
            try:
                action = steps.send(reply) if fault is None else steps.throw(fault)
            except StopIteration as end:
                result: T = end.value
                return result
            if self._closings != begun:
                reply, fault = None, ClientClosed()
                continue
            try:
                reply, fault = self._perform(action), None
            except FAULTS as error:
                reply, fault = None, error
            except Exception:  # redis-py raises many where a connection is closed under it
                if self._closings == begun:
                    raise
                reply, fault = None, ClientClosed()
            finally:
                if self._closings != begun:
                    self._close_clients()

    def close(self) -> None:
        """Closes what this store has opened; a client that was given stays open. Calls that are
        under way raise StoreUnavailable, if they have more to send."""
        self._closings += 1
        nodes, self._nodes = self._nodes, {}
        for node in nodes.values():
            node.close()
        self._side_by_side.close()
        self._close_clients()
        if self._embedded is not None:
            call(self._embedded.close)

    def _close_clients(self) -> None:
        """Closes the client, if the store owns it, and once more those closed before that calls
        still use: these give their connections back only then."""
        with self._lock:
            client = self._client if self._owns_client else None
            if client is not None:
                self._closed.add(client)
                self._client = None
            closed = list(self._closed)
        for one in closed:
            connecting.close(one, self.address)

    def _perform(self, action: Action) -> Any:
        match action:
            case Send(args, _, ()) if not self.cluster:
                client = self.client()
                with time_limit(self._limit):
                    return client.execute_command(*args, NEVER_DECODE=True)
            case Send(args, key, behind):
                return settled(self._redirected([args, *behind], key))
            case SendInTurn(commands, key):
                return self._in_turn(commands, key)
            case SendTogether(sends):
                return self._together(sends)
            case SendEverywhere(args, node):
                return self._everywhere(args, node)
            case Wait(seconds):
                sleep(seconds)
            case Revive() if self._embedded is not None:
                call(self._embedded.ensure_running)
            case Reconnect(key):
                self._reconnect(key)
        return None

    def client(self) -> Any:
        """The redis-py client."""
        if self._client is None:
            assert self.address is not None
            if self._embedded is not None:
                call(self._embedded.ensure_running)
            with self._lock:
                if self._client is None:
                    self._client = connecting.connect(self.address, self._embedded, self.limits)
        return self._client

    def look_anew(self) -> None:
        """Has a cluster's client ask who has which slots, but no node that is silent; nothing for
        any other."""
        if not self.cluster:
            return
        client = self._ready()
        nodes = client.nodes_manager.startup_nodes
        taken = taken_out(self._silences.names, nodes)
        try:
            if nodes:
                with time_limit(self._limit):
                    client.nodes_manager.initialize()
        finally:
            for node in replaced(taken, client.nodes_manager.startup_nodes):
                connecting.close_node(node)

    def _everywhere(self, args: Command, only: str | None) -> dict[str, Any]:
        client = self._ready()
        if not self.cluster:
            with time_limit(self._limit):
                return {"": client.execute_command(*args, NEVER_DECODE=True)}
        nodes = chosen(client.get_primaries(), only)

        def ask(node: Any, patient: bool) -> Any:
            try:
                self._check(node, patient)
                with self._watching(node), time_limit(self._limit):
                    # The cluster's own client of the node reads replies as redis-py would.
                    own = connecting.cluster_node(client, node)
                    return own.execute_command(*args, NEVER_DECODE=True)
            except FAULTS as error:
                return error

        found = self._at_once(ask, nodes)
        self._look_anew_after(found)
        return {node.name: reply for node, reply in zip(nodes, found, strict=True)}

    def _ready(self) -> Any:
        """The client, knowing the nodes of its cluster."""
        client = self.client()
        if self.cluster:
            with time_limit(self._limit):
                connecting.find_nodes(client)
        return client

    def _in_turn(self, commands: Sequence[Command], key: str) -> list[Any]:
        client = self._ready()
        node = client.get_node_from_key(key) if self.cluster else None
        with self._looking_anew():
            replies = self._pipelined(node, commands)
            # Some of the keys, or all, may have gone ahead of their slot to another node.
            for other, places in gone_ahead(client, replies):
                ahead = self._pipelined(other, asking([commands[n] for n in places]))
                for place, reply in zip(places, ahead[1::2], strict=True):
                    replies[place] = reply
            return unmoved(replies)

    def _redirected(self, commands: Sequence[Command], key: str) -> list[Any]:
        """The replies to commands about a key, also while its slot is on its way to another
        node."""
        client = self._ready()
        node = client.get_node_from_key(key) if self.cluster else None
        with self._looking_anew():
            replies = self._pipelined(node, commands)
        if other := asked(client, replies[0]):
            both = self._pipelined(other, asking(commands))
            replies = both[1::2]
        return replies

    def _together(self, sends: Sequence[Send]) -> list[Any]:
        groups = by_node(self._ready(), [send.key for send in sends], self.cluster)

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
        """The answer or error of each node, all asked at the same time. A node known not to answer
        is not asked, unless it is the only one."""
        patient = len(nodes) == 1
        return self._side_by_side.map(lambda node: ask(node, patient), nodes)

    def _pipelined(
        self, node: Any, commands: Sequence[Command], *, patient: bool = False
    ) -> list[Any]:
        self._check(node, patient)
        client = self._node(node)
        pipeline = filled(client.pipeline(transaction=False), commands)
        with self._watching(node), time_limit(self._limit):
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
        groups = by_node(self._ready(), channels, self.cluster)
        return [(self._pubsub(node), [channels[n] for n in found]) for node, found in groups]

    def _pubsub(self, node: Any) -> Any:
        if isinstance(node, Exception):
            raise node
        client = self._node(node)
        pool = client.connection_pool
        own: Any = redis.ConnectionPool
        return redis.client.PubSub(
            own(connection_class=pool.connection_class, **pool.connection_kwargs)
        )

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
        """Does so too when one of several nodes has not answered, once they have been asked."""
        if any(isinstance(reply, UNREACHED) for reply in replies):
            with suppress(*FAULTS):
                self.look_anew()

    def _node(self, node: Any) -> Any:
        """The client of a node; None stands for the only one."""
        client = self.client()
        if node is None:
            return client
        with self._lock:
            if node.name not in self._nodes:
                self._nodes[node.name] = connecting.node_client(client, node, self.limits)
            return self._nodes[node.name]
