# Made of rwf/transport/aio/hints.py by tools/blocking.py: do not edit.
"""Listening to hints that something has changed, instead of polling.

They may be lost, doubled or late, and change nothing but latency (contract §9). So nothing that
is wrong with them ends a listener: it goes on without, and tries again.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from itertools import cycle
from math import inf
from typing import Any

from rwf.model.views import Event
from rwf.transport import events
from rwf.transport.blocking.concurrency import sleep, time_limit
from rwf.transport.blocking.drivers import Store
from rwf.transport.faults import FAULTS


def hints(store: Store, channels: Sequence[str]) -> Generator[Event | None]:
    """Hints from these channels, for ever, and None when none came for a moment; subscribes again
    after a lost or dead connection, and where a slot has moved to."""
    refusals = events.Refusals()
    while True:
        pause = events.PAUSE
        try:
            store.look_anew()
            with ExitStack() as open_:
                # Not redis-py's own for clusters: its threads read what is meant for this one.
                pubsubs = store.pubsubs(channels)
                wait = events.WAIT_FOR_NODE if store.cluster else events.WAIT
                heard: list[tuple[Any, events.Hearing]] = []
                for pubsub, names in pubsubs:
                    open_.enter_context(closing(pubsub))
                    with events.one_of(pubsubs):
                        for some in events.subscriptions(names, store.cluster):
                            with time_limit(store.limits.timeout):
                                subscribe = pubsub.ssubscribe if store.cluster else pubsub.subscribe
                                subscribe(*some)
                        heard.append((pubsub, events.Hearing()))
                renewed = time.monotonic() + events.RENEWED if len(heard) < len(pubsubs) else inf
                for pubsub, hearing in cycle(heard):
                    if time.monotonic() > renewed:
                        break
                    message = pubsub.get_message(timeout=wait)
                    if hearing.is_to_ping(message):
                        pubsub.ping()
                    refusals.heard(message)
                    yield events.hint_in(message)
        except FAULTS as error:
            pause = refusals.pause(error)
        until = time.monotonic() + pause
        while time.monotonic() < until:
            yield None
            sleep(events.WAIT)
