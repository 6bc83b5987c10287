"""Reconciling one workflow by hand, as a daemon's sweep does for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rwf.errors import CommandRejected, NotFound
from rwf.model.limits import CHUNK
from rwf.model.states import SEMANTICS_VERSIONS, Reason, RepairKind
from rwf.model.views import ReconcileReport, Repair
from rwf.ops import child_notices
from rwf.ops.advance import advance_all
from rwf.ops.base import OpContext, new_call_id
from rwf.ops.reads import load
from rwf.ops.waits import (
    Fate,
    Topic,
    TopicRepair,
    Unsettled,
    fate_of,
    news_of,
    note_unsettled,
    settle,
    tell,
    update_topic,
)
from rwf.protocol.codecs import STATES, time_of_stamp
from rwf.protocol.functions.commands import RecordEvidence
from rwf.protocol.functions.repairs import (
    CorrectCounts,
    FoundRepair,
    RepairCallbacks,
    RepairWorkflow,
)
from rwf.protocol.functions.waits import WaitNotice
from rwf.protocol.headers import Header
from rwf.protocol.requests import Op, ask
from rwf.protocol.stored import CountsRecord
from rwf.repair.topics import check_topic

_TOLD_PER_CALL: Final = 50
# Of steps that may have ended by the repair, over more children than a call releases.
_ENDED_BY_IT: Final = ("wait_expired", "lease_expired", "start_due", "deadline_due")


def reconcile(ctx: OpContext, workflow_id: str) -> Op[ReconcileReport]:
    """Finishes an unfinished release, then repairs derived keys, chunk by chunk.

    Then the topics of all waits are told of them again: that registers what is not registered
    there, and finishes hand-offs.
    """
    header = (yield from load(ctx, workflow_id)).header
    if header.semantics_version not in SEMANTICS_VERSIONS:
        # No server function moves such a workflow: a release of its would stay unfinished for ever.
        raise (yield from _refusal(ctx, workflow_id, header.semantics_version))
    repairs: list[Repair] = []
    if header.unwalked:
        yield from advance_all(ctx, workflow_id)
        repairs.append(Repair(kind="release_unfinished", step=None, details={}))
        header = (yield from load(ctx, workflow_id)).header  # steps may have been appended
    sums = _Sums()
    waits: list[WaitNotice] = []
    keys = ctx.workflow_keys(workflow_id)
    for chunk in range(-(-header.steps // CHUNK)):
        steps = yield from ask(keys, RepairWorkflow(chunk))
        if steps is None:
            raise NotFound(f"no workflow {workflow_id}")
        waits += steps.notices
        repairs += _repairs(steps.repairs)
        sums.add(steps.before, steps.after, [*steps.states, 0, 0, 0, *steps.marked])
    for first in range(1, max(header.callbacks, 1) + 1, CHUNK):
        callbacks = yield from ask(keys, RepairCallbacks(first))
        if callbacks is None:
            raise NotFound(f"no workflow {workflow_id}")
        repairs += _repairs(callbacks.repairs)
        numbers = [callbacks.written, callbacks.open, callbacks.dead, 0, 0]
        sums.add(callbacks.before, callbacks.after, [*(0 for _ in STATES), *numbers])
    if sums.differ() and (yield from load(ctx, workflow_id)).header.steps == header.steps:
        assert sums.before is not None
        *states, written, open_, dead, skipped, superseded = sums.numbers
        correction = CorrectCounts(sums.before, written, open_, dead, skipped, superseded, states)
        repairs += _repairs((yield from ask(keys, correction)))
    if any(repair.kind in _ENDED_BY_IT for repair in repairs):
        yield from advance_all(ctx, workflow_id)
    repairs += yield from _told_again(ctx, workflow_id, waits)
    repairs += yield from _tell_children(ctx, workflow_id, waits)
    if header.link is not None:
        repairs += yield from _tell_parent(ctx, workflow_id)
    return ReconcileReport(workflow_id=workflow_id, repairs=tuple(repairs))


class _Sums:
    """The sums over the chunks of a workflow: its steps in each state, then its callbacks, and
    the open and the dead ones of these, and the steps that were skipped, and superseded."""

    def __init__(self) -> None:
        self.numbers = [0] * (len(STATES) + 5)
        self.before: bytes | None = None
        self._undisturbed = True

    def add(self, before: bytes, after: bytes, numbers: Sequence[int]) -> None:
        """Counts a chunk, with the header's counts as they were found and left."""
        found_as_left = self.before in (None, before) and after == before
        self._undisturbed = self._undisturbed and found_as_left
        self.before = after
        self.numbers = [sum(pair) for pair in zip(self.numbers, numbers, strict=True)]

    def differ(self) -> bool:
        """Whether the header says something else.

        What others, or these calls, have changed meanwhile is counted in some chunks only; the next
        reconciliation sees it.
        """
        if self.before is None or not self._undisturbed:
            return False
        stated = CountsRecord.parse(self.before.partition(b"#")[0])
        steps = [stated.counts[state] for state in STATES]
        return self.numbers != [
            *steps,
            stated.callbacks,
            stated.open,
            stated.dead,
            *Header.marked_of(self.before),
        ]


