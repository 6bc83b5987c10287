"""Carrying outcomes to the server, and steps back: the loop of a worker's round trips."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

from rwf.errors import CommandRejected
from rwf.model.states import PauseReason
from rwf.model.views import ClaimedStep
from rwf.ops.claims import Claimer, fill_in, pause, release, start
from rwf.ops.complete import turn
from rwf.ops.signals import await_step
from rwf.protocol.handed import Handed
from rwf.protocol.requests import Op
from rwf.runtime import Runtime
from rwf.worker.availability import PAUSE, Link
from rwf.worker.execution import Report
from rwf.worker.inflight import BATCH, Bench, Desk, key_of
from rwf.worker.outcomes import Await
from rwf.worker.verdict import instead_of_wait, storable

T = TypeVar("T")

_log = logging.getLogger("rwf.worker")


class Carrier:
    """Makes round trips, one at a time, for as long as its task runs.

    Two of them keep the server busy while the results of the last trip are worked on.
    """

    def __init__(
        self,
        runtime: Runtime,
        link: Link,
        bench: Bench,
        claimer: Claimer,
        start: Callable[[ClaimedStep], None],
    ) -> None:
        self._runtime = runtime
        self._link = link
        self._bench = bench
        self._claimer = claimer
        self._start = start
        self._lacking: asyncio.Queue[list[Handed]] = asyncio.Queue()

    async def run(self) -> None:
        """Carries until it is cancelled; what the server could not take is carried again."""
        while True:
            desk = await self._bench.next_desk()
            try:
                if desk.waits:
                    await self._await(desk)
                elif desk.back:
                    await self._give_back(desk)
                else:
                    await self._turn(desk)
            finally:
                self._bench.left(desk)
            self._bench.progressed()

    async def _carry(self, desk: Desk, op: Op[T], outcomes: int) -> T:
        """Carries out an operation at a desk that reports so many outcomes."""
        self._bench.carried += outcomes
        self._bench.pass_on()
        try:
            done = await self._runtime.run(op)
        finally:
            self._bench.carried -= outcomes
        self._bench.answered(desk)
        return done

    def put(self, report: Report) -> None:
        """Takes an outcome, to be carried with the next round trip of its partition."""
        desk = self._bench.desk_of(report.claim.workflow_id)
        if report.outcome is None or isinstance(report.outcome, PauseReason):
            desk.back.append((report.claim, report.outcome))
        elif isinstance(report.outcome, Await):
            desk.waits.append((report.claim, report.outcome))
        else:
            desk.finished.append((report.claim, storable(self._runtime.ctx, report.outcome)))
        self._bench.notify()

    async def _turn(self, desk: Desk) -> None:
        bench, finished, reserved = self._bench, desk.next_finished(), desk.next_reserved()
        # A partition that may not answer keeps no more than one place from the others.
        most = 1 if bench.is_away(desk) else BATCH
        limit = max(min(bench.free, most), 0) if finished or desk.ripe else 0
        bench.on_the_way += limit
        items = [item for _, item in finished]
        op = turn(self._runtime.ctx, desk.partition, items, reserved, self._claimer, limit)
        try:
            done = await self._carry(desk, op, len(finished))
        except Exception as error:
            bench.on_the_way -= limit
            desk.reserved.extendleft(reversed(reserved))
            desk.finished.extendleft(reversed(finished))
            await self._failed(desk, error)
            return
        self._link.stands(desk.partition)
        bench.on_the_way -= len(reserved) + limit - len(done.reserved)
        if limit:
            bench.keep(desk, done.reserved, done.found >= limit)
        for (claim, _), refusal in zip(finished, done.refusals, strict=True):
            if refusal is not None:
                _log_refusal(claim, refusal)
        for claim in done.claimed:
            self._start(claim)
        if lacking := [handed for handed in done.lacking if bench.fills(handed.bare())]:
            bench.on_the_way += len(lacking)
            self._lacking.put_nowait(lacking)

    async def fill(self) -> None:
        """Has what claims lack be read beside the trips, which large inputs do not hold up; until
        it is cancelled. Heartbeats extend their leases meanwhile."""
        while True:
            lacking = await self._lacking.get()
            filled: list[ClaimedStep] = []
            try:
                filled = await self._runtime.run(fill_in(self._runtime.ctx, lacking))
            except Exception as error:
                _log.warning("%d steps go back, their inputs not read: %s", len(lacking), error)
            finally:
                self._bench.on_the_way -= len(lacking)
            for claim in filled:
                self._start_filled(claim)
            self.give_up(lacking)
            self._bench.changed()

    def _is_away(self, desk: Desk, error: Exception) -> bool:
        """Whether a call has failed as the desk's partition is away. Then the other desks go on,
        and this is left alone for a while."""
        if not self._link.failed(error, desk.partition):
            return False
        self._bench.unanswered(desk, PAUSE)
        return True

    def _start_filled(self, claim: ClaimedStep) -> None:
        """Starts a claim that was filled in, unless its lease was lost by then."""
        filling = self._bench.filling.pop(key_of(claim), None)
        if filling is not None and not filling.lost:
            expires = filling.claim.lease_expires_at
            self._start(claim.model_copy(update={"lease_expires_at": expires}))
        elif filling is not None:
            _log.warning(
                "the lease of step %s of %s, attempt %d, was lost while its input was read",
                claim.step,
                claim.workflow_id,
                claim.attempt,
            )

    def give_up(self, lacking: Iterable[Handed] | None = None) -> None:
        """Gives claims back whose inputs are not read, these or all; uncounted. It changes nothing
        for one that was given back for a reason of its own."""
        filling = self._bench.filling
        keys = list(filling) if lacking is None else [key_of(each.bare()) for each in lacking]
        for key in keys:
            if (left := filling.pop(key, None)) is not None:
                self.put(Report(left.claim, None))

    async def _failed(self, desk: Desk, error: Exception) -> None:
        """Waits for a server that is away. What it cannot carry out is sent again one by one, so
        that a workflow which fails does not keep those of others from the server."""
        if self._is_away(desk, error):
            return
        for claim, item in desk.next_finished():
            op = turn(self._runtime.ctx, desk.partition, [item], [], self._claimer, 0)
            try:
                await self._carry(desk, op, 1)
            except Exception as alone:
                _log.error(
                    "the outcome of step %s of %s could not be reported: %s",
                    claim.step,
                    claim.workflow_id,
                    alone,
                )
        if desk.reserved:
            await self._start_reserved(desk)

    async def _start_reserved(self, desk: Desk) -> None:
        """Starts entries with a call of their own; those that it cannot go back by themselves."""
        entries = desk.next_reserved()
        started: list[ClaimedStep] = []
        try:
            op = start(self._runtime.ctx, desk.partition, self._claimer, entries)
            started = await self._runtime.run(op)
        except Exception as error:
            self._is_away(desk, error)
        self._bench.on_the_way -= len(entries)
        for claim in started:
            self._start(claim)

    async def _await(self, desk: Desk) -> None:
        claim, wait = desk.waits.popleft()
        op = await_step(
            self._runtime.ctx,
            claim.workflow_id,
            claim.step,
            wait.signal,
            wait.correlation_key,
            wait.deadline,
            claim.lease,
        )
        try:
            await self._carry(desk, op, 1)
        except CommandRejected as refusal:
            _log_refusal(claim, refusal)
            if (instead := instead_of_wait(claim, refusal)) is not None:
                self.put(Report(claim, instead))
        except Exception as error:
            if self._is_away(desk, error):
                desk.waits.appendleft((claim, wait))

    async def _give_back(self, desk: Desk) -> None:
        """Gives claims back that never began, or are not to go on; uncounted."""
        reason, claims = desk.next_back()
        ctx = self._runtime.ctx
        try:
            op = release(ctx, claims) if reason is None else pause(ctx, claims, reason)
            await self._carry(desk, op, len(claims))
        except Exception as error:
            if self._is_away(desk, error):
                desk.back.extendleft((claim, reason) for claim in reversed(claims))
                return
            _log.warning("%d steps go back when their leases end: %s", len(claims), error)


def _log_refusal(claim: ClaimedStep, refusal: CommandRejected) -> None:
    _log.warning(
        "the outcome of step %s of %s, attempt %d, was refused: %s",
        claim.step,
        claim.workflow_id,
        claim.attempt,
        refusal,
    )
