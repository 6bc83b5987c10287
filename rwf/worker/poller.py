"""Finding partitions with work: hints wake a worker at once, polling finds what they missed."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Final

from rwf.errors import RwfError
from rwf.ops.claims import Claimer, reserve_each
from rwf.runtime import Runtime
from rwf.worker.availability import Link
from rwf.worker.inflight import Bench, Desk

# An idle worker polls once a second, and each partition at least every five.
_PERIOD: Final = 1.0
_ROUNDS: Final = 5
# So many entries of a partition tell that it is ripe; the carriers fetch the others.
_MOST: Final = 16
_PLACE: Final = "poll"


class Finder:
    """Marks partitions as ripe: the two loops that find work."""

    def __init__(self, runtime: Runtime, link: Link, bench: Bench, claimer: Claimer) -> None:
        self._runtime = runtime
        self._link = link
        self._bench = bench
        self._claimer = claimer
        self._next = 0

    async def listen(self) -> None:
        """Follows hints until it is cancelled."""
        queues = frozenset(self._claimer.queues)
        while True:
            try:
                async with aclosing(self._runtime.hints()) as hints:
                    async for hint in hints:
                        self._link.stands("hints")
                        if hint is not None and queues.intersection(hint.queues):
                            self._bench.desk_of(hint.workflow_id).ripe = True
                            self._bench.notify()
            except RwfError as error:
                await self._link.broken(error, "hints")

    async def poll(self) -> None:
        """Polls until it is cancelled: all partitions at first, then some each second."""
        await self._look(len(self._bench.desks))
        while True:
            await asyncio.sleep(_PERIOD)
            await self._look(-(-len(self._bench.desks) // _ROUNDS))

    async def _look(self, count: int) -> None:
        """Looks at the next partitions, each in turn.

        So many are asked in one round trip as there are free places, since each may have a step.
        Once there is none, the rest are marked as ripe: the carriers ask them when it is their turn
        for the next place. So no number of places, and no backlog elsewhere, keeps a worker from a
        partition.
        """
        bench = self._bench
        while count > 0 and bench.claiming:
            desks = self._next_desks(min(count, max(bench.free, 1)))
            count -= len(desks)
            desks = [desk for desk in desks if not desk.ripe]
            if bench.free < 1:
                for desk in desks:
                    desk.ripe = True
            elif desks and not await self._ask(desks):
                return

    def _next_desks(self, count: int) -> list[Desk]:
        desks = self._bench.desks
        found = [desks[(self._next + number) % len(desks)] for number in range(count)]
        self._next = (self._next + count) % len(desks)
        return found

    async def _ask(self, desks: list[Desk]) -> bool:
        """Asks partitions for entries, in one round trip; whether the server answered."""
        bench = self._bench
        share = min(bench.free // len(desks), _MOST)
        asked = share * len(desks)
        bench.on_the_way += asked
        kept = 0
        try:
            op = reserve_each(
                self._runtime.ctx, [desk.partition for desk in desks], self._claimer, share
            )
            found = await self._runtime.run(op)
            kept = sum(map(len, found.values()))
        except RwfError as error:
            await self._link.broken(error, _PLACE)
            return False
        finally:
            bench.on_the_way -= asked - kept
        self._link.stands(_PLACE)
        for desk in desks:
            entries = found.get(desk.partition, [])
            bench.keep(desk, entries, desk.ripe or len(entries) == share)
        bench.notify()
        return True
