"""Statistics of a partition, and the length of its queues."""

from __future__ import annotations

from typing import NamedTuple

from rwf.protocol.declare import ServerFunction, server_function


class PartitionStats(NamedTuple):
    """``waiting_since_ms``: since when the longest waiting step has been available; ``resume_at``:
    the bound in the ready queue to go on from, None at the end. ``sweep``, ``counts``: hashes as
    field, value, ... ``passed``, ``listed``: how many open workflows the listing has up to where
    the sweep stands, and in all."""

    now_ms: int
    waiting_since_ms: int | None
    resume_at: bytes | None
    sweep: list[bytes]
    counts: list[bytes]
    passed: int
    listed: int


@server_function("stats", reads_only=True)
class Stats(ServerFunction[PartitionStats]):
    """A partition's statistics, since when its steps and its sweep have been waiting, and how far
    the sweep of open workflows has come. Keys: the partition's, its sweep."""

    resume_at: bytes
    """``-`` to begin."""


class StoredQueue(NamedTuple):
    """``waiting``: how many steps; ``first``: the first of their entries; ``asked_at_ms``: when
    somebody last asked for its steps."""

    name: str
    waiting: int
    first: bytes | None
    asked_at_ms: int | None


class QueuesPage(NamedTuple):
    """``cursor``: where to go on, empty at the end."""

    now_ms: int
    cursor: str
    queues: list[StoredQueue]


@server_function("list_queues", reads_only=True)
class ListQueues(ServerFunction[QueuesPage]):
    """A page of the queues that hold a step, or that somebody has asked for. A queue may be on
    two pages, either of which will do. Keys: the partition's."""

    cursor: str
    """``:`` to begin."""


class DescribedQueue(NamedTuple):
    now_ms: int
    queue: StoredQueue


@server_function("describe_queue", reads_only=True)
class DescribeQueue(ServerFunction[DescribedQueue]):
    """How many steps wait in a queue, and when somebody last asked for them. Keys: the
    partition's."""

    queue_name: str
