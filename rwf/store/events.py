"""Hints from the server: what has just changed, for whoever would rather not poll.

They may be lost, doubled or late, and change nothing but latency (SPEC section 9).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import AsyncExitStack, ExitStack, aclosing, closing
from itertools import cycle
from typing import Any, Final

import orjson
import redis.exceptions as errors

from rwf.model.views import Event
from rwf.store.faults import FAULTS
from rwf.store.transport import SyncStore
from rwf.store.transport_aio import AsyncStore

_DATA: Final = (b"message", b"smessage", "message", "smessage")
_ENDED: Final = (b"sunsubscribe", "sunsubscribe")
# How long one wait for a message takes, in seconds; between two a listener can be closed. The nodes
# of a cluster are waited for in turn.
_WAIT: Final = 0.25
_WAIT_FOR_NODE: Final = 0.02
_PAUSE: Final = 0.5


def hints(store: SyncStore, channels: Sequence[str]) -> Generator[Event | None, None, None]:
    """Hints from these channels, for ever, and None when none came for a moment; subscribes again
    after a lost connection, and where a slot has moved to."""
    while True:
        try:
            store.look_anew()
            with ExitStack() as open_:
                # Not redis-py's own for clusters: its threads read what is meant for this one.
                pubsubs = store.pubsubs(channels)
                wait = _WAIT_FOR_NODE if store.cluster else _WAIT
                for pubsub, names in pubsubs:
                    open_.enter_context(closing(pubsub))
                    for name in names:
                        (pubsub.ssubscribe if store.cluster else pubsub.subscribe)(name)
                for pubsub, _ in cycle(pubsubs):
                    yield _event(pubsub.get_message(timeout=wait))
        except errors.NoPermissionError:
            raise
        except FAULTS:
            yield None
            time.sleep(_PAUSE)


async def async_hints(
    store: AsyncStore, channels: Sequence[str]
) -> AsyncGenerator[Event | None, None]:
    """The same on asyncio."""
    while True:
        try:
            await store.look_anew()
            async with AsyncExitStack() as open_:
                pubsubs = await store.pubsubs(channels)
                wait = _WAIT_FOR_NODE if store.cluster else _WAIT
                for pubsub, names in pubsubs:
                    await open_.enter_async_context(aclosing(pubsub))
                    for name in names:
                        await (pubsub.ssubscribe if store.cluster else pubsub.subscribe)(name)
                for pubsub, _ in cycle(pubsubs):
                    yield _event(await pubsub.get_message(timeout=wait))
        except errors.NoPermissionError:
            raise
        except FAULTS:
            yield None
            await asyncio.sleep(_PAUSE)


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
