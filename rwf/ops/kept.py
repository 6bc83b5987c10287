"""Signals that no wait has consumed: listing them, and taking them back.

A topic that keeps a signal has a timer for when the oldest one leaves, so a listing goes through
the timers of all home partitions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from rwf.errors import CommandRejected
from rwf.model.names import shown
from rwf.model.states import Reason, SignalStatus
from rwf.model.views import SignalPage, SignalView
from rwf.ops.base import (
    OpContext,
    ask_each,
    checked_text,
    invalid,
    new_call_id,
    rejected,
    wire_text,
)
from rwf.ops.scans import ScannedPage, pages_of, scan, scan_of
from rwf.ops.signals import checked_key, checked_signal, note_of
from rwf.ops.waits import Topic, Unsettled, hand_over, settle
from rwf.protocol.declare import Refusal
from rwf.protocol.functions.topics import KeptSignals, ReadKeptSignals, WithdrawSignal
from rwf.protocol.keys import home_partition, is_digest
from rwf.protocol.members import Timer
from rwf.protocol.requests import CONNECT, Op, ask
from rwf.protocol.waits import Signal

_READ: Final = "read"
_WITHDRAW: Final = "withdraw_signal"
_PAGE: Final = 100
_TOPICS_PER_CALL: Final = 50
_PARTITIONS_PER_TRIP: Final = 64
# A filter that matches little ends a page early, with a cursor to go on from: after so many timers.
_SCANNED_PER_PAGE: Final = 10_000
# How often a withdrawal waits for a hand-off to be carried out before it is refused.
_PATIENCE: Final = 8

_KEPT: Final = frozenset(SignalStatus) - {SignalStatus.CONSUMED, SignalStatus.WITHDRAWN}
_ID: Final = re.compile(r"(0|[1-9][0-9]{0,4})-([0-9a-f]{40})/([1-9][0-9]{0,15})")
_LAST_SCAN: Final = 2**64 - 1
_CURSOR: Final = re.compile(r"([0-9]{1,5})-([0-9]{1,20})-([0-9a-f]{40}|)-([0-9]{1,16})")

_NO_PAGE: Final = ScannedPage(0, [])

Found = tuple[Topic, Signal]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a listing goes on: the partition, where its timers' scan is, and of the page there the
    topic and the number of its signal."""

    partition: int = 0
    scan: int = 0
    digest: str = ""
    number: int = 0

    def __str__(self) -> str:
        return f"{self.partition}-{self.scan}-{self.digest}-{self.number}"

    @classmethod
    def parse(cls, cursor: Any) -> _Place:
        match = _CURSOR.fullmatch(cursor) if isinstance(cursor, str) else None
        if match is None or int(match[2]) > _LAST_SCAN:
            raise invalid(_READ, "not a cursor of a page of signals")
        return cls(int(match[1]), int(match[2]), match[3], int(match[4]))


@dataclass(frozen=True, slots=True)
class _Filter:
    """A filter of signals."""

    signal: str | None
    key: str | None
    status: SignalStatus | None

    @classmethod
    def checked(cls, signal: Any, key: Any, status: Any) -> _Filter:
        if status is not None and (not isinstance(status, str) or status not in _KEPT):
            raise invalid(_READ, f"status must be one of {', '.join(sorted(_KEPT))}")
        return cls(
            None if signal is None else checked_signal(signal, _READ),
            None if key is None else checked_key(key, "correlation_key", _READ),
            None if status is None else SignalStatus(status),
        )


def list_signals(
    ctx: OpContext,
    signal: str | None,
    correlation_key: str | None,
    status: SignalStatus | str | None,
    cursor: str | None,
) -> Op[SignalPage]:
    """A page of the kept signals of one topic, or of all."""
    wanted = _Filter.checked(signal, correlation_key, status)
    place = _Place() if cursor is None else _Place.parse(cursor)
    if not ctx.keys.partitions:
        yield CONNECT
    views: list[SignalView] = []
    away: set[int] = set()
    if wanted.signal is not None and wanted.key is not None:
        digest = Topic(wanted.signal, wanted.key).digest
        topics = [(digest, place.number)]
        rest = yield from _take(
            ctx, home_partition(digest, ctx.keys.home_partitions), topics, wanted, views
        )
        after = None if rest is None else replace(place, digest=rest[0], number=rest[1])
    else:
        after = yield from _take_from_all(ctx, place, wanted, views, away)
    cursor = None if after is None else str(after)
    return SignalPage(signals=tuple(views), cursor=cursor, unreachable=tuple(sorted(away)))


def _take_from_all(
    ctx: OpContext, place: _Place, wanted: _Filter, views: list[SignalView], away: set[int]
) -> Op[_Place | None]:
    """Goes through the topics of all partitions, and notes those that are ``away``; returns where
    to go on, or None at the end."""
    scanned = 0
    first_pages: dict[int, ScannedPage | None] = {}
    while place.partition < ctx.keys.home_partitions:
        if scanned >= _SCANNED_PER_PAGE:
            return place
        if place.scan == 0:
            if place.partition not in first_pages:
                first_pages = yield from _first_pages(ctx, place.partition, away)
            page = first_pages[place.partition]
        else:
            [page] = yield from scan((_timers(ctx, place.partition), place.scan))
        cursor, members = page or _NO_PAGE
        scanned += len(members)
        topics = [
            (digest, place.number if digest == place.digest else 0)
            for digest in sorted(_digests(ctx, place.partition, members))
            if digest >= place.digest
        ]
        rest = yield from _take(ctx, place.partition, topics, wanted, views)
        if rest is not None:
            return replace(place, digest=rest[0], number=rest[1])
        place = _Place(place.partition + (cursor == 0), cursor)
        if len(views) == _PAGE:
            return place
    return None


