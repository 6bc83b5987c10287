"""A reconciler that runs beside something else: a worker's steps, a dispatcher's tickets."""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType
from typing import Final

from rwf.aio import AsyncClient
from rwf.client import Client
from rwf.errors import RwfError
from rwf.reconciler.daemon import Reconciler
from rwf.runtime import end_tasks

_log = logging.getLogger("rwf")

# How long closing may take.
_CLOSING: Final = 1.0
# Pauses, in seconds, before another reconciler begins.
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 60.0


class ReconcilerBeside:
    """Reconciles until it is left, as an async context manager. An error that ends a reconciler is
    logged, and another one is started."""

    def __init__(self, client: Client | AsyncClient) -> None:
        self._client = client
        self._reconciler = Reconciler(client)
        self._stopped = False
        self._task: asyncio.Task[None] | None = None

    @property
    def partitions(self) -> tuple[int, ...]:
        """The partitions that it looks after."""
        return self._reconciler.partitions

    def stop(self) -> None:
        """Ends it soon; in the event loop."""
        self._stopped = True
        self._reconciler.stop()

    async def __aenter__(self) -> ReconcilerBeside:
        self._task = asyncio.create_task(self._reconcile())
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        assert self._task is not None
        self.stop()
        await asyncio.wait([self._task], timeout=_CLOSING)
        await end_tasks([self._task], _CLOSING)

    async def _reconcile(self) -> None:
        pause = _FIRST_PAUSE
        while not self._stopped:
            try:
                await self._reconciler.serve()
            except Exception as error:
                expected = isinstance(error, RwfError)
                _log.error(
                    "the reconciler has stopped, and is started again: %s",
                    error if expected else type(error).__name__,
                    exc_info=None if expected else error,
                )
            if not self._stopped:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                self._reconciler = Reconciler(self._client)
