"""Reading workflows: headers, places in the listing, evidence, edges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rwf.protocol.declare import ServerFunction, server_function


class ShownWorkflow(NamedTuple):
    """``order``: the workflow's order among those inserted in the same millisecond."""

    static: bytes
    counts: bytes
    context: bytes | None
    order: str


@server_function("show", reads_only=True)
class Show(ServerFunction[list[ShownWorkflow | None]]):
    """The headers of workflows, None where there is none. The list ends early when the contexts in
    it have filled the reply: the rest is to be asked for again. Keys: those of each workflow."""


@server_function("list", reads_only=True)
class ListPlaces(ServerFunction[list[list[str]]]):
    """For each group its places in the listing, ``inserted|id``. A list of ``limit`` places goes on
    to the end of its last millisecond, with at most as many again. Keys: the partition's."""

    groups: str
    """A letter each: ``o`` for open workflows, else the code of a terminal state."""
    behind: str | None
    """A place to go on behind."""
    limit: int


class EvidencePage(NamedTuple):
    """``total``: how many entries there are; ``dropped``: how many made room for later ones."""

    entries: list[bytes]
    total: int
    dropped: int


@server_function("evidence", reads_only=True)
class Evidence(ServerFunction[EvidencePage]):
    """Entries of a workflow's evidence, or of the partition's log of what concerns no workflow.

    A reply holds the first of them that it has room for; the last when the indices count from the
    end. Keys: the partition's and, but for the log, the workflow's.
    """

    kind: str
    """``accepted``, ``noise`` or ``log``."""
    first: int
    last: int
    """Both count from the start; or are negative and count from the end."""


@server_function("edges", reads_only=True)
class Edges(ServerFunction[list[str]]):
    """Chunks of a long list of a step's parents or children. Keys: the workflow's."""

    of_parents: bool
    step: str
    first: int
    last: int


class HeldStep(NamedTuple):
    child: str
    parent: str


class StoredStep(NamedTuple):
    name: str
    record: bytes


class Ancestors(NamedTuple):
    """``steps``: each parent once; ``places``: where to go on."""

    edges: list[HeldStep]
    steps: list[StoredStep]
    places: list[str]


@server_function("ancestry", reads_only=True)
class Ancestry(ServerFunction[Ancestors]):
    """The parents that hold steps back, walked upwards: those that have not ended, for a child that
    waits; those that ended other than completed over a cancel edge, for one that was cancelled.
    Keys: the workflow's."""

    places: Sequence[str]
    """Where to go on: a step's name, or ``name#n`` for the n-th chunk of its parents."""


class ScannedPage(NamedTuple):
    """``cursor``: where to go on, ``0`` at the end."""

    cursor: str
    members: list[bytes]


@server_function("page", reads_only=True)
class ScanSets(ServerFunction[list[ScannedPage | None]]):
    """Some members of each of some sorted sets, in no order; None for a key of another type. Who
    goes on to the end has seen all that was there all the time. Keys: the sorted sets."""

    cursors: Sequence[str]
    """For each, where to go on; ``0`` at first."""
