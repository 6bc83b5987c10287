"""Carrying news between child workflows and the steps that wait for their end.

A step's wait for a child is a record of its workflow, and the child's link to that step one of the
child. What becomes of one is told to the other in calls of which each is idempotent, so that
anybody can finish what a dead client has left:

    a wait begins, or ends         the parent's call, then ``update_child`` to the child, then
                                   ``ack_wait_notices`` to the parent
    a child is inserted, or ends   the child's call, then ``resolve_child`` to the parent, then
                                   ``update_child`` to the child

What cannot be told now, as a node does not answer or a record cannot be read, stays on record and
is told later by a daemon.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import orjson

from rwf.errors import StoreUnavailable
from rwf.model.limits import LISTED
from rwf.model.states import (
    FAILED_STEPS,
    TERMINAL_WORKFLOWS,
    WITHOUT_RESULT,
    StepState,
    WorkflowState,
)
from rwf.ops.base import OpContext, catch_errors, warn_of, wire_text
from rwf.ops.reads import load, rows, shown_workflow
from rwf.protocol.functions.children import ResolveChild, UpdateChild, UpdatedChild
from rwf.protocol.functions.reads import ReadResults
from rwf.protocol.functions.workflows import HeaderReply
from rwf.protocol.records import Record
from rwf.protocol.requests import Op, ask
from rwf.protocol.stored import LinkRecord

Moved = list[tuple[str, HeaderReply]]
"""Workflows that news has moved, with their headers since."""

_ROOM: Final = 250_000
"""How many bytes of a child's results its parent's step takes, names included."""
_SUMMARY: Final = 500
"""How many characters of an error in a child the parent's summary repeats."""
_WAITS: Final = "w"
NOT_WAITED_FOR: Final = "g"
"""Tells a child that its step does not wait for it."""
GONE: Final = "n"
"""Tells a child that its parent is gone."""
_NOBODY: Final = "its parent does not wait for it"


def tell(ctx: OpContext, whose: str, news: Op[Moved]) -> Op[Moved | None]:
    """Carries a piece of news; None where that has to be done later."""
    try:
        told = yield from catch_errors(news)
    except StoreUnavailable as error:
        told = error
    if isinstance(told, Exception):
        warn_of(f"the news of workflow {whose}", told)
        return None
    return told


def to_child(ctx: OpContext, parent: str, step: str, n: int, outcome: str, child: str) -> Op[Moved]:
    """Tells a child what the step's wait of this number makes of it; and the step, where it waits
    for a child that has ended or is gone."""
    updated = yield from _update(ctx, child, parent, step, n, outcome)
    if outcome != _WAITS:
        return _moved(child, updated.header)
    if updated.outcome == "gone":
        return (yield from _child_is_gone(ctx, parent, step, child))
    moved = _moved(child, updated.header)
    if updated.outcome == "ended":
        assert updated.header is not None
        moved += yield from to_parent(ctx, child, LinkRecord("s", n, parent, step, ""))
    return moved


def to_parent(ctx: OpContext, child: str, link: LinkRecord) -> Op[Moved]:
    """Tells a parent of its child's end, or asks what it makes of a child that is held; and tells
    the child the answer."""
    state, payload, note = "", b"", b"{}"
    if link.state != "h":
        end = yield from _end_of(ctx, child)
        if end is None:
            return []
        state, payload, note = end
    resolving = ResolveChild(link.step, link.lease, child, state, payload, note)
    resolved = yield from ask(ctx.workflow_keys(link.workflow), resolving)
    if not resolved.outcome:
        return []  # left to a client of a release that knows its parent's semantics
    n = link.n if resolved.outcome == GONE else max(resolved.n, link.n)
    moved = _moved(link.workflow, resolved.header)
    updated = yield from _update(ctx, child, link.workflow, link.step, n, resolved.outcome)
    return moved + _moved(child, updated.header)


def _update(
    ctx: OpContext, child: str, parent: str, step: str, n: int, outcome: str
) -> Op[UpdatedChild]:
    note = orjson.dumps({"actor": "parent", "source": "server", "reason": _NOBODY})
    asked = UpdateChild(parent, step, n, outcome, note, wire_text(_NOBODY))
    return (yield from ask(ctx.workflow_keys(child), asked))


def _moved(workflow_id: str, header: HeaderReply | None) -> Moved:
    return [] if header is None else [(workflow_id, header)]


