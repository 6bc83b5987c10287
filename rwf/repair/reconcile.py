"""Reconciling one workflow by hand: what a daemon's sweep does for each."""

from __future__ import annotations

from typing import Any, Final

from rwf.errors import CommandRejected, NotFound
from rwf.model.limits import CHUNK
from rwf.model.states import SEMANTICS_VERSION, Reason
from rwf.model.views import ReconcileReport, Repair
from rwf.ops.advance import advance_all
from rwf.ops.base import OpContext, new_call_id
from rwf.ops.reads import load
from rwf.ops.waits import Fate, Topic, Unsettled, fate_of, settle, sync, tell
from rwf.protocol.codecs import STATES, time_of_stamp
from rwf.protocol.declare import Arg
from rwf.protocol.headers import Header
from rwf.protocol.requests import Op
from rwf.repair.topics import check_topic

_TOLD_PER_CALL: Final = 50
# Of steps that may have ended by the repair, over more children than a call releases.
_ENDED_BY_IT: Final = ("wait_expired", "lease_expired")


def reconcile(ctx: OpContext, workflow_id: str) -> Op[ReconcileReport]:
    """Finishes an unfinished release, then mends what derived keys lack, chunk by chunk.

    Then the topics of all waits are told of them again: that registers what is not registered
    there, and finishes hand-offs.
    """
    header = (yield from load(ctx, workflow_id)).header
    if header.semantics_version != SEMANTICS_VERSION:
        # No server function moves such a workflow: a release of its would stay unfinished for ever.
        raise (yield from _refusal(ctx, workflow_id, header.semantics_version))
    repairs: list[Repair] = []
    if header.unwalked:
        yield from advance_all(ctx, workflow_id)
        repairs.append(Repair(kind="release_unfinished", step=None, details={}))
    # Of the steps in each state, then of callbacks, of open and of dead ones.
    sums = [0] * (len(STATES) + 3)
    before: bytes | None = None
    undisturbed = True
    waits: list[tuple[Topic | None, Fate]] = []
    chunks: list[Arg] = list(range(-(-header.steps // CHUNK)))
    # The first chunk of callbacks is looked at with the first of steps.
    chunks += [f"@{first}" for first in range(CHUNK + 1, header.callbacks + 1, CHUNK)]
    for chunk in chunks:
        reply = yield ctx.on_workflow("check", workflow_id, [chunk])
        if not reply:
            raise NotFound(f"no workflow {workflow_id}")
        found, counts, now, more, due = reply
        waits += (fate_of(workflow_id, entry) for entry in due)
        repairs += _repairs(found)
        undisturbed = undisturbed and before in (None, counts) and now == counts
        before = now
        sums = [count + some for count, some in zip(sums, more, strict=True)]
    # What others, or these calls, change meanwhile is counted in some chunks only; the next
    # reconciliation sees it.
    if before is not None and undisturbed and sums != _counted(before):
        args: list[Arg] = ["", before, *sums]
        found, *_ = yield ctx.on_workflow("check", workflow_id, args)
        repairs += _repairs(found)
    if any(repair.kind in _ENDED_BY_IT for repair in repairs):
        yield from advance_all(ctx, workflow_id)
    repairs += yield from _told_again(ctx, workflow_id, waits)
    return ReconcileReport(workflow_id=workflow_id, repairs=tuple(repairs))


def _counted(counts: bytes) -> list[int]:
    """What a header says, in the order of what is summed."""
    numbers = Header.counts_of(counts)
    return [*(numbers[state] for state in STATES), *Header.callbacks_of(counts)]


def _told_again(
    ctx: OpContext, workflow_id: str, waits: list[tuple[Topic | None, Fate]]
) -> Op[list[Repair]]:
    """Tells topics of waits, also of those that they know of; what that has mended."""
    repairs = []
    unsettled: Unsettled = {}
    for topic, fate in waits:
        if topic is None:
            continue
        mark = "1" if fate.known else "u"
        kind = yield from sync(ctx, topic, fate, unsettled, repair=mark)
        if kind:
            repairs.append(Repair(kind=kind, step=fate.step, details={}))
        if kind and fate.known and fate.what == "w":
            # It may have ended since it was read, and the topic takes a repair's word for it.
            yield from check_topic(ctx, topic.digest)
    news = [(topic, fate) for topic, fate in waits if not fate.known]
    for start in range(0, len(news), _TOLD_PER_CALL):
        some = news[start : start + _TOLD_PER_CALL]
        yield from tell(ctx, workflow_id, some, unsettled)
    yield from settle(ctx, unsettled)
    return repairs


def _refusal(ctx: OpContext, workflow_id: str, version: int) -> Op[CommandRejected]:
    reason, message = Reason.UNSUPPORTED_SEMANTICS, f"the workflow follows semantics {version}"
    args: list[Arg] = ["reconcile", reason, new_call_id(), message, b"{}"]
    stamp, *_ = yield ctx.on_workflow("note", workflow_id, args)
    return CommandRejected(
        "reconcile", "workflow", reason, message, requested_at=time_of_stamp(stamp.decode())
    )


def _repairs(found: list[Any]) -> list[Repair]:
    return [
        Repair(kind=kind.decode(), step=step.decode() or None, details={}) for kind, step in found
    ]
