"""Carrying what happens to waits and signals between a workflow and the topics of its waits.

A step's wait is a record of its workflow; a topic (a signal's name and a correlation key) lives at
a home partition of its own, where signals come in and waits are registered. What happens to one is
told to the other in calls of which each is idempotent, so that anybody can finish what a dead
client has left:

    a wait begins, or ends         the workflow's call, then ``sync`` to the topic, then ``told``
    a topic hands a signal over    ``wake`` to the workflow, then ``sync``, then ``told``

``sync`` may answer with the topic's next hand-off, which is then carried out in turn. Who finds
that the workflow was removed meanwhile has the topic forget it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import unquote

import orjson

from rwf.ops.base import OpContext, wire_text
from rwf.protocol.declare import Arg
from rwf.protocol.functions.topics import TopicName
from rwf.protocol.functions.waits import AckedWait, AckWaitNotices, PendingWaitNotices, WaitNotice
from rwf.protocol.functions.workflows import Advance, HeaderReply
from rwf.protocol.headers import Header
from rwf.protocol.keys import home_partition, topic_digest
from rwf.protocol.requests import Call, Op, ask
from rwf.protocol.waits import Signal, Wait

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
    def names(self) -> list[Arg]:
        """What functions take of it."""
        return [self.signal, wire_text(self.key)]

    def call(self, ctx: OpContext, function: str, args: Sequence[Arg]) -> Call:
        """A call of a function at the topic's home."""
        return Call(function, ctx.keys.topic(self.digest), args)

    def signal_id(self, ctx: OpContext, number: int) -> str:
        """The id of one of its signals."""
        digest = self.digest
        return f"{home_partition(digest, ctx.keys.homes)}-{digest}/{number}"

    @property
    def digest(self) -> str:
        """It as it stands in key names."""
        return topic_digest(self.signal, self.key)


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a wait: ``w`` it waits, ``x`` expired, ``r`` resolved, ``g`` otherwise
    over, and ``n`` for one whose workflow was removed.

    ``x`` only while its step is still expired by it. ``number`` is that of the signal which
    resolved it. ``known`` is whether the topic has been told before.
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
        number = None if wait.signal_id is None else number_of(wait.signal_id)
        return cls(workflow_id, step, wait.n, wait.stamp, what, number)


Unsettled = dict[str, bool]
"""Workflows with something left to tell or, where true, to walk."""


def untold(header: Sequence[Any]) -> bool:
    """Whether the reply that ends with this header says that topics have not been told all."""
    return bool(header and header[-1])


def settle_waits(ctx: OpContext, workflow_id: str) -> Op[None]:
    """Tells the topics of a workflow's waits what they do not know, with all that follows."""
    yield from settle(ctx, {workflow_id: False})


def settle(ctx: OpContext, unsettled: Unsettled) -> Op[None]:
    """The same for several workflows, and for those that are met on the way."""
    while unsettled:
        workflow_id, unwalked = unsettled.popitem()
        while unwalked:
            unwalked = (yield from ask(ctx.workflow_keys(workflow_id), Advance(None))).more
        notices = PendingWaitNotices(_STEPS_PER_CALL)
        while found := (yield from ask(ctx.workflow_keys(workflow_id), notices)):
            waits = [fate_of(workflow_id, entry) for entry in found]
            for topic, fate in waits:
                if topic is not None:
                    yield from sync(ctx, topic, fate, unsettled)
            yield from tell(ctx, workflow_id, waits, unsettled)


def fate_of(workflow_id: str, notice: WaitNotice) -> tuple[Topic | None, Fate]:
    """A wait's topic, and what it is to be told."""
    step, n, outcome, stamp, signal_id, topic, known = notice
    number = number_of(signal_id) if signal_id else None
    fate = Fate(workflow_id, step, n, stamp, outcome, number, known)
    return None if topic is None else Topic.stored(topic), fate


