"""Inserting workflows, and the keys that inserts are made under."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rwf.protocol.declare import Item, ServerFunction, item, server_function
from rwf.protocol.functions.workflows import HeaderReply


class KeyReservation(NamedTuple):
    """``text``: the reservation that stands, ``id definition milliseconds``; ``is_old``: whether it
    is older than an insert may take."""

    text: str
    is_old: bool


@server_function("reserve_key")
class ReserveKey(ServerFunction[KeyReservation]):
    """Ties an insert key to a workflow that is to be inserted, unless another one has it. Keys: the
    partition's."""

    digest: str
    workflow_id: str
    definition: str
    """The definition's digest."""
    replaces: str | None
    """The reservation that this one may take the place of."""


@server_function("release_key", when_full=True)
class ReleaseKey(ServerFunction[None]):
    """Frees the insert key of a workflow that was removed. Keys: the partition's."""

    digest: str
    workflow_id: str


class InsertReply(NamedTuple):
    """``outcome``: ``staged``, ``inserted``; ``exists`` when the id has a workflow, ``unusable``
    when it may have none; ``incomplete`` when parts are missing and the insert has to begin again.

    ``header``: of the workflow that was inserted or exists; ``owner``: whose insert made it then.
    """

    outcome: str
    header: HeaderReply | None = None
    owner: bytes | None = None


@server_function("stage_insert")
class StageInsert(ServerFunction[InsertReply]):
    """Stores a part of a graph, which stays invisible until the last part is stored. Keys: the
    workflow's."""

    own: Sequence[bytes]
    """Fields of the workflow's hash, each followed by its value."""
    payload: Sequence[bytes]
    """Fields of the payload hash, each followed by its value."""


@item(packed=7)
class InsertedGraph(Item):
    """A graph, or its last part. ``staged``: whether parts of it were staged before;
    ``own_count`` and ``payload_count``: how many fields its two hashes must have in the end;
    ``own`` and ``payload``: how many of the call's ``fields`` are theirs; ``static``: the header's
    fixed part, which lacks but the time of insertion; ``link``: of a child workflow its link
    (``LinkRecord``), else empty."""

    staged: bool
    own_count: int
    payload_count: int
    own: int
    payload: int
    starts: str
    """When it is to start: empty for now, ``+`` and milliseconds from now, or ``=`` and the time in
    milliseconds."""
    deadline_ms: int | None
    """How long after its start it is to have ended."""
    static: str
    link: str = ""


@server_function("insert", publishes=True)
class Insert(ServerFunction[list[InsertReply]]):
    """Stores graphs, or the last part of one, and makes them visible. Keys: those of each
    workflow."""

    note: bytes | None
    """The client's note, when the insert is to leave evidence."""
    graphs: Sequence[InsertedGraph]
    fields: Sequence[bytes]
    """Of each graph the fields of the workflow's hash, each followed by its value, and then those
    of its payload hash."""


@server_function("block_id")
class BlockId(ServerFunction[InsertReply]):
    """Makes an id unusable, if no workflow has it. Keys: the workflow's."""


@server_function("overdue_inserts", reads_only=True)
class OverdueInserts(ServerFunction[list[bytes]]):
    """The workflow ids of abandoned inserts. Keys: the partition's."""

    limit: int


@server_function("discard", when_full=True)
class Discard(ServerFunction[None]):
    """Removes the staged parts of an insert that was abandoned long enough ago. Keys: the
    workflow's."""
