"""One run of a worker, from its first claim until all is reported or handed back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rwf.errors import RwfError
from rwf.model.views import ClaimedStep
from rwf.runtime import Runtime
from rwf.store.ops.claims import Claimer, release, start
from rwf.worker.bench import Bench, key_of
from rwf.worker.carrier import Carrier
from rwf.worker.execution import Execution, Report
from rwf.worker.finder import Finder
from rwf.worker.handler import Handler
from rwf.worker.link import Link
from rwf.worker.pulse import Pulse
from rwf.worker.threads import Threads

_log = logging.getLogger("rwf.worker")

# Round trips under way at once: one brings steps while the results of the last are worked on.
_TRIPS: Final = 2
# How long, in seconds, a worker that ends tries to tell a server that is away what it has done.
_LAST_WORDS: Final = 5.0
_CANCELLED_AGAIN: Final = 0.1


@dataclass(frozen=True, slots=True)
class Terms:
    """What a worker was asked to be; ``lease`` and ``grace`` are in seconds."""

    claimer: Claimer
    concurrency: int
    grace: float

    @property
    def lease(self) -> float:
        return self.claimer.lease_ms / 1000


class Shift:
    """The loops of a worker, and the steps that they have in hand. To be made in the event loop."""

    def __init__(
        self, runtime: Runtime, link: Link, terms: Terms, handlers: Mapping[str, Handler]
    ) -> None:
        self._runtime = runtime
        self._terms = terms
        self._handlers = handlers
        self._threads = Threads(terms.concurrency)
        self.bench = Bench(runtime.scope.keys.partitions, terms.concurrency)
        self.ended = 0
        self._pulse = Pulse(runtime, link, self.bench, terms.lease)
        self._finder = Finder(runtime, link, self.bench, terms.claimer)
        self._carrier = Carrier(runtime, link, self.bench, terms.claimer, self._begin)
        self._finish = asyncio.Event()
        self._hurry = False
        self._closed = False
        self._left: list[ClaimedStep] = []

    def end(self) -> None:
        """Has the shift end gracefully; the second time at once."""
        self._hurry = self._finish.is_set()
        self._finish.set()
        self.bench.changed()

    async def work(self) -> None:
        """Works until :meth:`end`, or until its task is cancelled, which hands back at once."""
        loops = [self._finder.listen(), self._finder.poll(), self._pulse.run()]
        loops += [self._carrier.run() for _ in range(_TRIPS)]
        tasks = [asyncio.create_task(loop) for loop in (self._finish.wait(), *loops)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except BaseException:
            self._hurry = True
            raise
        finally:
            await self._leave()
            await _end(tasks)
            await self._release(self._left)

    def _begin(self, claim: ClaimedStep) -> None:
        if self._closed:
            self._left.append(claim)
            return
        handler = self._handlers.get(claim.worker)
        execution = Execution(claim, handler, self._threads, self._pulse.ask)
        self.bench.running[key_of(claim)] = execution
        execution.start(self._ended)

    def _ended(self, execution: Execution, report: Report | None) -> None:
        del self.bench.running[key_of(execution.context.claim)]
        self.ended += report is not None
        if report is not None:
            self._carrier.put(report)
        self.bench.changed()

    async def _leave(self) -> None:
        """Lets running steps end, stops those that do not, and sees to it that all is reported."""
        bench = self.bench
        bench.claiming = False
        await self._hand_back_reserved()
        await bench.until(lambda: self._hurry or not bench.running, self._terms.grace)
        self._closed = True
        for execution in list(bench.running.values()):
            self._left.append(execution.context.claim)
            execution.stop()
        if not await bench.until(lambda: not bench.unreported, _LAST_WORDS):
            _log.error("%d outcomes could not be reported", bench.unreported)

    async def _hand_back_reserved(self) -> None:
        """Entries that nobody has started go back at once, not when their time is over."""
        for desk in self.bench.desks:
            while entries := desk.next_reserved():
                op = start(self._runtime.scope, desk.partition, self._terms.claimer, entries)
                try:
                    await self._release(await self._runtime.run(op))
                except RwfError as error:
                    _log.warning("reserved steps go back by themselves: %s", error)

    async def _release(self, claims: Sequence[ClaimedStep]) -> None:
        if not claims:
            return
        try:
            await self._runtime.run(release(self._runtime.scope, claims))
        except RwfError as error:
            _log.warning("%d steps go back when their leases end: %s", len(claims), error)


async def _end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancels tasks until they have ended: a cancellation is lost where it meets a time limit of
    a library's own."""
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=_CANCELLED_AGAIN)
