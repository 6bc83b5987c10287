"""One run of a worker, from its first claim until all steps are reported or given back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from rwf.model.states import PauseReason
from rwf.model.views import ClaimedStep
from rwf.ops.claims import Claimer
from rwf.ops.complete import Completion
from rwf.ops.workers import names_told
from rwf.protocol.stored import WorkerRecord
from rwf.runtime import Beside, Runtime, end_tasks
from rwf.threads import Threads
from rwf.worker.availability import Availability
from rwf.worker.completer import Completer
from rwf.worker.execution import Execution, Report
from rwf.worker.handlers import Handlers
from rwf.worker.heartbeat import Heartbeat
from rwf.worker.inflight import Inflight, key_of
from rwf.worker.observer import GIVEN_BACK, SUSPENDED, Observer, Observers
from rwf.worker.outcomes import Suspension
from rwf.worker.parents import parents_reader
from rwf.worker.poller import Poller
from rwf.worker.presence import Presence
from rwf.worker.watchdog import Watchdog

_log = logging.getLogger("rwf.worker")

# Round trips under way at once: one brings steps while the results of the last are worked on.
_TRIPS: Final = 2
# Loops that read the inputs which claims have come without: a large one holds up no small one.
_FILLS: Final = 2
# Loops that tell parents of the ends of child workflows.
_TOLD_AT_ONCE: Final = 4
# Of how many handlers that it lacks a worker warns.
_NAMES_WARNED_OF: Final = 1_000
# How long, in seconds, a worker that ends tries to tell its server what it has done. It is a part
# of the grace time, or half of one that is short.
_LAST_WORDS: Final = 2.0
# How long its own tasks may take to end after that.
_TASKS_END: Final = 0.5
# Pauses, in seconds, before a loop begins again that has ended by an error nobody expected.
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0
# Characters of its trouble that a worker tells of.
_TROUBLE_TOLD: Final = 500


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """A worker's options; ``lease`` and ``grace`` are in seconds."""

    claimer: Claimer
    concurrency: int
    grace: float
    tracebacks: bool = True

    @property
    def lease(self) -> float:
        return self.claimer.lease_ms / 1000


