"""One attempt of a claimed step: calling its handler, and telling what it came to."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from rwf.model.states import PauseReason
from rwf.model.views import ClaimedStep
from rwf.ops.complete import Completion
from rwf.threads import Job, Threads
from rwf.worker import verdict
from rwf.worker.context import StepContext
from rwf.worker.handler import Handler
from rwf.worker.middleware import around_async
from rwf.worker.outcomes import Suspension

_log = logging.getLogger("rwf.worker")

# How long, in seconds, a handler may take to end once it is cancelled. A little less than the
# second by which a lease may outlast the step's timeout, so that the report is in time.
_LAST_CHANCE: Final = 0.8
# How long, in seconds, a step waits for a thread at most.
_THREAD_WAIT: Final = 0.5
# Seconds that a timer may come early.
_RESOLUTION: Final = 0.001


@dataclass(slots=True)
class Report:
    """The end of an attempt: a completion, a wait for a signal, or None when it never began, and
    its claim is to be given back; for a while, where there is a reason for that."""

    claim: ClaimedStep
    outcome: Completion | Suspension | PauseReason | None


End = Callable[["Execution", Report | None], None]
"""Is called once when an attempt is over, with its report, or None when it was stopped."""


class Execution:
    """A claimed step that runs. A handler that does not end when it should is left behind: what it
    comes to later is nobody's."""

    def __init__(
        self,
        claim: ClaimedStep,
        handler: Handler,
        threads: Threads,
        beat: Callable[[StepContext], Any],
        read_parents: Callable[[StepContext], Any],
        lease: float,
        *,
        tracebacks: bool,
    ) -> None:
        self.context = StepContext(claim, beat, read_parents)
        self.held_until = time.monotonic() + lease
        """When the lease passes, as far as is known here; by the monotonic clock."""
        self._began = time.monotonic()
        self._lease = lease
        self._tracebacks = tracebacks
        self._handler = handler
        self._threads = threads
        self._job: Job | None = None
        self._stopped = False
        self._timed_out = False
        self._over = False
        self._abandoned = False
        self._loop = asyncio.get_running_loop()
        self._timers: list[asyncio.TimerHandle] = []
        self._task: asyncio.Task[None] | None = None
        self._end: End | None = None
        self.raised: BaseException | None = None
        """The exception that the handler raised."""

    @property
    def name(self) -> str:
        """Which step it is, for people."""
        claim = self.context.claim
        return f"step {claim.step} of {claim.workflow_id}, attempt {claim.attempt}"

    @property
    def seconds(self) -> float:
        """For how long it has been under way."""
        return time.monotonic() - self._began

    @property
    def stopped(self) -> bool:
        """Whether it was ended without a report."""
        return self._stopped

    @property
    def left_behind(self) -> bool:
        """Whether the attempt is over, and its coroutine goes on."""
        return self._abandoned and self._task is not None and not self._task.done()

    def when_done(self, call: Callable[[Execution], None]) -> None:
        """Calls this once the coroutine has ended."""
        assert self._task is not None
        self._task.add_done_callback(lambda _: call(self))

    def start(self, end: End) -> None:
        """Runs the attempt as a task of its own."""
        self._end = end
        self._task = self._loop.create_task(self._run())

    def lose(self) -> None:
        """The lease is gone: the outcome would be refused."""
        self.context._taken_away()
        self.stop()

    def stop(self) -> None:
        """Cancels the attempt, which then reports nothing. A plain handler is left to end."""
        self._stopped = True
        self._cancel()

    def abandon(self) -> None:
        """Stops waiting for the handler."""
        if self._over:
            return
        self._abandoned = True
        if self.left_behind:
            _log.warning(
                "the handler %r of %s goes on after its cancellation, and is abandoned",
                self.context.claim.worker,
                self.name,
            )
        self._finish(None if self._stopped else verdict.of_time_out(self.context.claim))

    async def _run(self) -> None:
        self.context._becomes_current()
        try:
            outcome = await self._outcome()
        except BaseException as raised:  # anything raised is the outcome of this step
            outcome = self._judged(raised)
        self._finish(outcome)

    def _finish(self, outcome: Completion | Suspension | None) -> None:
        """Ends the attempt; without an outcome when it never began, or was stopped."""
        if self._over:
            return
        self._over = True
        for timer in self._timers:
            timer.cancel()
        assert self._end is not None
        self._end(self, None if self._stopped else Report(self.context.claim, outcome))

    async def _outcome(self) -> Completion | Suspension | None:
        claim, handler = self.context.claim, self._handler
        arguments = handler.arguments(self.context)
        if handler.is_async:
            self._begins()
            returned = await handler.call(self.context, arguments)
        elif middleware := handler.middleware.in_loop:
            self._begins()
            call = partial(self._from_thread, arguments)
            returned = await around_async(middleware, self.context, call)
        else:
            self._limit()
            returned, error = await self._in_thread(arguments)
            if error is not None:
                # Not raised: some exceptions must not pass through a coroutine.
                return self._judged(error)
            if inspect.isawaitable(returned):
                returned = await returned
        return verdict.completed(claim, returned, handler.result)

    def _begins(self) -> None:
        """The handler begins now: the step's timeout is counted from here."""
        self.context._begins()
        self._limit()

    def _limit(self) -> None:
        """Ends the attempt when the step's timeout has passed, if it has one."""
        if self.context.claim.timeout is not None:
            self._after(self.context.claim.timeout, self._time_out)

    async def _from_thread(self, arguments: dict[str, Any]) -> Any:
        """The result of a plain handler, for the async middleware around it."""
        returned, error = await self._in_thread(arguments)
        if error is not None:
            raise error
        return await returned if inspect.isawaitable(returned) else returned

    async def _in_thread(self, arguments: dict[str, Any]) -> tuple[Any, BaseException | None]:
        """The value that a plain handler returned, and the exception that it raised."""

        def call() -> Any:
            self.context._begins()
            return self._handler.call(self.context, arguments)

        self._job, at_once = self._threads.submit(partial(copy_context().run, call))
        if not at_once:
            self._after(min(_THREAD_WAIT, self._lease / 3), self._begin_now)
        try:
            return await self._job.future
        except asyncio.CancelledError:
            self._threads.abandon(self._job)
            raise

    def _begin_now(self) -> None:
        """Withdraws a plain handler that no thread was free for."""
        if self._job is not None and self._threads.withdraw(self._job):
            _log.warning("%s is given back: no thread was free for it", self.name)
            self._finish(None)
            self._cancel()

    def _time_out(self) -> None:
        """The step's time is over: ends the attempt, unless its handler began later."""
        job, limit = self._job, self.context.claim.timeout
        assert limit is not None
        if job is not None and not self._over:
            left = limit if job.begun_at is None else job.begun_at + limit - time.monotonic()
            if left > _RESOLUTION:
                self._after(left, self._time_out)
                return
        self._timed_out = True
        self._cancel()

    def _cancel(self) -> None:
        assert self._task is not None
        self._task.cancel()
        self._after(_LAST_CHANCE, self.abandon)

    def _after(self, seconds: float, call: Callable[[], None]) -> None:
        if not self._over:
            self._timers.append(self._loop.call_later(seconds, call))

    def _judged(self, raised: BaseException) -> Completion | Suspension | None:
        """The report of an exception; None once the attempt is over."""
        if self._over or self._stopped:
            return None
        self.raised = raised
        return verdict.of_raised(
            self.context.claim,
            raised,
            timed_out=self._timed_out,
            tracebacks=self._tracebacks,
        )
