"""Telling the namespace that the worker is there, and what it does (contract §17)."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress

from rwf.errors import RwfError
from rwf.ops.base import OpContext
from rwf.ops.workers import TOLD_EVERY, leave, register
from rwf.protocol.stored import WorkerRecord
from rwf.runtime import Beside

_log = logging.getLogger("rwf.worker")


class Presence:
    """Tells what a worker does, every few seconds, and at once when it is asked to.

    In a thread of its own, so that it tells of a blocked event loop too. To be made in the event
    loop.
    """

    def __init__(
        self, ctx: OpContext, beside: Beside, worker: str, about: Callable[[], WorkerRecord]
    ) -> None:
        self._ctx = ctx
        self._beside = beside
        self._worker = worker
        self._about = about
        self._loop = asyncio.get_running_loop()
        self._due = threading.Event()
        self._stopped = False
        self.over = asyncio.Event()
        """Set in the loop once it has told that the worker has stopped."""

    def start(self) -> None:
        """Begins to tell."""
        threading.Thread(target=self._serve, name="rwf-presence", daemon=True).start()

    def tell(self) -> None:
        """Has it told at once what has changed; from any thread."""
        self._due.set()

    def stop(self) -> None:
        """Ends it soon, and tells that the worker has stopped."""
        self._stopped = True
        self._due.set()

    def _serve(self) -> None:
        while not self._stopped:
            self._tell()
            self._due.wait(TOLD_EVERY)
            self._due.clear()
        with suppress(RwfError):
            self._beside.run(leave(self._ctx, self._worker))
        self._beside.close()
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self.over.set)

    def _tell(self) -> None:
        try:
            self._beside.run(register(self._ctx, self._worker, self._about()))
        except RwfError as error:
            # The loops that work tell of an outage; nothing but a list depends on this.
            _log.debug("the worker could not tell that it is there: %s", error)
        except Exception:
            _log.exception("unexpected error; the worker goes on")