def _first_pages(ctx: OpContext, first: int, away: set[int]) -> Op[dict[int, ScannedPage | None]]:
    """The first pages of the timers of some partitions, from this one on; None for those that are
    ``away``."""
    partitions = range(first, min(first + _PARTITIONS_PER_TRIP, ctx.keys.home_partitions))
    reads = {partition: scan_of((_timers(ctx, partition), 0)) for partition in partitions}
    replies, unreached = yield from ask_each(ctx, reads)
    away.update(unreached)
    found: dict[int, ScannedPage | None] = dict.fromkeys(partitions)
    for partition, reply in replies.items():
        [found[partition]] = pages_of(reply)
    return found


def _timers(ctx: OpContext, partition: int) -> str:
    return ctx.keys.derived(partition, "timers")


def _digests(ctx: OpContext, partition: int, members: Sequence[bytes]) -> Iterator[str]:
    """The topics that have one of these timers."""
    for member in members:
        kind, digest, _ = Timer.parse(member)
        if kind == "s" and is_digest(digest, partition, ctx.keys.home_partitions):
            yield digest


def _take(
    ctx: OpContext,
    partition: int,
    topics: Sequence[tuple[str, int]],
    wanted: _Filter,
    views: list[SignalView],
) -> Op[tuple[str, int] | None]:
    """Appends the signals that some topics keep, each from a number on, until there is a page of
    them; returns the topic and the number to go on from, or None when these were all."""
    left = list(topics)
    while left:
        if len(views) == _PAGE:
            return left[0]
        some = left[:_TOPICS_PER_CALL]
        page = yield from _kept(ctx, partition, some, wanted, _PAGE - len(views))
        for found in page.signals:
            topic, signal = Topic.stored(found.topic), Signal.of(found.signal)
            signal_id = f"{partition}-{some[found.place - 1][0]}/{signal.number}"
            views.append(signal.view(signal_id, topic.signal, topic.key))
        if page.place == 0:
            del left[: len(some)]
        else:
            left = [(left[page.place - 1][0], page.number), *left[page.place :]]
    return None


def _kept(
    ctx: OpContext, partition: int, topics: Sequence[tuple[str, int]], wanted: _Filter, most: int
) -> Op[KeptSignals]:
    keys = ctx.keys.topics(partition, [digest for digest, _ in topics])
    asked = ReadKeptSignals(
        most,
        wanted.signal,
        wanted.key is None,
        wire_text(wanted.key or ""),
        wanted.status,
        [number for _, number in topics],
    )
    return (yield from ask(keys, asked))


# --- withdrawing ------------------------------------------------------------------------------


def withdraw_signal(
    ctx: OpContext, signal_id: str, actor: str | None, reason: str | None
) -> Op[SignalView]:
    """Takes a signal back that no wait has consumed; raises CommandRejected."""
    fields = {"actor": checked_text(actor, "actor", _WITHDRAW)}
    fields |= {"reason": checked_text(reason, "reason", _WITHDRAW)}
    home, digest, number = _checked_id(signal_id)
    if not ctx.keys.partitions:
        yield CONNECT
    if not is_digest(digest, home, ctx.keys.home_partitions):
        raise _unknown(signal_id)
    call_id, hand_offs = new_call_id(), 0
    unsettled: Unsettled = {}
    while True:
        found = yield from _look(ctx, home, digest, number)
        note = _note(signal_id, found, fields)
        asked = WithdrawSignal(
            number, call_id, note, found is not None, patient=hand_offs < _PATIENCE
        )
        reply = yield from ask(ctx.keys.topic(digest), asked)
        if isinstance(reply, Refusal):
            raise rejected(_WITHDRAW, "signal", reply)
        if reply.outcome == "busy" and found:
            # It may have a wait already, which is to be known first.
            yield from hand_over(ctx, found[0], reply.handed, unsettled, None)
            yield from settle(ctx, unsettled)
            hand_offs += 1
        elif reply.outcome == "accepted" and found:
            topic, signal = found
            withdrawn = replace(signal, status=SignalStatus.WITHDRAWN)
            return withdrawn.view(signal_id, topic.signal, topic.key)


def _look(ctx: OpContext, home: int, digest: str, number: int) -> Op[Found | None]:
    """A signal with its topic, if it is kept."""
    kept = yield from _kept(ctx, home, [(digest, number)], _Filter(None, None, None), 1)
    for _, name, reply in kept.signals:
        signal = Signal.of(reply)
        if signal.number == number:
            return Topic.stored(name), signal
    return None


def _note(signal_id: str, found: Found | None, fields: dict[str, str | None]) -> bytes:
    if found is None:
        return note_of(None, signal_id=signal_id, **fields)
    topic, signal = found
    return note_of(topic, signal_id=signal_id, dedupe_key=signal.dedupe_key, **fields)


def _checked_id(signal_id: Any) -> tuple[int, str, int]:
    match = _ID.fullmatch(signal_id) if isinstance(signal_id, str) else None
    if match is None:
        raise _unknown(signal_id)
    return int(match[1]), match[2], int(match[3])


def _unknown(signal_id: Any) -> CommandRejected:
    """The refusal of an impossible signal id; nothing was written."""
    message = f"no signal can have the id {shown(signal_id)}"
    return CommandRejected(_WITHDRAW, "signal", Reason.SIGNAL_NOT_FOUND, message)
