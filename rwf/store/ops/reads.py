"""Reading what is stored. Nothing here writes, and no call is larger than a slice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from rwf.errors import NotFound
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
from rwf.store.catalog import CONNECT, Arg, Call, Op
from rwf.store.headers import Header
from rwf.store.ops.base import (
    Scope,
    all_partitions,
    ask_each,
    invalid,
    readable_id,
    wire_name,
)
from rwf.store.records import Record, Row, edge_count, edges_of, evidence_view, result_evidence
from rwf.store.waits import Wait

_EVIDENCE_PER_CALL: Final = 500
_CHUNKS_PER_CALL: Final = 8

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
    now: int
    """The server's time in milliseconds."""
    waits: dict[str, Wait]
    """The latest waits of those steps that wait or have expired."""

    def workflow(self) -> WorkflowView:
        return self.header.view(self.workflow_id, self.context)

    def views(self) -> Iterator[StepView]:
        payloads = zip(self.records, self.inputs, self.contexts, strict=True)
        return (self._view(record, input_, context) for record, input_, context in payloads)

    def bare_view(self, record: Record) -> StepView:
        """The view of a step that has neither input nor context."""
        return self._view(record, None, None)

    def _view(self, record: Record, input_: bytes | None, context: bytes | None) -> StepView:
        wait = self.waits.get(record.name)
        awaiting = None if wait is None else wait.view(self.workflow_id, record.name)
        return record.view(self.header, input_, context, awaiting)


def load(
    scope: Scope,
    workflow_id: str,
    *,
    chunk: int | None = None,
    names: Sequence[str] = (),
    payloads: bool = False,
) -> Op[Loaded]:
    """A chunk of the steps in topological order, or the named ones; raises NotFound.

    With payloads, which may be large, it may be only the first of them, as many as one reply holds.
    """
    args: list[Arg] = ["1" if payloads else "", "" if chunk is None else chunk, *names]
    reply = yield scope.on_workflow("steps", readable_id(workflow_id), args)
    if not reply:
        raise NotFound(f"no workflow {workflow_id}")
    static, counts, context, found, records, inputs, contexts, micros, waits = reply
    parsed = []
    for name, text in zip(found, records, strict=True):
        if text is None:
            raise NotFound(f"workflow {workflow_id} has no step {shown(name.decode())}")
        parsed.append(Record.parse(name.decode(), text))
    return Loaded(
        workflow_id,
        Header.parse(static, counts),
        context,
        parsed,
        inputs,
        contexts,
        int(micros) // 1000,
        {
            name.decode(): Wait.parse(text)
            for name, text in zip(waits[::2], waits[1::2], strict=True)
            if text
        },
    )


def channels(scope: Scope) -> Op[list[str]]:
    """The channels of all partitions."""
    if not scope.keys.partitions:
        yield CONNECT
    return [scope.keys.events(partition) for partition in range(scope.keys.partitions)]


def get(scope: Scope, workflow_id: str) -> Op[WorkflowView]:
    found = yield scope.on_workflow("show", readable_id(workflow_id), [])
    if not found[0]:
        raise NotFound(f"no workflow {workflow_id}")
    static, counts, context, _ = found[0]
    return Header.parse(static, counts).view(workflow_id, context)


def step(scope: Scope, workflow_id: str, name: str) -> Op[StepView]:
    loaded = yield from load(scope, workflow_id, names=[wire_name(name, _READ)], payloads=True)
    return next(loaded.views())


