"""Carrying news of waits and signals between a workflow and the topics of its waits.

A step's wait is a record of its workflow; a topic (a signal's name and a correlation key) lives at
a home partition of its own, where signals come in and waits are registered. What happens to one is
told to the other in calls of which each is idempotent, so that anybody can finish what a dead
client has left:

    a wait begins, or ends         the workflow's call, then ``update_topic``, then
                                   ``ack_wait_notices`` to the workflow
    a topic hands a signal over    ``resolve_wait`` to the workflow, then the same two

``update_topic`` may answer with the topic's next hand-off, which is then carried out in turn. Who
finds that the workflow was removed meanwhile has the topic forget it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final
from urllib.parse import unquote

import orjson

from rwf.ops import child_notices
from rwf.ops.base import OpContext, wire_text
from rwf.ops.child_notices import Moved
from rwf.protocol.functions.topics import (
    HandOff,
    JudgeTopic,
    SignalReply,
    TopicName,
    UpdateTopic,
)
from rwf.protocol.functions.waits import (
    AckedWait,
    AckWaitNotices,
    PendingWaitNotices,
    ResolveWait,
    WaitNotice,
)
from rwf.protocol.functions.workflows import Advance, HeaderReply
from rwf.protocol.headers import Header
from rwf.protocol.keys import home_partition, topic_digest
from rwf.protocol.records import START
from rwf.protocol.requests import Op, ask
from rwf.protocol.stored import LinkRecord
from rwf.protocol.waits import Signal, Wait, child_of

_STEPS_PER_CALL: Final = 50
_HEADER: Final = 4


@dataclass(frozen=True, slots=True)
class Topic:
    """A signal's name and a correlation key."""

    signal: str
    key: str

    @classmethod
    def stored(cls, text: bytes) -> Topic:
        """The topic that a wait's record names."""
        signal, _, key = text.decode().partition("|")
        return cls(signal, unquote(key))

    @property
    def quoted_key(self) -> str:
        """The key as functions take it."""
        return wire_text(self.key)

    def keys(self, ctx: OpContext) -> list[str]:
        """The keys of a function at the topic's home."""
        return ctx.keys.topic(self.digest)

    def signal_id(self, ctx: OpContext, number: int) -> str:
        """The id of one of its signals."""
        digest = self.digest
        return f"{home_partition(digest, ctx.keys.home_partitions)}-{digest}/{number}"

    @property
    def digest(self) -> str:
        """Its form in key names."""
        return topic_digest(self.signal, self.key)


@dataclass(frozen=True, slots=True)
class Fate:
    """How a wait stands: ``w`` it waits, ``x`` expired, ``r`` resolved, ``g`` otherwise
    over, and ``n`` for one whose workflow was removed.

    ``x`` only while its step is still expired by it. ``number`` is that of the signal which
    resolved it. ``known`` is whether the topic knows of it already.
    """

    workflow_id: str
    step: str
    n: int
    stamp: str
    what: str
    number: int | None = None
    known: bool = False

    @classmethod
    def of(cls, workflow_id: str, step: str, wait: Wait, what: str) -> Fate:
        number = number_of(wait.signal_id) if wait.signal_id else None
        return cls(workflow_id, step, wait.n, wait.stamp, what, number)


class TopicRepair(Enum):
    """Why a topic is told of a wait by whoever repairs: by its workflow's record the topic was told
    before, or it was not."""

    RECORDED = auto()
    UNRECORDED = auto()


Given = tuple[str, str, int, str]
"""A notice of a child or a parent: its workflow, step, number and outcome."""

Unsettled = dict[str, bool]
"""Workflows whose topics have still to learn something; true: slices are left, too."""


def settle_waits(ctx: OpContext, workflow_id: str) -> Op[bool]:
    """Tells the topics of a workflow's waits, its children and its parent what they do not know,
    with all that follows; whether that is all, as news of children may have to wait."""
    unsettled = {workflow_id: False}
    return (yield from settle(ctx, unsettled))


def settle(ctx: OpContext, unsettled: Unsettled) -> Op[bool]:
    """Settles the waits of several workflows, and of those that are met on the way."""
    all_told = True
    given: set[Given] = set()
    while unsettled:
        workflow_id, unwalked = unsettled.popitem()
        while unwalked:
            unwalked = (yield from ask(ctx.workflow_keys(workflow_id), Advance(None))).more
        notices = PendingWaitNotices(_STEPS_PER_CALL)
        while found := (yield from ask(ctx.workflow_keys(workflow_id), notices)):
            fates: list[tuple[Topic | None, Fate]] = []
            for entry in found:
                place = workflow_id, entry.step, entry.n, entry.outcome
                if place not in given:
                    fates.append((yield from _give(ctx, workflow_id, entry, unsettled)))
                if fate_of(workflow_id, entry)[0] is None:
                    given.add(place)
            if not fates:
                all_told = False
                break
            yield from tell(ctx, workflow_id, fates, unsettled)
    return all_told


def _give(
    ctx: OpContext, workflow_id: str, notice: WaitNotice, unsettled: Unsettled
) -> Op[tuple[Topic | None, Fate]]:
    """Gives a notice; returns it as its workflow is to record it: without an outcome where it has
    to be given later."""
    topic, fate = fate_of(workflow_id, notice)
    if topic is not None:
        yield from update_topic(ctx, topic, fate, unsettled)
    news = None if topic is not None else news_of(ctx, workflow_id, notice)
    if news is None:
        return topic, fate
    moved = yield from child_notices.tell(ctx, workflow_id, news)
    for one, header in moved or ():
        if one != workflow_id:
            note_unsettled(one, header, unsettled)
    return None, replace(fate, what="") if moved is None else fate


