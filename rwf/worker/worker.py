"""The worker: claims steps of its queues, runs their handlers, and reports what came of them."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

from rwf.aio import AsyncClient
from rwf.client import Client
from rwf.reconciler import Reconciler
from rwf.runtime import Runtime, ended_by_signals
from rwf.store.ops.claims import Claimer
from rwf.store.ops.reads import channels
from rwf.worker.handler import Function, Handler
from rwf.worker.link import Link
from rwf.worker.shift import Shift, Terms

F = TypeVar("F", bound=Function)

# Where ``Workflow.add`` looks for a handler's name.
_NAME: Final = "rwf_worker"


@dataclass(frozen=True, slots=True)
class Health:
    """How a worker does: steps that run, outcomes not reported yet, how many attempts ended since
    it was started, and what keeps it from its server, if anything does."""

    running: int
    unreported: int
    ended: int
    error: str | None


class Worker:
    """Runs steps for users without an executor of their own (SPEC section 8).

    ``queues`` are claimed from, up to ``concurrency`` steps at once, each under a ``lease`` in
    seconds that is extended while its handler runs. A worker that is told to end stops claiming,
    lets running steps end for ``grace`` seconds, and gives the rest back. With ``reconcile`` it
    runs a reconciler beside its steps.

    Raises CommandRejected (``invalid_argument``) for queues, a worker id or a lease that cannot be,
    and ValueError for the other options.
    """

    def __init__(
        self,
        client: Client | AsyncClient,
        *,
        queues: Iterable[str] = ("default",),
        concurrency: int = 64,
        lease: float = 30.0,
        grace: float = 30.0,
        worker_id: str | None = None,
        reconcile: bool = True,
    ) -> None:
        if type(concurrency) is not int or not 1 <= concurrency <= 10_000:
            raise ValueError("concurrency must be an integer from 1 to 10,000")
        if not isinstance(grace, int | float) or grace < 0:
            raise ValueError("grace must be a number of seconds, 0 or more")
        name = worker_id or f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
        self.worker_id = name
        self._terms = Terms(Claimer.checked(queues, name, lease), concurrency, float(grace))
        self._reconcile = reconcile
        self._runtime = Runtime(client)
        self._handlers: dict[str, Handler] = {}
        self._link = Link()
        self._shift: Shift | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = False

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that it claims from."""
        return self._terms.claimer.queues

    @property
    def concurrency(self) -> int:
        """How many steps it runs at once."""
        return self._terms.concurrency

    @property
    def handlers(self) -> tuple[str, ...]:
        """The worker names that it has handlers for."""
        return tuple(self._handlers)

    @property
    def health(self) -> Health:
        """How it does now."""
        if self._shift is None:
            return Health(running=0, unreported=0, ended=0, error=self._link.error)
        bench = self._shift.bench
        return Health(
            running=len(bench.running),
            unreported=bench.unreported,
            ended=self._shift.ended,
            error=self._link.error,
        )

    def step(self, name: str) -> Callable[[F], F]:
        """Registers a function as the handler of the steps whose ``worker`` has this name.

        ``async def`` runs in the event loop, a plain function in a thread. Each parameter receives
        the field of its name of the step's input, a single one the whole input when that has no
        such field; types are validated by pydantic. One that is annotated with
        :class:`StepContext` receives that. What it returns is the step's result; an exception has
        it run again, unless it is one of the outcomes ``Fail``, ``Discard``, ``Cancel``, ``Retry``
        and ``Await``. The function itself is returned, and ``Workflow.add`` takes it as
        ``worker=``. Raises ValueError for a name that is taken, TypeError for a signature that
        cannot be filled.
        """

        def register(function: F) -> F:
            if name in self._handlers:
                raise ValueError(f"there is a handler named {name!r} already")
            self._handlers[name] = Handler(name, function)
            # A bound method takes no attributes, but shows those of its function.
            setattr(getattr(function, "__func__", function), _NAME, name)
            return function

        return register

    def use(self, client: Client | AsyncClient) -> None:
        """Has it work with another client from its next start on."""
        self._runtime = Runtime(client)

    def run(self) -> None:
        """Works until SIGTERM or SIGINT, or until :meth:`stop`; the second signal hands back at
        once. To be called where no event loop runs; in a thread that is not the main one, without
        the signals.

        Raises StoreUnavailable or StoreMisconfigured when there is no server to begin with; one
        that goes away later is waited for. An AsyncClient's connections end with the event loop
        that this makes.
        """
        asyncio.run(self._run())

    async def _run(self) -> None:
        try:
            with ended_by_signals(self.stop):
                await self.serve()
        finally:
            await self._runtime.close()

    async def serve(self) -> None:
        """The same in a running event loop, without the signals; a cancelled task hands back."""
        if self._loop is not None:
            raise RuntimeError("the worker runs already")
        self._loop = asyncio.get_running_loop()
        try:
            await self._runtime.run(channels(self._runtime.scope))  # connects
            self._shift = Shift(self._runtime, self._link, self._terms, self._handlers)
            if self._stopped:
                self._shift.end()
            async with self._reconciling():
                await self._shift.work()
        finally:
            self._loop, self._stopped = None, False

    @asynccontextmanager
    async def _reconciling(self) -> AsyncIterator[None]:
        """Has a reconciler run beside the steps, if one is wanted; the worker ends if it fails."""
        if not self._reconcile:
            yield
            return
        reconciler = Reconciler(self._runtime.client)
        task = asyncio.create_task(reconciler.serve())
        task.add_done_callback(self._end_with)
        try:
            yield
        finally:
            reconciler.stop()
            await task

    def _end_with(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._end()

    def stop(self) -> None:
        """Has the worker end: gracefully, and the second time at once. From any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        self._stopped = True
        if self._shift is not None:
            self._shift.end()
