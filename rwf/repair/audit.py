"""Auditing workflows: their records are read and compared with the derived keys.

Plain commands do that, many in one round trip: a server function that did it would cost the server
three times as much. So it is no more than a guess: what moves between the two reads seems to
differ, and ``reconcile`` judges it atomically.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rwf.errors import RwfError, StoreUnavailable
from rwf.model.limits import CHUNK
from rwf.ops.base import OpContext
from rwf.protocol.declare import Arg
from rwf.protocol.functions.repairs import FaultyTopics
from rwf.protocol.headers import HEADER_FIELDS, Header
from rwf.protocol.keys import home_partition
from rwf.protocol.requests import Op, Read, ask
from rwf.repair.expected import (
    PRESENT,
    UNREADABLE,
    Expected,
    Registration,
    Scores,
    StepCounts,
)

_FIELDS_AT_ONCE: Final = 2 * CHUNK
_FIELDS_PER_READ: Final = 2000
_CHUNKS_PER_READ: Final = _FIELDS_PER_READ // _FIELDS_AT_ONCE  # a step and its wait are two fields
_TOPICS_PER_CALL: Final = 64
_CHILDREN_PER_READ: Final = 64

_Found = dict[str, Scores | None]
"""The scores of some entries, by key; None for a key that is no sorted set."""

Listed = tuple[str, str]
"""A group of the listing, and the id of a workflow in it."""


@dataclass(slots=True)
class Large:
    """A large graph, which is audited a few chunks of its steps at a time."""

    workflow_id: str
    group: str
    step_counts: StepCounts | None = None
    """None before the first of it was read."""
    chunks: deque[str] = field(default_factory=deque)
    """The fields with the names of the steps that are still to be looked at."""
    counts: bytes | None = None
    """Its header's counts, as long as they were the same in all reads."""


@dataclass(slots=True)
class Findings:
    """The result of an audit."""

    fields: int = 0
    """How many fields of workflows were read, headers apart."""
    suspects: dict[str, None] = field(default_factory=dict)
    """Workflows that may differ from what their records imply."""
    topics: dict[str, str] = field(default_factory=dict)
    """Topics that may lack a wait, or hold something wrong; with each, a workflow that waits."""
    large: list[Large] = field(default_factory=list)
    """Workflows that are too large to be read at once."""


def audit(ctx: OpContext, partition: int, listed: Sequence[Listed]) -> Op[Findings]:
    """Audits workflows of a partition; of those that are large nothing is looked at yet.

    Raises RwfError where somebody has overwritten a derived key of the partition.
    """
    found = Findings()
    some: list[Listed] = []
    fields = 0
    for one, size in zip(listed, (yield from _sizes(ctx, partition, listed)), strict=True):
        group, workflow_id = one
        if isinstance(size, Exception):
            found.suspects[workflow_id] = None
        elif size > _FIELDS_AT_ONCE:
            found.large.append(Large(workflow_id, group))
        elif size:
            if fields + size > _FIELDS_PER_READ:
                yield from _audit_some(ctx, partition, some, found)
                some, fields = [], 0
            some.append(one)
            fields += size
    yield from _audit_some(ctx, partition, some, found)
    return found


def _sizes(ctx: OpContext, partition: int, listed: Sequence[Listed]) -> Op[list[Any]]:
    commands = [("HLEN", ctx.keys.record(workflow_id)) for _, workflow_id in listed]
    sizes: list[Any] = yield Read(ctx.keys.derived(partition, "index"), commands)
    return sizes


def _audit_some(
    ctx: OpContext, partition: int, listed: Sequence[Listed], found: Findings
) -> Op[None]:
    """Audits workflows that are read as a whole."""
    commands = [("HGETALL", ctx.keys.record(workflow_id)) for _, workflow_id in listed]
    replies = yield Read(ctx.keys.derived(partition, "index"), commands)
    expected = Expected()
    for (group, workflow_id), fields in zip(listed, replies, strict=True):
        if isinstance(fields, Exception):
            expected.suspects[workflow_id] = None
        else:
            expected.workflow(workflow_id, group, fields)
    yield from _compare(ctx, partition, expected, found)


