"""Finding partitions with work: hints wake a worker at once, polling finds what they missed."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Final

from rwf.errors import RwfError
from rwf.runtime import Runtime
from rwf.store.ops.claims import Claimer, take_each
from rwf.worker.bench import Bench
from rwf.worker.link import Link

# An idle worker polls once a second, and each partition at least every five.
_PERIOD: Final = 1.0
_ROUNDS: Final = 5
# So many entries of a partition tell that it is ripe; the carriers fetch the others.
_MOST: Final = 16


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
                        if hint is not None and queues.intersection(hint.queues):
                            self._bench.desk_of(hint.workflow_id).ripe = True
                            self._bench.notify()
            except RwfError as error:
                await self._link.broken(error)

    async def poll(self) -> None:
        """Polls until it is cancelled: all partitions at first, then some each second."""
        await self._look(len(self._bench.desks))
        while True:
            await asyncio.sleep(_PERIOD)
            await self._look(-(-len(self._bench.desks) // _ROUNDS))

    async def _look(self, count: int) -> None:
        """Asks the next partitions for entries, in one round trip."""
        bench = self._bench
        desks = [bench.desks[(self._next + n) % len(bench.desks)] for n in range(count)]
        self._next += count
        desks = [desk for desk in desks if not desk.ripe]
        share = min(bench.free // max(len(desks), 1), _MOST)
        if not desks or share < 1:
            return
        asked = share * len(desks)
        bench.on_the_way += asked
        try:
            op = take_each(
                self._runtime.scope, [desk.partition for desk in desks], self._claimer, share
            )
            found = await self._runtime.run(op)
        except RwfError as error:
            bench.on_the_way -= asked
            await self._link.broken(error)
            return
        self._link.stands()
        bench.on_the_way -= asked - sum(map(len, found.values()))
        for desk in desks:
            entries = found.get(desk.partition, [])
            bench.keep(desk, entries, desk.ripe or len(entries) == share)