class Runner:
    """The loops and threads of a worker, and the steps that they have in hand. To be made in the
    event loop. ``overdue`` is called when the loop is blocked so long that it cannot end in time.
    """

    def __init__(
        self,
        runtime: Runtime,
        availability: Availability,
        options: WorkerOptions,
        handlers: Handlers,
        overdue: Callable[[], None],
        observers: Collection[Observer] = (),
    ) -> None:
        scope, beside = runtime.ctx, Beside(runtime.client)
        self._parents = parents_reader(runtime)
        self._availability = availability
        self._options = options
        self._handlers = handlers
        self._threads = Threads(options.concurrency, "rwf-step", self._freed)
        self._left_behind: set[Execution] = set()
        self.inflight = Inflight(scope.keys.partitions, options.concurrency, scope.away, self._hung)
        self.ended = 0
        self._unknown: set[str] = set()
        self._heartbeat = Heartbeat(scope, beside, availability, self.inflight, options.lease)
        self._presence = Presence(
            scope, Beside(runtime.client), unquote(options.claimer.worker), self._about
        )
        self._watchdog = Watchdog(
            scope, Beside(runtime.client), self.inflight, overdue, self._presence.tell
        )
        self._poller = Poller(runtime, availability, self.inflight, options.claimer)
        self._observers = Observers(observers)
        self._completer = Completer(
            runtime,
            availability,
            self.inflight,
            options.claimer,
            self._begin,
            self._observers.reported,
        )
        self._began = time.monotonic()
        self._finish = asyncio.Event()
        self._hurry = False
        self._end_at: float | None = None
        self._hung_since: float | None = None

    @property
    def abandoned(self) -> int:
        """How many handlers go on after their attempts."""
        return self._threads.abandoned + len(self._left_behind)

    @property
    def trouble(self) -> str | None:
        """The reason why it does not do its work, if there is one: its server, or its handlers."""
        if self._availability.error is not None:
            return self._availability.error
        if self._hung() >= self._options.concurrency:
            return f"all {self._options.concurrency} threads hang in handlers: nothing can run"
        return self._watchdog.blocked

    @property
    def stuck_seconds(self) -> float:
        """For how long its handlers have kept it from running anything."""
        if self._watchdog.blocked is not None:
            return time.monotonic() - self._watchdog.blocked_since
        return 0.0 if self._hung_since is None else time.monotonic() - self._hung_since

    def _about(self) -> WorkerRecord:
        """Its account of itself."""
        queues, handlers = self._options.claimer.queues, sorted(self._handlers.names)
        return WorkerRecord(
            up=round(1000 * (time.monotonic() - self._began)),
            concurrency=self._options.concurrency,
            running=len(self.inflight.running),
            abandoned=self.abandoned,
            queue_count=len(queues),
            handler_count=len(handlers),
            queues=names_told(queues),
            handlers=names_told(handlers),
            trouble=(self.trouble or "")[:_TROUBLE_TOLD],
        )

    def tell_end(self) -> None:
        """Says that it is going to end, and the second time at once, so that it does even if
        something blocks the event loop; from any thread."""
        now, reserve = time.monotonic(), _LAST_WORDS + 2 * _TASKS_END
        if self._end_at is None:
            self._end_at = now + self._options.grace
            self._watchdog.end_by(max(self._end_at + _TASKS_END, now + reserve))
        else:
            self._watchdog.end_by(now + reserve)

    def end(self) -> None:
        """Ends the runner: gracefully, and at once when called again."""
        self._hurry = self._finish.is_set()
        self._finish.set()
        self.inflight.changed()

    async def work(self) -> None:
        """Works until :meth:`end`, or until its task is cancelled: then it gives steps back at
        once."""
        loops = [self._poller.listen, self._poller.poll]
        loops += [self._completer.run for _ in range(_TRIPS)]
        loops += [self._completer.fill for _ in range(_FILLS)]
        loops += [self._completer.tell_parents for _ in range(_TOLD_AT_ONCE)]
        tasks = [asyncio.create_task(kept_going(loop)) for loop in loops]
        self._heartbeat.start()
        self._presence.start()
        self._watchdog.start()
        try:
            await self._finish.wait()
        except BaseException:
            self._hurry = True
            raise
        finally:
            if self._end_at is None:
                self.tell_end()
            await self._leave()
            self._watchdog.stop()
            self._heartbeat.stop()
            self._presence.stop()
            self._threads.close()
            await end_tasks(tasks, _TASKS_END)
            with suppress(TimeoutError):  # a server that hangs keeps it
                over = (self._heartbeat.over.wait(), self._presence.over.wait())
                await asyncio.wait_for(asyncio.gather(*over), _TASKS_END)

    def _begin(self, claim: ClaimedStep) -> None:
        if not self.inflight.claiming:
            self._completer.put(Report(claim, None))
            return
        if not self.inflight.begins(claim):
            _log.warning(
                "step %s of %s, attempt %d, was received twice, and runs once",
                claim.step,
                claim.workflow_id,
                claim.attempt,
            )
            return
        handler = self._handlers.get(claim.worker)
        if handler is None:
            self._not_ours(claim)
            return
        options = self._options
        execution = Execution(
            claim,
            handler,
            self._threads,
            self._heartbeat.ask,
            self._parents,
            options.lease,
            tracebacks=options.tracebacks,
        )
        self.inflight.running[key_of(claim)] = execution
        self._observers.claimed(claim)
        execution.start(self._ended)

    def _not_ours(self, claim: ClaimedStep) -> None:
        """Gives back, for a while, a step whose handler only other workers may have."""
        if claim.worker not in self._unknown and len(self._unknown) < _NAMES_WARNED_OF:
            self._unknown.add(claim.worker)
            _log.warning(
                "this worker has no handler named %r, which step %s of %s needs: such steps are"
                " given back, to be claimed again after a pause",
                claim.worker,
                claim.step,
                claim.workflow_id,
            )
        self._completer.put(Report(claim, PauseReason.NO_HANDLER))

    def _ended(self, execution: Execution, report: Report | None) -> None:
        claim = execution.context.claim
        self.inflight.running.pop(key_of(claim), None)
        self._observers.ended(claim, _outcome_of(report), execution.seconds)
        if report is None:
            self.inflight.changed()
        else:
            self.ended += report.outcome is not None
            self._completer.put(report)
        if execution.left_behind:
            self._left_behind.add(execution)
            execution.when_done(self._left_behind.discard)
        if self._hung() >= self._options.concurrency:
            self._hung_since = self._hung_since or time.monotonic()
            _log.error("%s; the worker waits for one of them to end", self.trouble)
        self.inflight.progressed()

    def _hung(self) -> int:
        """How many threads hang in handlers."""
        return self._threads.abandoned

    def _freed(self) -> None:
        self._hung_since = None
        self.inflight.changed()

    async def _leave(self) -> None:
        """Lets running steps end, stops those that do not, and sees to it that the server learns of
        all, as long as there is time."""
        inflight, grace = self.inflight, self._options.grace
        inflight.claiming = False
        assert self._end_at is not None
        reserve = min(_LAST_WORDS + 2 * _TASKS_END, grace / 2)
        patience = max(self._end_at - reserve - time.monotonic(), 0.0)
        await inflight.until(lambda: self._hurry or not inflight.running, patience)
        for execution in list(inflight.running.values()):
            self._completer.put(Report(execution.context.claim, None))
            execution.lose()
        self._completer.give_up()
        until = time.monotonic() + _LAST_WORDS
        if not self._hurry:
            until = max(until, self._end_at - 3 * _TASKS_END)
        await inflight.until(lambda: not inflight.unreported, until - time.monotonic())
        # The rest on the way is claims: worth less patience.
        await inflight.until(lambda: inflight.settled, min(until - time.monotonic(), _LAST_WORDS))
        if inflight.unreported:
            _log.error("%d outcomes could not be reported", inflight.unreported)
        if back := sum(len(buffer.back) for buffer in inflight.buffers):
            _log.warning(
                "%d steps could not be given back, and stay leased until their leases end", back
            )


def _outcome_of(report: Report | None) -> str:
    """The outcome of an attempt, in a word."""
    outcome = None if report is None else report.outcome
    if isinstance(outcome, Completion):
        return str(outcome.status)
    return SUSPENDED if isinstance(outcome, Suspension) else GIVEN_BACK


async def kept_going(loop: Callable[[], Awaitable[object]]) -> None:
    """Runs a loop that never ends: an unexpected error is logged, and it starts again."""
    pause = _FIRST_PAUSE
    while True:
        begun = time.monotonic()
        try:
            await loop()
        except Exception:
            _log.exception("unexpected error; the worker goes on")
        if time.monotonic() - begun > _LONGEST_PAUSE:
            pause = _FIRST_PAUSE
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
