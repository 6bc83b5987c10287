"""What a loop on asyncio needs of a client: its operations and its hints, whichever client it is.

Workers and reconcilers are written once, on asyncio. An ``AsyncClient``'s calls are awaited in the
loop; a ``Client``'s are made in threads.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import aclosing, contextmanager
from typing import TypeVar

from rwf.aio import AsyncClient
from rwf.client import Client
from rwf.model.views import Event
from rwf.store import events
from rwf.store.catalog import Op
from rwf.store.ops import reads
from rwf.store.ops.base import Scope

T = TypeVar("T")


class Runtime:
    """A client, as a loop sees it."""

    def __init__(self, client: Client | AsyncClient) -> None:
        if not isinstance(client, Client | AsyncClient):
            raise TypeError("a worker or a reconciler needs a Client or an AsyncClient")
        self._client = client

    @property
    def client(self) -> Client | AsyncClient:
        """The client itself."""
        return self._client

    @property
    def scope(self) -> Scope:
        """What operations take of the client."""
        return self._client._scope

    async def run(self, op: Op[T]) -> T:
        """Carries out an operation; raises what the client's own methods raise."""
        if isinstance(self._client, AsyncClient):
            return await self._client._run(op)
        return await asyncio.to_thread(self._client._run, op)

    async def close(self) -> None:
        """Closes what belongs to this event loop: an AsyncClient's connections."""
        if isinstance(self._client, AsyncClient):
            await self._client.close()

    async def hints(self) -> AsyncGenerator[Event | None, None]:
        """The client's events, for ever, and None now and then while none comes."""
        channels = await self.run(reads.channels(self.scope))
        if isinstance(self._client, AsyncClient):
            heard = events.async_hints(self._client._store, channels)
        else:
            heard = _in_threads(events.hints(self._client._store, channels))
        async with aclosing(heard):
            async for hint in heard:
                yield hint


@contextmanager
def ended_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Has SIGTERM and SIGINT call ``stop`` in the running event loop, as long as this is open. In
    a thread that is not the main one, which Python gives no signals, nobody calls it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop, numbers = asyncio.get_running_loop(), (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def _in_threads(
    hints: Generator[Event | None, None, None],
) -> AsyncGenerator[Event | None, None]:
    """The same hints, each waited for in a thread."""
    while True:
        step = asyncio.ensure_future(asyncio.to_thread(next, hints))
        try:
            yield await asyncio.shield(step)
        except BaseException:
            # A generator cannot be closed while a thread is inside it.
            await asyncio.wait([step])
            hints.close()
            raise
