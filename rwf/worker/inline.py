"""Running one handler where it is called, instead of in a worker: without a pool of threads, time
limits, or heartbeats of its own."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any

from rwf.ops.complete import Completion
from rwf.worker import verdict
from rwf.worker.context import StepContext
from rwf.worker.handler import Handler
from rwf.worker.middleware import around_async
from rwf.worker.outcomes import Suspension

Wait = Callable[[Coroutine[Any, Any, Any]], Any]
"""Runs a coroutine to its end, in the context of whoever calls it."""


@dataclass(frozen=True, slots=True)
class Ran:
    """The report of a run, and the exception that its handler raised."""

    report: Completion | Suspension
    raised: BaseException | None = None


def run_here(handler: Handler, context: StepContext, wait: Wait) -> Ran:
    """Runs a plain handler in this thread; what is to be awaited is waited for.

    KeyboardInterrupt is raised: here it is whoever runs the program that ends it.
    """
    try:
        return copy_context().run(_run_here, handler, context, wait)
    except KeyboardInterrupt:
        raise
    except BaseException as raised:  # anything raised is the outcome of this step
        return _raised(context, raised)


def _run_here(handler: Handler, context: StepContext, wait: Wait) -> Ran:
    context._becomes_current()
    context._begins()
    arguments = handler.arguments(context)
    if handler.needs_loop:
        return _returned(handler, context, wait(_call(handler, context, arguments)))
    returned = handler.call(context, arguments)
    if inspect.isawaitable(returned):
        returned = wait(_awaited(returned))
    return _returned(handler, context, returned)


async def run_in_loop(handler: Handler, context: StepContext) -> Ran:
    """Runs a coroutine function's handler in this loop, a plain one in a thread."""
    return await asyncio.create_task(_run_in_loop(handler, context))


async def _run_in_loop(handler: Handler, context: StepContext) -> Ran:
    context._becomes_current()
    context._begins()
    try:
        arguments = handler.arguments(context)
        return _returned(handler, context, await _call(handler, context, arguments))
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as raised:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return _raised(context, raised)


async def _call(handler: Handler, context: StepContext, arguments: dict[str, Any]) -> Any:
    if handler.is_async:
        return await handler.call(context, arguments)
    call = partial(_call_in_thread, partial(handler.call, context, arguments))
    return await around_async(handler.middleware.in_loop, context, call)


async def _call_in_thread(call: Callable[[], Any]) -> Any:
    returned, error = await asyncio.to_thread(_caught, call)
    if error is not None:
        raise error
    return await returned if inspect.isawaitable(returned) else returned


def _caught(call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    # Not raised in the thread: a future would not take some exceptions.
    try:
        return call(), None
    except BaseException as raised:
        return None, raised


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _returned(handler: Handler, context: StepContext, returned: Any) -> Ran:
    return Ran(verdict.completed(context.claim, returned, handler.result))


def _raised(context: StepContext, raised: BaseException) -> Ran:
    return Ran(verdict.of_raised(context.claim, raised), raised)
