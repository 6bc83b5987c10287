"""Bulk sessions: one command on many workflows. Keys: the listing of sessions, the session, its
refusals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rwf.protocol.declare import Item, ServerFunction, item, server_function


@server_function("begin_bulk")
class BeginBulk(ServerFunction[None]):
    """Makes a bulk session, unless it was made before."""

    text: str
    """The command, as the client has it."""


class TakenBulk(NamedTuple):
    """``outcome``: ``taken``, with where the session stands; ``held`` by another runner; ``done``;
    or ``missing``. ``hand``: the workflows in hand, None when none are."""

    outcome: str
    number: int = 0
    cursor: str = ""
    last: bool = False
    hand: str | None = None
    created: int = 0


@server_function("take_bulk", when_full=True)
class TakeBulk(ServerFunction[TakenBulk]):
    """Gives a runner the lease of a session, if nobody else has it."""

    runner: str
    lease_ms: int


@server_function("select_bulk")
class SelectBulk(ServerFunction[bool]):
    """Puts the next workflows of a session in hand; false when the session has moved on."""

    runner: str
    number: int
    cursor: str
    """Where the selection stands then."""
    last: bool
    """Whether nothing is left to be selected."""
    count: int
    hand: str


@item()
class BulkCount(Item):
    outcome: str
    count: int


@server_function("report_bulk", when_full=True)
class ReportBulk(ServerFunction[bool]):
    """Counts the outcomes of the workflows in hand; false when that was done before."""

    number: int
    counts: Sequence[BulkCount]
    refusals: Sequence[bytes]


@server_function("stop_bulk", when_full=True)
class StopBulk(ServerFunction[bool]):
    """Ends a session before its end; false when there is none."""

    note: bytes


@server_function("list_bulk", when_full=True)
class ListBulk(ServerFunction[None]):
    """Lists a session that the listing may lack."""
