"""Reporting one run of a step, and how it is told to whoever has had it run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import orjson

from rwf.errors import CommandRejected, WorkflowInvalid
from rwf.model.states import ASKED_CODE, CompletionStatus, StepState
from rwf.model.views import ClaimedStep
from rwf.ops.base import OpContext, passing_over
from rwf.ops.complete import Completion, Item, exchange, prepared, report_item
from rwf.ops.reads import load
from rwf.ops.waits import settle_waits
from rwf.protocol.keys import home_of
from rwf.protocol.requests import Op
from rwf.worker.outcomes import Suspension
from rwf.worker.suspending import suspend
from rwf.worker.verdict import instead_of_wait, not_appended, storable

_COMPLETED: Final = ASKED_CODE[CompletionStatus.COMPLETED]


@dataclass(frozen=True, slots=True)
class StepRun:
    """One run of a step.

    ``outcome`` is the state that it left the step in, such as ``completed``, ``retryable``,
    ``discarded`` or ``awaiting_signal``; or, where its start or its report was refused, the reason
    code. ``summary`` is the result's, or says why it was refused, and ``error`` what the handler
    raised: an exception, or an outcome such as ``Fail``. ``attempt`` is 0 for a step that was not
    started.
    """

    workflow_id: str
    step: str
    worker: str
    attempt: int
    outcome: str
    summary: str | None
    error: BaseException | None


def report(
    ctx: OpContext, claimed: ClaimedStep, report: Completion | Suspension, jitter: str | None = None
) -> Op[tuple[str, str | None]]:
    """Reports what a handler came to: the step's state after it, or the reason of a refusal, and
    the summary. ``jitter`` is that of a retry; without one it is random."""
    try:
        return (yield from _reported(ctx, claimed, report, jitter))
    except CommandRejected as refusal:
        return str(refusal.reason_code), refusal.message


def _reported(
    ctx: OpContext, claimed: ClaimedStep, report: Completion | Suspension, jitter: str | None
) -> Op[tuple[str, str | None]]:
    if isinstance(report, Suspension):
        try:
            yield from suspend(ctx, claimed, report)
            loaded = yield from load(ctx, claimed.workflow_id, names=[claimed.step])
            return str(loaded.records[0].state), None
        except (CommandRejected, WorkflowInvalid) as refusal:
            instead = instead_of_wait(claimed, refusal)
            if instead is None:
                raise
            report = instead
    item = storable(ctx, report)
    if jitter is not None:
        item.report.jitter = jitter
    if item.report.asked == _COMPLETED and item.append is None:
        yield from _completed(ctx, item)
        return str(StepState.COMPLETED), _summary(item)
    try:
        done = yield from report_item(ctx, item)
    except WorkflowInvalid as error:
        item = prepared(ctx, not_appended(claimed, error))
        done = yield from report_item(ctx, item)
    return str(done.step.state), _summary(item)


def _summary(item: Item) -> str | None:
    summary: str | None = orjson.loads(item.report.note).get("summary")
    return summary


def _completed(ctx: OpContext, item: Item) -> Op[None]:
    """Reports a step as completed, which is all that it can become by that: without the views,
    which would cost more than all else."""
    done = yield from exchange(ctx, home_of(item.workflow_id), [item], (), None, 0)
    for refusal in done.refusals:
        if refusal is not None:
            raise refusal
    for workflow_id in done.ended:
        yield from passing_over(settle_waits(ctx, workflow_id), f"workflow {workflow_id}")
