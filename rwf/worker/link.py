"""Whether the server answers, as a worker's loops see it: waited out together."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from rwf.errors import NamespaceMismatch, RwfError, StoreMisconfigured, StoreUnavailable
from rwf.outage import Outage

_log = logging.getLogger("rwf.worker")

_PAUSE: Final = 0.5
_AWAY: Final = (StoreUnavailable, StoreMisconfigured, NamespaceMismatch)


class Link:
    """The state of the connection. Its loops go on for ever: a server comes back."""

    def __init__(self) -> None:
        self._outage = Outage(_log)

    @property
    def error(self) -> str | None:
        """What keeps the worker from its server, if anything does."""
        return self._outage.error

    def stands(self) -> None:
        """The server has answered."""
        self._outage.answered()

    async def broken(self, error: RwfError) -> bool:
        """A call has failed: whether that is the server's state, which is then waited for, and not
        the call's own fault."""
        if not isinstance(error, _AWAY):
            _log.error("a call has failed: %s", error)
            return False
        self._outage.failed(error)
        await asyncio.sleep(_PAUSE)
        return True
