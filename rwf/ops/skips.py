"""Finding the steps that have skipped a branch (contract §13)."""

from __future__ import annotations

from typing import Final

from rwf.model.limits import LISTED
from rwf.model.states import CompletionStatus, StepCause
from rwf.model.views import SkipOrigin
from rwf.ops.base import OpContext
from rwf.ops.reads import edges, load, rows
from rwf.protocol.records import Record
from rwf.protocol.requests import Op

_STEPS_PER_CALL: Final = 250


def skip_origins(ctx: OpContext, workflow_id: str, record: Record) -> Op[tuple[SkipOrigin, ...]]:
    """The steps because of which a step was skipped, nearest first: itself when it has reported so,
    else those that have skipped the branch which it belongs to. None where its edges alone have
    skipped it, and for a step that was not skipped.

    At most 1,000 steps are looked at.
    """
    if record.cause is not StepCause.SKIPPED:
        return ()
    found: list[SkipOrigin] = []
    level, seen = [record], {record.name}
    while level and len(seen) <= LISTED:
        reported = yield from _reported(ctx, workflow_id, level)
        found += reported.values()
        above = [one for one in level if one.branch_skipped and one.name not in reported]
        names: dict[str, None] = {}
        for one in above:
            parents = yield from edges(ctx, workflow_id, one, up=True, limit=LISTED)
            names |= dict.fromkeys(name for name, _ in parents if name not in seen)
        seen |= names.keys()
        level = []
        listed = list(names)
        for start in range(0, len(listed), _STEPS_PER_CALL):
            some = listed[start : start + _STEPS_PER_CALL]
            loaded = yield from load(ctx, workflow_id, names=some)
            level += [one for one in loaded.records if one.branch_skipped]
    return tuple(found[:LISTED])


def _reported(ctx: OpContext, workflow_id: str, some: list[Record]) -> Op[dict[str, SkipOrigin]]:
    """The steps among these that were skipped by a report of their own."""
    names = [one.name for one in some if one.reported]
    found = yield from rows(ctx, workflow_id, names, payloads=False, latest=True)
    return {
        one.step: SkipOrigin(
            step=one.step, attempt=one.attempt, summary=one.row.note.get("summary")
        )
        for one in found
        if one.row.note.get("status") == CompletionStatus.SKIPPED
    }
