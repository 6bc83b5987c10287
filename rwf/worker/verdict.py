"""Turns a handler's return value or exception into the report of its attempt."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from rwf.errors import CommandRejected, WorkflowInvalid
from rwf.model.states import CompletionStatus, Reason
from rwf.model.views import ClaimedStep
from rwf.ops.base import OpContext
from rwf.ops.complete import MAX_SUMMARY, Completion, Item, prepared
from rwf.worker.outcomes import Append, Ended, Outcome, Retry, Skip, Suspension
from rwf.worker.tracebacks import traceback_of

_log = logging.getLogger("rwf.worker")

# How much of an exception's text is kept with the result.
_SHORT: Final = 500
# Refusals that another try would only repeat.
_BAD: Final = frozenset({Reason.INVALID_ARGUMENT, Reason.KEY_CONFLICT})
# Refusals after which the step is no longer its claimer's.
_GONE: Final = frozenset(
    {
        Reason.STALE_LEASE,
        Reason.ALREADY_TERMINAL,
        Reason.WORKFLOW_NOT_FOUND,
        Reason.STEP_NOT_FOUND,
        Reason.UNSUPPORTED_SEMANTICS,
    }
)


def completed(claim: ClaimedStep, returned: Any, plain: Callable[[Any], Any]) -> Completion:
    """The report of a handler that has returned; ``plain`` makes data of its result."""
    append, join = None, True
    if isinstance(returned, Append):
        append, join, returned = returned.fragment, returned.join, returned.result
    return Completion(
        workflow_id=claim.workflow_id,
        step=claim.step,
        payload=plain(returned),
        lease=claim.lease,
        append=append,
        join=join,
    )


def not_appended(claim: ClaimedStep, why: WorkflowInvalid) -> Completion:
    """The report of a handler whose steps cannot be appended: it would return the same again."""
    return failed(claim, f"the steps cannot be appended: {why.code}: {why.message}")


def again(
    claim: ClaimedStep,
    summary: Any,
    in_: float | timedelta | None = None,
    count: bool = True,
) -> Completion:
    """The report of a run after which the step runs again; whether it counts as an attempt."""
    return _completion(
        claim,
        CompletionStatus.RETRYABLE,
        summary=_text(summary, MAX_SUMMARY),
        retry_in=in_,
        count=count,
    )


def skipped(claim: ClaimedStep, reason: str | None, branch: bool) -> Completion:
    """The report of a step that is not needed."""
    return _completion(claim, CompletionStatus.SKIPPED, summary=reason, branch=branch)


def failed(claim: ClaimedStep, summary: str) -> Completion:
    """The report of an attempt that is pointless to repeat."""
    return _completion(claim, CompletionStatus.FAILED, summary=_text(summary, MAX_SUMMARY))


def outcome_in(raised: BaseException) -> Outcome | None:
    """The outcome that was raised, the first one where there is a group of exceptions."""
    pending = [raised]
    while pending:
        error = pending.pop(0)
        if isinstance(error, Outcome):
            return error
        if isinstance(error, BaseExceptionGroup):
            pending = [*error.exceptions, *pending]
    return None


def of_outcome(claim: ClaimedStep, outcome: Outcome) -> Completion | Suspension:
    """The report of an outcome that a handler has raised."""
    if isinstance(outcome, Suspension):
        return outcome
    if isinstance(outcome, Retry):
        return again(claim, outcome.summary, outcome.in_, outcome.count)
    if isinstance(outcome, Skip):
        return skipped(claim, _text(outcome.reason, MAX_SUMMARY), outcome.branch)
    assert isinstance(outcome, Ended)
    return _completion(
        claim,
        outcome.status,
        payload=outcome.payload,
        summary=_text(outcome.summary, MAX_SUMMARY),
    )


def of_raised(
    claim: ClaimedStep, raised: BaseException, *, timed_out: bool = False, tracebacks: bool = True
) -> Completion | Suspension:
    """The report of an exception that a handler has raised; one that is no outcome is logged."""
    report: Completion | Suspension
    outcome = outcome_in(raised)
    if outcome is not None:
        report = of_outcome(claim, outcome)
    elif timed_out:
        report = of_time_out(claim)
    else:
        report = of_error(claim, raised)
    if outcome is None and not isinstance(raised, asyncio.CancelledError):
        _log.error(
            "step %s of %s failed in attempt %d",
            claim.step,
            claim.workflow_id,
            claim.attempt,
            exc_info=raised,
        )
    return with_traceback(report, raised) if tracebacks else report


def of_time_out(claim: ClaimedStep) -> Completion:
    """The report of an attempt whose time is over."""
    return again(claim, f"timed out after {claim.timeout:g} s")


def of_error(claim: ClaimedStep, error: BaseException) -> Completion:
    """The report of any other exception."""
    if isinstance(error, asyncio.CancelledError):
        return again(claim, "the handler was cancelled")
    return again(claim, _text(error, _SHORT))


def with_traceback(
    report: Completion | Suspension, raised: BaseException
) -> Completion | Suspension:
    """The report of an exception, with its traceback.

    An outcome such as ``Fail`` is no error: it has a traceback only where it was raised from an
    exception, or in a group. Nor has a run that counts no attempt.
    """
    if isinstance(report, Suspension) or not report.count:
        return report
    if isinstance(raised, Outcome) and raised.__cause__ is None:
        return report
    return replace(report, traceback=traceback_of(raised))


def storable(ctx: OpContext, completion: Completion) -> Item:
    """A report as it is sent, or that of a failure where it cannot be stored."""
    try:
        return prepared(ctx, completion)
    except BaseException as error:  # the user's own classes may raise anything
        known = isinstance(error, CommandRejected | WorkflowInvalid)
        why = str(error) if known else type(error).__name__
        # The work was done, and to do it again would give the same.
        failed = Completion(
            workflow_id=completion.workflow_id,
            step=completion.step,
            status=CompletionStatus.FAILED,
            summary=f"the outcome cannot be stored: {why}",
            lease=completion.lease,
        )
        return prepared(ctx, failed)


def instead_of_wait(
    claim: ClaimedStep, refusal: CommandRejected | WorkflowInvalid
) -> Completion | None:
    """The report of a step that may not wait: a bad argument stays bad, as does a bad child
    workflow, all else passes. None for a step that is no longer its claimer's."""
    if isinstance(refusal, WorkflowInvalid):
        return failed(claim, f"the child workflow is not valid: {refusal}")
    if refusal.reason_code in _GONE:
        return None
    bad = refusal.reason_code in _BAD
    status = CompletionStatus.FAILED if bad else CompletionStatus.RETRYABLE
    return _completion(claim, status, summary=f"the wait was refused: {refusal}")


def _completion(
    claim: ClaimedStep,
    status: CompletionStatus,
    *,
    payload: Any = None,
    summary: str | None = None,
    retry_in: float | timedelta | None = None,
    count: bool = True,
    branch: bool = False,
) -> Completion:
    return Completion(
        workflow_id=claim.workflow_id,
        step=claim.step,
        status=status,
        payload=payload,
        summary=summary,
        lease=claim.lease,
        retry_in=retry_in,
        count=count,
        branch=branch,
    )


def _text(value: Any, length: int) -> str | None:
    """A value as text that can be stored: short, and valid Unicode."""
    if value is None:
        return None
    try:
        text = str(value)
        if isinstance(value, BaseException):
            text = f"{type(value).__name__}: {text}"
        if isinstance(value, BaseExceptionGroup):
            text = f"{text}, the first {_text(value.exceptions[0], length)}"
    except BaseException:  # its author's code may raise anything
        text = f"{type(value).__name__}, whose text cannot be made"
    cut = text if len(text) <= length else f"{text[: length - 3]}..."
    return cut.encode(errors="replace").decode()
