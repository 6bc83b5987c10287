"""Reading what is stored. Nothing here writes, and no call is larger than a slice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from rwf.errors import NotFound, RecordUnreadable
from rwf.model.limits import CHUNK
from rwf.model.names import shown
from rwf.model.states import (
    EdgePolicy,
)
from rwf.model.views import (
    Edge,
    EvidenceView,
    GraphView,
    PartialList,
    ResultView,
    StepView,
    WorkflowView,
)
from rwf.ops.base import (
    OpContext,
    all_of,
    all_partitions,
    ask_partitions,
    both,
    invalid,
    read,
    readable_id,
    wire_name,
)
from rwf.protocol.codecs import UNREADABLE
from rwf.protocol.functions.reads import (
    Evidence,
    ReadResults,
    ReadSteps,
    Show,
    StoredSteps,
)
from rwf.protocol.headers import CONTEXT, HEADER_FIELDS, Header
from rwf.protocol.records import (
    Record,
    Row,
    chunk_field,
    edge_count,
    edges_in_chunk,
    edges_of,
    evidence_view,
    result_evidence,
)
from rwf.protocol.requests import CONNECT, Op, ask, ask_together
from rwf.protocol.stored import EvidenceRecord
from rwf.protocol.waits import Wait

_EVIDENCE_PER_CALL: Final = 500
_CHUNKS_PER_CALL: Final = 8
# Calls that travel together: of small replies, and of those that may hold 1 MiB each.
_CHUNKS_AT_ONCE: Final = 64
_REPLIES_AT_ONCE: Final = 8

_READ: Final = "read"

Stamped = tuple[str, EvidenceView]
"""Evidence with the stamp that orders it."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Some of a workflow's steps as stored, with its header."""

    workflow_id: str
    header: Header
    context: bytes | None
    records: list[Record]
    inputs: Sequence[bytes | None]
    contexts: Sequence[bytes | None]
    conditions: Sequence[bytes | None]
    now: int
    """The server's time in milliseconds."""
    waits: dict[str, Wait]
    """The latest waits of those steps that wait or have expired."""

    def workflow(self) -> WorkflowView:
        return self.header.view(self.workflow_id, self.context)

    def views(self) -> Iterator[StepView]:
        payloads = zip(self.records, self.inputs, self.contexts, self.conditions, strict=True)
        return (self._view(*payload) for payload in payloads)

    def bare_view(self, record: Record) -> StepView:
        """The view of a step that has neither input nor context nor condition."""
        return self._view(record, None, None, None)

    def _view(
        self,
        record: Record,
        input_: bytes | None,
        context: bytes | None,
        condition: bytes | None,
    ) -> StepView:
        wait = self.waits.get(record.name)
        awaiting = None if wait is None else wait.view(self.workflow_id, record.name)
        return record.view(self.header, input_, context, awaiting, condition)


def load(
    ctx: OpContext,
    workflow_id: str,
    *,
    chunk: int | None = None,
    names: Sequence[str] = (),
    payloads: bool = False,
) -> Op[Loaded]:
    """A chunk of the steps in topological order, or the named ones; raises NotFound.

    With payloads, which may be large, it may be only the first of them, as many as one reply holds.
    """
    keys = ctx.workflow_keys(readable_id(workflow_id))
    return _loaded(workflow_id, (yield from ask(keys, ReadSteps(payloads, chunk, names))))


def _loaded(workflow_id: str, found: StoredSteps | None) -> Loaded:
    if found is None:
        raise NotFound(f"no workflow {workflow_id}")
    header = Header.parse(found.static, found.counts)
    parsed = []
    for name, text in zip(found.names, found.records, strict=True):
        record = None if text is None else Record.named(name, text)
        if record is None or record.position >= header.steps:  # it is being appended
            raise NotFound(f"workflow {workflow_id} has no step {shown(name)}")
        parsed.append(record)
    return Loaded(
        workflow_id,
        header,
        found.context,
        parsed,
        found.inputs,
        found.contexts,
        found.conditions,
        found.micros // 1000,
        {wait.step: Wait.parse(wait.record) for wait in found.waits if wait.record},
    )


def channels(ctx: OpContext) -> Op[list[str]]:
    """The channels of all partitions."""
    if not ctx.keys.partitions:
        yield CONNECT
    return [ctx.keys.events(partition) for partition in range(ctx.keys.partitions)]


