"""Finding partitions with work: hints wake a worker at once, polling finds what they missed."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Final

from rwf.errors import RwfError
from rwf.ops.claims import Claimer, reserve_each
from rwf.runtime import Runtime
from rwf.worker.availability import Availability
from rwf.worker.inflight import Inflight, PartitionBuffer

# An idle worker polls once a second, and each partition at least every five.
_PERIOD: Final = 1.0
_ROUNDS: Final = 5
# So many entries of a partition tell that it may have more; the completers fetch the others.
_MOST: Final = 16
_PLACE: Final = "poll"


class Poller:
    """The two loops that find partitions with work."""

    def __init__(
        self, runtime: Runtime, availability: Availability, inflight: Inflight, claimer: Claimer
    ) -> None:
        self._runtime = runtime
        self._availability = availability
        self._inflight = inflight
        self._claimer = claimer
        self._next = 0

    async def listen(self) -> None:
        """Follows hints until it is cancelled."""
        queues = frozenset(self._claimer.queues)
        while True:
            try:
                async with aclosing(self._runtime.hints()) as hints:
                    async for hint in hints:
                        self._availability.answered("hints")
                        if hint is not None and queues.intersection(hint.queues):
                            self._inflight.buffer_of(hint.workflow_id).has_more = True
                            self._inflight.notify()
            except RwfError as error:
                await self._availability.broken(error, "hints")

    async def poll(self) -> None:
        """Polls until it is cancelled: all partitions at first, then some each second."""
        await self._look(len(self._inflight.buffers))
        while True:
            await asyncio.sleep(_PERIOD)
            await self._look(-(-len(self._inflight.buffers) // _ROUNDS))

    async def _look(self, count: int) -> None:
        """Looks at the next partitions, each in turn.

        So many are asked in one round trip as there are free places, since each may have a step.
        Once there is none, the rest may have something (``has_more``): the completers ask them when
        it is their turn for the next place. So no number of places, and no backlog elsewhere, keeps
        a worker from a partition.
        """
        inflight = self._inflight
        while count > 0 and inflight.claiming:
            buffers = self._next_buffers(min(count, max(inflight.free, 1)))
            count -= len(buffers)
            buffers = [buffer for buffer in buffers if not buffer.has_more]
            if inflight.free < 1:
                for buffer in buffers:
                    buffer.has_more = True
            elif buffers and not await self._ask(buffers):
                return

    def _next_buffers(self, count: int) -> list[PartitionBuffer]:
        buffers = self._inflight.buffers
        found = [buffers[(self._next + number) % len(buffers)] for number in range(count)]
        self._next = (self._next + count) % len(buffers)
        return found

    async def _ask(self, buffers: list[PartitionBuffer]) -> bool:
        """Asks partitions for entries, in one round trip; whether the server answered."""
        inflight = self._inflight
        share = min(inflight.free // len(buffers), _MOST)
        asked = share * len(buffers)
        inflight.on_the_way += asked
        kept = 0
        fault: RwfError | None = None
        try:
            op = reserve_each(
                self._runtime.ctx, [buffer.partition for buffer in buffers], self._claimer, share
            )
            found = await self._runtime.run(op)
            kept = sum(map(len, found.values()))
        except RwfError as error:
            fault = error
        finally:
            inflight.on_the_way -= asked - kept
        if fault is not None:
            inflight.notify()  # one of the completers may have waited for these places
            await self._availability.broken(fault, _PLACE)
            return False
        self._availability.answered(_PLACE)
        for buffer in buffers:
            entries = found.get(buffer.partition, [])
            inflight.keep(buffer, entries, buffer.has_more or len(entries) == share)
        inflight.notify()
        return True