def number_of(signal_id: str) -> int:
    """A signal's number within its topic, from its id."""
    return int(signal_id.rpartition("/")[2])


def sync(
    ctx: OpContext, topic: Topic, fate: Fate, unsettled: Unsettled, *, repair: str = ""
) -> Op[str]:
    """Tells a topic of a wait, and carries out what it then hands over; the kind of repair."""
    found, _, handed, _ = yield _sync(ctx, topic, fate, None, repair)
    yield from hand_over(ctx, topic, handed, unsettled, None)
    kind: bytes = found
    return kind.decode()


def judge_topic(ctx: OpContext, digest: str) -> Op[int]:
    """Carries out what a topic has outstanding, by its digest, and has the signals leave that
    nobody took in time; returns how many these were."""
    text = yield from ask(ctx.keys.topic(digest), TopicName())
    if text is None:
        return 0
    topic = Topic.stored(text)
    unsettled: Unsettled = {}
    args = [*topic.names, "", "", "", "", "", "", "", ""]
    left, more = 0, True
    while more:
        _, _, handed, expired = yield topic.call(ctx, "sync", args)
        yield from hand_over(ctx, topic, handed, unsettled, None)
        left, more = left + int(expired), expired > 0
    yield from settle(ctx, unsettled)
    return left


def _sync(ctx: OpContext, topic: Topic, fate: Fate, asked: int | None, repair: str) -> Call:
    args: list[Arg] = [*topic.names, fate.workflow_id, fate.step, fate.n, fate.stamp, fate.what]
    args += ["" if number is None else number for number in (fate.number, asked)]
    return topic.call(ctx, "sync", [*args, repair])


def hand_over(
    ctx: OpContext, topic: Topic, handed: Any, unsettled: Unsettled, asked: int | None
) -> Op[Signal | None]:
    """Carries out a topic's hand-offs, one after the other, until none is outstanding.

    Returns what is then known of the signal that is asked after, None if there was no hand-off.
    """
    answer: Any = None
    while handed:
        number, workflow_id, step, n = (part.decode() for part in handed[:4])
        signal_id = topic.signal_id(ctx, int(number))
        note = {"signal_id": signal_id, "signal": topic.signal, "correlation_key": topic.key}
        if handed[5]:
            note["actor"] = unquote(handed[5].decode())
        args: list[Arg] = [step, n, signal_id, handed[4] or b"", orjson.dumps(note)]
        what, stamp = yield ctx.on_workflow("wake", workflow_id, args)
        if not what:
            # A workflow of other semantics: left to a client of a release that knows them.
            break
        resolved = int(number) if what == b"r" else None
        fate = Fate(workflow_id, step, int(n), stamp.decode(), what.decode(), resolved)
        _, answer, handed, _ = yield _sync(ctx, topic, fate, asked, "")
        yield from tell(ctx, workflow_id, [(topic, fate)], unsettled)
    return Signal.parse(answer) if answer else None


def tell(
    ctx: OpContext,
    workflow_id: str,
    fates: Sequence[tuple[Topic | None, Fate]],
    unsettled: Unsettled,
) -> Op[Wait | None]:
    """Notes with a workflow what topics were told; returns the last of these waits."""
    acked = [AckedWait(fate.step, fate.n, fate.what) for _, fate in fates]
    found = yield from ask(ctx.workflow_keys(workflow_id), AckWaitNotices(acked))
    if found.header is None:
        for topic, fate in fates:
            if topic is not None:
                yield from sync(ctx, topic, replace(fate, what="n"), unsettled)
        return None
    note_unsettled(workflow_id, found.header, unsettled)
    return Wait.parse(found.wait) if found.wait else None


def note_unsettled(workflow_id: str, header: HeaderReply, unsettled: Unsettled) -> None:
    """Puts the workflow on the list when its header says so."""
    unwalked = Header.parse(header.static, header.counts).unwalked > 0
    if unwalked or header.has_notices:
        unsettled[workflow_id] = unwalked
