"""Operations and hints of a client for a loop on asyncio, whichever client it is.

Workers and reconcilers are written once, on asyncio. An ``AsyncClient``'s calls are awaited in the
loop; a ``Client``'s are made in threads of the runtime's own.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable, Iterator
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import aclosing, contextmanager, suppress
from functools import partial
from typing import Any, Final, TypeVar

from rwf import internals
from rwf.aio import AsyncClient
from rwf.client import Client
from rwf.errors import StoreUnavailable
from rwf.model.views import Event
from rwf.ops.base import OpContext
from rwf.protocol.requests import Op
from rwf.threads import Threads

T = TypeVar("T")

_log = logging.getLogger("rwf")

_CALLS_AT_ONCE: Final = 32
# Hints that wait for a loop which is busy; the oldest are lost first.
_HINTS_KEPT: Final = 10_000
# How long, in seconds, whatever ends is waited for before it is left behind.
_PATIENCE: Final = 1.0
# After which it is told once more: before, it may be about to tidy up.
_CANCELLED_AGAIN: Final = 0.5


class Runtime:
    """A client, as a loop sees it."""

    def __init__(self, client: Client | AsyncClient) -> None:
        if not isinstance(client, Client | AsyncClient):
            raise TypeError("a worker or a reconciler needs a Client or an AsyncClient")
        self._client = client
        self._threads: Threads | None = None

    @property
    def client(self) -> Client | AsyncClient:
        """The client itself."""
        return self._client

    @property
    def ctx(self) -> OpContext:
        """The client's context, which operations take."""
        return internals.context_of(self._client)

    async def run(self, op: Op[T]) -> T:
        """Carries out an operation; raises what the client's own methods raise."""
        if isinstance(self._client, AsyncClient):
            return await internals.run_async(self._client, op)
        if self._threads is None or self._threads.loop is not asyncio.get_running_loop():
            # Not the loop's own: what handlers do there would hold up these calls.
            self._threads = Threads(_CALLS_AT_ONCE, "rwf-call")
        found: T = await self._threads.run(partial(internals.run, self._client, op))
        return found

    async def close(self) -> None:
        """Closes what belongs to this event loop, an AsyncClient's connections, as far as that
        takes no longer than a second."""
        self._threads = None
        if isinstance(self._client, AsyncClient):
            closing = asyncio.create_task(self._client.close())
            await asyncio.wait([closing], timeout=_PATIENCE)

    async def hints(self) -> AsyncGenerator[Event | None]:
        """The client's events, for ever, and None now and then while none comes."""
        if isinstance(self._client, AsyncClient):
            heard = internals.hints_async(self._client)
        else:
            heard = _in_a_thread(internals.hints(self._client))
        async with aclosing(heard):
            async for hint in heard:
                yield hint


class Beside:
    """A client's operations for other threads, whatever its event loop is busy with.

    They use connections of their own. Where none can be made, as for an ``AsyncClient`` on a
    cluster's redis-py client that was given, the loop carries them out. To be made in the loop.
    """

    def __init__(self, client: Client | AsyncClient) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._twin = internals.twin_of(client)

    def run(self, op: Op[T]) -> T:
        """Carries out an operation in this thread, which is none with a loop; raises what the
        client's own methods raise."""
        if self._twin is not None:
            return internals.run(self._twin, op)
        assert isinstance(self._client, AsyncClient)
        if not self._loop.is_closed():
            running = internals.run_async(self._client, op)
            future = asyncio.run_coroutine_threadsafe(running, self._loop)
            while not self._loop.is_closed():
                with suppress(FutureTimeout):
                    return future.result(timeout=_PATIENCE)
        raise StoreUnavailable("the event loop of the client has ended")

    def close(self) -> None:
        """Closes its connections."""
        if self._twin is not None:
            self._twin.close()


@contextmanager
def ended_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Makes SIGTERM and SIGINT call ``stop``, as long as this is open: at once, in the main thread,
    also when something blocks the event loop there. In a thread that is not the main one, which
    Python gives no signals, nobody calls it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: stop()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


# Tasks that nothing could end: to collect them would only have them complain.
_left_behind: Final[list[asyncio.Task[Any]]] = []


def run_to_end(main: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine in an event loop of its own, and ends that whatever else runs in it.

    Unlike ``asyncio.run`` it goes on when a task that some handler has made raises SystemExit or
    KeyboardInterrupt, or stops the loop; it waits a second at most for tasks that do not let
    themselves be cancelled, and for no thread. Raises RuntimeError where a loop runs already.
    """
    if asyncio._get_running_loop() is not None:
        main.close()
        raise RuntimeError("an event loop runs here already: await serve() instead")
    loop = asyncio.new_event_loop()
    try:
        task = loop.create_task(main)
        while True:
            try:
                return loop.run_until_complete(task)
            except (SystemExit, KeyboardInterrupt) as raised:
                if task.done():
                    raise
                _log.error("an asyncio task raised %s; all others go on", type(raised).__name__)
            except RuntimeError:
                if task.done():
                    raise
                _log.error("an asyncio task has stopped the event loop, which is started again")
    finally:
        loop.run_until_complete(end_tasks(asyncio.all_tasks(loop), _PATIENCE))
        with suppress(TimeoutError):
            loop.run_until_complete(asyncio.wait_for(loop.shutdown_asyncgens(), _PATIENCE))
        loop.close()


async def end_tasks(tasks: Iterable[asyncio.Task[Any]], patience: float) -> None:
    """Cancels tasks until they have ended, for so many seconds at most: a cancellation is lost
    where it meets a time limit of a library's own, and a handler may swallow it."""
    mine = asyncio.current_task()
    left = [task for task in tasks if task is not mine]
    # Counted, not timed: on a busy machine a loop may come to little in all this time.
    for _ in range(max(round(patience / _CANCELLED_AGAIN), 2)):
        left = [task for task in left if not task.done()]
        if not left:
            return
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=_CANCELLED_AGAIN)
    _left_behind.extend(task for task in left if not task.done())


class _Heard:
    """Hints on their way from a thread to a loop."""

    def __init__(self) -> None:
        self.stopped = False
        self.hints: deque[Event | None] = deque(maxlen=_HINTS_KEPT)
        self.error: BaseException | None = None
        self.over = asyncio.Event()
        self.more = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def listen(self, hints: Generator[Event | None]) -> None:
        """Hears them in this thread, until it is stopped."""
        try:
            for hint in hints:
                if self.stopped:
                    break
                self.hints.append(hint)
                self._loop.call_soon_threadsafe(self.more.set)
            hints.close()
        except BaseException as raised:
            self.error = raised
        with suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(self.over.set)
            self._loop.call_soon_threadsafe(self.more.set)


async def _in_a_thread(
    hints: Generator[Event | None],
) -> AsyncGenerator[Event | None]:
    """Hints that a thread of their own hears."""
    heard = _Heard()
    threading.Thread(target=heard.listen, args=(hints,), name="rwf-hints", daemon=True).start()
    try:
        while not heard.over.is_set():
            await heard.more.wait()
            heard.more.clear()
            while heard.hints:
                yield heard.hints.popleft()
        if heard.error is not None:
            raise heard.error
    finally:
        heard.stopped = True
        # It wakes several times a second, unless its server hangs; then it is left behind.
        with suppress(TimeoutError):
            await asyncio.wait_for(heard.over.wait(), _PATIENCE)