def _told_again(
    ctx: OpContext, workflow_id: str, notices: Sequence[WaitNotice]
) -> Op[list[Repair]]:
    """Tells topics of waits, also of those that they know; returns what that has repaired."""
    repairs = []
    unsettled: Unsettled = {}
    news: list[tuple[Topic | None, Fate]] = []
    for topic, fate in (fate_of(workflow_id, notice) for notice in notices):
        if topic is None:
            continue
        repair = TopicRepair.RECORDED if fate.known else TopicRepair.UNRECORDED
        kind = yield from update_topic(ctx, topic, fate, unsettled, repair=repair)
        if kind:
            repairs.append(Repair(kind=kind, step=fate.step, details={}))
        if kind and fate.known and fate.what == "w":
            # It may have ended since it was read, and the topic takes a repair's word for it.
            yield from check_topic(ctx, topic.digest)
        if not fate.known:
            news.append((topic, fate))
    for start in range(0, len(news), _TOLD_PER_CALL):
        some = news[start : start + _TOLD_PER_CALL]
        yield from tell(ctx, workflow_id, some, unsettled)
    yield from settle(ctx, unsettled)
    return repairs


def _tell_children(
    ctx: OpContext, workflow_id: str, notices: Sequence[WaitNotice]
) -> Op[list[Repair]]:
    """Tells children of the steps that wait for them, also what they know; returns what that has
    repaired."""
    repairs = []
    unsettled: Unsettled = {}
    for notice in notices:
        news = news_of(ctx, workflow_id, notice)
        if news is None:
            continue
        moved = None
        if notice.known:
            moved = yield from child_notices.tell(ctx, workflow_id, news)
        else:
            unsettled[workflow_id] = False
        for one, header in moved or ():
            note_unsettled(one, header, unsettled)
        if not notice.known or any(one == workflow_id for one, _ in moved or ()):
            repairs.append(_unfinished(notice.step))
    yield from settle(ctx, unsettled)
    return repairs


def _tell_parent(ctx: OpContext, workflow_id: str) -> Op[list[Repair]]:
    """Tells the parent of a child what it does not know yet; returns what that has repaired."""
    if not (yield from load(ctx, workflow_id)).header.has_news:
        return []
    yield from settle(ctx, {workflow_id: False})
    return [_unfinished(None)]


def _unfinished(step: str | None) -> Repair:
    return Repair(kind=RepairKind.HANDOFF_UNFINISHED, step=step, details={})


def _refusal(ctx: OpContext, workflow_id: str, version: int) -> Op[CommandRejected]:
    reason, message = (
        Reason.UNSUPPORTED_SEMANTICS,
        f"the workflow follows semantics version {version}",
    )
    entry = RecordEvidence("reconcile", reason, new_call_id(), message, b"{}")
    noted = yield from ask(ctx.workflow_keys(workflow_id), entry)
    return CommandRejected(
        "reconcile", "workflow", reason, message, requested_at=time_of_stamp(noted.stamp)
    )


def _repairs(found: Sequence[FoundRepair]) -> list[Repair]:
    return [Repair(kind=one.kind, step=one.step or None, details={}) for one in found]
