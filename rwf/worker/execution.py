"""One attempt of a claimed step: calling its handler, and telling what it came to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final

from rwf.model.states import CompletionStatus
from rwf.model.views import ClaimedStep
from rwf.store.ops.complete import MAX_SUMMARY, Completion
from rwf.worker.context import StepContext
from rwf.worker.handler import Handler
from rwf.worker.outcomes import Await, Ended, Retry
from rwf.worker.threads import Threads

_log = logging.getLogger("rwf.worker")

# How much of an exception's text is kept with the result.
_SHORT: Final = 500


@dataclass(frozen=True, slots=True)
class Report:
    """What an attempt came to: a completion, or a wait for a signal."""

    claim: ClaimedStep
    outcome: Completion | Await


class Execution:
    """A claimed step that runs. ``end`` is called with its report, or None when it was stopped."""

    def __init__(
        self,
        claim: ClaimedStep,
        handler: Handler | None,
        threads: Threads,
        beat: Callable[[StepContext], Any],
    ) -> None:
        self.context = StepContext(claim, beat)
        self._handler = handler
        self._threads = threads
        self._stopped = False
        self._task: asyncio.Task[None] | None = None

    def start(self, end: Callable[[Execution, Report | None], None]) -> None:
        """Runs the attempt as a task of its own."""
        self._task = asyncio.get_running_loop().create_task(self._run(end))

    def lose(self) -> None:
        """The lease is gone: the outcome would be refused."""
        self.context._taken_away()
        self.stop()

    def stop(self) -> None:
        """Cancels the attempt, which then reports nothing. A plain handler is left to end."""
        self._stopped = True
        assert self._task is not None
        self._task.cancel()

    async def _run(self, end: Callable[[Execution, Report | None], None]) -> None:
        report: Report | None = None
        try:
            report = Report(self.context.claim, await self._outcome())
        except asyncio.CancelledError:
            if not self._stopped:
                raise
        finally:
            end(self, report)

    async def _outcome(self) -> Completion | Await:
        claim = self.context.claim
        if self._handler is None:
            return self._again(f"this worker has no handler named {claim.worker!r}")
        try:
            arguments = self._handler.arguments(self.context)
            returned = await self._called(self._handler, arguments)
            return self._completion(
                CompletionStatus.COMPLETED, payload=self._handler.result(returned)
            )
        except Await as outcome:
            return outcome
        except Retry as outcome:
            return self._again(outcome.summary, outcome.in_)
        except Ended as outcome:
            return self._completion(
                outcome.status, payload=outcome.payload, summary=_cut(outcome.summary, MAX_SUMMARY)
            )
        except _TimedOut:
            return self._again(f"timed out after {claim.timeout:g} s")
        except asyncio.CancelledError:
            if self._stopped:
                raise
            return self._again("the handler was cancelled")
        except Exception as error:
            _log.error(
                "step %s of %s failed in attempt %d",
                claim.step,
                claim.workflow_id,
                claim.attempt,
                exc_info=error,
            )
            return self._again(_cut(f"{type(error).__name__}: {error}", _SHORT))

    async def _called(self, handler: Handler, arguments: dict[str, Any]) -> Any:
        """What the handler returned; raises what it raised, or _TimedOut."""
        limit = self.context.claim.timeout
        if handler.is_async:
            return await _in_time(handler.call(arguments), limit)
        thread = self._threads.run(partial(handler.call, arguments))
        return await _in_time(asyncio.shield(thread), limit)

    def _again(self, summary: str | None, in_: float | timedelta | None = None) -> Completion:
        return self._completion(
            CompletionStatus.RETRYABLE, summary=_cut(summary, MAX_SUMMARY), retry_in=in_
        )

    def _completion(
        self,
        status: CompletionStatus,
        *,
        payload: Any = None,
        summary: str | None = None,
        retry_in: float | timedelta | None = None,
    ) -> Completion:
        claim = self.context.claim
        return Completion(
            workflow_id=claim.workflow_id,
            step=claim.step,
            status=status,
            payload=payload,
            summary=summary,
            lease=claim.lease,
            retry_in=retry_in,
        )


class _TimedOut(Exception):
    """The attempt took longer than its step allows."""


async def _in_time(work: Any, limit: float | None) -> Any:
    if limit is None:
        return await work
    timeout = asyncio.timeout(limit)
    try:
        async with timeout:
            return await work
    except TimeoutError:
        if timeout.expired():
            raise _TimedOut from None
        raise


def _cut(text: str | None, length: int) -> str | None:
    """The text as it can be kept: short, and without what is no text."""
    if text is None or len(text) <= length:
        return text if text is None else text.encode(errors="replace").decode()
    return f"{text[: length - 3]}...".encode(errors="replace").decode()
