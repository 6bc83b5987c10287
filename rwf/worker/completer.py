"""Carrying outcomes to the server, and steps back: the loop of a worker's round trips."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

from rwf.errors import CommandRejected, WorkflowInvalid
from rwf.model.states import PauseReason
from rwf.model.views import ClaimedStep
from rwf.ops.claims import Claimer, fill_in, pause, release, start
from rwf.ops.complete import exchange, report_growing
from rwf.ops.waits import settle_waits
from rwf.protocol.handed import Handed
from rwf.protocol.requests import Op
from rwf.runtime import Runtime
from rwf.worker.availability import PAUSE, Availability
from rwf.worker.execution import Report
from rwf.worker.inflight import BATCH, Inflight, PartitionBuffer, key_of
from rwf.worker.observer import Refusal
from rwf.worker.outcomes import Suspension
from rwf.worker.suspending import suspend
from rwf.worker.verdict import instead_of_wait, not_appended, storable

T = TypeVar("T")

_log = logging.getLogger("rwf.worker")


class Completer:
    """Makes round trips, one at a time, for as long as its task runs.

    Two of them keep the server busy while the results of the last trip are worked on.
    """

    def __init__(
        self,
        runtime: Runtime,
        availability: Availability,
        inflight: Inflight,
        claimer: Claimer,
        start: Callable[[ClaimedStep], None],
        reported: Callable[[ClaimedStep, Refusal | None], None],
    ) -> None:
        self._runtime = runtime
        self._availability = availability
        self._inflight = inflight
        self._claimer = claimer
        self._start = start
        self._reported = reported
        self._lacking: asyncio.Queue[list[Handed]] = asyncio.Queue()
        self._ended: asyncio.Queue[str] = asyncio.Queue()

    async def run(self) -> None:
        """Goes on until it is cancelled; what the server could not take is sent again."""
        while True:
            buffer = await self._inflight.next_buffer()
            try:
                if buffer.waits:
                    await self._await(buffer)
                elif buffer.growing:
                    await self._append(buffer)
                elif buffer.back:
                    await self._give_back(buffer)
                else:
                    await self._exchange(buffer)
            finally:
                self._inflight.left(buffer)
            self._inflight.progressed()

    async def _send(self, buffer: PartitionBuffer, op: Op[T], outcomes: int) -> T:
        """Carries out an operation in a partition that reports so many outcomes."""
        self._inflight.unacked += outcomes
        self._inflight.pass_on()
        try:
            done = await self._runtime.run(op)
        finally:
            self._inflight.unacked -= outcomes
        self._inflight.answered(buffer)
        return done

    def put(self, report: Report) -> None:
        """Takes an outcome, to be reported with the next round trip of its partition."""
        buffer = self._inflight.buffer_of(report.claim.workflow_id)
        if report.outcome is None or isinstance(report.outcome, PauseReason):
            buffer.back.append((report.claim, report.outcome))
        elif isinstance(report.outcome, Suspension):
            buffer.waits.append((report.claim, report.outcome))
        else:
            item = storable(self._runtime.ctx, report.outcome)
            reports = buffer.finished if item.append is None else buffer.growing
            reports.append((report.claim, item))
        self._inflight.notify()

    async def _exchange(self, buffer: PartitionBuffer) -> None:
        inflight, finished, reserved = (
            self._inflight,
            buffer.next_finished(),
            buffer.next_reserved(),
        )
        # A partition that may not answer keeps no more than one place from the others.
        most = 1 if inflight.is_away(buffer) else BATCH
        limit = max(min(inflight.free, most), 0) if finished or buffer.has_more else 0
        inflight.on_the_way += limit
        items = [item for _, item in finished]
        op = exchange(self._runtime.ctx, buffer.partition, items, reserved, self._claimer, limit)
        try:
            done = await self._send(buffer, op, len(finished))
        except Exception as error:
            inflight.on_the_way -= limit
            buffer.reserved.extendleft(reversed(reserved))
            buffer.finished.extendleft(reversed(finished))
            await self._failed(buffer, error)
            return
        self._availability.answered(buffer.partition)
        inflight.on_the_way -= len(reserved) + limit - len(done.reserved)
        if limit:
            inflight.keep(buffer, done.reserved, done.found >= limit)
        for (claim, _), refusal in zip(finished, done.refusals, strict=True):
            self._reported(claim, refusal)
            if refusal is not None:
                _log_refusal(claim, refusal)
        for claim in done.claimed:
            self._start(claim)
        for workflow_id in done.ended:
            self._ended.put_nowait(workflow_id)
        lacking = [handed for handed in done.lacking if inflight.awaits_input(handed.bare())]
        if not inflight.claiming:
            self.give_up(lacking)
        elif lacking:
            inflight.on_the_way += len(lacking)
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
                _log.warning(
                    "%d steps are given back: their inputs could not be read: %s",
                    len(lacking),
                    error,
                )
            finally:
                self._inflight.on_the_way -= len(lacking)
            for claim in filled:
                self._start_filled(claim)
            self.give_up(lacking)
            self._inflight.changed()

    async def tell_parents(self) -> None:
        """Tells parents of the ends of child workflows, until it is cancelled. What is not told so,
        daemons do."""
        while True:
            workflow_id = await self._ended.get()
            try:
                await self._runtime.run(settle_waits(self._runtime.ctx, workflow_id))
            except Exception as error:
                _log.warning("the end of workflow %s is told later: %s", workflow_id, error)

    def _is_away(self, buffer: PartitionBuffer, error: Exception) -> bool:
        """Whether a call has failed as the partition is away. Then the others go on, and this is
        left alone for a while."""
        if not self._availability.failed(error, buffer.partition):
            return False
        self._inflight.unanswered(buffer, PAUSE)
        return True

    def _start_filled(self, claim: ClaimedStep) -> None:
        """Starts a claim that was filled in, unless its lease was lost by then."""
        pending = self._inflight.pending_inputs.pop(key_of(claim), None)
        if pending is not None and not pending.lost:
            expires = pending.claim.lease_expires_at
            self._start(claim.model_copy(update={"lease_expires_at": expires}))
        elif pending is not None:
            _log.warning(
                "the lease of step %s of %s, attempt %d, was lost while its input was read",
                claim.step,
                claim.workflow_id,
                claim.attempt,
            )

    def give_up(self, lacking: Iterable[Handed] | None = None) -> None:
        """Gives claims back whose inputs are not read, these or all; uncounted. It changes nothing
        for one that was given back for a reason of its own."""
        pending = self._inflight.pending_inputs
        keys = list(pending) if lacking is None else [key_of(each.bare()) for each in lacking]
        for key in keys:
            if (left := pending.pop(key, None)) is not None:
                self.put(Report(left.claim, None))

    async def _failed(self, buffer: PartitionBuffer, error: Exception) -> None:
        """Waits for a server that is away. What it cannot carry out is sent again one by one, so
        that a workflow which fails does not keep those of others from the server."""
        if self._is_away(buffer, error):
            return
        for claim, item in buffer.next_finished():
            op = exchange(self._runtime.ctx, buffer.partition, [item], [], self._claimer, 0)
            try:
                [refusal] = (await self._send(buffer, op, 1)).refusals
                self._reported(claim, refusal)
            except Exception as alone:
                _log_failure(claim, alone)
        if buffer.reserved:
            await self._start_reserved(buffer)

    async def _start_reserved(self, buffer: PartitionBuffer) -> None:
        """Starts entries with a call of their own; those that it cannot go back by themselves."""
        entries = buffer.next_reserved()
        started: list[ClaimedStep] = []
        try:
            op = start(self._runtime.ctx, buffer.partition, self._claimer, entries)
            started = await self._runtime.run(op)
        except Exception as error:
            self._is_away(buffer, error)
        self._inflight.on_the_way -= len(entries)
        for claim in started:
            self._start(claim)

    async def _await(self, buffer: PartitionBuffer) -> None:
        claim, wait = buffer.waits.popleft()
        op = suspend(self._runtime.ctx, claim, wait)
        try:
            await self._send(buffer, op, 1)
            self._reported(claim, None)
        except (CommandRejected, WorkflowInvalid) as refusal:
            self._reported(claim, refusal)
            _log_refusal(claim, refusal)
            if (instead := instead_of_wait(claim, refusal)) is not None:
                self.put(Report(claim, instead))
        except Exception as error:
            if self._is_away(buffer, error):
                buffer.waits.appendleft((claim, wait))

    async def _append(self, buffer: PartitionBuffer) -> None:
        """Reports a step that appends others, which takes some calls."""
        claim, item = buffer.growing.popleft()
        try:
            await self._send(buffer, report_growing(self._runtime.ctx, item), 1)
        except CommandRejected as refusal:
            _log_refusal(claim, refusal)
        except WorkflowInvalid as error:
            self.put(Report(claim, not_appended(claim, error)))
        except Exception as error:
            if self._is_away(buffer, error):
                buffer.growing.appendleft((claim, item))
            else:
                _log_failure(claim, error)

    async def _give_back(self, buffer: PartitionBuffer) -> None:
        """Gives claims back that never began, or are not to go on; uncounted."""
        reason, claims = buffer.next_back()
        ctx = self._runtime.ctx
        try:
            op = release(ctx, claims) if reason is None else pause(ctx, claims, reason)
            await self._send(buffer, op, len(claims))
        except Exception as error:
            if self._is_away(buffer, error):
                buffer.back.extendleft((claim, reason) for claim in reversed(claims))
                return
            _log.warning(
                "%d steps could not be given back, and stay leased until their leases end: %s",
                len(claims),
                error,
            )


def _log_failure(claim: ClaimedStep, error: Exception) -> None:
    _log.error(
        "the outcome of step %s of %s could not be reported: %s",
        claim.step,
        claim.workflow_id,
        error,
    )


def _log_refusal(claim: ClaimedStep, refusal: CommandRejected | WorkflowInvalid) -> None:
    _log.warning(
        "the outcome of step %s of %s, attempt %d, was refused: %s",
        claim.step,
        claim.workflow_id,
        claim.attempt,
        refusal,
    )
