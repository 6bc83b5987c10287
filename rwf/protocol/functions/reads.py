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


class PlacesPage(NamedTuple):
    """``fits``: a digit for each place, 0 where its workflow lacks another of the tags, or is in
    another group; empty where all may be meant."""

    places: list[str]
    fits: str


class ListedPlaces(NamedTuple):
    """``chosen``: which of the indexes was read, as later calls are told."""

    chosen: int
    pages: list[PlacesPage]


@server_function("list", reads_only=True)
class ListPlaces(ServerFunction[ListedPlaces]):
    """Places of workflows, ``inserted|id``: of each group, or of one tag where that has fewer. A
    page of ``limit`` places goes on to the end of its last millisecond, with at most as many again.
    Keys: the partition's."""

    groups: str
    """The groups of the listing, a letter each: ``o`` for open workflows, else the code of a
    terminal state."""
    behind: str | None
    """A place to go on behind."""
    limit: int
    oldest_first: bool = False
    inserted_from: str | None = None
    """The first time of insertion, as places have it."""
    inserted_before: str | None = None
    """The first time of insertion that is too late."""
    index: int | None = None
    """The index that an earlier call has read for the same question."""
    tags: Sequence[str] = ()
    """As they are stored."""


class FoundWorkflow(NamedTuple):
    """``slot``: which of those that were asked for, from 1; ``order``: among those inserted in the
    same millisecond."""

    slot: int
    static: bytes
    counts: bytes
    order: str


@server_function("find", reads_only=True)
class FindWorkflows(ServerFunction[list[FoundWorkflow]]):
    """The headers of those of some workflows that a filter may hold of. Keys: the hash of each."""

    groups: str
    """The groups of the listing to look in, as :class:`ListPlaces` has them."""
    troubled: bool
    """Only those in which an operator may have something to look at."""
    named: str | None = None
    failed_step: str | None = None
    parent: str | None = None
    tags: Sequence[str] = ()
    """As they are stored."""


@server_function("count", reads_only=True)
class CountPlaces(ServerFunction[int]):
    """How many places some groups have or, where one is named, a tag. Keys: the partition's."""

    groups: str
    inserted_from: str | None
    inserted_before: str | None
    tag: str | None


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


class StoredWait(NamedTuple):
    step: str
    record: bytes | None


class StoredSteps(NamedTuple):
    """The workflow's header; the steps' names, records, inputs, contexts and conditions, in order;
    the server's time in microseconds; the latest waits of those steps that wait or have expired."""

    static: bytes
    counts: bytes
    context: bytes | None
    names: list[str]
    records: list[bytes | None]
    inputs: list[bytes | None]
    contexts: list[bytes | None]
    micros: int
    waits: list[StoredWait]
    conditions: list[bytes | None]


@server_function("steps", reads_only=True)
class ReadSteps(ServerFunction[StoredSteps | None]):
    """Steps by name, or a chunk of them; None where there is no workflow. With inputs and contexts
    the list may end early, after one step or more. Keys: the workflow's."""

    with_payloads: bool
    """Whether the reply has inputs and contexts, too."""
    chunk: int | None
    names: Sequence[str]


class ResultRow(NamedTuple):
    step: str
    attempt: int
    row: bytes | None
    payload: bytes | None
    traceback: bytes | None = None


class ResultRows(NamedTuple):
    """``next_name``, ``next_attempt``: where to go on, the number of a name, from 1, and its
    attempt; 0 at the end."""

    rows: list[ResultRow]
    next_name: int
    next_attempt: int


@server_function("results", reads_only=True)
class ReadResults(ServerFunction[ResultRows | None]):
    """The result rows of steps, as many as one reply holds; None where there is no workflow. A step
    that does not exist, or never reported, has none. Keys: the workflow's."""

    with_payloads: bool
    latest: bool
    """Only the latest attempt's."""
    attempt: int | None
    """Only this attempt's."""
    first_attempt: int | None
    """The attempt to go on from in the first of the names."""
    names: Sequence[str]


class InputItem(NamedTuple):
    """An input and a context; or a payload and nothing; or of a result its row and payload."""

    one: bytes | None
    other: bytes | None


@server_function("inputs", reads_only=True)
class ReadInputs(ServerFunction[list[InputItem]]):
    """The first items of a claimed step's input that there is room for; none where there is no
    workflow. Keys: the workflow's."""

    room: int
    """In bytes."""
    whole_first: bool
    """Whether the reply has the first item whatever its size."""
    step: str
    items: Sequence[str]
    """``p`` the step's input and context, ``w`` the workflow's context, ``s`` the payload of the
    signal that woke it, ``r`` and a name: that step's result, ``o`` and a name: its outcome; ``l``,
    a name and the number of a chunk: names of the steps that it has appended."""


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
