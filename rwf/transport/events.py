"""Hints from the server: what has just changed, for whoever would rather not poll.

They may be lost, doubled or late, and change nothing but latency (contract §9). So nothing that
is wrong with them ends a listener: it goes on without, and tries again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, aclosing, closing, contextmanager
from itertools import cycle
from math import inf
from typing import Any, Final

import orjson
import redis.exceptions as errors

from rwf.model.views import Event
from rwf.transport.drivers import SyncStore
from rwf.transport.drivers_aio import AsyncStore
from rwf.transport.faults import FAULTS

_log = logging.getLogger("rwf")

_DATA: Final = (b"message", b"smessage", "message", "smessage")
_ENDED: Final = (b"sunsubscribe", "sunsubscribe")
# How long one wait for a message takes, in seconds; between two a listener can be closed. The nodes
# of a cluster are waited for in turn.
_WAIT: Final = 0.25
_WAIT_FOR_NODE: Final = 0.02
_PAUSE: Final = 0.5
# How long a listener without the right to its channels waits before it tries once more.
_PAUSE_REFUSED: Final = 5.0
# After which time one that does without some nodes tries all of them again.
_RENEWED: Final = 5.0
_PING_EVERY: Final = 5.0
"""Seconds of silence after which a connection is pinged; as long again without an answer, and it is
given up."""


class _Hearing:
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


class _Refusals:
    """Tells a log once that the user lacks the right to its channels, until it has it again."""

    def __init__(self) -> None:
        self._told = False

    def refused(self, error: errors.NoPermissionError) -> None:
        if not self._told:
            _log.warning("no hints, which only delays: the user lacks a right: %s", error)
        self._told = True

    def heard(self, message: Any) -> None:
        if message is not None:
            self._told = False


def hints(store: SyncStore, channels: Sequence[str]) -> Generator[Event | None, None, None]:
    """Hints from these channels, for ever, and None when none came for a moment; subscribes again
    after a lost or dead connection, and where a slot has moved to."""
    refusals = _Refusals()
    while True:
        pause = _PAUSE
        try:
            store.look_anew()
            with ExitStack() as open_:
                # Not redis-py's own for clusters: its threads read what is meant for this one.
                pubsubs = store.pubsubs(channels)
                wait = _WAIT_FOR_NODE if store.cluster else _WAIT
                heard: list[tuple[Any, _Hearing]] = []
                for pubsub, names in pubsubs:
                    open_.enter_context(closing(pubsub))
                    with _one_of(pubsubs):
                        for some in _subscriptions(names, store.cluster):
                            (pubsub.ssubscribe if store.cluster else pubsub.subscribe)(*some)
                        heard.append((pubsub, _Hearing()))
                renewed = time.monotonic() + _RENEWED if len(heard) < len(pubsubs) else inf
                for pubsub, hearing in cycle(heard):
                    if time.monotonic() > renewed:
                        break
                    message = pubsub.get_message(timeout=wait)
                    if hearing.is_to_ping(message):
                        pubsub.ping()
                    refusals.heard(message)
                    yield _event(message)
        except errors.NoPermissionError as error:
            refusals.refused(error)
            pause = _PAUSE_REFUSED
        except FAULTS:
            pass
        until = time.monotonic() + pause
        while time.monotonic() < until:
            yield None
            time.sleep(_WAIT)


async def async_hints(
    store: AsyncStore, channels: Sequence[str]
) -> AsyncGenerator[Event | None, None]:
    """Hints on asyncio, as :func:`hints` has them."""
    refusals = _Refusals()
    while True:
        pause = _PAUSE
        try:
            await store.look_anew()
            async with AsyncExitStack() as open_:
                pubsubs = await store.pubsubs(channels)
                wait = _WAIT_FOR_NODE if store.cluster else _WAIT
                heard: list[tuple[Any, _Hearing]] = []
                for pubsub, names in pubsubs:
                    await open_.enter_async_context(aclosing(pubsub))
                    with _one_of(pubsubs):
                        for some in _subscriptions(names, store.cluster):
                            async with asyncio.timeout(store.limits.timeout):
                                subscribe = pubsub.ssubscribe if store.cluster else pubsub.subscribe
                                await subscribe(*some)
                        heard.append((pubsub, _Hearing()))
                renewed = time.monotonic() + _RENEWED if len(heard) < len(pubsubs) else inf
                for pubsub, hearing in cycle(heard):
                    if time.monotonic() > renewed:
                        break
                    message = await pubsub.get_message(timeout=wait)
                    if hearing.is_to_ping(message):
                        await pubsub.ping()
                    refusals.heard(message)
                    yield _event(message)
        except errors.NoPermissionError as error:
            refusals.refused(error)
            pause = _PAUSE_REFUSED
        except FAULTS:
            pass
        until = time.monotonic() + pause
        while time.monotonic() < until:
            yield None
            await asyncio.sleep(_WAIT)


@contextmanager
def _one_of(nodes: Sequence[Any]) -> Iterator[None]:
    """Lets a listener do without one of several nodes, for a while."""
    try:
        yield
    except FAULTS as error:
        if len(nodes) == 1 or isinstance(error, errors.NoPermissionError):
            raise


def _subscriptions(names: Sequence[str], cluster: bool) -> Sequence[Sequence[str]]:
    """What is subscribed to in one command: on a cluster channels of several slots are refused."""
    return [[name] for name in names] if cluster else [names]


def _event(message: Any) -> Event | None:
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
