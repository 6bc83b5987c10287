"""The daemon that hands available steps to an executor: the part that all adapters share.

Each queue has a loop of its own: it asks the broker how many messages wait there, takes as many
tickets as there is room for, and sends them. A hint says at once that a queue has work, and polling
finds what hints have missed. So a broker's queue that nobody serves, or that is full, holds up no
other.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar, Final

from rwf.aio import AsyncClient
from rwf.client import Client
from rwf.errors import RwfError
from rwf.model.limits import ITEMS_PER_CALL
from rwf.model.views import Ticket
from rwf.ops.claims import checked_queues, release
from rwf.ops.tickets import dispatch, hold_ms
from rwf.reconciler.beside import ReconcilerBeside
from rwf.runtime import Runtime, end_tasks, ended_by_signals, run_to_end
from rwf.threads import Threads
from rwf.worker.availability import Availability
from rwf.worker.handlers import Handlers
from rwf.worker.identity import new_worker_id

_log = logging.getLogger("rwf.dispatcher")

# How often, in seconds, a queue is asked for work that no hint has told of.
_POLL: Final = 1.0
# Pauses, in seconds, while a broker's queue is full: the first, and the longest.
_FULL: Final = (0.02, 1.0)
# The part of the backlog that is to be free before more is sent: a turn costs as much for one step
# as for many.
_FREE: Final = 8
# The pause after a fault of the broker's or of the server's.
_FAULT: Final = 0.5
# How long what is being sent at the end is waited for.
_LAST_WORDS: Final = 5.0
_CLOSING: Final = 1.0
_BROKER_CALLS: Final = 32
_MOST_WAITING: Final = 100_000


@dataclass(frozen=True, slots=True)
class DispatcherHealth:
    """The condition of a dispatcher.

    ``sent`` counts the tickets that it has sent since it was started, and ``waiting`` the messages
    in each of the broker's queues when it last looked. ``error`` says what is wrong, if anything:
    the server or the broker does not answer.
    """

    sent: int
    waiting: dict[str, int]
    error: str | None


@dataclass(slots=True)
class _Feed:
    """A queue, as its loop sees it."""

    queue: str
    hinted: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0
    turned: float = field(default_factory=time.monotonic)
    """When its latest turn ended, by the monotonic clock."""
    fault: str | None = None
    """The latest fault of the broker, while it lasts."""


class Dispatcher(ABC):
    """Takes available steps of ``queues`` out as tickets, and sends them to an executor's broker,
    which has a queue of the same name for each (contract §15).

    No more than ``backlog`` messages wait in a broker's queue; a ticket that nobody has started
    ``hold`` seconds later is void, and its step available again. Any number of dispatchers may
    run. A reconciler runs beside, which makes retries and lost tickets available again.

    Raises CommandRejected (``invalid_argument``) for queues or a hold that cannot be, and
    ValueError for the backlog.
    """

    executor: ClassVar[str]
    """The name of the executor."""

    def __init__(
        self,
        client: Client | AsyncClient,
        handlers: Handlers,
        *,
        queues: Iterable[str] = ("default",),
        hold: float | timedelta = 600.0,
        backlog: int = 200,
    ) -> None:
        if not isinstance(handlers, Handlers):
            raise TypeError("handlers must be an rwf.Handlers")
        if type(backlog) is not int or not 1 <= backlog <= _MOST_WAITING:
            raise ValueError(f"backlog must be an integer from 1 to {_MOST_WAITING:,}")
        self._runtime = Runtime(client)
        self.handlers: Final = handlers
        self.name: Final = new_worker_id()
        self.queues: Final = checked_queues(queues, "dispatch")
        hold_ms(hold)  # raises for one that cannot be
        self._hold = hold
        self._backlog = backlog
        self._least = max(backlog // _FREE, 1)
        self._feeds = [_Feed(queue) for queue in self.queues]
        self._availability = Availability()
        self._reconciler: ReconcilerBeside | None = None
        self._threads: Threads | None = None
        self._sent = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()

    # --- what an adapter does

    @abstractmethod
    def waiting(self, queue: str) -> int | Awaitable[int]:
        """How many messages wait in the broker's queue; a coroutine, or called in a thread."""

    @abstractmethod
    def send(self, queue: str, tickets: Sequence[Ticket]) -> Awaitable[None] | None:
        """Sends a message for each ticket to the broker's queue, in this order."""

    def session(self) -> AbstractAsyncContextManager[object]:
        """Is entered before the first ticket is taken, and left after the last has been sent."""
        return nullcontext()

    # --- what it says of itself

    @property
    def client(self) -> Client | AsyncClient:
        """The client that it works with."""
        return self._runtime.client

    @property
    def health(self) -> DispatcherHealth:
        """Its condition now."""
        fault = next((feed.fault for feed in self._feeds if feed.fault), None)
        waiting = {feed.queue: feed.waiting for feed in self._feeds}
        return DispatcherHealth(self._sent, waiting, self._availability.error or fault)

    @property
    def partitions(self) -> tuple[int, ...]:
        """The partitions that its reconciler looks after."""
        return () if self._reconciler is None else self._reconciler.partitions

    @property
    def tick_age(self) -> float | None:
        """How many seconds ago it last looked for work, in the queue where that is longest ago;
        None before it runs."""
        if self._loop is None:
            return None
        return time.monotonic() - min(feed.turned for feed in self._feeds)

    # --- starting and stopping

    def run(self) -> None:
        """Dispatches until SIGTERM, SIGINT or :meth:`stop`; what it has taken is sent first, or
        given back. An AsyncClient's connections end with the event loop that this makes."""
        run_to_end(self._run())

    async def _run(self) -> None:
        with ended_by_signals(self.stop):
            try:
                await self.serve()
            finally:
                await self._runtime.close()

    async def serve(self) -> None:
        """Dispatches in an event loop that runs already, without signal handlers."""
        if self._loop is not None:
            raise RuntimeError("the dispatcher runs already")
        self._loop = asyncio.get_running_loop()
        self._threads = Threads(_BROKER_CALLS, "rwf-broker")
        for feed in self._feeds:
            feed.turned = time.monotonic()
        try:
            async with self.session(), ReconcilerBeside(self.client) as self._reconciler:
                await self._dispatch()
        finally:
            self._threads.close()
            self._loop = None
            self._stopping.clear()

    async def _dispatch(self) -> None:
        loops = [asyncio.create_task(self._kept_up(feed)) for feed in self._feeds]
        listener = asyncio.create_task(self._listen())
        try:
            await self._stopping.wait()
            await asyncio.wait(loops, timeout=_LAST_WORDS)
        finally:
            await end_tasks([*loops, listener], _CLOSING)

    def stop(self) -> None:
        """Makes it end soon; from any thread, and at any time."""
        if self._loop is None:
            self._stopping.set()
        else:
            with suppress(RuntimeError):  # the loop is over already
                self._loop.call_soon_threadsafe(self._stopping.set)

    # --- the loops

    async def _listen(self) -> None:
        """Follows hints, which wake the loops of the queues that they name."""
        while True:
            try:
                async with aclosing(self._runtime.hints()) as hints:
                    async for hint in hints:
                        self._availability.answered("hints")
                        if hint is not None:
                            self._wake(hint.queues)
            except RwfError as error:
                await self._availability.broken(error, "hints")

    def _wake(self, queues: Sequence[str]) -> None:
        for feed in self._feeds:
            if feed.queue in queues:
                feed.hinted.set()

    async def _kept_up(self, feed: _Feed) -> None:
        """One queue's loop, which ends with the dispatcher alone."""
        full, longest = _FULL
        pause = full
        while not self._stopping.is_set():
            feed.hinted.clear()
            try:
                room, taken = await self._turn(feed)
            except Exception:
                _log.exception("queue %s: unexpected error; trying again", feed.queue)
                room, taken = None, 0
            feed.turned = time.monotonic()
            if room is None:
                await self._pause(_FAULT)
            elif room < self._least:
                await self._pause(pause)
                pause = min(2 * pause, longest)
                continue
            elif taken < room:
                await self._pause(_POLL, feed.hinted)
            pause = full

    async def _pause(self, seconds: float, woken: asyncio.Event | None = None) -> None:
        """Waits so long, or until it is woken or is to end."""
        events = [self._stopping, *([] if woken is None else [woken])]
        waits = [asyncio.ensure_future(event.wait()) for event in events]
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    async def _turn(self, feed: _Feed) -> tuple[int | None, int]:
        """Takes what there is room for, and sends it: the room, None after a fault, and how many
        steps it has taken."""
        try:
            feed.waiting = await self._called(self.waiting, feed.queue)
        except Exception as error:
            self._broker_fault(feed, error)
            return None, 0
        room = min(self._backlog - feed.waiting, ITEMS_PER_CALL)
        if room < self._least:
            return room, 0
        op = dispatch(self._runtime.ctx, [feed.queue], self.name, room, self._hold)
        try:
            tickets = await self._runtime.run(op)
        except RwfError as error:
            self._availability.failed(error, feed.queue)
            return None, 0
        self._availability.answered(feed.queue)
        if tickets and not await self._sent_all(feed, tickets):
            return None, 0
        if feed.fault is not None:
            _log.warning("the broker of %s is back", feed.queue)
            feed.fault = None
        return room, len(tickets)

    async def _sent_all(self, feed: _Feed, tickets: Sequence[Ticket]) -> bool:
        """Sends tickets. Where that fails all are given back: those that have reached the broker
        are void then, and nobody runs them."""
        try:
            await self._called(self.send, feed.queue, tickets)
        except BaseException as error:
            with suppress(RwfError):
                await self._runtime.run(release(self._runtime.ctx, tickets))
            if not isinstance(error, Exception):
                raise
            self._broker_fault(feed, error)
            return False
        self._sent += len(tickets)
        feed.waiting += len(tickets)
        return True

    def _broker_fault(self, feed: _Feed, error: Exception) -> None:
        if feed.fault is None:
            _log.warning("the broker of %s fails; trying again: %s", feed.queue, error)
        feed.fault = f"the broker of {feed.queue}: {error or type(error).__name__}"

    async def _called(self, function: Callable[..., Any], *args: Any) -> Any:
        """Calls the broker: awaited, or in a thread."""
        if inspect.iscoroutinefunction(function):
            return await function(*args)
        assert self._threads is not None
        return await self._threads.run(partial(function, *args))
