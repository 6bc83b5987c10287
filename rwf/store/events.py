"""Hints from the server: what has just changed, for whoever would rather not poll.

They may be lost, doubled or late, and change nothing but latency (SPEC section 9).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, closing
from typing import Any, Final

import orjson
import redis.exceptions as errors

from rwf.model.views import Event
from rwf.store.transport import AsyncStore, SyncStore

_LOST: Final = (
    *(errors.ConnectionError, errors.TimeoutError, OSError),
    # A cluster amid a failover: the slot has moved, or nobody has it.
    *(errors.RedisClusterException, errors.ClusterError, errors.AskError, errors.TryAgainError),
)
_DATA: Final = (b"message", b"smessage", "message", "smessage")
# How long one wait for a message takes, in seconds; between two a listener can be closed. The nodes
# of a cluster are waited for in turn.
_WAIT: Final = 0.25
_WAIT_FOR_NODE: Final = 0.02
_PAUSE: Final = 0.5


def hints(store: SyncStore, channels: Sequence[str]) -> Generator[Event | None, None, None]:
    """Hints from these channels, for ever, and None when none came for a moment; subscribes again
    after a lost connection."""
    while True:
        try:
            with closing(store.client().pubsub()) as pubsub:
                for channel in channels:
                    (pubsub.ssubscribe if store.cluster else pubsub.subscribe)(channel)
                receive = pubsub.get_sharded_message if store.cluster else pubsub.get_message
                while True:
                    yield _event(receive(timeout=_WAIT_FOR_NODE if store.cluster else _WAIT))
        except _LOST:
            yield None
            time.sleep(_PAUSE)


async def async_hints(
    store: AsyncStore, channels: Sequence[str]
) -> AsyncGenerator[Event | None, None]:
    """The same on asyncio."""
    while True:
        try:
            async with aclosing((await store.client()).pubsub()) as pubsub:
                for channel in channels:
                    await (pubsub.ssubscribe if store.cluster else pubsub.subscribe)(channel)
                receive = pubsub.get_sharded_message if store.cluster else pubsub.get_message
                while True:
                    yield _event(await receive(timeout=_WAIT_FOR_NODE if store.cluster else _WAIT))
        except _LOST:
            yield None
            await asyncio.sleep(_PAUSE)


def _event(message: Any) -> Event | None:
    """The hint in a message; None for what is none, or is of a later release."""
    if message is None or message["type"] not in _DATA:
        return None
    try:
        told = orjson.loads(message["data"])
        return Event(**told) if told.pop("v") == 1 else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
