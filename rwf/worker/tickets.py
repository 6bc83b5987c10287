"""Running the steps of tickets for an executor of the user's own (contract §15).

Handlers run as in a worker, in an event loop and threads of their own: the same time limits,
heartbeats and outcomes. What comes before and after a handler are operations, which either client
carries out where it is called.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Coroutine, Generator
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, overload

from rwf import internals
from rwf.aio import AsyncClient
from rwf.client import Client
from rwf.errors import CommandRejected, StoreUnavailable
from rwf.model.states import PauseReason, Reason, StepState
from rwf.model.views import ClaimedStep, Ticket
from rwf.ops.base import OpContext, new_call_id
from rwf.ops.claims import lease_ms, pause, release
from rwf.ops.tickets import start_ticket
from rwf.protocol.requests import Op
from rwf.runtime import Beside, Runtime, run_to_end
from rwf.threads import Threads
from rwf.worker import verdict
from rwf.worker.availability import PAUSE, Availability
from rwf.worker.execution import Execution, Report
from rwf.worker.handler import Handler
from rwf.worker.handlers import Handlers
from rwf.worker.heartbeat import Heartbeat
from rwf.worker.identity import new_worker_id
from rwf.worker.inflight import Inflight, key_of
from rwf.worker.parents import parents_reader
from rwf.worker.reporting import StepRun, report

_log = logging.getLogger("rwf.worker")

# How many plain handlers run at once, those included that were left behind.
_THREADS: Final = 256
# How long, in seconds, closing waits for connections and threads.
_CLOSING: Final = 1.0


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How steps are run; ``lease`` is in seconds."""

    handlers: Handlers
    worker_id: str
    lease: float
    tracebacks: bool

    @classmethod
    def checked(
        cls, handlers: Handlers, worker_id: str | None, lease: float, tracebacks: bool
    ) -> RunOptions:
        """Raises TypeError for what is no registry, and CommandRejected (``invalid_argument``) for
        a lease that cannot be."""
        if not isinstance(handlers, Handlers):
            raise TypeError("handlers must be an rwf.Handlers")
        seconds = lease_ms(lease, "start") / 1000
        return cls(handlers, worker_id or new_worker_id(), seconds, bool(tracebacks))


@dataclass(frozen=True, slots=True)
class Started:
    """A step whose handler is to run now."""

    claim: ClaimedStep
    handler: Handler


Work = Op[Any] | Started | float
"""A request of a run: an operation, that a handler runs, or that so many seconds pass."""


class Attempts:
    """The handlers that run, with their threads and heartbeats. To be made in an event loop."""

    def __init__(self, client: Client | AsyncClient, options: RunOptions) -> None:
        ctx = internals.context_of(client)
        self._options = options
        self._threads = Threads(_THREADS, "rwf-step")
        self._inflight = Inflight(0, _THREADS, ctx.away)
        self._parents = parents_reader(Runtime(client))
        self._heartbeat = Heartbeat(
            ctx, Beside(client), Availability(), self._inflight, options.lease
        )
        self._heartbeat.start()

    async def run(self, started: Started) -> tuple[Execution, Report | None]:
        """Runs a handler to its end; cancelled, it stops it. Its lease is extended until
        :meth:`over`."""
        claim, ended = started.claim, asyncio.get_running_loop().create_future()
        execution = Execution(
            claim,
            started.handler,
            self._threads,
            self._heartbeat.ask,
            self._parents,
            self._options.lease,
            tracebacks=self._options.tracebacks,
        )
        self._inflight.running[key_of(claim)] = execution

        def end(_: Execution, report: Report | None) -> None:
            if not ended.done():
                ended.set_result(report)

        execution.start(end)
        try:
            return execution, await ended
        except asyncio.CancelledError:
            execution.lose()
            raise

    def over(self, claim: ClaimedStep) -> None:
        """Its outcome has been reported, or is nobody's."""
        self._inflight.running.pop(key_of(claim), None)

    async def close(self) -> None:
        """Ends threads and heartbeats, as far as that takes no longer than a second."""
        self._heartbeat.stop()
        self._threads.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._heartbeat.over.wait(), _CLOSING)


