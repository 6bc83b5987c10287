"""Heartbeats: extending the leases of running steps, and informing their handlers of changes."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Final

from rwf.errors import StoreUnavailable
from rwf.model.views import ClaimedStep, HeartbeatReport
from rwf.ops.base import OpContext
from rwf.ops.claims import heartbeat
from rwf.runtime import Beside
from rwf.worker.availability import PAUSE, Availability
from rwf.worker.context import StepContext
from rwf.worker.execution import Execution
from rwf.worker.inflight import Inflight, key_of

_log = logging.getLogger("rwf.worker")

# A lease is extended several times before it could pass: one heartbeat may come late, or be lost.
_BEATS_PER_LEASE: Final = 3


@dataclass(frozen=True, slots=True)
class _Asked:
    """A step's own heartbeat, and the future of its answer: whether the lease is valid."""

    execution: Execution
    answer: Future[bool] = field(default_factory=Future)

    def tell(self, stands: bool) -> None:
        with suppress(InvalidStateError):  # a handler that was cancelled asks no more
            self.answer.set_result(stands)


class Heartbeat:
    """The heartbeat of all running steps, and of those whose inputs are being read, three times a
    lease; and of one that asks for it.

    In a thread of its own, so that a handler which blocks the event loop loses nobody's lease. To
    be made in the event loop.
    """

    def __init__(
        self,
        ctx: OpContext,
        beside: Beside,
        availability: Availability,
        inflight: Inflight,
        lease: float,
    ) -> None:
        self._ctx = ctx
        self._beside = beside
        self._availability = availability
        self._inflight = inflight
        self._lease = lease
        self._loop = asyncio.get_running_loop()
        self._asked: SimpleQueue[_Asked | None] = SimpleQueue()
        self._waiting: list[_Asked] = []
        self._silent: set[str] = set()
        self._stopped = False
        self.over = asyncio.Event()
        """Set in the loop once its connections are closed."""

    def start(self) -> None:
        """Begins to beat."""
        threading.Thread(target=self._serve, name="rwf-heartbeat", daemon=True).start()

    def stop(self) -> None:
        """Ends it soon; later questions are answered as if no lease were valid."""
        self._stopped = True
        self._asked.put(None)

    def ask(self, context: StepContext) -> object:
        """One step's own heartbeat: awaited in the loop, blocking in a thread; whether the lease
        still stands."""
        execution = self._inflight.running.get(key_of(context.claim))
        asked = _Asked(execution) if execution is not None and not self._stopped else None
        if asked is not None:
            self._asked.put(asked)
        if asyncio._get_running_loop() is self._loop:
            return self._answer(asked)
        return self._awaited(asked) if asked is not None else False

    def _awaited(self, asked: _Asked) -> bool:
        while True:
            try:
                return asked.answer.result(timeout=1.0)
            except TimeoutError:
                if self._stopped:  # perhaps just before it was asked
                    return False

    async def _answer(self, asked: _Asked | None) -> bool:
        return await asyncio.wrap_future(asked.answer) if asked is not None else False

    def _serve(self) -> None:
        next_beat = time.monotonic() + self._lease / _BEATS_PER_LEASE
        while not self._stopped:
            try:
                self._hear(next_beat)
                due = time.monotonic() >= next_beat
                if due:
                    next_beat = time.monotonic() + self._lease / _BEATS_PER_LEASE
                    self._beat_all()
                else:
                    self._beat([asked.execution.context.claim for asked in self._waiting])
            except Exception:
                _log.exception("unexpected error; heartbeats go on")
                time.sleep(PAUSE)
        self._beside.close()
        self._hear(0.0)
        for asked in self._waiting:
            asked.tell(False)
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self.over.set)

    def _hear(self, until: float) -> None:
        """Waits until it is time or somebody asks; for a pause while the server is unreachable."""
        if self._waiting:
            until = min(until, time.monotonic() + PAUSE)
        try:
            wait = max(until - time.monotonic(), 0.0)
            while (asked := self._asked.get(timeout=wait)) is not None:
                self._waiting.append(asked)
                wait = 0.0
        except Empty:
            pass

    def _beat_all(self) -> None:
        held = [each.context.claim for each in list(self._inflight.running.values())]
        held += [each.claim for each in list(self._inflight.pending_inputs.values())]
        for partition in self._silent.difference(map(_partition, held)):
            self._answered(partition)
        self._beat(held)

    def _beat(self, claims: Sequence[ClaimedStep]) -> None:
        """Extends these leases: of all partitions that answer in one round trip, and behind it
        those of the others, which so keep nobody waiting."""
        silent = set(self._silent)
        for several in (
            [claim for claim in claims if _partition(claim) not in silent],
            [claim for claim in claims if _partition(claim) in silent],
        ):
            if several and not self._stopped and not self._beat_together(several):
                for partition in dict.fromkeys(map(_partition, several)):
                    if not self._stopped:
                        self._beat_in(partition, several)
        self._answer_all()

    def _beat_together(self, claims: Sequence[ClaimedStep]) -> bool:
        """Whether what was wrong, if anything, is that partitions do not answer."""
        partitions = set(map(_partition, claims))
        until = time.monotonic() + self._lease
        try:
            report = self._beside.run(heartbeat(self._ctx, claims, self._lease))
        except StoreUnavailable as error:
            for partition in partitions:
                self._failed(partition, error)
        except Exception as error:
            if len(partitions) > 1:
                return False
            self._failed(partitions.pop(), error)
        else:
            unreachable = set(map(str, report.unreachable))
            for partition in partitions - unreachable:
                self._answered(partition)
            for partition in partitions & unreachable:
                self._failed(partition, StoreUnavailable(f"partition {partition} does not answer"))
            self._tell(report, until)
        return True

    def _beat_in(self, partition: str, claims: Sequence[ClaimedStep]) -> None:
        """Of these, extends the leases of one partition."""
        self._beat_together([claim for claim in claims if _partition(claim) == partition])

    def _failed(self, partition: str, error: Exception) -> None:
        self._silent.add(partition)
        self._availability.failed(error, ("lease", partition))

    def _answered(self, partition: str) -> None:
        self._silent.discard(partition)
        self._availability.answered(("lease", partition))

    def _tell(self, report: HeartbeatReport, until: float) -> None:
        running, asked = self._inflight.running, set(map(key_of, report.cancel_requested))
        for claim in report.extended:
            if pending := self._inflight.pending_inputs.get(key_of(claim)):
                pending.claim = claim
            if execution := running.get(key_of(claim)):
                execution.held_until = until
                execution.context._renewed(claim, key_of(claim) in asked)
        for claim in report.lost:
            if pending := self._inflight.pending_inputs.get(key_of(claim)):
                pending.lost = True
            if execution := running.get(key_of(claim)):
                # Before the loop gets to it: the handler may be what keeps the loop.
                execution.context._taken_away()
                self._soon(self._lost, claim)

    def _lost(self, claim: ClaimedStep) -> None:
        """In the loop: one that has reported meanwhile has lost nothing."""
        execution = self._inflight.running.get(key_of(claim))
        if execution is not None and not execution.stopped:
            _log.warning("lost the lease of %s", execution.name)
            execution.lose()

    def _soon(self, call: Callable[[ClaimedStep], None], claim: ClaimedStep) -> None:
        try:
            self._loop.call_soon_threadsafe(call, claim)
        except RuntimeError:
            self._stopped = True  # the loop has ended

    def _answer_all(self) -> None:
        """Answers those who ask whose heartbeat was heard, and those whose lease has passed."""
        waiting, self._waiting = self._waiting, []
        for asked in waiting:
            execution = asked.execution
            silent = _partition(execution.context.claim) in self._silent
            if execution.context.lost or not silent:
                asked.tell(not execution.context.lost)
            elif time.monotonic() >= execution.held_until:
                asked.tell(False)
            else:
                self._waiting.append(asked)


def _partition(claim: ClaimedStep) -> str:
    return claim.workflow_id.partition("-")[0]
