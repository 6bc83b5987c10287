"""Heartbeats: extending the leases of running steps, and telling their handlers what changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from rwf.errors import RwfError
from rwf.runtime import Runtime
from rwf.store.ops.claims import heartbeat
from rwf.worker.bench import Bench, key_of
from rwf.worker.context import StepContext
from rwf.worker.execution import Execution
from rwf.worker.link import Link

_log = logging.getLogger("rwf.worker")

# A lease is extended several times before it could pass: one heartbeat may come late, or be lost.
_BEATS_PER_LEASE: Final = 3


class Pulse:
    """The heartbeat of all running steps, three times a lease; and of one that asks for it."""

    def __init__(self, runtime: Runtime, link: Link, bench: Bench, lease: float) -> None:
        self._runtime = runtime
        self._link = link
        self._bench = bench
        self._lease = lease
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        """Beats until it is cancelled."""
        while True:
            await asyncio.sleep(self._lease / _BEATS_PER_LEASE)
            try:
                await self._beat(list(self._bench.running.values()))
            except RwfError as error:
                await self._link.broken(error)

    def ask(self, context: StepContext) -> object:
        """One step's own heartbeat: awaited in the loop, blocking in a thread; whether the lease
        still stands."""
        beat = self._beat_one(context)
        try:
            in_loop = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            in_loop = False
        return beat if in_loop else asyncio.run_coroutine_threadsafe(beat, self._loop).result()

    async def _beat_one(self, context: StepContext) -> bool:
        execution = self._bench.running.get(key_of(context.claim))
        if execution is not None:
            await self._beat([execution])
        return not context.lost

    async def _beat(self, executions: Sequence[Execution]) -> None:
        if not executions:
            return
        op = heartbeat(
            self._runtime.scope, [each.context.claim for each in executions], self._lease
        )
        report = await self._runtime.run(op)
        self._link.stands()
        asked = set(map(key_of, report.cancel_requested))
        for claim in report.extended:
            if execution := self._bench.running.get(key_of(claim)):
                execution.context._renewed(claim, key_of(claim) in asked)
        for claim in report.lost:
            # One that has reported meanwhile has lost nothing.
            if execution := self._bench.running.get(key_of(claim)):
                _log.warning(
                    "the lease of step %s of %s, attempt %d, is lost",
                    claim.step,
                    claim.workflow_id,
                    claim.attempt,
                )
                execution.lose()