def _attempt(
    ctx: OpContext, options: RunOptions, attempts: Attempts, ticket: Ticket | str, run_id: str
) -> Generator[Work, Any, StepRun]:
    """One run of the step that a ticket stands for."""
    try:
        claim = yield start_ticket(ctx, ticket, run_id, options.worker_id, options.lease)
    except CommandRejected as refusal:
        if refusal.reason_code is Reason.INVALID_ARGUMENT:
            raise
        workflow_id, step, *_ = str(ticket).split("/")
        _log.info("step %s of %s is not run here: %s", step, workflow_id, refusal)
        return StepRun(workflow_id, step, "", 0, refusal.reason_code, refusal.message, None)
    handler = options.handlers.get(claim.worker)
    if handler is None:
        _log.warning("there is no handler named %r, which step %s needs", claim.worker, claim.step)
        yield pause(ctx, [claim], PauseReason.NO_HANDLER)
        return _ran(claim, PauseReason.NO_HANDLER)
    try:
        return (yield from _executed(ctx, attempts, Started(claim, handler)))
    finally:
        attempts.over(claim)


def _executed(
    ctx: OpContext, attempts: Attempts, started: Started
) -> Generator[Work, Any, StepRun]:
    claim = started.claim
    try:
        execution, ended = yield started
    except GeneratorExit:
        raise
    except Exception as interrupted:  # a time limit of the executor's own
        yield report(ctx, claim, verdict.of_error(claim, interrupted))
        raise
    except BaseException:  # the process ends
        yield release(ctx, [claim])
        raise
    if ended is None:
        return _ran(claim, Reason.STALE_LEASE, "the lease was lost while the handler ran")
    if ended.outcome is None:
        yield release(ctx, [claim])
        return _ran(claim, StepState.AVAILABLE, "no thread was free for the handler")
    while True:
        try:
            outcome, summary = yield report(ctx, claim, ended.outcome)
            return _ran(claim, outcome, summary, execution.raised)
        except StoreUnavailable as error:
            if time.monotonic() >= execution.held_until:
                raise
            _log.warning("the outcome of %s is to be reported again: %s", execution.name, error)
        yield PAUSE


def _ran(
    claim: ClaimedStep,
    outcome: str,
    summary: str | None = None,
    error: BaseException | None = None,
) -> StepRun:
    return StepRun(
        claim.workflow_id, claim.step, claim.worker, claim.attempt, str(outcome), summary, error
    )