def news_of(ctx: OpContext, workflow_id: str, notice: WaitNotice) -> Op[Moved] | None:
    """The call that tells a child, or the parent; None for a notice of neither."""
    if notice.topic is None:
        return None
    if notice.step == START:
        return child_notices.to_parent(ctx, workflow_id, LinkRecord.parse(notice.topic))
    child = child_of(notice.topic.decode())
    if child is None:
        return None
    step, n, outcome = notice.step, notice.n, notice.outcome
    return child_notices.to_child(ctx, workflow_id, step, n, outcome, child)


def fate_of(workflow_id: str, notice: WaitNotice) -> tuple[Topic | None, Fate]:
    """A wait's topic, None where it has none or is for a child, and the news for it."""
    step, n, outcome, stamp, signal_id, topic, known = notice
    number = number_of(signal_id) if signal_id else None
    fate = Fate(workflow_id, step, n, stamp, outcome, number, known)
    if topic is None or step == START or child_of(topic.decode()) is not None:
        return None, fate
    return Topic.stored(topic), fate


def number_of(signal_id: str) -> int:
    """A signal's number within its topic, from its id."""
    return int(signal_id.rpartition("/")[2])


def update_topic(
    ctx: OpContext,
    topic: Topic,
    fate: Fate,
    unsettled: Unsettled,
    *,
    repair: TopicRepair | None = None,
) -> Op[str]:
    """Tells a topic of a wait, and carries out what it then hands over; the kind of repair."""
    asked = _update(topic, fate, None, repair)
    found = yield from ask(topic.keys(ctx), asked)
    yield from hand_over(ctx, topic, found.handed, unsettled, None)
    return found.repair


def judge_topic(ctx: OpContext, digest: str) -> Op[int]:
    """Carries out what a topic has outstanding, by its digest, and has the signals leave that
    nobody took in time; returns how many these were."""
    text = yield from ask(ctx.keys.topic(digest), TopicName())
    if text is None:
        return 0
    topic = Topic.stored(text)
    unsettled: Unsettled = {}
    left, more = 0, True
    while more:
        found = yield from ask(topic.keys(ctx), JudgeTopic(topic.signal, topic.quoted_key))
        yield from hand_over(ctx, topic, found.handed, unsettled, None)
        left, more = left + found.expired, found.expired > 0
    yield from settle(ctx, unsettled)
    return left


def _update(
    topic: Topic, fate: Fate, asked: int | None, repair: TopicRepair | None = None
) -> UpdateTopic:
    return UpdateTopic(
        topic.signal,
        topic.quoted_key,
        fate.workflow_id,
        fate.step,
        str(fate.n),
        fate.stamp,
        fate.what,
        fate.number,
        asked,
        repair is not None,
        repair is TopicRepair.UNRECORDED,
    )


def hand_over(
    ctx: OpContext, topic: Topic, handed: HandOff | None, unsettled: Unsettled, asked: int | None
) -> Op[Signal | None]:
    """Carries out a topic's hand-offs, one after the other, until none is outstanding.

    Returns what is then known of the signal that is asked after, None if there was no hand-off.
    """
    found: SignalReply | None = None
    while handed is not None:
        workflow_id, step, n = handed.workflow_id, handed.step, handed.n
        signal_id = topic.signal_id(ctx, handed.number)
        note = {"signal_id": signal_id, "signal": topic.signal, "correlation_key": topic.key}
        if handed.actor:
            note["actor"] = unquote(handed.actor)
        resolving = ResolveWait(step, n, signal_id, handed.payload or b"", orjson.dumps(note))
        resolved = yield from ask(ctx.workflow_keys(workflow_id), resolving)
        outcome = resolved.outcome
        if not outcome:
            # A workflow of other semantics: left to a client of a release that knows them.
            break
        number = handed.number if outcome == "r" else None
        fate = Fate(workflow_id, step, n, resolved.stamp, outcome, number)
        updated = yield from ask(topic.keys(ctx), _update(topic, fate, asked))
        found, handed = updated.signal, updated.handed
        yield from tell(ctx, workflow_id, [(topic, fate)], unsettled)
    return None if found is None else Signal.of(found)


def tell(
    ctx: OpContext,
    workflow_id: str,
    fates: Sequence[tuple[Topic | None, Fate]],
    unsettled: Unsettled,
) -> Op[Wait | None]:
    """Records with a workflow which outcomes its topics know; returns the last of these waits."""
    acked = [AckedWait(fate.step, fate.n, fate.what) for _, fate in fates]
    found = yield from ask(ctx.workflow_keys(workflow_id), AckWaitNotices(acked))
    if found.header is None:
        for topic, fate in fates:
            if topic is not None:
                yield from update_topic(ctx, topic, replace(fate, what="n"), unsettled)
        return None
    note_unsettled(workflow_id, found.header, unsettled)
    return Wait.parse(found.wait) if found.wait else None


def note_unsettled(workflow_id: str, header: HeaderReply, unsettled: Unsettled) -> None:
    """Adds the workflow to the list when its header says so."""
    unwalked = Header.parse(header.static, header.counts).unwalked > 0
    if unwalked or header.has_notices:
        unsettled[workflow_id] = unwalked
