"""Whether the server answers, as a worker's loops see it: told once, waited out together."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from rwf.errors import NamespaceMismatch, RwfError, StoreMisconfigured, StoreUnavailable

_log = logging.getLogger("rwf.worker")

_PAUSE: Final = 0.5
_AWAY: Final = (StoreUnavailable, StoreMisconfigured, NamespaceMismatch)


class Link:
    """The state of the connection. Its loops go on for ever: a server comes back."""

    def __init__(self) -> None:
        self.error: str | None = None
        self._since = 0.0

    def stands(self) -> None:
        """The server has answered."""
        if self.error is not None:
            _log.warning("the server is back after %.1f s", time.monotonic() - self._since)
            self.error = None

    async def broken(self, error: RwfError) -> bool:
        """A call has failed: whether that is the server's state, which is then waited for, and not
        the call's own fault."""
        if not isinstance(error, _AWAY):
            _log.error("a call has failed: %s", error)
            return False
        if self.error is None:
            self._since = time.monotonic()
            _log.warning("the server is away, and is tried again: %s", error)
        self.error = str(error)
        await asyncio.sleep(_PAUSE)
        return True
