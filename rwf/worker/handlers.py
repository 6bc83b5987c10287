"""The registry of handlers, by worker name."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

from rwf.worker.handler import Function, Handler
from rwf.worker.middleware import Chain, Middleware

F = TypeVar("F", bound=Function)
M = TypeVar("M", bound=Middleware)

# Where ``Workflow.add`` looks for a handler's name.
_NAME: Final = "rwf_worker"


class Handlers:
    """Handlers by name, with the middleware around them; for ``Worker(handlers=...)``, which may be
    several, and for ``rwf.testing.run_until_idle``. A worker without a registry has one of its own.
    """

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}
        self._middleware = Chain()

    @property
    def names(self) -> tuple[str, ...]:
        """The worker names that it has handlers for."""
        return tuple(self._handlers)

    def get(self, name: str) -> Handler | None:
        """The handler of this name, or None."""
        return self._handlers.get(name)

    def step(self, name: str) -> Callable[[F], F]:
        """Registers a function as the handler of the steps whose ``worker`` has this name.

        ``async def`` runs in the event loop, a plain function in a thread; if it returns an
        awaitable, that is awaited. Each parameter receives the input's field of the same name; a
        single parameter receives the whole input when that has no such field. Types are validated
        by pydantic, and a parameter with a default may be missing from the input. A parameter that
        is annotated with :class:`StepContext` receives the context. The return value is the step's
        result. Any exception makes the step run again, except the outcomes ``Fail``, ``Discard``,
        ``Cancel``, ``Skip``, ``Retry``, ``Await`` and ``RunWorkflow``, alone or in an exception
        group. The function itself is returned, and ``Workflow.add`` takes it as ``worker=``. Raises
        ValueError for a name that is taken, TypeError for a signature that cannot be filled.
        """

        def register(function: F) -> F:
            if name in self._handlers:
                raise ValueError(f"there is a handler named {name!r} already")
            self._handlers[name] = Handler(name, function, self._middleware)
            # A bound method takes no attributes, but shows those of its function.
            with suppress(AttributeError, TypeError):
                setattr(getattr(function, "__func__", function), _NAME, name)
            return function

        return register

    def middleware(self, function: M) -> M:
        """Registers a generator function to run around every handler, earlier ones included.

        It takes the :class:`StepContext` and yields once, where the handler runs::

            @handlers.middleware
            def timed(ctx: StepContext) -> Iterator[None]:
                begun = time.monotonic()
                try:
                    yield
                finally:
                    print(ctx.step, time.monotonic() - begun)

        The handler's exception is raised at the ``yield``, outcomes such as ``Fail`` included. The
        middleware may raise another one in its place; swallowing it changes nothing. An exception
        before the ``yield`` is the outcome of the step, and the handler does not run. The input is
        validated before, and the result after. The step's timeout includes middleware.

        An async generator runs in the event loop. A plain one runs where the handler does: in the
        thread of a plain function, so that one session or connection may serve both, and in the
        loop for ``async def``, which it must not block. The first one registered is the outermost;
        around a plain function all async ones stand outside the plain ones. Of a plain function
        that returns an awaitable only async ones wrap the awaiting too. Context variables set
        before the ``yield`` reach the handler. Raises TypeError for what is no generator function.
        """
        self._middleware.add(function)
        return function
