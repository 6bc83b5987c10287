"""The workers of a namespace, as they tell of themselves."""

from __future__ import annotations

from typing import NamedTuple

from rwf.protocol.declare import ServerFunction, server_function


@server_function("register_worker", when_full=True)
class RegisterWorker(ServerFunction[None]):
    """Registers a worker that runs, or removes one that stops. Keys: its home partition's workers
    and their records."""

    worker: str
    about: bytes
    """A ``WorkerRecord``."""
    stops: bool


class StoredWorker(NamedTuple):
    """``about``: None where a call was cut off before it was written."""

    worker: str
    seen_ms: int
    about: bytes | None


class WorkersPage(NamedTuple):
    """``cursor``: where to go on, ``0`` at the end."""

    now_ms: int
    cursor: str
    workers: list[StoredWorker]


@server_function("list_workers", reads_only=True)
class ListWorkers(ServerFunction[WorkersPage]):
    """A page of the workers whose home this partition is. One may be on two pages, either of which
    will do. Keys: the partition's workers and their records."""

    cursor: str
    """``0`` to begin."""
