"""The outbox: callbacks that are to be delivered, and those who deliver them."""

from __future__ import annotations

from typing import NamedTuple

from rwf.protocol.declare import ServerFunction, server_function
from rwf.protocol.functions.namespace import Partitions


@server_function("register_dispatcher", when_full=True)
class RegisterDispatcher(ServerFunction[Partitions]):
    """Tells that callbacks are dispatched in the namespace: from then on, undelivered ones hold the
    removal of their workflow back. Keys: the meta record."""


@server_function("dispatcher_seen", reads_only=True)
class DispatcherSeen(ServerFunction[int | None]):
    """How many milliseconds ago a dispatcher was last seen; None when none ever was. Keys: the meta
    record."""


@server_function("due_callbacks", reads_only=True)
class DueCallbacks(ServerFunction[list[bytes]]):
    """Callbacks that may be claimed now, ``workflow|number``, those due the longest first. Keys:
    the partition's."""

    skip: int
    limit: int


class StoredCallbacks(NamedTuple):
    """``static``: the workflow's static header; ``records``: oldest first."""

    static: bytes
    records: list[bytes]


@server_function("callbacks", reads_only=True)
class Callbacks(ServerFunction[StoredCallbacks | None]):
    """A workflow's callbacks by number; None where there is no workflow. Keys: the workflow's."""

    first: int
    last: int
