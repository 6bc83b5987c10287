"""Calling the handler of callbacks, many at once, and settling what it has done in batches.

A dispatch claims no more callbacks than it has room for, so that none waits under its lease. While
one batch is being settled the next handlers end, and go with the following batch.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self, TypeVar

from rwf.model.views import Callback
from rwf.ops.callbacks import Claim, Dispatch, Handler, Outcome, blocking, is_async
from rwf.protocol.requests import Op

T = TypeVar("T")
Run = Callable[[Op[Any]], Any]
AsyncRun = Callable[[Op[Any]], Awaitable[Any]]

_log = logging.getLogger("rwf")


class HandlerThreads:
    """Up to so many threads for handlers, made when they are needed.

    None of them holds up the end of the process: a handler may hang.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._made = 0
        self._idle = threading.Semaphore(0)
        self._work: SimpleQueue[Callable[[], object] | None] = SimpleQueue()

    def start(self, work: Callable[[], object]) -> None:
        """Does this in a thread, in the caller's context."""
        context = copy_context()
        self._work.put(lambda: context.run(work))
        if not self._idle.acquire(blocking=False) and self._made < self._most:
            self._made += 1
            threading.Thread(target=self._serve, name="rwf-callback", daemon=True).start()

    def close(self) -> None:
        """Ends each thread when its work is done."""
        for _ in range(self._made):
            self._work.put(None)

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            del work  # it may hold much, and the next may be long in coming
            self._idle.release()


def deliver(run: Run, dispatch: Dispatch, handler: Handler, at_once: int) -> None:
    """Carries out a dispatch to its end; the handler is called in threads, so many at once. Raises
    CommandRejected, ``invalid_argument``, for a coroutine function."""
    handler = blocking(handler)
    done: SimpleQueue[Outcome] = SimpleQueue()
    threads, working = HandlerThreads(at_once), 0

    def work(claim: Claim) -> None:
        done.put(_outcome(claim, _attempted(handler, claim.envelope)[1]))

    try:
        while True:
            while claims := run(dispatch.claim(at_once - working)):
                working += len(claims)
                for claim in claims:
                    threads.start(partial(work, claim))
            if not working:
                return
            outcomes = [done.get(), *(done.get() for _ in range(done.qsize()))]
            working -= len(outcomes)
            for outcome in outcomes:
                if outcome.error is not None and not isinstance(outcome.error, Exception):
                    raise outcome.error  # it is to end the process
            run(dispatch.settle(outcomes))
    finally:
        threads.close()


async def deliver_async(run: AsyncRun, dispatch: Dispatch, handler: Handler, at_once: int) -> None:
    """Carries out a dispatch to its end; a plain handler is called in threads."""
    async with Deliveries(run, handler, at_once, dispatch.lease) as deliveries:
        while True:
            if not await deliveries.turn(dispatch):
                if not deliveries.working:
                    return
                await deliveries.changed.wait()


class Deliveries:
    """The handlers that are at work in an event loop.

    ``changed`` is set whenever one of them has ended; whoever waits for something else as well may
    set it too.
    """

    def __init__(self, run: AsyncRun, handler: Handler, at_once: int, lease: float) -> None:
        self.changed = asyncio.Event()
        self._run = run
        self._handler = handler
        self._is_async = is_async(handler)
        self._at_once = at_once
        self._lease = lease
        self._threads = HandlerThreads(at_once)
        self._tasks: set[asyncio.Task[None]] = set()
        self._done: list[Outcome] = []

    @property
    def working(self) -> int:
        """How many callbacks are claimed and not settled yet."""
        return len(self._tasks) + len(self._done)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.close()

    async def turn(self, dispatch: Dispatch) -> bool:
        """Settles what is done, and begins as much as there is room for; whether it began any."""
        self.changed.clear()
        await self.settle(dispatch)
        claims: list[Claim] = await self._run(dispatch.claim(self._at_once - self.working))
        for claim in claims:
            task = asyncio.create_task(self._deliver(claim))
            self._tasks.add(task)
            task.add_done_callback(self._ended)
        return bool(claims)

    async def settle(self, dispatch: Dispatch) -> None:
        """Settles what is done; it is kept for the next time when that fails."""
        if outcomes := list(self._done):
            await self._run(dispatch.settle(outcomes))
            del self._done[: len(outcomes)]

    async def finish(self, dispatch: Dispatch) -> None:
        """Waits for the handlers that are at work, and settles what they have done."""
        while self.working:
            self.changed.clear()
            await self.settle(dispatch)
            if self._tasks:
                await self.changed.wait()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.changed.set()

    async def _deliver(self, claim: Claim) -> None:
        error: BaseException | None = None
        try:
            await self._called(claim.envelope)
        except (Exception, SystemExit, asyncio.CancelledError) as raised:
            task = asyncio.current_task()
            if isinstance(raised, asyncio.CancelledError) and task and task.cancelling():
                raise
            error = raised.__cause__ if isinstance(raised, _Raised) else raised
        self._done.append(_outcome(claim, error))

    async def _called(self, envelope: Callback) -> None:
        """Calls the handler, and awaits what it returns. When its lease is over others call it, so
        a coroutine is cancelled then; a thread cannot be."""
        if self._is_async:
            outcome = self._handler(envelope)
        else:
            outcome = await self._in_thread(envelope)
        if isinstance(outcome, Awaitable):
            async with asyncio.timeout(self._lease):
                await outcome

    async def _in_thread(self, envelope: Callback) -> object:
        loop, future = asyncio.get_running_loop(), asyncio.Future[tuple[object, Any]]()

        def end(outcome: object, error: BaseException | None) -> None:
            if not future.done():
                future.set_result((outcome, error))

        def work() -> None:
            # Not as the future's exception: that cannot be a StopIteration.
            outcome, error = _attempted(self._handler, envelope)
            with suppress(RuntimeError):  # the loop is over
                loop.call_soon_threadsafe(end, outcome, error)

        self._threads.start(work)
        outcome, error = await future
        if error is not None:
            raise _Raised from error
        return outcome


class _Raised(Exception):
    """Carries what a handler has raised in its thread."""


def _attempted(handler: Handler, envelope: Callback) -> tuple[object, BaseException | None]:
    """Returns a handler's result and the exception it raised, of which one is None.

    Whatever it raises is passed on: it must not end the thread unseen."""
    try:
        return handler(envelope), None
    except BaseException as error:
        return None, error


def _outcome(claim: Claim, error: BaseException | None) -> Outcome:
    """Returns the outcome of a claimed callback, and logs its failure."""
    if isinstance(error, Exception | SystemExit):
        _log.warning("callback %s failed", claim.envelope.callback_id, exc_info=error)
    return Outcome(claim, error)
