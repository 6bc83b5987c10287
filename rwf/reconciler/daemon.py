"""The reconciler: loops over the partitions that are this daemon's own.

- *Ticks* carry out what is due. A partition is asked once an interval, or sooner when its timers
  say so; nothing more is sent when nothing is due.
- *Sweeps*, one of open workflows and one of ended ones, audit a page of a partition's listing at a
  time, paced so that a round takes the sweep interval, or longer where that would cost the server
  too much.
- *Callbacks*, if there is a handler, are delivered each interval, and at once when a hint says that
  a workflow has ended; many at the same time.
- *Bulk sessions* that their runner has left are continued.

Daemons share the partitions by rank among those that were seen lately. That is for economy only:
whatever two do at once is done once.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from itertools import product
from typing import Final

from rwf.aio import AsyncClient
from rwf.availability import AvailabilityLog
from rwf.client import Client
from rwf.dispatching import Deliveries, deliver_async
from rwf.errors import (
    CommandRejected,
    NotFound,
    RecordUnreadable,
    RwfError,
    StoreUnavailable,
)
from rwf.model.limits import CALLBACKS_AT_ONCE
from rwf.model.retry import seconds
from rwf.model.states import Reason
from rwf.model.views import ReconcileReport
from rwf.ops import bulk
from rwf.ops.bulk import BulkRun
from rwf.ops.callbacks import Dispatch, Handler
from rwf.ops.timer_pages import Due, Page, PassedOver
from rwf.repair import daemons
from rwf.repair.sweep import Kind, Place, sweep
from rwf.repair.timers import fire, fire_due
from rwf.runtime import Runtime, ended_by_signals
from rwf.webhook import Webhook

_Loop = Callable[[], Awaitable[None]]

_log = logging.getLogger("rwf")

_SHORTEST_TICK: Final = 0.02
# Between two slices of a sweep, in seconds. What has ended has nothing urgent about it.
_SHORTEST_PAUSE: Final = {Kind.OPEN: 0.01, Kind.ENDED: 1.0}
# How many partitions are asked at the same time: one that does not answer holds up few others.
_AT_ONCE: Final = 8
# How long what could not be carried out is passed over before it is tried again.
_TRIED_AGAIN: Final = 60.0
_CALLBACKS_PER_RUN: Final = 1000
_CALLBACK_LEASE: Final = 30.0
_MOST_AT_ONCE: Final = 500
_MEMBERSHIP: Final = -1
_BULKS: Final = -2
# The pause after an error that nobody has foreseen, in seconds.
_AFTER_FAILURE: Final = 1.0
_UNEXPECTED: Final = "unexpected error; trying again"


@dataclass(slots=True)
class _Partition:
    """A daemon's knowledge of one of its partitions; times are of the monotonic clock."""

    number: int
    next_look: float = 0.0
    page: Page | None = None
    passed: PassedOver = field(default_factory=PassedOver)
    passed_until: float = 0.0
    places: dict[Kind, Place] = field(init=False)
    next_slice: dict[Kind, float] = field(init=False)
    swept: float | None = None
    is_silent: bool = False
    """Whether it did not answer when it was last asked for what is due."""

    def __post_init__(self) -> None:
        self.places = {kind: Place(self.number, kind) for kind in Kind}
        self.next_slice = dict.fromkeys(Kind, 0.0)

    def try_again(self, now: float) -> None:
        """Allows what could not be carried out to be tried again, once that was long ago."""
        if now >= self.passed_until:
            self.passed = replace(self.passed, count=0, last=b"")
            self.page = None
            self.passed_until = now + _TRIED_AGAIN


