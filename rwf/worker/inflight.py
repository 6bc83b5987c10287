"""The claims that a worker holds, by partition, and how many more it may take."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Final

from rwf.model.limits import ITEMS_PER_CALL
from rwf.model.states import PauseReason
from rwf.model.views import ClaimedStep
from rwf.ops.complete import Item, batches
from rwf.protocol.keys import home_of
from rwf.reachability import Away
from rwf.worker.execution import Execution
from rwf.worker.outcomes import Suspension

Key = tuple[str, str, str]

BATCH: Final = 24
"""How many outcomes a round trip carries at most, how many entries it starts, and how many it asks
for. All of these together keep the server for 2 to 3 ms; twice as many could for more than 5."""
# How many of the latest leases are remembered beside those that are held: what hands one over twice
# is a call that is repeated, and no more than seconds old.
_REMEMBERED: Final = 4096
# How long, in seconds, partitions that do not answer are left alone between two tries, while others
# have something to send.
_REST: Final = 1.0


def key_of(claim: ClaimedStep) -> Key:
    """The unique key of a claim: claims of one call share their token."""
    return claim.workflow_id, claim.step, claim.lease


@dataclass(slots=True)
class PartitionBuffer:
    """One partition: outcomes to be reported, those apart that append steps, waits to begin, claims
    to be given back, entries of the ready queue that are reserved for this worker, and whether it
    may have more (``has_more``). One that did not answer is left alone until ``again_at``, by the
    monotonic clock."""

    partition: int
    finished: deque[tuple[ClaimedStep, Item]] = field(default_factory=deque)
    growing: deque[tuple[ClaimedStep, Item]] = field(default_factory=deque)
    waits: deque[tuple[ClaimedStep, Suspension]] = field(default_factory=deque)
    back: deque[tuple[ClaimedStep, PauseReason | None]] = field(default_factory=deque)
    reserved: deque[bytes] = field(default_factory=deque)
    has_more: bool = False
    again_at: float = 0.0

    def next_finished(self) -> list[tuple[ClaimedStep, Item]]:
        """Takes the first outcomes, as many as may travel in one call."""
        if not self.finished:
            return []
        first = islice(self.finished, BATCH)
        numbered = ((number, item) for number, (_, item) in enumerate(first))
        return [self.finished.popleft() for _ in next(batches(numbered))]

    def next_back(self) -> tuple[PauseReason | None, list[ClaimedStep]]:
        """Takes the first claims to be given back for the same reason, as many as one call may tell
        of."""
        reason = self.back[0][1]
        claims: list[ClaimedStep] = []
        while self.back and self.back[0][1] is reason and len(claims) < ITEMS_PER_CALL:
            claims.append(self.back.popleft()[0])
        return reason, claims

    def next_reserved(self) -> list[bytes]:
        """Takes the first entries, as many as one call may start."""
        count = min(len(self.reserved), BATCH)
        return [self.reserved.popleft() for _ in range(count)]


@dataclass(slots=True)
class PendingInput:
    """A claim whose input is still being read: with its lease's end as last known, and whether it
    was lost meanwhile."""

    claim: ClaimedStep
    lost: bool = False


class Inflight:
    """All partitions' buffers, the steps that run, and the room for more.

    A place is taken by each running step, by each that was asked for and has not come yet
    (``on_the_way`` counts these, reserved entries among them), and by each thread that a handler
    does not leave though its attempt is over (``hung``). ``unacked`` counts outcomes that are being
    reported.
    """

    def __init__(
        self, partitions: int, concurrency: int, away: Away, hung: Callable[[], int] = lambda: 0
    ) -> None:
        self.buffers = [PartitionBuffer(number) for number in range(partitions)]
        self.running: dict[Key, Execution] = {}
        self.pending_inputs: dict[Key, PendingInput] = {}
        self.concurrency = concurrency
        self.hung = hung
        self._begun: OrderedDict[Key, None] = OrderedDict()
        self.on_the_way = 0
        self.unacked = 0
        self.claiming = True
        self._away = away
        self._silent: set[int] = set()
        self._tried: PartitionBuffer | None = None
        self._try_at = 0.0
        self._idle: deque[asyncio.Future[None]] = deque()
        self._change = asyncio.Event()
        self._next = {True: 0, False: 0}

    @property
    def free(self) -> int:
        """How many more steps may be asked for."""
        if not self.claiming:
            return 0
        return self.concurrency - len(self.running) - self.on_the_way - self.hung()

    def awaits_input(self, claim: ClaimedStep) -> bool:
        """Records a claim whose input is to be read; false for one that was received before."""
        key = key_of(claim)
        if key in self._begun or key in self.running or key in self.pending_inputs:
            return False
        self.pending_inputs[key] = PendingInput(claim)
        return True

    def begins(self, claim: ClaimedStep) -> bool:
        """Whether a claim is new: a lease is for one run, however often it is received."""
        key = key_of(claim)
        if key in self._begun or key in self.running:
            return False
        self._begun[key] = None
        if len(self._begun) > _REMEMBERED:
            self._begun.popitem(last=False)
        return True

    @property
    def unreported(self) -> int:
        """How many outcomes the server does not know yet."""
        return self.unacked + sum(
            len(buffer.finished) + len(buffer.growing) + len(buffer.waits)
            for buffer in self.buffers
        )

    @property
    def settled(self) -> bool:
        """Whether the server knows all: nothing is to be reported, given back, or on the way."""
        back = any(buffer.back for buffer in self.buffers)
        return not (back or self.unreported or self.on_the_way)

    def buffer_of(self, workflow_id: str) -> PartitionBuffer:
        """The buffer of a workflow's partition."""
        return self.buffer(home_of(workflow_id))

    def buffer(self, partition: int) -> PartitionBuffer:
        """A partition's buffer; some may have been added to the namespace since the start."""
        while len(self.buffers) <= partition:
            self.buffers.append(PartitionBuffer(len(self.buffers)))
        return self.buffers[partition]

    def keep(self, buffer: PartitionBuffer, reserved: Sequence[bytes], has_more: bool) -> None:
        """Notes what was found in a partition's queues; the entries are on the way already."""
        buffer.reserved.extend(reserved)
        buffer.has_more = has_more

    def notify(self) -> None:
        """There may be something to send: one of those who wait for that looks."""
        while self._idle:
            waiting = self._idle.popleft()
            if not waiting.done():
                waiting.set_result(None)
                return

    def pass_on(self) -> None:
        """Whoever has taken something calls this before it waits for the server: where there is
        more, another one takes that meanwhile."""
        if self._idle and self._due() is not None:
            self.notify()

    def changed(self) -> None:
        """There may be room for more steps."""
        self.notify()
        self.progressed()

    def progressed(self) -> None:
        """A step has ended, or outcomes were reported: there may be nothing left."""
        self._change.set()

    async def until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Waits until this is so, or for so many seconds; whether it is so."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not done():
                    self._change.clear()
                    await self._change.wait()
        return done()

    def is_away(self, buffer: PartitionBuffer) -> bool:
        """Whether a partition is known not to answer."""
        return buffer.partition in self._silent or buffer.partition in self._away.partitions

    async def next_buffer(self) -> PartitionBuffer:
        """A buffer with something to send: each in turn, so that none waits for the backlog of
        another. Waits until there is one.

        To try a partition that does not answer takes seconds: one such is in hand at a time, until
        it is told to be :meth:`left`, and the next one a second later, unless no other buffer has
        anything to send.
        """
        while (buffer := self._due()) is None:
            await self._notified(self._rest())
        self._next[self.is_away(buffer)] = buffer.partition + 1
        if self.is_away(buffer):
            self._tried = buffer
        return buffer

    async def _notified(self, seconds: float | None) -> None:
        """Waits to be notified, or for so many seconds."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[None] = loop.create_future()
        self._idle.append(waiting)
        timer = None if seconds is None else loop.call_later(seconds, self.notify)
        try:
            await waiting
        finally:
            if timer is not None:
                timer.cancel()

    def left(self, buffer: PartitionBuffer) -> None:
        """Gives this buffer back after its round trip."""
        if self._tried is buffer:
            self._tried = None
            away = buffer.partition in self._silent
            self._try_at = time.monotonic() + _REST if away else 0.0
            self.notify()

    def answered(self, buffer: PartitionBuffer) -> None:
        """Its partition has answered."""
        if self.is_away(buffer):
            self._silent.discard(buffer.partition)
            self._away.note({}, [buffer.partition])

    def unanswered(self, buffer: PartitionBuffer, pause: float) -> None:
        """Its partition does not answer: it is left alone for so many seconds. Its reserved entries
        go back by themselves, and keep no places meanwhile."""
        self._silent.add(buffer.partition)
        buffer.again_at = time.monotonic() + pause
        self.on_the_way -= len(buffer.reserved)
        buffer.reserved.clear()

    def _is_due(self, buffer: PartitionBuffer, free: bool) -> bool:
        reports = buffer.finished or buffer.growing or buffer.waits
        has = reports or buffer.back or buffer.reserved
        return bool(has) or (buffer.has_more and free)

    def _due(self) -> PartitionBuffer | None:
        """The buffer that is sent next."""
        now = time.monotonic()
        answering = self._first_due(now, away=False)
        if self._tried is not None or not (self._silent or self._away.partitions):
            return answering
        silent = self._first_due(now, away=True)
        may_try = silent is not None and (answering is None or now >= self._try_at)
        return silent if may_try else answering

    def _first_due(self, now: float, *, away: bool) -> PartitionBuffer | None:
        free, buffers, first = self.free > 0, self.buffers, self._next[away]
        for buffer in chain(islice(buffers, first, None), islice(buffers, first)):
            if (
                self._is_due(buffer, free)
                and buffer.again_at <= now
                and self.is_away(buffer) is away
            ):
                return buffer
        return None

    def _rest(self) -> float | None:
        """The seconds until a buffer with something to send may be tried again; None without
        one."""
        free, now = self.free > 0, time.monotonic()
        waits = [
            buffer.again_at - now
            for buffer in self.buffers
            if buffer.again_at > now and self._is_due(buffer, free)
        ]
        return min(waits, default=None)