def _child_is_gone(ctx: OpContext, parent: str, step: str, child: str) -> Op[Moved]:
    """Ends the wait for a child that somebody has removed, or a failover has lost."""
    note = _note(child, f"child workflow {child} is gone")
    resolving = ResolveChild(step, "", child, "gone", _payload(child, "gone"), note)
    resolved = yield from ask(ctx.workflow_keys(parent), resolving)
    return _moved(parent, resolved.header)


def _note(child: str, summary: str | None) -> bytes:
    note = {"source": "server", "child": child, "summary": summary}
    return orjson.dumps({name: text for name, text in note.items() if text is not None})


def _payload(child: str, state: str, results: bytes | None = None, more: str = "") -> bytes:
    """The result of a step whose child has ended; ``results`` is an object as JSON."""
    told = b"" if results is None else b',"results":%b' % results
    return b'{"workflow_id":"%b","state":"%b"%b%b}' % (
        child.encode(), state.encode(), told, more.encode(),
    )  # fmt: skip


def _end_of(ctx: OpContext, child: str) -> Op[tuple[str, bytes, bytes] | None]:
    """A child's state, and the result and the row's note of its parent's step; None while it has
    not ended, or has moved meanwhile."""
    view = yield from shown_workflow(ctx, child)
    if view is None or view.state not in TERMINAL_WORKFLOWS:
        return None
    if view.state is WorkflowState.COMPLETED:
        payload, note = (yield from _results(ctx, child)), _note(child, None)
    else:
        why = yield from _failure(ctx, child)
        summary = f"child workflow {child} ended {view.state}{why}"
        payload, note = _payload(child, view.state), _note(child, summary)
    again = yield from shown_workflow(ctx, child)
    if again is None or again.last_transition_at != view.last_transition_at:
        return None
    return view.state, payload, note


def _results(ctx: OpContext, child: str) -> Op[bytes]:
    """The results of a child's last steps, those without children, in topological order: up to the
    first that does not fit, and to as many as are listed."""
    found: list[bytes] = []
    left, chunk, whole = _ROOM, 0, True
    while whole and (records := (yield from load(ctx, child, chunk=chunk)).records):
        sinks = [record for record in records if _is_sink(record)]
        some = yield from _payloads(ctx, child, sinks, left)
        found += some
        left -= sum(len(one) + 1 for one in some)
        whole = len(some) == len(sinks) and len(found) <= LISTED
        chunk += 1
    results = b"{%b}" % b",".join(found[:LISTED])
    return _payload(child, "completed", results, "" if whole else ',"truncated":true')


def _is_sink(record: Record) -> bool:
    # Steps that a recovery has superseded are left out: all others of a completed workflow have
    # completed.
    return not record.children and record.state is StepState.COMPLETED


def _payloads(ctx: OpContext, child: str, sinks: Sequence[Record], room: int) -> Op[list[bytes]]:
    """The results of steps as fields of an object, up to the first that does not fit; read a page
    at a time."""
    found: list[bytes] = []
    left = [sink.name for sink in sinks]
    skipped = {sink.name for sink in sinks if sink.cause in WITHOUT_RESULT}
    while left:
        asked = ReadResults(
            with_payloads=True, latest=True, attempt=None, first_attempt=None, names=left
        )
        page = yield from ask(ctx.workflow_keys(child), asked)
        if page is None:
            break
        read, left = (
            (left[: page.next_name - 1], left[page.next_name - 1 :])
            if page.next_name
            else (left, [])
        )
        payloads = {one.step: one.payload for one in page.rows if one.step not in skipped}
        for name in read:
            found.append(b'"%b":%b' % (name.encode(), payloads.get(name) or b"null"))
            room -= len(found[-1]) + 1
            if room < 0:
                return found[:-1]
    return found


def _failure(ctx: OpContext, child: str) -> Op[str]:
    """Which step of a child has failed, the first one, and by what."""
    chunk = 0
    while records := (yield from load(ctx, child, chunk=chunk)).records:
        for record in records:
            if record.state in FAILED_STEPS:
                return (yield from _reported(ctx, child, record))
        chunk += 1
    return ""


def _reported(ctx: OpContext, child: str, record: Record) -> Op[str]:
    text = f": {record.name} {record.state}"
    for one in (yield from rows(ctx, child, [record.name], payloads=False, latest=True)):
        if summary := one.row.note.get("summary"):
            text += f": {summary[:_SUMMARY]}"
    return text