class Reconciler:
    """Carries out due work, and repairs what crashes have left half done: see contract §10.

    ``interval`` is the time between ticks, the longest that due work waits; ``sweep_interval`` the
    time in which all open workflows are checked once. ``callbacks`` is a handler as
    ``dispatch_callbacks`` takes it, such as a :class:`rwf.Webhook`; up to ``concurrency`` callbacks
    (1 to 500) are handled at once. Without a handler, callbacks stay in the outbox. Raises
    CommandRejected (``invalid_argument``) for bad options, and TypeError without a client.

    Call :meth:`run`, which blocks, or await :meth:`serve`, once. :meth:`tick` and :meth:`sweep` do
    one round by hand.
    """

    def __init__(
        self,
        client: Client | AsyncClient,
        *,
        interval: float | timedelta = 1.0,
        sweep_interval: float | timedelta = 60.0,
        callbacks: Handler | None = None,
        concurrency: int = CALLBACKS_AT_ONCE,
    ) -> None:
        self._runtime = Runtime(client)
        self._interval = _positive(interval, "interval")
        self._sweep_interval = _positive(sweep_interval, "sweep_interval")
        self._handler = callbacks
        if type(concurrency) is not int or not 1 <= concurrency <= _MOST_AT_ONCE:
            raise _refused(f"concurrency must be a whole number from 1 to {_MOST_AT_ONCE}")
        self._concurrency = concurrency
        if callbacks is not None:
            self._dispatch(callbacks, ())  # raises for what is no handler
        self._member = secrets.token_hex(8)
        self._lease_ms = round(max(3 * self._interval, 3.0) * 1000)
        self._owned: dict[int, _Partition] = {}
        self._next_join = 0.0
        self._ticked: float | None = None
        self._availability = AvailabilityLog(_log)
        self._hinted = asyncio.Event()
        self._stopping = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    # --- what it says of itself

    @property
    def partitions(self) -> tuple[int, ...]:
        """The partitions that it looks after."""
        return tuple(self._owned)

    @property
    def tick_age(self) -> float | None:
        """How many seconds ago its latest tick ended; None before the first."""
        return None if self._ticked is None else time.monotonic() - self._ticked

    @property
    def sweep_age(self) -> float | None:
        """How many seconds ago the open workflows of its partitions were swept, of the partition
        where that is longest ago; None before it has swept all of them."""
        ends = [partition.swept for partition in self._owned.values()]
        oldest = min((end for end in ends if end is not None), default=None)
        return None if oldest is None or None in ends else time.monotonic() - oldest

    # --- starting and stopping

    def run(self) -> None:
        """Serves until SIGTERM, SIGINT or :meth:`stop`; what it has begun is finished first. An
        AsyncClient's connections end with the event loop that this makes."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        with ended_by_signals(self.stop):
            try:
                await self.serve()
            finally:
                await self._runtime.close()

    async def serve(self) -> None:
        """Runs the daemon in a loop that runs already, without signal handlers.

        While the server is unreachable it goes on trying; other faults at the start are raised
        (StoreMisconfigured, NamespaceMismatch).
        """
        self._loop = asyncio.get_running_loop()
        await self._begin()
        loops: list[_Loop] = [
            self._ticks,
            self._bulks,
            *(partial(self._sweeps, kind) for kind in Kind),
        ]
        if self._handler is not None:
            loops += [partial(self._callbacks, self._handler), self._listen]
        async with asyncio.TaskGroup() as tasks:
            for loop in loops:
                tasks.create_task(self._kept_up(loop))
        if self._availability.error is None:  # else it would only be waited for once more
            with suppress(RwfError):
                op = daemons.leave(self._runtime.ctx, self._member, self._lease_ms)
                await self._runtime.run(op)

    def stop(self) -> None:
        """Makes it end soon; from any thread, and at any time."""
        if self._loop is None:
            self._stopping.set()
        else:
            with suppress(RuntimeError):  # the loop is over already
                self._loop.call_soon_threadsafe(self._stopping.set)

    async def _kept_up(self, loop: _Loop) -> None:
        """Starts a loop again after an unexpected error, which must neither end the others nor
        leave work undone in silence."""
        while not self._stopping.is_set():
            try:
                await loop()
            except Exception:
                _log.exception("%s", _UNEXPECTED)
                await self._pause(max(self._interval, _AFTER_FAILURE))

    async def _begin(self) -> None:
        """Joins, however long the server is unreachable; its other faults are raised."""
        while not self._stopping.is_set():
            try:
                await self._join()
            except StoreUnavailable as error:
                self._availability.failed(error, _MEMBERSHIP)
                await self._pause(self._interval)
            else:
                break

    async def _pause(self, wait: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), wait)

    # --- membership

    async def _join(self) -> None:
        """Registers this daemon, and learns which partitions are its own."""
        self._next_join = time.monotonic() + self._interval
        numbers = await self._runtime.run(
            daemons.join(self._runtime.ctx, self._member, self._lease_ms)
        )
        self._availability.answered(_MEMBERSHIP)
        if numbers != list(self._owned):
            _log.info("looks after partitions %s", _listed(numbers))
            self._owned = {
                number: self._owned.get(number) or _Partition(number) for number in numbers
            }
            self._availability.only({*numbers, *product(Kind, numbers), _MEMBERSHIP, _BULKS})

    async def _rejoin(self) -> None:
        """Renews its membership while it runs; without a reply it goes on with the partitions it
        has."""
        try:
            await self._join()
        except RwfError as error:
            self._availability.failed(error, _MEMBERSHIP)

    # --- ticks

    async def tick(self) -> None:
        """One tick of all partitions, whichever daemon looks after them."""
        numbers = await self._runtime.run(daemons.partitions(self._runtime.ctx))
        partitions = [_Partition(number) for number in numbers]
        while partitions:
            await self._fire_all(partitions)
            partitions = [one for one in partitions if one.next_look <= time.monotonic()]
        if self._handler is not None:
            dispatch = self._dispatch(self._handler, numbers)
            run = self._runtime.run
            await deliver_async(run, dispatch, self._handler, self._concurrency)

    async def _ticks(self) -> None:
        while not self._stopping.is_set():
            now = time.monotonic()
            if now >= self._next_join:
                await self._rejoin()
            owned = self._owned.values()
            await self._fire_all([one for one in owned if one.next_look <= now])
            next_ = min((one.next_look for one in owned), default=self._next_join)
            wait = min(next_, self._next_join) - time.monotonic()
            # Where a backlog is being carried out its next page follows at once.
            if not any(one.page for one in owned):
                await self._pause(max(wait, _SHORTEST_TICK))

    async def _fire_all(self, partitions: Sequence[_Partition]) -> None:
        """Carries out a page of what is due in each of these partitions, which are asked for it
        together; so no backlog of one holds up the others."""
        now = time.monotonic()
        for partition in partitions:
            partition.try_again(now)
        await self._read_pages(partitions)
        busy: list[_Partition] = []
        for partition in partitions:
            page = partition.page
            if page is not None and not page.members and not partition.passed.places:
                partition.page, partition.next_look = None, now + self._wait(page.next_in)
            elif page is not None or partition.next_look <= now:
                busy.append(partition)
        at_once = asyncio.Semaphore(_AT_ONCE)
        await asyncio.gather(*(self._fire(one, at_once) for one in busy))
        self._ticked = time.monotonic()

    async def _read_pages(self, partitions: Sequence[_Partition]) -> None:
        """Reads the first timers of each that are due. What does not answer is told, and left alone
        for an interval; when none does, that is found out for each alone."""
        unread = [
            one
            for one in partitions
            if one.page is None and self._availability.is_available(one.number)
        ]
        if not unread:
            return
        try:
            pages = await self._runtime.run(Due.pages([self._due(one) for one in unread]))
        except RwfError:
            return
        for partition, page in zip(unread, pages, strict=True):
            if isinstance(page, StoreUnavailable):
                self._availability.failed(page, partition.number)
                partition.is_silent = True
                partition.next_look = time.monotonic() + self._interval
            else:
                partition.page = page

    async def _fire(self, partition: _Partition, at_once: asyncio.Semaphore) -> None:
        """Carries out a page of what is due in a partition."""
        page, partition.page = partition.page, None
        if page is None:
            op = fire_due(self._runtime.ctx, partition.number, partition.passed)
        else:
            op = fire(self._due(partition), page)
        try:
            async with at_once:
                fired = await self._runtime.run(op)
        except RwfError as error:
            self._availability.failed(error, partition.number)
            partition.is_silent = isinstance(error, StoreUnavailable)
            wait = self._interval
        except Exception:
            _log.exception("partition %d: %s", partition.number, _UNEXPECTED)
            wait = self._interval
        else:
            self._availability.answered(partition.number)
            partition.is_silent = False
            wait, partition.page = self._wait(fired.next_in), fired.following
        partition.next_look = time.monotonic() + wait

    def _due(self, partition: _Partition) -> Due:
        return Due(self._runtime.ctx, partition.number, partition.passed)

    def _wait(self, next_in: float | None) -> float:
        """For how long nothing is due in a partition, as far as is known."""
        return self._interval if next_in is None else min(next_in, self._interval)

    # --- sweeps

    async def sweep(self) -> list[ReconcileReport]:
        """One whole sweep of all partitions; returns the repairs."""
        ctx = self._runtime.ctx
        mended: list[ReconcileReport] = []
        for number in await self._runtime.run(daemons.partitions(ctx)):
            for kind in Kind:
                place, anew, ended = Place(number, kind), True, False
                while not ended:
                    op = sweep(ctx, place, self._sweep_interval, anew=anew)
                    _, reports, ended, _ = await self._runtime.run(op)
                    mended += reports
                    anew = False
        return mended

    async def _sweeps(self, kind: Kind) -> None:
        while not self._stopping.is_set():
            next_ = min(self._owned.values(), key=lambda one: one.next_slice[kind], default=None)
            wait = self._interval
            if next_ is not None:
                wait = min(wait, next_.next_slice[kind] - time.monotonic())
                if wait <= 0:
                    await self._slice(next_, kind)
            await self._pause(max(wait, _SHORTEST_PAUSE[kind]))

    async def _slice(self, partition: _Partition, kind: Kind) -> None:
        op = sweep(self._runtime.ctx, partition.places[kind], self._sweep_interval)
        # Apart from the ticks: where these go well and a sweep does not, it is told once.
        place = kind, partition.number
        try:
            pause, mended, ended, tidied = await self._runtime.run(op)
        except RwfError as error:
            self._availability.failed(error, place)
            partition.next_slice[kind] = time.monotonic() + self._interval
            return
        except Exception:
            _log.exception("partition %d: %s", partition.number, _UNEXPECTED)
            partition.next_slice[kind] = time.monotonic() + max(self._interval, _AFTER_FAILURE)
            return
        self._availability.answered(place)
        partition.next_slice[kind] = time.monotonic() + pause
        if ended and kind is Kind.OPEN:
            partition.swept = time.monotonic()
        for report in mended:
            kinds = sorted({repair.kind for repair in report.repairs})
            _log.info("workflow %s: repaired %s", report.workflow_id, ", ".join(kinds))
        if tidied:
            found = ", ".join(f"{count} {kind}" for kind, count in sorted(tidied.items()))
            _log.info("partition %d: repaired %s", partition.number, found)

    # --- bulk sessions

    async def _bulks(self) -> None:
        """Goes on with bulk sessions whose runner has left them, where the partition that has them
        is its own."""
        while not self._stopping.is_set():
            if 0 in self._owned:
                try:
                    await self._run_bulks()
                except RwfError as error:
                    self._availability.failed(error, _BULKS)
                else:
                    self._availability.answered(_BULKS)
            await self._pause(self._interval)

    async def _run_bulks(self) -> None:
        run, ctx = self._runtime.run, self._runtime.ctx
        for session_id in await run(bulk.sessions(ctx, open_only=True)):
            runner, wait = BulkRun(ctx, session_id), 0.0
            try:
                while not (runner.done or wait or self._stopping.is_set()):
                    wait = await run(runner.slice())
            except (NotFound, RecordUnreadable) as error:
                _log.warning("bulk session %s was skipped: %s", session_id, error)

    # --- callbacks

    def _dispatch(self, handler: Handler, partitions: Sequence[int]) -> Dispatch:
        lease = _CALLBACK_LEASE
        if isinstance(handler, Webhook):
            # A host has several addresses at times, each of which may be tried for that long.
            lease = max(lease, 3 * handler.timeout)
        return Dispatch(self._runtime.ctx, handler, _CALLBACKS_PER_RUN, lease, partitions)

    async def _callbacks(self, handler: Handler) -> None:
        """Delivers callbacks of its partitions; those that it has begun to are finished at the
        end, and others take over what takes longer than its lease."""
        lease = self._dispatch(handler, ()).lease
        async with Deliveries(self._runtime.run, handler, self._concurrency, lease) as deliveries:
            while not self._stopping.is_set():
                await self._deliver_once(handler, deliveries)
            with suppress(TimeoutError, RwfError):
                async with asyncio.timeout(lease):
                    await deliveries.finish(self._dispatch(handler, ()))

    async def _deliver_once(self, handler: Handler, deliveries: Deliveries) -> None:
        """Delivers until nothing more is due or can be begun, then waits until that may change."""
        reached = [one.number for one in self._owned.values() if not one.is_silent]
        dispatch = self._dispatch(handler, reached)
        try:
            while not self._stopping.is_set() and await deliveries.turn(dispatch):
                pass
        except RwfError:
            pass  # the ticks tell of it
        except Exception:
            _log.exception("callbacks: %s", _UNEXPECTED)
        waits = [
            asyncio.ensure_future(one.wait())
            for one in (self._hinted, deliveries.changed, self._stopping)
        ]
        await asyncio.wait(waits, timeout=self._interval, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        self._hinted.clear()

    async def _listen(self) -> None:
        async with aclosing(self._runtime.hints()) as hints:
            async for hint in hints:
                if self._stopping.is_set():
                    return
                if hint is not None and hint.event == "workflow_terminal":
                    self._hinted.set()


def _positive(value: float | timedelta, name: str) -> float:
    try:
        given = seconds(value, name)
    except ValueError as error:
        raise _refused(str(error)) from None
    if not given:
        raise _refused(f"{name} must be more than 0")
    return given


def _refused(message: str) -> CommandRejected:
    return CommandRejected("reconciler", "client", Reason.INVALID_ARGUMENT, message)


def _listed(numbers: list[int]) -> str:
    """How many numbers there are and which, cut where they are many."""
    which = ", ".join(map(str, numbers[:8]))
    return f"({len(numbers)}): {which}{', ...' if len(numbers) > 8 else ''}"
