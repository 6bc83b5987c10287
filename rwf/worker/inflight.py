"""What a worker has in hand, by partition, and how much more it may take."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from rwf.model.limits import ITEMS_PER_CALL
from rwf.model.states import PauseReason
from rwf.model.views import ClaimedStep
from rwf.ops.complete import Item, batches
from rwf.worker.execution import Execution
from rwf.worker.outcomes import Await

Key = tuple[str, str, str]

BATCH: Final = 24
"""How many outcomes a round trip carries at most, how many entries it starts, and how many it asks
for. All of these together keep the server for 2 to 3 ms; twice as many could for more than 5."""
# How many of the latest leases are remembered beside those that are held: what hands one over twice
# is a call that is repeated, and no more than seconds old.
_REMEMBERED: Final = 4096
# Seconds after which the desks are looked at again in any case.
_LONGEST_WAIT: Final = 60.0


def key_of(claim: ClaimedStep) -> Key:
    """What tells a claim from all others: one call's claims share their token."""
    return claim.workflow_id, claim.step, claim.lease


@dataclass(slots=True)
class Desk:
    """One partition: outcomes to be reported, waits to begin, claims to be given back, entries of
    the ready queue that are reserved for this worker, and whether there may be more (``ripe``). Its
    partition was away when it is not to be asked again before ``again_at``, of the monotonic
    clock."""

    partition: int
    finished: deque[tuple[ClaimedStep, Item]] = field(default_factory=deque)
    waits: deque[tuple[ClaimedStep, Await]] = field(default_factory=deque)
    back: deque[tuple[ClaimedStep, PauseReason | None]] = field(default_factory=deque)
    reserved: deque[bytes] = field(default_factory=deque)
    ripe: bool = False
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


class Bench:
    """All desks, the steps that run, and the room for more.

    A place is taken by each running step, by each that was asked for and has not come yet
    (``on_the_way`` counts these, reserved entries among them), and by each thread that a handler
    does not leave though its attempt is over (``hung``). ``carried`` counts outcomes that are being
    reported.
    """

    def __init__(
        self, partitions: int, concurrency: int, hung: Callable[[], int] = lambda: 0
    ) -> None:
        self.desks = [Desk(number) for number in range(partitions)]
        self.running: dict[Key, Execution] = {}
        self.concurrency = concurrency
        self.hung = hung
        self._begun: dict[Key, None] = {}
        self.on_the_way = 0
        self.carried = 0
        self.claiming = True
        self._work = asyncio.Event()
        self._change = asyncio.Event()
        self._next = 0

    @property
    def free(self) -> int:
        """How many more steps may be asked for."""
        if not self.claiming:
            return 0
        return self.concurrency - len(self.running) - self.on_the_way - self.hung()

    def begins(self, claim: ClaimedStep) -> bool:
        """Whether a claim is new: a lease is for one run, however often it is handed over."""
        key = key_of(claim)
        if key in self._begun or key in self.running:
            return False
        self._begun[key] = None
        if len(self._begun) > _REMEMBERED:
            del self._begun[next(iter(self._begun))]
        return True

    @property
    def unreported(self) -> int:
        """How many outcomes the server does not know yet."""
        return self.carried + sum(len(desk.finished) + len(desk.waits) for desk in self.desks)

    @property
    def settled(self) -> bool:
        """Whether the server knows all: nothing is to be reported, given back, or on the way."""
        back = any(desk.back for desk in self.desks)
        return not (back or self.unreported or self.on_the_way)

    def desk_of(self, workflow_id: str) -> Desk:
        """The desk of a workflow's partition."""
        return self.desk(int(workflow_id.partition("-")[0]))

    def desk(self, partition: int) -> Desk:
        """A partition's desk; some may have been added to the namespace since the start."""
        while len(self.desks) <= partition:
            self.desks.append(Desk(len(self.desks)))
        return self.desks[partition]

    def keep(self, desk: Desk, reserved: Sequence[bytes], ripe: bool) -> None:
        """Notes what was found in a partition's queues; the entries are on the way already."""
        desk.reserved.extend(reserved)
        desk.ripe = ripe
        if reserved or ripe:
            self.notify()

    def notify(self) -> None:
        """There may be something to carry."""
        self._work.set()

    def changed(self) -> None:
        """A step has ended, or outcomes were carried: there may be room, or nothing left."""
        self._work.set()
        self._change.set()

    async def until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Waits until this is so, or for so many seconds; whether it is so."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not done():
                    self._change.clear()
                    await self._change.wait()
        return done()

    async def next_desk(self) -> Desk:
        """A desk with something to carry: each in turn, so that none waits for the backlog of
        another. Waits until there is one."""
        while True:
            free, now, wait = self.free > 0, time.monotonic(), None
            for number in range(len(self.desks)):
                desk = self.desks[(self._next + number) % len(self.desks)]
                due = desk.finished or desk.waits or desk.back or desk.reserved
                if not (due or (desk.ripe and free)):
                    continue
                if desk.again_at > now:
                    wait = min(desk.again_at - now, wait or _LONGEST_WAIT)
                else:
                    self._next = desk.partition + 1
                    return desk
            self._work.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._work.wait()
