"""Comparing derived keys with the records, and repairing them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rwf.protocol.declare import Item, ServerFunction, item, server_function
from rwf.protocol.functions.waits import WaitNotice


class FoundRepair(NamedTuple):
    """A repair; ``step`` is empty for the workflow as a whole."""

    kind: str
    step: str


class RepairedSteps(NamedTuple):
    """``before``, ``after``: the header's counts as found and as left; ``states``: how many of the
    chunk's steps are in each state, in the order of ``StepState``; ``notices``: what the topics of
    their waits are to be told."""

    repairs: list[FoundRepair]
    before: bytes
    after: bytes
    states: list[int]
    notices: list[WaitNotice]
    marked: list[int]
    """How many of the chunk's steps were skipped, and how many superseded."""


@server_function("repair_workflow", publishes=True, when_full=True)
class RepairWorkflow(ServerFunction[RepairedSteps | None]):
    """Compares one chunk of a workflow's steps with the entries derived from them; None where there
    is no workflow. Keys: the workflow's."""

    chunk: int


class RepairedCallbacks(NamedTuple):
    """As for steps; how many callbacks were looked at, are open, and are dead."""

    repairs: list[FoundRepair]
    before: bytes
    after: bytes
    written: int
    open: int
    dead: int


@server_function("repair_callbacks", publishes=True, when_full=True)
class RepairCallbacks(ServerFunction[RepairedCallbacks | None]):
    """Compares a chunk of a workflow's callbacks with the outbox. Keys: the workflow's."""

    first: int


@server_function("correct_counts", publishes=True, when_full=True)
class CorrectCounts(ServerFunction[list[FoundRepair]]):
    """Corrects a workflow's counts, unless they have changed since they were read. Keys: the
    workflow's."""

    before: bytes
    callbacks: int
    open: int
    dead: int
    skipped: int
    superseded: int
    steps: Sequence[int]


@item()
class DerivedEntry(Item):
    """An entry of a derived set. ``slot`` is 0 for one that no workflow of the partition can have;
    ``step`` is a step, the number of a callback, or empty."""

    slot: int
    step: bytes
    member: bytes


class RemovedOrphans(NamedTuple):
    kind: str
    changed: int
    """How many were removed or moved."""


@server_function("remove_orphans", when_full=True)
class RemoveOrphans(ServerFunction[RemovedOrphans]):
    """Removes entries of a derived set that the records do not imply. Keys: those of each
    workflow."""

    set: str
    """Its name; ``wait_notices`` for those of the workflows."""
    entries: Sequence[DerivedEntry]


class RepairedKeys(NamedTuple):
    kinds: list[str]
    versions: list[str]
    """Each workflow's semantics version: empty when it is not visible, ``?`` when unreadable."""


@server_function("repair_keys", when_full=True)
class RepairKeys(ServerFunction[RepairedKeys]):
    """Repairs the derived entries of some workflows, except those of their steps. Keys: those of
    each workflow."""


class RegisteredWait(NamedTuple):
    workflow_id: str
    step: str
    n: int
    state: str


class RepairedTopic(NamedTuple):
    """``cursor``: where to go on, ``0`` at the end; ``topic``: None where there is none; ``waits``:
    those that stand by the page of its record."""

    kinds: list[str]
    cursor: str
    topic: bytes | None
    waits: list[RegisteredWait]


@server_function("repair_topic", when_full=True)
class RepairTopic(ServerFunction[RepairedTopic]):
    """Compares a page of a topic's registrations with its record. Keys: the topic's."""

    of_record: bool
    """Whether the page is of its record, or of the set that is derived from that."""
    cursor: str


@server_function("faulty_topics", reads_only=True)
class FaultyTopics(ServerFunction[list[int]]):
    """Which topics, counted from 1, hold something wrong, or lack this member or the timer of a
    hand-off. Keys: those of each topic."""

    members: Sequence[str]


class Count(NamedTuple):
    name: str
    number: int


class CountedGauges(NamedTuple):
    gauges: list[Count]
    sizes: list[Count]
    sums: list[Count]


@server_function("count_gauges", reads_only=True)
class CountGauges(ServerFunction[CountedGauges]):
    """A partition's gauges, the sizes of its derived sets, and what some workflows add to the
    gauges. Keys: those of each workflow."""


@item()
class WrongGauge(Item):
    field: str
    found: int
    right: int


@server_function("set_gauges", when_full=True)
class SetGauges(ServerFunction[list[int]]):
    """Sets gauges, unless they have changed since they were read; answers which, counted from 1.
    Keys: the partition's."""

    gauges: Sequence[WrongGauge]
