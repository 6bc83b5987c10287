"""Live pages: hints that something has changed, as server-sent events.

One subscription serves all viewers, and is there only while somebody looks. A hint tells nothing
but that a page is to be read again; a browser that hears none reads it now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Final

from rwf.aio import AsyncClient
from rwf.errors import RwfError

VIEWERS: Final = 100
"""Streams that are open at the same time; who comes after reads now and then."""
_QUIET_SECONDS: Final = 1.0
"""The shortest time between two hints to a viewer."""
_BEAT_SECONDS: Final = 15.0
"""After which a stream shows that it is there."""
_STREAM_SECONDS: Final = 300.0
"""After which a stream ends: the browser opens another, which is authorised anew."""
_RETRY_SECONDS: Final = 5.0


class Hub:
    """The viewers' one subscription to a namespace's hints."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._viewers: dict[asyncio.Event, str | None] = {}
        self._listening: asyncio.Task[None] | None = None
        self._closed = False

    def close(self) -> None:
        """Ends all streams."""
        self._closed = True
        for changed in self._viewers:
            changed.set()

    @property
    def full(self) -> bool:
        return len(self._viewers) >= VIEWERS

    async def stream(self, workflow_id: str | None) -> AsyncIterator[str]:
        """Server-sent events for a viewer of one workflow, or of all."""
        changed = asyncio.Event()
        self._viewers[changed] = workflow_id
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen())
        try:
            yield f"retry: {_RETRY_SECONDS * 1000:.0f}\n\n"
            ends = asyncio.get_running_loop().time() + _STREAM_SECONDS
            while not self._closed and asyncio.get_running_loop().time() < ends:
                try:
                    async with asyncio.timeout(_BEAT_SECONDS):
                        await changed.wait()
                except TimeoutError:
                    yield ": quiet\n\n"
                    continue
                changed.clear()
                yield "event: changed\ndata:\n\n"
                await asyncio.sleep(_QUIET_SECONDS)
        finally:
            del self._viewers[changed]
            if not self._viewers and self._listening is not None:
                self._listening.cancel()
                self._listening = None

    async def _listen(self) -> None:
        while True:
            with suppress(RwfError):
                async with aclosing(self._client.events()) as found:
                    async for event in found:
                        self._tell(event.workflow_id)
            await asyncio.sleep(_RETRY_SECONDS)

    def _tell(self, workflow_id: str) -> None:
        for changed, wanted in self._viewers.items():
            if wanted in (None, workflow_id):
                changed.set()
