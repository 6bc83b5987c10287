"""Wakes waits: for the end of a workflow, and for steps to claim.

One listener receives the hints for all waits of a client, and runs only while there are any.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Final

from rwf.model.views import Event as Hint
from rwf.transport.aio.concurrency import Event, Listener, Lock

_log = logging.getLogger("rwf")

_TERMINAL: Final = "workflow_terminal"


class AsyncWaits:
    """The waits of one client for what hints tell of: the ends of workflows, by their ids, and
    available steps, by their queues."""

    def __init__(self, hints: Callable[[], AsyncGenerator[Hint | None]]) -> None:
        self._hints = hints
        self._lock = Lock()
        self._waiting: dict[str, list[Event]] = {}
        self._listener: Listener | None = None

    @asynccontextmanager
    async def heard(self, *topics: str) -> AsyncIterator[Event]:
        """An event that is set when a hint concerns one of these: the id of a workflow that has
        ended, or ``queue:NAME`` when steps have come into that queue."""
        told = Event()
        with self._lock:
            for topic in topics:
                self._waiting.setdefault(topic, []).append(told)
            if self._listener is None:
                self._listener = Listener(self._listen, "rwf-waits")
        try:
            yield told
        finally:
            with self._lock:
                for topic in topics:
                    self._waiting[topic].remove(told)
                    if not self._waiting[topic]:
                        del self._waiting[topic]

    async def close(self) -> None:
        """Ends the listening, where it does not end by itself."""
        if self._listener is not None:
            await self._listener.close()

    async def _listen(self) -> None:
        try:
            async with aclosing(self._hints()) as hints:
                async for hint in hints:
                    if not self._goes_on(hint):
                        return
        except BaseException as error:
            with self._lock:
                self._listener = None  # the next wait tries anew
            if not isinstance(error, Exception):
                raise
            _log.warning("waits go on without hints, by polling: %s", type(error).__name__)

    def _goes_on(self, hint: Hint | None) -> bool:
        with self._lock:
            for topic in _topics(hint):
                for told in self._waiting.get(topic, ()):
                    told.set()
            if not self._waiting:
                self._listener = None
            return self._listener is not None


def _topics(hint: Hint | None) -> list[str]:
    if hint is None:
        return []
    if hint.event == _TERMINAL:
        return [hint.workflow_id]
    return [f"queue:{queue}" for queue in hint.queues]
