"""Slots that move from one primary of a cluster to another, key by key, as an operator moves
them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from tests.support.servers import Cluster, Server, ask, free_port
from tests.support.waiting import until

_TIMEOUT_MS: Final = 5000


@dataclass(frozen=True)
class Move:
    """A slot that is being moved: its keys are on two primaries."""

    slot: int
    source: Server
    target: Server

    def carry(self, *keys: str) -> None:
        """Moves these keys; those that do not exist are left out."""
        there = ("127.0.0.1", self.target.port, "", 0, _TIMEOUT_MS, "KEYS")
        ask(self.source, "MIGRATE", *there, *keys)

    def left(self, count: int = 1000) -> list[str]:
        """Keys that are still where they were, so many at most."""
        found: list[str] = ask(self.source, "CLUSTER GETKEYSINSLOT", self.slot, count)
        return found


@contextmanager
def moving(cluster: Cluster, key: str, target: Server) -> Iterator[Move]:
    """The slot of a key is being moved to a primary while the block runs; remaining keys follow at
    the end, and every node is informed."""
    _agree(cluster)
    source, slot = cluster.primary_of(key), ask(target, "CLUSTER KEYSLOT", key)
    move = Move(slot, source, target)
    ask(target, "CLUSTER SETSLOT", slot, "IMPORTING", ask(source, "CLUSTER MYID"))
    ask(source, "CLUSTER SETSLOT", slot, "MIGRATING", ask(target, "CLUSTER MYID"))
    yield move
    # The source closes the slot only when it is empty, and others may put keys into it until then.
    while left := move.left(10):
        move.carry(*left)
    owner = ask(target, "CLUSTER MYID")
    for node in (target, source, *(set(cluster.primaries()) - {source, target})):
        ask(node, "CLUSTER SETSLOT", slot, "NODE", owner)
    _agree(cluster)
    assert cluster.primary_of(key) is target


def move(cluster: Cluster, key: str, target: Server) -> None:
    """Moves the slot of a key to another primary, with all its keys."""
    with moving(cluster, key, target):
        pass


def _agree(cluster: Cluster) -> None:
    """Waits until all nodes agree on the slots of the primaries, and know their epochs.

    A node that takes over a slot before it knows the old owner's epoch may end up with a lower one.
    The old owner's messages then take the slot away again, while it redirects to the new one: each
    sends clients to the other, for ever.
    """

    def seen_by(node: Server) -> tuple[Any, Any]:
        known, ranges = ask(node, "CLUSTER NODES").values(), ask(node, "CLUSTER SLOTS")
        return (
            sorted((start, end, primary[1]) for start, end, primary, *_ in ranges),
            {one["node_id"]: one["epoch"] for one in known if "master" in one["flags"]},
        )

    def agreed() -> bool:
        first, *others = (seen_by(node) for node in cluster.nodes if node.alive)
        epochs = first[1].values()
        return len(set(epochs)) == len(epochs) and all(seen == first for seen in others)

    until(agreed, timeout=60, what="nodes that agree on the slots and on their epochs")


def _knows(node: Server, count: int) -> bool:
    """Whether a node serves, and knows this many nodes."""
    info = ask(node, "CLUSTER INFO")
    return bool(info["cluster_state"] == "ok" and info["cluster_known_nodes"] == str(count))


def add_primary(cluster: Cluster) -> Server:
    """Adds a primary without slots; it ends with the cluster."""
    options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    newcomer = Server.start(cluster.nodes[0].kind, extra=options)
    cluster.nodes = (*cluster.nodes, newcomer)
    bus = ask(newcomer, "CONFIG GET", "cluster-port")["cluster-port"]
    ask(cluster.nodes[0], "CLUSTER MEET", "127.0.0.1", newcomer.port, bus)
    until(
        lambda: all(_knows(node, len(cluster.nodes)) for node in cluster.nodes),
        what="a cluster that knows its new node",
    )
    return newcomer
