"""The processes that insert, deliver signals and receive callbacks."""

from __future__ import annotations

import random
import time
from functools import partial

from rwf import Client
from rwf.model.views import Callback
from tests.fault.campaign.plan import SIGNAL
from tests.fault.campaign.shapes import plan
from tests.fault.campaign.share import LEASE, PAUSE, Acknowledged, Share, answered


def inserter(share: Share) -> None:
    """Inserts its share, and notes each id that is returned; inserts without an answer are
    repeated."""
    done = {entry["number"] for entry in share.noted("inserted")}
    journal = share.journal("inserted")
    with Client.from_url(share.url) as client:
        for number in filter(share.mine, range(share.workflows)):
            if number in done:
                continue
            one = plan(share.seed, number)
            insert = partial(client.insert, one.workflow(), key=one.key, retention=None)
            journal.note(number=number, id=answered(insert).id, at=time.monotonic())
            time.sleep(share.pause)


def signaller(share: Share) -> None:
    """Delivers each signal, some before the wait, some twice."""
    done = {entry["key"] for entry in share.noted("signalled")}
    journal = share.journal("signalled")
    inserted = Acknowledged(share)
    with Client.from_url(share.url) as client:
        while not inserted.all_seen:
            for key in (key for one, _ in inserted.due() for key in one.awaits):
                if key in done:
                    continue
                for _ in range(random.choice((1, 1, 2))):
                    answered(partial(client.deliver_signal, SIGNAL, key, payload=key))
                journal.note(key=key)
            time.sleep(PAUSE)


def dispatcher(share: Share) -> None:
    """Hands callbacks to a receiver, which notes them and now and then fails."""
    journal = share.journal("received")

    def receive(envelope: Callback) -> None:
        if random.random() < 0.05:
            raise RuntimeError("the receiver has failed, as it sometimes does")
        journal.note(**envelope.model_dump(mode="json"))

    with Client.from_url(share.url) as client:
        while True:
            answered(partial(client.dispatch_callbacks, receive, lease=LEASE))
            time.sleep(PAUSE)
