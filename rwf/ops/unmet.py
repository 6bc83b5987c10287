"""Skipping the branches of claimed steps whose conditions do not hold (contract §13)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Final

import orjson

from rwf.model.limits import ITEMS_PER_CALL
from rwf.model.states import BRANCH_CODE, CompletionStatus
from rwf.model.views import ClaimedStep
from rwf.ops.advance import try_to_advance
from rwf.ops.base import OpContext, Slots, catch_each, new_call_id, passing_over, wire_text
from rwf.ops.waits import settle_waits
from rwf.protocol.functions.completion import Complete, CompletedStep, ReportedStep
from rwf.protocol.keys import partition_of
from rwf.protocol.records import Row
from rwf.protocol.requests import Op, ask

_LONGEST_WHY: Final = 1_000

Unmet = tuple[ClaimedStep, str]
"""A claim whose condition does not hold, and why."""


def skip_branches(ctx: OpContext, unmet: Sequence[Unmet]) -> Op[None]:
    """Reports these claims as branch-skipped, under their leases. One that was lost meanwhile is
    somebody else's to judge."""
    by_partition: defaultdict[int, list[Unmet]] = defaultdict(list)
    for one in unmet:
        by_partition[partition_of(one[0].workflow_id) or 0].append(one)
    for partition, some in by_partition.items():
        for start in range(0, len(some), ITEMS_PER_CALL):
            yield from catch_each(
                partial(_report, ctx, partition), some[start : start + ITEMS_PER_CALL], _place
            )


def _place(one: Unmet) -> str:
    return f"step {one[0].step} of {one[0].workflow_id}"


def _report(ctx: OpContext, partition: int, unmet: Sequence[Unmet]) -> Op[list[Unmet]]:
    slots = Slots(ctx, partition)
    reports = [
        ReportedStep(
            slot=slots.of(claimed.workflow_id),
            step=claimed.step,
            asked=BRANCH_CODE,
            call=new_call_id(),
            command_id="",
            lease=wire_text(claimed.lease),
            retry_ms=None,
            jitter="0",
            force=False,
            uncounted=False,
            payload=None,
            note=_note(why),
        )
        for claimed, why in unmet
    ]
    function = Complete(
        with_views=False,
        limit=0,
        token="",
        worker="",
        lease_ms=0,
        queues=(),
        entries=(),
        reports=reports,
    )
    done = yield from ask(slots.keys, function)
    for (claimed, _), answer in zip(unmet, done.steps, strict=True):
        if isinstance(answer, CompletedStep) and Row.is_open(answer.row):
            yield from try_to_advance(ctx, claimed.workflow_id, f"{claimed.step}:{answer.attempt}")
    for workflow_id, slot in slots:
        if slot in done.ended:
            yield from passing_over(settle_waits(ctx, workflow_id), f"workflow {workflow_id}")
    return list(unmet)


def _note(why: str) -> bytes:
    note = {"status": CompletionStatus.SKIPPED, "summary": why[:_LONGEST_WHY], "branch": True}
    return orjson.dumps(note)
