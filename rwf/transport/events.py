"""Hints from the server: when to ping, when to try again, and what a message says.

The listeners that rest on this are ``rwf.transport.aio.hints`` and its blocking twin.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import orjson
import redis.exceptions as errors

from rwf.model.views import Event
from rwf.transport.faults import FAULTS

_log = logging.getLogger("rwf")

_DATA: Final = (b"message", b"smessage", "message", "smessage")
_ENDED: Final = (b"sunsubscribe", "sunsubscribe")
WAIT: Final = 0.25
"""How long one wait for a message takes, in seconds; between two a listener can be closed."""
WAIT_FOR_NODE: Final = 0.02
"""How long it takes on a cluster, whose nodes are waited for in turn."""
RENEWED: Final = 5.0
"""After how many seconds a listener that does without some nodes tries all of them again."""
PAUSE: Final = 0.5
"""For how many seconds a listener waits before it tries once more."""
# And one without the right to its channels.
_PAUSE_REFUSED: Final = 5.0
_PING_EVERY: Final = 5.0
"""Seconds of silence after which a connection is pinged; as long again without an answer, and it is
given up."""


class Hearing:
    """When one subscription was last heard of: a peer may vanish without a word."""

    def __init__(self) -> None:
        self._heard = time.monotonic()
        self._pinged = False

    def is_to_ping(self, message: Any) -> bool:
        """Whether to ping now; raises TimeoutError when the latest ping was not answered."""
        now = time.monotonic()
        if message is not None:
            self._heard, self._pinged = now, False
            return False
        silent = now - self._heard
        if self._pinged and silent > 2 * _PING_EVERY:
            raise errors.TimeoutError("the connection for hints is dead")
        if self._pinged or silent <= _PING_EVERY:
            return False
        self._pinged = True
        return True


class Refusals:
    """Tells a log once that the user lacks the right to its channels, until it has it again."""

    def __init__(self) -> None:
        self._told = False

    def pause(self, error: Exception) -> float:
        """The seconds after which to try again after an error."""
        if not isinstance(error, errors.NoPermissionError):
            return PAUSE
        if not self._told:
            _log.warning(
                "no hints, so changes are noticed later: the user lacks a right: %s", error
            )
        self._told = True
        return _PAUSE_REFUSED

    def heard(self, message: Any) -> None:
        """Notes that a message has come, or None."""
        if message is not None:
            self._told = False


@contextmanager
def one_of(nodes: Sequence[Any]) -> Iterator[None]:
    """Lets a listener do without one of several nodes, for a while."""
    try:
        yield
    except FAULTS as error:
        if len(nodes) == 1 or isinstance(error, errors.NoPermissionError):
            raise


def subscriptions(names: Sequence[str], cluster: bool) -> Sequence[Sequence[str]]:
    """Channels grouped by command: a cluster refuses one that names several slots."""
    return [[name] for name in names] if cluster else [names]


def hint_in(message: Any) -> Event | None:
    """The hint in a message; None for what is none, or is of a later release. Raises
    RedisClusterException when a node ends a subscription: it has given the slot away."""
    if message is not None and message["type"] in _ENDED:
        raise errors.RedisClusterException("the slot has moved")
    if message is None or message["type"] not in _DATA:
        return None
    try:
        told = orjson.loads(message["data"])
        return Event(**told) if told.pop("v") == 1 else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
