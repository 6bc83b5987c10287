"""Timers of a partition: which are due, and carrying them out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rwf.protocol.declare import Item, ServerFunction, item, server_function


class DueTimersPage(NamedTuple):
    """``left_out``: how many were; ``next_in_ms``: until the next that is not due yet, None without
    one; ``late``: those that have become due most lately, the latest first."""

    left_out: int
    next_in_ms: int | None
    now_ms: int
    overdue: list[bytes]
    late: list[bytes]


@server_function("due_timers", reads_only=True)
class DueTimers(ServerFunction[DueTimersPage]):
    """Timers that are due: the longest overdue, and where these are more than one reply holds, what
    has become due most lately too. Keys: the partition's."""

    limit: int
    """How many of each at most."""
    left_out: int
    """How many of the longest overdue to leave out, as long as the last of these stands there."""
    last_left_out: bytes
    looked_at_ms: int | None
    """When the caller last looked: what was due by then is not late."""


@item()
class FiredTimer(Item):
    """``kind``: ``r`` a retry, ``l`` a lease; without a step, ``w`` waits and ``u`` what is to be
    walked."""

    slot: int
    kind: str
    step: str


class FiredWorkflow(NamedTuple):
    """Whether slices or passed deadlines are left, and whether topics of waits have not been told
    all."""

    unfinished: bool
    has_notices: bool


@server_function("fire_timers", publishes=True, when_full=True)
class FireTimers(ServerFunction[list[FiredWorkflow]]):
    """Carries out due timers of some workflows; answers for each what is left to do. Keys: those of
    each workflow."""

    clock_before_ms: int | None
    """The server's time before its clock was set back, for timers that are looked at for that."""
    timers: Sequence[FiredTimer]


class LeasesPage(NamedTuple):
    """``executing``: how many steps execute in the partition; ``leases``: ``workflow|step`` each;
    ``resume_at_ms``: where to go on, None at the end."""

    executing: int
    leases: list[bytes]
    resume_at_ms: int | None


@server_function("list_leases", reads_only=True)
class ListLeases(ServerFunction[LeasesPage]):
    """A page of the steps that somebody has in hand, by the ends of their leases. Keys: the
    partition's."""

    from_ms: int | None
    """None to begin."""
