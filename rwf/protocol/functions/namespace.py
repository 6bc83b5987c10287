"""The namespace's own record, and the daemons that share its partitions."""

from __future__ import annotations

from typing import NamedTuple

from rwf.protocol.declare import ServerFunction, server_function


class Partitions(NamedTuple):
    """How many partitions a namespace has, and had when it was created; None before that."""

    now: int | None
    at_creation: int | None


@server_function("namespace", reads_only=True)
class Namespace(ServerFunction[Partitions]):
    """The namespace's record. Keys: the meta record."""


@server_function("create_namespace")
class CreateNamespace(ServerFunction[Partitions]):
    """Makes the namespace's record, unless there is one. Keys: the meta record."""

    partitions: int
    home_partitions: int


class Fleet(NamedTuple):
    """How many daemons there are, which of them the asking one is, and how many partitions."""

    daemons: int
    rank: int
    partitions: int | None


@server_function("register_daemon", when_full=True)
class RegisterDaemon(ServerFunction[Fleet]):
    """Registers a daemon that runs, or removes one that stops. Keys: the daemons, the meta
    record."""

    daemon: str
    counts_for_ms: int
    """How long it counts without being seen again."""
    stops: bool