def get(ctx: OpContext, workflow_id: str) -> Op[WorkflowView]:
    found = yield from shown_workflow(ctx, readable_id(workflow_id))
    if found is None:
        raise NotFound(f"no workflow {workflow_id}")
    return found


def shown_workflow(ctx: OpContext, workflow_id: str) -> Op[WorkflowView | None]:
    """The workflow of this id; None when there is none."""
    w, p, *_ = ctx.keys.workflow(workflow_id)
    # Plain commands take the server half as long as a function.
    [fields, context] = yield from read(w, ("HMGET", w, *HEADER_FIELDS), ("HGET", p, CONTEXT))
    header = Header.stored(*fields)
    if header is None:
        return None
    if header.fixed.context and context is None:
        # It has been removed in between, or somebody has removed its context.
        (found,) = yield from ask(ctx.workflow_keys(workflow_id), Show())
        if found is None:
            return None
        header, context = Header.parse(found.static, found.counts), found.context
    return header.view(workflow_id, context)


def step(ctx: OpContext, workflow_id: str, name: str) -> Op[StepView]:
    loaded = yield from load(ctx, workflow_id, names=[wire_name(name, _READ)], payloads=True)
    return next(loaded.views())


def steps(
    ctx: OpContext, workflow_id: str, limit: int | None, offset: int, payloads: bool
) -> Op[list[StepView]]:
    first = _number("offset", offset, 0)
    most = None if limit is None else first + _number("limit", limit, 0)
    chunks = yield from _chunks(ctx, workflow_id, first, most)
    some = slice(first % CHUNK, _behind(first, most))
    return (yield from _views_of(ctx, chunks, some, payloads))


def _behind(first: int, most: int | None) -> int | None:
    """Where steps end among those of the chunks that begin with the first of them."""
    return None if most is None else most - first // CHUNK * CHUNK