def audit_large(ctx: OpContext, partition: int, one: Large) -> Op[Findings]:
    """Audits the next chunks of a large graph and, with the last, its counts; raises like
    ``audit``. Nothing more is to be audited of it when no chunks are left.
    """
    found, expected = Findings(), Expected()
    try:
        if one.step_counts is None:
            one.step_counts = yield from _begin(ctx, one, expected)
        if one.step_counts is not None:
            yield from _audit_chunks(ctx, one, one.step_counts, expected)
            if not one.chunks and one.counts is not None and not one.step_counts.agrees(one.counts):
                expected.suspects[one.workflow_id] = None
    except UNREADABLE:
        expected.suspects[one.workflow_id] = None
    yield from _compare(ctx, partition, expected, found)
    if found.suspects or found.topics:
        one.chunks.clear()  # all of it is reconciled
    return found


def _begin(ctx: OpContext, one: Large, expected: Expected) -> Op[StepCounts | None]:
    """Looks at the header of a large graph, at its callbacks, and at its first wait notices."""
    w, d = ctx.keys.record(one.workflow_id), ctx.keys.wait_notices(one.workflow_id)
    first = ("ZRANGE", d, 0, 0), ("ZRANGEBYSCORE", d, 0, "+inf", "LIMIT", 0, 1)
    found = yield from _lists(Read(w, [("HMGET", w, ":s", ":c", ":b", ":tags"), *first]))
    (static, counts, branching, tags), *entries = found
    step_counts = expected.begin(one.workflow_id, static)
    if step_counts is None:
        return None
    one.counts = counts or b""
    expected.header(step_counts, one.group, static, one.counts, branching, tags)
    notices = expected.wait_notices.setdefault(one.workflow_id, {})
    for some in entries:
        for member in some:
            notices.setdefault(member, PRESENT)
    expected.wait_timers[one.workflow_id] = None
    callbacks, *_ = Header.callbacks_of(one.counts)
    names = [f"@{number}" for number in range(1, callbacks + 2)]  # with one that should not be
    for start in range(0, len(names), _FIELDS_PER_READ):
        groups = [names[start : start + _FIELDS_PER_READ]]
        yield from _take_in(ctx, one, step_counts, expected, groups)
    one.chunks.extend(f"#{number}" for number in range(-(-step_counts.steps // CHUNK)))
    return step_counts


def _audit_chunks(
    ctx: OpContext, one: Large, step_counts: StepCounts, expected: Expected
) -> Op[None]:
    count = min(_CHUNKS_PER_READ, len(one.chunks))
    chunks = [one.chunks.popleft() for _ in range(count)]
    w = ctx.keys.record(one.workflow_id)
    [(waited, *stored)] = yield from _lists(Read(w, [("HMGET", w, ":w", *chunks)]))
    groups = []
    for chunk in stored:
        names = (chunk or b"").decode().split(",")
        groups.append(names + [f"~{name}" for name in names if waited])
    yield from _take_in(ctx, one, step_counts, expected, groups)


def _take_in(
    ctx: OpContext,
    one: Large,
    step_counts: StepCounts,
    expected: Expected,
    groups: Sequence[Sequence[str]],
) -> Op[None]:
    """Reads groups of fields of a large graph, each together with the counts of its header."""
    w = ctx.keys.record(one.workflow_id)
    commands = [("HMGET", w, ":c", *names) for names in groups]
    replies = yield from _lists(Read(w, commands))
    for names, (counts, *texts) in zip(groups, replies, strict=True):
        one.counts = counts if one.counts == counts else None
        pairs = zip(names, texts, strict=True)
        found = {name.encode(): text for name, text in pairs if text is not None}
        expected.fields(step_counts, found)


def _lists(read: Read) -> Op[list[list[Any]]]:
    """The replies to commands that are each answered with a list; raises ValueError for another
    type of key."""
    replies: list[Any] = yield read
    if any(isinstance(reply, Exception) for reply in replies):
        raise ValueError("a key is of another type")
    return replies


def _compare(ctx: OpContext, partition: int, expected: Expected, found: Findings) -> Op[None]:
    """Looks up the expected entries; returns the owners of those that differ."""
    keys = ctx.keys
    names = "ready", "timers", "outbox", "tags"
    ready, timers, outbox, tags = (keys.derived(partition, name) for name in names)
    wait_notices = {
        keys.wait_notices(workflow_id): workflow_id for workflow_id in expected.wait_notices
    }
    scores, now = yield from _scores(
        {ready: expected.ready, timers: expected.looked_up, outbox: expected.outbox}
        | {tags: expected.tags}
        | {key: expected.wait_notices[workflow_id] for key, workflow_id in wait_notices.items()}
    )
    for key, workflow_id in wait_notices.items():
        notices = scores.get(key, {})
        if notices is None:
            expected.suspects[workflow_id] = None
        else:
            expected.judge_wait_notices(workflow_id, notices)
    expected.judge_timers(_those_of(scores, timers), now)
    expected.judge_outbox(_those_of(scores, outbox))
    expected.judge_tags(_those_of(scores, tags))
    queued = _those_of(scores, ready)
    if missing := [member for member, score in queued.items() if score is None]:
        reserved = keys.derived(partition, "reserved")
        taken, _ = yield from _scores({reserved: missing})
        queued = {**queued, **_those_of(taken, reserved)}
    expected.judge_ready(queued)
    found.fields += expected.taken_in
    found.suspects |= expected.suspects
    found.topics |= yield from _lacking(ctx, expected.registrations)
    found.suspects |= yield from _forsaken(ctx, expected.children)


def _scores(wanted: Mapping[str, Collection[bytes]]) -> Op[tuple[_Found, int]]:
    """The scores in these keys of a partition, and the server's time in milliseconds."""
    asked = {key: list(members) for key, members in wanted.items() if members}
    if not asked:
        return {}, 0
    commands: list[tuple[Arg, ...]] = [("ZMSCORE", key, *some) for key, some in asked.items()]
    *replies, (seconds, micros) = yield Read(next(iter(asked)), [*commands, ("TIME",)])
    return {
        key: None if isinstance(reply, Exception) else dict(zip(members, reply, strict=True))
        for (key, members), reply in zip(asked.items(), replies, strict=True)
    }, 1000 * seconds + micros // 1000


def overwritten(key: str) -> RwfError:
    """The error for a derived key of another type."""
    return RwfError(f"{key} is no sorted set: somebody has overwritten it")


def _those_of(found: _Found, key: str) -> Scores:
    """The scores that were found in a derived key of the partition."""
    scores = found.get(key, {})
    if scores is None:
        raise overwritten(key)
    return scores


def _lacking(ctx: OpContext, registrations: Sequence[Registration]) -> Op[dict[str, str]]:
    """The topics that lack a wait which they were told of, or hold something wrong; for each, a
    workflow that waits there. They are asked at their home partitions, many at once.
    """
    by_home: defaultdict[int, list[Registration]] = defaultdict(list)
    for one in registrations:
        by_home[home_partition(one.digest, ctx.keys.home_partitions)].append(one)
    found: dict[str, str] = {}
    for home, waits in by_home.items():
        for start in range(0, len(waits), _TOPICS_PER_CALL):
            some = waits[start : start + _TOPICS_PER_CALL]
            keys = ctx.keys.topics(home, [one.digest for one in some])
            places = yield from ask(keys, FaultyTopics([one.member for one in some]))
            for one in (some[place - 1] for place in places):
                found[one.digest] = one.workflow_id
    return found


def _forsaken(ctx: OpContext, children: Sequence[tuple[str, str]]) -> Op[dict[str, None]]:
    """The workflows with a step that waits for a child which is gone, or which takes its end for
    told. A child whose partition does not answer is looked at another time."""
    by_partition: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for one in children:
        by_partition[one[1].partition("-")[0]].append(one)
    found: dict[str, None] = {}
    for some in by_partition.values():
        for start in range(0, len(some), _CHILDREN_PER_READ):
            page = some[start : start + _CHILDREN_PER_READ]
            commands = [("HMGET", ctx.keys.record(child), *HEADER_FIELDS) for _, child in page]
            try:
                replies = yield Read(ctx.keys.record(page[0][1]), commands)
            except StoreUnavailable:
                break
            for (parent, _), fields in zip(page, replies, strict=True):
                if not _is_waited_for(fields):
                    found[parent] = None
    return found


def _is_waited_for(fields: Any) -> bool:
    """Whether a child, by its header's fields, is open or is still to tell of its end; true also
    for one that nothing can be made of."""
    try:
        header = None if isinstance(fields, Exception) else Header.stored(*fields)
    except UNREADABLE:
        return True
    if header is None:
        return isinstance(fields, Exception)
    return header.finished is None or header.has_news