def steps(scope: Scope, workflow_id: str, limit: int | None, offset: int) -> Op[list[StepView]]:
    first = _number("offset", offset, 0)
    most = None if limit is None else first + _number("limit", limit, 0)
    total = (yield from get(scope, workflow_id)).step_count
    end = total if most is None else min(total, most)
    views: list[StepView] = []
    for chunk in range(first // CHUNK, -(-end // CHUNK)):
        skipped = max(first - chunk * CHUNK, 0)
        loaded = yield from load(scope, workflow_id, chunk=chunk)
        views += yield from _views_of(scope, loaded, skipped, end - chunk * CHUNK)
    return views


def _views_of(scope: Scope, loaded: Loaded, first: int, end: int) -> Op[list[StepView]]:
    """The views of some loaded steps, with their payloads."""
    some = loaded.records[first:end]
    if not any(record.payloads for record in some):
        return [loaded.bare_view(record) for record in some]
    views: list[StepView] = []
    names = [record.name for record in some]
    while names:
        part = yield from load(scope, loaded.workflow_id, names=names, payloads=True)
        views += part.views()
        del names[: len(part.records)]
    return views


def _number(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise invalid(_READ, f"{name} must be an integer of {least} or more")
    return value


def records(scope: Scope, workflow_id: str) -> Op[tuple[Loaded, list[Record]]]:
    """All steps' records in topological order, without payloads; with the first chunk's load."""
    first = yield from load(scope, workflow_id, chunk=0)
    found = list(first.records)
    for chunk in range(1, -(-first.header.steps // CHUNK)):
        found += (yield from load(scope, workflow_id, chunk=chunk)).records
    return first, found


def edges(
    scope: Scope, workflow_id: str, record: Record, *, up: bool, limit: int | None = None
) -> Op[list[tuple[str, EdgePolicy]]]:
    """A step's parents (``up``) or children, however many; at most ``limit`` of them."""
    text = record.parents if up else record.children
    if not text.startswith("#"):
        return edges_of(text)[:limit]
    total = edge_count(text) if limit is None else min(limit, edge_count(text))
    last = -(-total // CHUNK) - 1
    found: list[tuple[str, EdgePolicy]] = []
    for start in range(0, last + 1, _CHUNKS_PER_CALL):
        args: list[Arg] = ["u" if up else "k", record.name, start]
        args.append(min(start + _CHUNKS_PER_CALL - 1, last))
        for chunk in (yield scope.on_workflow("edges", workflow_id, args)):
            found += edges_of(chunk.decode())
    return found[:limit]


def graph(scope: Scope, workflow_id: str) -> Op[GraphView]:
    views = yield from steps(scope, workflow_id, None, 0)
    first, all_records = yield from records(scope, workflow_id)
    found: list[Edge] = []
    for record in all_records:
        for parent, policy in (yield from edges(scope, workflow_id, record, up=True)):
            found.append(Edge(parent=parent, child=record.name, policy=policy))
    return GraphView(workflow=first.workflow(), steps=tuple(views), edges=tuple(found))


# --- results and evidence ---------------------------------------------------------------------


def rows(
    scope: Scope, workflow_id: str, names: Sequence[str], *, payloads: bool, which: int | str = ""
) -> Op[list[tuple[str, int, Row, bytes | None]]]:
    """The result rows of these steps: step, attempt, row, payload.

    ``which`` is an attempt, or ``latest``; by default all.
    """
    found: list[tuple[str, int, Row, bytes | None]] = []
    for start in range(0, len(names), CHUNK):
        some, attempt = names[start : start + CHUNK], ""
        while some:
            args: list[Arg] = ["1" if payloads else "", which, attempt, *some]
            reply = yield scope.on_workflow("results", workflow_id, args)
            for name, number, text, payload in reply[1] if reply else ():
                if text is not None:
                    found.append((name.decode(), int(number), Row.parse(text), payload or None))
            left = reply[2] if reply else ()
            some, attempt = (some[int(left[0]) - 1 :], left[1]) if left else ((), "")
    return found


def result(scope: Scope, workflow_id: str, name: str, attempt: int | None) -> Op[ResultView | None]:
    wire = wire_name(name, _READ)
    if attempt is not None:
        _number("attempt", attempt, 1)
    yield from load(scope, workflow_id, names=[wire])
    found = yield from rows(scope, workflow_id, [wire], payloads=True, which=attempt or "latest")
    for _, number, row, payload in found:
        if attempt in (None, number):
            return row.view(name, number, payload)
    return None


def results(scope: Scope, workflow_id: str, name: str | None) -> Op[list[ResultView]]:
    if name is not None:
        names = [wire_name(name, _READ)]
        yield from load(scope, workflow_id, names=names)
    else:
        _, all_records = yield from records(scope, workflow_id)
        names = [record.name for record in all_records if record.reported]
    found = yield from rows(scope, workflow_id, names, payloads=True)
    return [row.view(step_, attempt, payload) for step_, attempt, row, payload in found]


def evidence(
    scope: Scope, workflow_id: str | None, name: str | None
) -> Op[PartialList[EvidenceView]]:
    """All evidence of a workflow, or of what concerns none, oldest first."""
    unreachable: tuple[int, ...] = ()
    if workflow_id is None:
        found: list[Stamped] = yield from _logged(scope)
        unreachable = getattr(found, "unreachable", ())
    else:
        found = yield from _of_workflow(scope, workflow_id, name)
    ordered = sorted(found, key=lambda pair: pair[0])
    return PartialList([view for _, view in ordered if name in (None, view.step)], unreachable)


def _of_workflow(scope: Scope, workflow_id: str, name: str | None) -> Op[list[Stamped]]:
    """Result rows are the evidence of accepted completions."""
    _, all_records = yield from records(scope, workflow_id)
    names = [
        record.name for record in all_records if record.reported and name in (None, record.name)
    ]
    found = [
        (row.stamp, result_evidence(workflow_id, step_, attempt, row))
        for step_, attempt, row, _ in (yield from rows(scope, workflow_id, names, payloads=False))
    ]
    for kind in ("accepted", "noise"):
        call = scope.on_workflow("evidence", workflow_id, [kind])
        found += yield from _entries(call, workflow_id)
    return found


def _logged(scope: Scope) -> Op[PartialList[Stamped]]:
    """What the partitions' logs hold: commands on unknown workflows, and repeated signals."""
    numbers = yield from all_partitions(scope)
    logs = {n: Call("evidence", scope.keys.partition(n), ["log"]) for n in numbers}
    found: PartialList[Stamped] = PartialList()
    unread = dict.fromkeys(numbers, 0)
    while unread:
        replies, away = yield from ask_each(
            scope, {n: _page_of(logs[n], unread[n]) for n in unread}
        )
        found.unreachable = tuple(sorted({*found.unreachable, *away}))
        for number, (page, total, _) in replies.items():
            found += [_stamped(str(number), entry) for entry in page]
            unread[number] += len(page)
            if not page or unread[number] >= total:
                del unread[number]
        for number in away:
            del unread[number]
    return found


def _page_of(call: Call, first: int) -> Call:
    """A call for a page of a list of evidence; ``call`` lacks which."""
    return replace(call, args=[*call.args, first, first + _EVIDENCE_PER_CALL - 1])


def _stamped(scope_id: str, entry: bytes) -> Stamped:
    return entry.partition(b"|")[0].decode(), evidence_view(scope_id, entry)


def _entries(call: Call, scope_id: str) -> Op[list[Stamped]]:
    """The entries of a list of evidence; ``call`` asks for it, and lacks which of them."""
    found: list[Stamped] = []
    while True:
        page, total, _ = yield _page_of(call, len(found))
        found += [_stamped(scope_id, entry) for entry in page]
        if not page or len(found) >= total:
            return found


def latest_rejection(scope: Scope, workflow_id: str, name: str | None) -> Op[EvidenceView | None]:
    """The newest refusal that concerns the workflow or, with a name, the step."""
    last = -1
    while True:
        first = last - _EVIDENCE_PER_CALL + 1
        page, total, _ = yield scope.on_workflow("evidence", workflow_id, ["noise", first, last])
        for entry in reversed(page):
            view = evidence_view(workflow_id, entry)
            if view.status == "rejected" and name in (None, view.step):
                return view
        last -= len(page)
        if not page or -last > total:
            return None
