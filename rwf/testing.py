"""Running workflows in tests: in the calling thread or event loop, and without waiting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from contextlib import ExitStack
from contextvars import copy_context
from datetime import timedelta
from typing import Any, Final, overload

from rwf import internals
from rwf.aio import AsyncClient
from rwf.client import Client
from rwf.errors import NotIdle
from rwf.model.retry import seconds
from rwf.protocol.requests import Op
from rwf.worker import Handlers, StepContext, Worker
from rwf.worker.context import immediate
from rwf.worker.drain import Drain, DrainOptions
from rwf.worker.inline import run_here, run_in_loop
from rwf.worker.reporting import StepRun

__all__ = ["NotIdle", "StepRun", "run_until_idle"]

_LEASE: Final = 30.0
_WORKER_ID: Final = "run_until_idle"
# How long, in seconds, a server is waited for before it is looked at again.
_LOOK: Final = 1.0


@overload
def run_until_idle(
    client: Client,
    worker_or_handlers: Worker | Handlers,
    *,
    skip_time: bool = True,
    within: float | timedelta | None = None,
    limit: int = 1000,
) -> list[StepRun]: ...
@overload
def run_until_idle(
    client: AsyncClient,
    worker_or_handlers: Worker | Handlers,
    *,
    skip_time: bool = True,
    within: float | timedelta | None = None,
    limit: int = 1000,
) -> Coroutine[Any, Any, list[StepRun]]: ...
def run_until_idle(
    client: Client | AsyncClient,
    worker_or_handlers: Worker | Handlers,
    *,
    skip_time: bool = True,
    within: float | timedelta | None = None,
    limit: int = 1000,
) -> list[StepRun] | Coroutine[Any, Any, list[StepRun]]:
    """Runs all steps that can run, one after the other, and returns them; to be awaited with an
    AsyncClient.

    Of a worker it uses the handlers, queues and lease; with :class:`~rwf.Handlers` it serves all
    queues. With a Client plain handlers run in the calling thread, and coroutines in a loop made
    for them; with an AsyncClient coroutines run in the calling loop, and plain handlers in a
    thread.

    When no step can run, it goes on to the next retry, deadline of a wait, or end of a lease. On
    ``Client.fake()`` it moves the server's clock, which otherwise stands still: no time is spent
    waiting, and retries take their whole backoff, so that each run of a test is the same. With
    ``skip_time=False``, the only way on a real server, it waits. ``within`` (seconds or a
    timedelta) limits the time that passes: with 0 only steps that can run now are run. Nothing is
    removed at the end of its retention.

    A step without a handler is given back, with a warning. Timeouts of steps are not enforced.
    Raises NotIdle after ``limit`` runs, ValueError for invalid options, and RuntimeError where a
    Client would have to run a coroutine in a thread that has an event loop.
    """
    clock = internals.clock_of(client)
    if skip_time and clock is None:
        raise ValueError(
            "time can be skipped on Client.fake() alone: skip_time=False waits for timers"
        )
    if type(limit) is not int or limit < 1:
        raise ValueError("limit must be an integer of 1 or more")
    worker = worker_or_handlers if isinstance(worker_or_handlers, Worker) else None
    handlers = worker_or_handlers if worker is None else worker.registry
    if not isinstance(handlers, Handlers):
        raise TypeError("run_until_idle takes a Worker or Handlers")
    options = DrainOptions(
        handlers=handlers,
        queues=None if worker is None else worker.queues,
        worker_id=_WORKER_ID if worker is None else worker.worker_id,
        lease=_LEASE if worker is None else worker.lease,
        clock=clock if skip_time else None,
        within=None if within is None else seconds(within, "within"),
        limit=limit,
    )
    drain = Drain(internals.context_of(client), options)
    return _run(client, drain) if isinstance(client, Client) else _run_async(client, drain)


def _run(client: Client, drain: Drain) -> list[StepRun]:
    def beat(context: StepContext) -> Any:
        return immediate(internals.run(client, drain.beat(context)))

    def read_parents(context: StepContext) -> Any:
        return immediate(internals.run(client, drain.parents(context)))

    with ExitStack() as stack:
        stack.enter_context(drain.clock_held())
        runner: asyncio.Runner | None = None

        def wait(coroutine: Coroutine[Any, Any, Any]) -> Any:
            nonlocal runner
            if runner is None:
                runner = stack.enter_context(asyncio.Runner())
            return runner.run(coroutine, context=copy_context())

        while (found := internals.run(client, drain.next())) is not None:
            if isinstance(found, float):
                time.sleep(min(found, _LOOK))
                continue
            handler = drain.handler_of(found)
            if handler.needs_loop and asyncio._get_running_loop() is not None:
                internals.run(client, drain.give_back(found))
                raise RuntimeError(
                    f"the handler {found.worker!r} needs an event loop, and one runs here already: "
                    "await run_until_idle(AsyncClient.fake(), ...) instead"
                )
            ran = run_here(handler, StepContext(found, beat, read_parents), wait)
            internals.run(client, drain.report(found, ran))
    return drain.ran


async def _run_async(client: AsyncClient, drain: Drain) -> list[StepRun]:
    loop = asyncio.get_running_loop()

    def carry_out(op: Op[Any]) -> Any:
        doing = internals.run_async(client, op)
        if asyncio._get_running_loop() is loop:
            return doing
        return asyncio.run_coroutine_threadsafe(doing, loop).result()

    def beat(context: StepContext) -> Any:
        return carry_out(drain.beat(context))

    def read_parents(context: StepContext) -> Any:
        return carry_out(drain.parents(context))

    with drain.clock_held():
        while (found := await internals.run_async(client, drain.next())) is not None:
            if isinstance(found, float):
                await asyncio.sleep(min(found, _LOOK))
                continue
            context = StepContext(found, beat, read_parents)
            ran = await run_in_loop(drain.handler_of(found), context)
            await internals.run_async(client, drain.report(found, ran))
    return drain.ran
