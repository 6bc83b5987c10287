"""How far a write has to be safe before it is acknowledged (contract §9)."""

from __future__ import annotations

import re
from typing import Any, Final

from rwf.errors import CommandRejected, StoreUnavailable
from rwf.model.states import Reason
from rwf.protocol.declare import Arg

# Of the time limit for a reply, so that it is this one that is told.
_SHARE_OF_TIMEOUT: Final = 0.8
_LONGEST_MS: Final = 4000


class Durability:
    """``server``, ``aof`` or ``replicas:N``; ``timeout`` is the time limit for a reply in seconds.

    Raises CommandRejected (``invalid_argument``) for any other text.
    """

    def __init__(self, text: str, timeout: float) -> None:
        pattern = r"server|aof|replicas:([1-9][0-9]?)"
        match = re.fullmatch(pattern, text) if isinstance(text, str) else None
        if match is None:
            message = "durability must be 'server', 'aof' or 'replicas:N'"
            raise CommandRejected("connect", "client", Reason.INVALID_ARGUMENT, message)
        self.aof = text == "aof"
        self._replicas = int(match[1] or 0)
        self._limit_ms = min(max(round(timeout * _SHARE_OF_TIMEOUT * 1000), 1), _LONGEST_MS)

    def ack(self) -> tuple[Arg, ...] | None:
        """The command that waits until the writes before it are safe, or None."""
        if self.aof:
            return ("WAITAOF", 1, 0, self._limit_ms)
        if self._replicas:
            return ("WAIT", self._replicas, self._limit_ms)
        return None

    def check(self, reply: Any) -> None:
        """Raises StoreUnavailable when the acknowledgement did not come in time."""
        reached, wanted = (reply[0], 1) if self.aof else (reply, self._replicas)
        if reached < wanted:
            what = "the append-only file" if self.aof else f"{self._replicas} replicas"
            raise StoreUnavailable(
                f"the write was made, but did not reach {what} within {self._limit_ms / 1000:g} s"
            )