class StepRunner:
    """Runs the steps of tickets, one or several at once, in a process of an executor.

    With a Client handlers run in an event loop and in threads of its own, whichever thread calls
    :meth:`run`; it is made after a process has forked. The arguments are those of :func:`run_step`.
    """

    def __init__(
        self,
        client: Client,
        handlers: Handlers,
        *,
        worker_id: str | None = None,
        lease: float = 30.0,
        tracebacks: bool = True,
    ) -> None:
        self._client = client
        self._options = RunOptions.checked(handlers, worker_id, lease, tracebacks)
        self._ready = threading.Event()
        self._attempts: Attempts | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._main, name="rwf-runner", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._attempts is None:
            raise RuntimeError("the runner's event loop could not be started")

    def __enter__(self) -> StepRunner:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends its loop; a handler that runs is left behind."""
        assert self._loop is not None
        assert self._end is not None
        with suppress(RuntimeError):  # it was closed before
            self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(2 * _CLOSING)

    def _main(self) -> None:
        try:
            run_to_end(self._serve())
        finally:
            self._ready.set()  # also where it never came to be ready

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self._attempts = Attempts(self._client, self._options)
        self._ready.set()
        await self._end.wait()
        await self._attempts.close()

    def run(self, ticket: Ticket | str, *, run_id: str | None = None) -> StepRun:
        """Runs the step of a ticket to its end; see :func:`run_step`."""
        assert self._attempts is not None
        ctx = internals.context_of(self._client)
        run = _attempt(ctx, self._options, self._attempts, ticket, run_id or new_call_id())
        done: Any = None
        error: BaseException | None = None
        while True:
            try:
                work = run.send(done) if error is None else run.throw(error)
            except StopIteration as end:
                ran: StepRun = end.value
                return ran
            done = error = None
            try:
                done = self._carried_out(work)
            except BaseException as raised:
                error = raised

    def _carried_out(self, work: Work) -> Any:
        if isinstance(work, float):
            return time.sleep(work)
        if not isinstance(work, Started):
            return internals.run(self._client, work)
        assert self._attempts is not None
        assert self._loop is not None
        running = asyncio.run_coroutine_threadsafe(self._attempts.run(work), self._loop)
        try:
            return running.result()
        except BaseException:
            running.cancel()
            raise


@overload
def run_step(
    client: Client,
    handlers: Handlers,
    ticket: Ticket | str,
    *,
    run_id: str | None = None,
    worker_id: str | None = None,
    lease: float = 30.0,
    tracebacks: bool = True,
) -> StepRun: ...
@overload
def run_step(
    client: AsyncClient,
    handlers: Handlers,
    ticket: Ticket | str,
    *,
    run_id: str | None = None,
    worker_id: str | None = None,
    lease: float = 30.0,
    tracebacks: bool = True,
) -> Coroutine[Any, Any, StepRun]: ...
def run_step(
    client: Client | AsyncClient,
    handlers: Handlers,
    ticket: Ticket | str,
    *,
    run_id: str | None = None,
    worker_id: str | None = None,
    lease: float = 30.0,
    tracebacks: bool = True,
) -> StepRun | Coroutine[Any, Any, StepRun]:
    """Starts the step that a ticket, or its text, stands for, runs its handler by the rules of a
    worker (contract §8), and reports the outcome; to be awaited with an AsyncClient (contract §15).

    The run has its lease extended while the handler runs, learns of cancel requests, and keeps to
    the step's timeout. With a Client handlers run in threads and an event loop of their own. The
    run that comes second, or too late, runs nothing: its ``outcome`` is then ``already_started`` or
    ``stale_ticket``, and the message that has brought the ticket is to be dropped. ``run_id`` names
    the run; without one each call is a run of its own. ``worker_id`` is who is said to have run it.
    A step without a handler here is given back for a while (``no_handler``).

    While the server does not answer, the report is repeated until the lease has passed. Raises
    StoreUnavailable when it was away for longer, or could not be reached to start. An exception
    that the executor raises in the calling thread meanwhile, such as its own time limit, is the
    outcome of the attempt, and raised; one that is no Exception, such as SystemExit, has the step
    given back, uncounted.
    """
    if isinstance(client, Client):
        with StepRunner(
            client, handlers, worker_id=worker_id, lease=lease, tracebacks=tracebacks
        ) as runner:
            return runner.run(ticket, run_id=run_id)
    return _run_async(client, handlers, ticket, run_id, worker_id, lease, tracebacks)


async def _run_async(
    client: AsyncClient,
    handlers: Handlers,
    ticket: Ticket | str,
    run_id: str | None,
    worker_id: str | None,
    lease: float,
    tracebacks: bool,
) -> StepRun:
    async with AsyncStepRunner(
        client, handlers, worker_id=worker_id, lease=lease, tracebacks=tracebacks
    ) as runner:
        return await runner.run(ticket, run_id=run_id)


class AsyncStepRunner:
    """Runs the steps of tickets, one or several at once, in a process of an executor on asyncio.

    To be made in the event loop; plain handlers run in threads of its own. The arguments are those
    of :func:`run_step`.
    """

    def __init__(
        self,
        client: AsyncClient,
        handlers: Handlers,
        *,
        worker_id: str | None = None,
        lease: float = 30.0,
        tracebacks: bool = True,
    ) -> None:
        self._client = client
        self._options = RunOptions.checked(handlers, worker_id, lease, tracebacks)
        self._attempts = Attempts(client, self._options)

    async def __aenter__(self) -> AsyncStepRunner:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends its threads; a plain handler that runs is left behind."""
        await self._attempts.close()

    async def run(self, ticket: Ticket | str, *, run_id: str | None = None) -> StepRun:
        """Runs the step of a ticket to its end; see :func:`run_step`."""
        ctx = internals.context_of(self._client)
        run = _attempt(ctx, self._options, self._attempts, ticket, run_id or new_call_id())
        done: Any = None
        error: BaseException | None = None
        while True:
            try:
                work = run.send(done) if error is None else run.throw(error)
            except StopIteration as end:
                ran: StepRun = end.value
                return ran
            done = error = None
            try:
                done = await self._carried_out(work)
            except BaseException as raised:
                error = raised

    async def _carried_out(self, work: Work) -> Any:
        if isinstance(work, float):
            return await asyncio.sleep(work)
        if isinstance(work, Started):
            return await self._attempts.run(work)
        return await internals.run_async(self._client, work)
