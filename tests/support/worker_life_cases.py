"""Shared by the tests of ``test_worker_life.py`` in ``contract/`` and ``internals/``."""

from __future__ import annotations

import asyncio
import threading
from typing import Any


class Gate:
    """A handler that waits until it may end; plain or not."""

    def __init__(self) -> None:
        self.entered: list[str] = []
        self.open = threading.Event()

    def plain(self, input: Any) -> None:
        self.entered.append(str(input))
        self.open.wait(20)

    async def coroutine(self, input: Any) -> None:
        self.entered.append(str(input))
        while not self.open.is_set():  # noqa: ASYNC110 - another thread opens it
            await asyncio.sleep(0.01)