def _chunks(ctx: OpContext, workflow_id: str, first: int, most: int | None) -> Op[list[Loaded]]:
    """The chunks that have the steps from the first up to ``most``, without payloads; many in one
    round trip, once the first says how many there are."""
    begin = first // CHUNK
    loaded = [(yield from load(ctx, workflow_id, chunk=begin))]
    total = loaded[0].header.steps
    end = -(-(total if most is None else min(total, most)) // CHUNK)
    for start in range(begin + 1, end, _CHUNKS_AT_ONCE):
        numbers = range(start, min(start + _CHUNKS_AT_ONCE, end))
        keys = ctx.workflow_keys(workflow_id)
        asked = [(keys, ReadSteps(with_payloads=False, chunk=n, names=())) for n in numbers]
        some = [_loaded(workflow_id, found) for found in (yield from ask_together(asked))]
        if not some[-1].records:  # a spoilt header may say that there are any number of steps
            raise RecordUnreadable(UNREADABLE)
        loaded += some
    return loaded


def _views_of(
    ctx: OpContext, chunks: Sequence[Loaded], some: slice, payloads: bool
) -> Op[list[StepView]]:
    """The views of some of these steps; with their inputs and contexts, if that is asked for."""
    places = [(loaded, record) for loaded in chunks for record in loaded.records][some]
    names = [record.name for _, record in places if record.payloads] if payloads else []
    found = yield from _with_payloads(ctx, chunks[0].workflow_id, names)
    return [found.get(record.name) or loaded.bare_view(record) for loaded, record in places]


def _with_payloads(
    ctx: OpContext, workflow_id: str, names: Sequence[str]
) -> Op[dict[str, StepView]]:
    """The views of these steps; several replies, each of which may end early, in one round trip."""
    found: dict[str, StepView] = {}
    left = [names[start : start + CHUNK] for start in range(0, len(names), CHUNK)]
    while left:
        asked, left = left[:_REPLIES_AT_ONCE], left[_REPLIES_AT_ONCE:]
        keys = ctx.workflow_keys(workflow_id)
        reads = [(keys, ReadSteps(with_payloads=True, chunk=None, names=some)) for some in asked]
        for some, stored in zip(asked, (yield from ask_together(reads)), strict=True):
            part = _loaded(workflow_id, stored)
            found |= {view.name: view for view in part.views()}
            if len(part.records) < len(some):
                left.insert(0, some[len(part.records) :])
    return found


def _number(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise invalid(_READ, f"{name} must be an integer of {least} or more")
    return int(value)  # also of one of a subclass, which cannot be sent


def records(ctx: OpContext, workflow_id: str) -> Op[tuple[Loaded, list[Record]]]:
    """All steps' records in topological order, without payloads; with the first chunk's load."""
    chunks = yield from _chunks(ctx, workflow_id, 0, None)
    return chunks[0], [record for loaded in chunks for record in loaded.records]


def edges(
    ctx: OpContext, workflow_id: str, record: Record, *, up: bool, limit: int | None = None
) -> Op[list[tuple[str, EdgePolicy]]]:
    """A step's parents (``up``) or children, however many; at most ``limit`` of them."""
    text = record.parents if up else record.children
    if not text.startswith("#"):
        return edges_of(text)[:limit]
    total = edge_count(text) if limit is None else min(limit, edge_count(text))
    last = -(-total // CHUNK) - 1
    found: list[tuple[str, EdgePolicy]] = []
    payloads = ctx.keys.payloads(workflow_id)
    for start in range(0, last + 1, _CHUNKS_PER_CALL):
        numbers = range(start, min(start + _CHUNKS_PER_CALL, last + 1))
        fields = [chunk_field(record.name, number, up=up) for number in numbers]
        [chunks] = yield from read(payloads, ("HMGET", payloads, *fields))
        for chunk in chunks:
            found += edges_in_chunk(chunk)
    return found[:limit]


def edges_of_all(
    ctx: OpContext, workflow_id: str, some: Sequence[Record], *, up: bool
) -> Op[list[list[tuple[str, EdgePolicy]]]]:
    """The parents (``up``) or children of each of these steps; those that take calls of their own
    side by side."""
    found: list[list[tuple[str, EdgePolicy]]] = []
    for start in range(0, len(some), _CHUNKS_AT_ONCE):
        ops = [
            edges(ctx, workflow_id, record, up=up)
            for record in some[start : start + _CHUNKS_AT_ONCE]
        ]
        found += yield from all_of(ops)
    return found


def graph(ctx: OpContext, workflow_id: str, payloads: bool) -> Op[GraphView]:
    chunks = yield from _chunks(ctx, workflow_id, 0, None)
    views = yield from _views_of(ctx, chunks, slice(None), payloads)
    all_records = [record for loaded in chunks for record in loaded.records]
    found: list[Edge] = []
    for record, parents in zip(
        all_records, (yield from edges_of_all(ctx, workflow_id, all_records, up=True)), strict=True
    ):
        found += [Edge(parent=name, child=record.name, policy=policy) for name, policy in parents]
    return GraphView(workflow=chunks[0].workflow(), steps=tuple(views), edges=tuple(found))


# --- results and evidence ---------------------------------------------------------------------


class ReportedAttempt(NamedTuple):
    """The record of an attempt; ``payload`` and ``traceback`` where they were asked for."""

    step: str
    attempt: int
    row: Row
    payload: bytes | None
    traceback: bytes | None

    def view(self) -> ResultView:
        return self.row.view(self.step, self.attempt, self.payload, self.traceback)


def rows(
    ctx: OpContext,
    workflow_id: str,
    names: Sequence[str],
    *,
    payloads: bool,
    latest: bool = False,
    attempt: int | None = None,
) -> Op[list[ReportedAttempt]]:
    """The attempts that these steps have reported: all, the latest of each, or one."""
    parts: list[list[ReportedAttempt]] = []
    left: list[tuple[int, Sequence[str], int | None]] = []
    for start in range(0, len(names), CHUNK):
        left.append((len(parts), names[start : start + CHUNK], None))
        parts.append([])
    while left:
        asked, left = left[:_REPLIES_AT_ONCE], left[_REPLIES_AT_ONCE:]
        keys = ctx.workflow_keys(workflow_id)
        reads = [(keys, ReadResults(payloads, latest, attempt, at, some)) for _, some, at in asked]
        for (number, some, _), found in zip(asked, (yield from ask_together(reads)), strict=True):
            for one in found.rows if found else ():
                if one.row is not None:
                    parts[number].append(
                        ReportedAttempt(
                            one.step, one.attempt, Row.parse(one.row), one.payload, one.traceback
                        )
                    )
            if found is not None and found.next_name:
                rest = some[found.next_name - 1 :]
                left.insert(0, (number, rest, found.next_attempt))
    return [row for part in parts for row in part]


def result(
    ctx: OpContext, workflow_id: str, name: str, attempt: int | None
) -> Op[ResultView | None]:
    wire = wire_name(name, _READ)
    if attempt is not None:
        attempt = _number("attempt", attempt, 1)
    _, found = yield from both(
        load(ctx, workflow_id, names=[wire]),
        rows(ctx, workflow_id, [wire], payloads=True, latest=attempt is None, attempt=attempt),
    )
    return next((one.view() for one in found if attempt in (None, one.attempt)), None)


def results(ctx: OpContext, workflow_id: str, name: str | None) -> Op[list[ResultView]]:
    if name is not None:
        names = [wire_name(name, _READ)]
        yield from load(ctx, workflow_id, names=names)
    else:
        _, all_records = yield from records(ctx, workflow_id)
        names = [record.name for record in all_records if record.reported]
    found = yield from rows(ctx, workflow_id, names, payloads=True)
    return [one.view() for one in found]


def evidence(
    ctx: OpContext, workflow_id: str | None, name: str | None
) -> Op[PartialList[EvidenceView]]:
    """All evidence of a workflow, or of what concerns none, oldest first."""
    unreachable: tuple[int, ...] = ()
    if workflow_id is None:
        found: list[Stamped] = yield from _logged(ctx)
        unreachable = getattr(found, "unreachable", ())
    else:
        found = yield from _of_workflow(ctx, workflow_id, name)
    ordered = sorted(found, key=lambda pair: pair[0])
    return PartialList([view for _, view in ordered if name in (None, view.step)], unreachable)


def _of_workflow(ctx: OpContext, workflow_id: str, name: str | None) -> Op[list[Stamped]]:
    """Result rows are the evidence of accepted completions."""
    _, all_records = yield from records(ctx, workflow_id)
    names = [
        record.name for record in all_records if record.reported and name in (None, record.name)
    ]
    reported, entries = yield from both(
        rows(ctx, workflow_id, names, payloads=False),
        all_of([entries_of(ctx, workflow_id, kind) for kind in ("accepted", "noise")]),
    )
    found = [
        (one.row.stamp, result_evidence(workflow_id, one.step, one.attempt, one.row))
        for one in reported
    ]
    return [*found, *(entry for some in entries for entry in some)]


def _logged(ctx: OpContext) -> Op[PartialList[Stamped]]:
    """Entries of the partitions' logs: commands on unknown workflows, and repeated signals."""
    numbers = yield from all_partitions(ctx)
    found: PartialList[Stamped] = PartialList()
    unread = dict.fromkeys(numbers, 0)
    while unread:
        pages = {n: _page_of("log", first) for n, first in unread.items()}
        replies, away = yield from ask_partitions(ctx, pages)
        found.unreachable = tuple(sorted({*found.unreachable, *away}))
        for number, page in replies.items():
            found += [_stamped(str(number), entry) for entry in page.entries]
            unread[number] += len(page.entries)
            if not page.entries or unread[number] >= page.total:
                del unread[number]
        for number in away:
            del unread[number]
    return found


def _page_of(kind: str, first: int) -> Evidence:
    return Evidence(kind, first, first + _EVIDENCE_PER_CALL - 1)


def _stamped(scope_id: str, entry: bytes) -> Stamped:
    return EvidenceRecord.stamp_of(entry).decode(), evidence_view(scope_id, entry)


def entries_of(ctx: OpContext, workflow_id: str, kind: str) -> Op[list[Stamped]]:
    """All entries of one kind of a workflow's evidence: ``accepted`` or ``noise``."""
    found: list[Stamped] = []
    while True:
        page = yield from ask(ctx.workflow_keys(workflow_id), _page_of(kind, len(found)))
        found += [_stamped(workflow_id, entry) for entry in page.entries]
        if not page.entries or len(found) >= page.total:
            return found


def latest_rejection(ctx: OpContext, workflow_id: str, name: str | None) -> Op[EvidenceView | None]:
    """The newest refusal that concerns the workflow or, with a name, the step."""
    last = -1
    while True:
        first = last - _EVIDENCE_PER_CALL + 1
        page = yield from ask(ctx.workflow_keys(workflow_id), Evidence("noise", first, last))
        for entry in reversed(page.entries):
            view = evidence_view(workflow_id, entry)
            if view.status == "rejected" and name in (None, view.step):
                return view
        last -= len(page.entries)
        if not page.entries or -last > page.total:
            return None
