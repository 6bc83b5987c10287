"""Reads of what the whole namespace does: who works, and on what."""

from __future__ import annotations

from rwf.aio.base import AsyncBase
from rwf.model.views import PartialList, QueueView, RunningSteps, StatsView, WorkerView
from rwf.ops import queues, running, summary, workers


class AsyncFleet(AsyncBase):
    """Reads of the whole namespace."""

    async def queues(self) -> PartialList[QueueView]:
        """Lists the queues that hold an available step, or were asked for steps in the last 30 days
        (contract §8)."""
        return await self._run(queues.queues(self._ctx))

    async def workers(self) -> PartialList[WorkerView]:
        """Lists the workers by their ids, as each has told of itself within the last 3 s: one that
        has not for 10 s is not alive, and for an hour not listed (contract §17)."""
        return await self._run(workers.workers(self._ctx))

    async def running(self, *, limit: int = 100) -> RunningSteps:
        """Returns the steps that somebody has in hand, those first that were claimed first;
        ``limit`` is at most 1,000 (contract §17).

        Of a partition, those among its first 10,000 timers are found. Raises CommandRejected
        (``invalid_argument``).
        """
        return await self._run(running.running(self._ctx, limit))

    async def stats(self) -> StatsView:
        """Counts workflows and steps by state, and for each queue what waits, runs and has ended
        (contract §17). Raises RwfError where somebody has spoilt what is counted."""
        return await self._run(summary.stats(self._ctx))
