"""Middleware: code that runs around every handler.

A middleware is a generator function with one ``yield``, like a context manager's or a pytest
fixture's: the code before it runs before the handler, the code after it afterwards, and the
handler's exception is raised at it. An async generator runs in the event loop, a plain one where
the handler runs: in its thread, or in the loop for a coroutine function.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, cast

from rwf.worker.context import StepContext

PlainMiddleware = Callable[[StepContext], Iterator[None]]
AsyncMiddleware = Callable[[StepContext], AsyncIterator[None]]
Middleware = PlainMiddleware | AsyncMiddleware


class Chain:
    """The middleware of a registry, the outermost first: all of it, and that of either kind."""

    def __init__(self) -> None:
        self.all: list[Middleware] = []
        self.plain: list[PlainMiddleware] = []
        self.in_loop: list[AsyncMiddleware] = []

    def add(self, function: Middleware) -> None:
        """Adds the innermost; raises TypeError for one that is no generator function."""
        if inspect.isasyncgenfunction(function):
            self.in_loop.append(function)
        elif inspect.isgeneratorfunction(function):
            self.plain.append(function)
        else:
            raise TypeError("a middleware is a generator function, async or not, that yields once")
        self.all.append(function)


def around(
    middleware: Sequence[PlainMiddleware], context: StepContext, call: Callable[[], Any]
) -> Any:
    """Makes a call within plain middleware, the first of it outermost.

    An exception of the call that a middleware swallows is raised all the same: else a step that has
    failed would be taken for completed.
    """
    if not middleware:
        return call()
    raised: BaseException
    with contextmanager(middleware[0])(context):
        try:
            return around(middleware[1:], context, call)
        except BaseException as error:
            raised = error
            raise
    raise raised


async def around_async(
    middleware: Sequence[Middleware], context: StepContext, call: Callable[[], Awaitable[Any]]
) -> Any:
    """Awaits what a call returns within middleware of both kinds; see :func:`around`."""
    if not middleware:
        return await call()
    raised: BaseException
    async with AsyncExitStack() as stack:
        await _enter(stack, middleware[0], context)
        try:
            return await around_async(middleware[1:], context, call)
        except BaseException as error:
            raised = error
            raise
    raise raised


async def _enter(stack: AsyncExitStack, function: Middleware, context: StepContext) -> None:
    if inspect.isasyncgenfunction(function):
        await stack.enter_async_context(asynccontextmanager(function)(context))
    else:
        stack.enter_context(contextmanager(cast(PlainMiddleware, function))(context))
