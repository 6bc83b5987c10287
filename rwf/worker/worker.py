"""The worker: claims steps of its queues, runs their handlers, and reports the outcomes."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from rwf.aio import AsyncClient
from rwf.client import Client
from rwf.ops.claims import Claimer
from rwf.ops.reads import channels
from rwf.reconciler.beside import ReconcilerBeside
from rwf.runtime import Runtime, end_tasks, ended_by_signals, run_to_end
from rwf.worker.availability import Availability
from rwf.worker.handler import Function
from rwf.worker.handlers import Handlers
from rwf.worker.identity import new_worker_id
from rwf.worker.middleware import Middleware
from rwf.worker.observer import Observer
from rwf.worker.runner import Runner, WorkerOptions

F = TypeVar("F", bound=Function)
M = TypeVar("M", bound=Middleware)

_log = logging.getLogger("rwf.worker")

DEFAULT_URL: Final = "redis://127.0.0.1:6379/0"

# How often, in seconds, a worker that connects looks whether it is to end.
_LOOK: Final = 0.1
# How long closing may take.
_CLOSING: Final = 1.0


@dataclass(frozen=True, slots=True)
class Health:
    """The condition of a worker.

    ``running`` counts steps, ``unreported`` outcomes that are still to be reported, ``ended`` the
    attempts since it was started, and ``abandoned`` the handlers that go on after their attempts.
    ``error`` says what is wrong, if anything: its server is unreachable, a call has failed, its
    threads hang, or its event loop is blocked. ``stuck_seconds`` is for how long its handlers have
    kept it from running anything, by either of the last two.
    """

    running: int
    unreported: int
    ended: int
    error: str | None
    abandoned: int = 0
    stuck_seconds: float = 0.0


class Worker:
    """Runs steps for users without an executor of their own (contract §8).

    It claims steps from ``queues`` and runs up to ``concurrency`` at once, each under a ``lease``
    in seconds that is extended while its handler runs. A worker that is asked to end stops
    claiming, lets running steps end for ``grace`` seconds, and gives the rest back; 3 of these
    seconds, or half of a shorter time, are reserved for the last reports. With ``reconcile`` it
    runs a reconciler beside its steps. With ``tracebacks`` the traceback of an exception that a
    handler raises is kept with the attempt (``ResultView.traceback``). Without a ``client`` it
    works on the server of ``$RWF_URL``, else on ``redis://127.0.0.1:6379/0``, in the namespace
    ``$RWF_NAMESPACE``, else ``rwf``.

    A plain handler that goes on after its attempt (its timeout has passed, its lease is lost) keeps
    its thread, which counts as one of ``concurrency`` until it ends.

    ``handlers`` is a registry to share with other workers; without one it has its own.

    Raises CommandRejected (``invalid_argument``) for queues, a worker id or a lease that cannot be,
    and ValueError for the other options.
    """

    def __init__(
        self,
        client: Client | AsyncClient | None = None,
        *,
        queues: Iterable[str] = ("default",),
        concurrency: int = 64,
        lease: float = 30.0,
        grace: float = 30.0,
        worker_id: str | None = None,
        reconcile: bool = True,
        tracebacks: bool = True,
        handlers: Handlers | None = None,
    ) -> None:
        if handlers is not None and not isinstance(handlers, Handlers):
            raise TypeError("handlers must be an rwf.Handlers")
        if not isinstance(grace, int | float) or not 0 <= grace < math.inf:
            raise ValueError("grace must be a number of seconds, 0 or more")
        name = worker_id or new_worker_id()
        self.worker_id = name
        claimer = Claimer.checked(queues, name, lease)
        self._options = WorkerOptions(
            claimer, _checked(concurrency), float(grace), bool(tracebacks)
        )
        self._reconcile = reconcile
        self._runtime = None if client is None else Runtime(client)
        self._handlers = Handlers() if handlers is None else handlers
        self._availability = Availability()
        self._observers: dict[object, Observer] = {}
        self._runner: Runner | None = None
        self._reconciler: ReconcilerBeside | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = False
        self.overdue = threading.Event()
        """Set when a handler blocks the event loop past the grace time; its steps have been given
        back by then."""

    @property
    def client(self) -> Client | AsyncClient:
        """The client that it works with: its own, or one made from the environment."""
        return self._found_runtime().client

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that it claims from."""
        return self._options.claimer.queues

    @property
    def concurrency(self) -> int:
        """How many steps the worker runs at once."""
        return self._options.concurrency

    @property
    def lease(self) -> float:
        """For how long, in seconds, it claims a step at a time."""
        return self._options.lease

    @property
    def registry(self) -> Handlers:
        """The registry of its handlers."""
        return self._handlers

    @property
    def handlers(self) -> tuple[str, ...]:
        """The worker names that it has handlers for."""
        return self._handlers.names

    @property
    def health(self) -> Health:
        """Its condition now."""
        runner = self._runner
        if runner is None:
            return Health(running=0, unreported=0, ended=0, error=self._availability.error)
        return Health(
            running=len(runner.inflight.running),
            unreported=runner.inflight.unreported,
            ended=runner.ended,
            error=runner.trouble,
            abandoned=runner.abandoned,
            stuck_seconds=runner.stuck_seconds,
        )

    def step(self, name: str) -> Callable[[F], F]:
        """Registers a function as the handler of the steps whose ``worker`` has this name; see
        :meth:`rwf.Handlers.step`."""
        return self._handlers.step(name)

    def middleware(self, function: M) -> M:
        """Registers a generator function as middleware; see :meth:`rwf.Handlers.middleware`."""
        return self._handlers.middleware(function)

    def observe(self, owner: object, observer: Observer) -> None:
        """Has an observer look on from its next start on, in place of what the same owner has given
        before: metrics and traces do."""
        self._observers[owner] = observer

    def _found_runtime(self) -> Runtime:
        if self._runtime is None:
            url, namespace = os.environ.get("RWF_URL"), os.environ.get("RWF_NAMESPACE")
            client = AsyncClient.from_url(url or DEFAULT_URL, namespace=namespace or "rwf")
            self._runtime = Runtime(client)
        return self._runtime

    def use(
        self,
        client: Client | AsyncClient | None = None,
        *,
        queues: Iterable[str] | None = None,
        concurrency: int | None = None,
    ) -> None:
        """Changes its client, queues or concurrency, from its next start on. Raises what the
        constructor raises for them."""
        if client is not None:
            self._runtime = Runtime(client)
        claimer = self._options.claimer
        if queues is not None:
            claimer = Claimer.checked(queues, self.worker_id, claimer.lease_ms / 1000)
        at_once = self.concurrency if concurrency is None else _checked(concurrency)
        self._options = replace(self._options, claimer=claimer, concurrency=at_once)

    def run(self) -> None:
        """Works until SIGTERM or SIGINT, or until :meth:`stop`; a second signal gives running steps
        back at once. To be called where no event loop runs; signals work in the main thread only.

        It ends within the grace time, whatever its server and its handlers do, except while a
        handler blocks the event loop; its steps are given back in time even then. Raises
        StoreUnavailable or StoreMisconfigured when there is no server at the start; one that
        becomes unreachable later is waited for. An AsyncClient's connections end with the event
        loop that this makes.
        """
        run_to_end(self._run())

    async def _run(self) -> None:
        with ended_by_signals(self.stop):
            try:
                await self.serve()
            finally:
                if self._runtime is not None:  # else its URL was none
                    await self._runtime.close()

    async def serve(self) -> None:
        """Works like :meth:`run` in an event loop that runs already, without the signals; when its
        task is cancelled, it gives running steps back."""
        if self._loop is not None:
            raise RuntimeError("the worker runs already")
        self._loop = asyncio.get_running_loop()
        try:
            runtime = self._found_runtime()
            if not await self._connected(runtime):
                return
            self._runner = Runner(
                runtime,
                self._availability,
                self._options,
                self._handlers,
                self.overdue.set,
                self._observers.values(),
            )
            if self._stopped:
                self._runner.end()
            async with AsyncExitStack() as stack:
                if self._reconcile:
                    self._reconciler = ReconcilerBeside(runtime.client)
                    await stack.enter_async_context(self._reconciler)
                await self._runner.work()
        finally:
            self._loop, self._stopped = None, False

    async def _connected(self, runtime: Runtime) -> bool:
        """Makes the first call; false when the worker is asked to end before the reply."""
        connecting = asyncio.create_task(runtime.run(channels(runtime.ctx)))
        try:
            while not connecting.done() and not self._stopped:
                await asyncio.wait([connecting], timeout=_LOOK)
            answered = connecting.done()
        finally:
            await end_tasks([connecting], _CLOSING)
        if answered:
            connecting.result()
        return answered

    def stop(self) -> None:
        """Ends the worker: gracefully, and at once when called again. From any thread."""
        loop, runner = self._loop, self._runner
        if loop is None:
            return
        if runner is not None:
            runner.tell_end()
        with suppress(RuntimeError):  # the loop is over already
            loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        self._stopped = True
        if self._reconciler is not None:
            self._reconciler.stop()
        if self._runner is not None:
            self._runner.end()


def _checked(concurrency: int) -> int:
    if type(concurrency) is not int or not 1 <= concurrency <= 10_000:
        raise ValueError("concurrency must be an integer from 1 to 10,000")
    return concurrency
