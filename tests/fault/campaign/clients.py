"""Those who insert, deliver signals and receive callbacks."""

from __future__ import annotations

import random
import time
from functools import partial

from rwf import Client
from rwf.model.views import Callback
from tests.fault.campaign.plan import SIGNAL, plan
from tests.fault.campaign.terms import LEASE, PAUSE, Acknowledged, Terms, answered


def inserter(terms: Terms) -> None:
    """Inserts its share, and notes each id that it was told; what it was not told of it inserts
    again."""
    done = {entry["number"] for entry in terms.noted("inserted")}
    journal = terms.journal("inserted")
    with Client.from_url(terms.url) as client:
        for number in filter(terms.mine, range(terms.workflows)):
            if number in done:
                continue
            one = plan(terms.seed, number)
            insert = partial(client.insert, one.workflow(), key=one.key, retention=None)
            journal.note(number=number, id=answered(insert).id, at=time.monotonic())
            time.sleep(terms.pause)


def signaller(terms: Terms) -> None:
    """Delivers each signal, some before the wait, some twice."""
    done = {entry["key"] for entry in terms.noted("signalled")}
    journal = terms.journal("signalled")
    inserted = Acknowledged(terms)
    with Client.from_url(terms.url) as client:
        while not inserted.all_told:
            for key in (key for one, _ in inserted.due() for key in one.awaits):
                if key in done:
                    continue
                for _ in range(random.choice((1, 1, 2))):
                    answered(partial(client.deliver_signal, SIGNAL, key, payload=key))
                journal.note(key=key)
            time.sleep(PAUSE)


def dispatcher(terms: Terms) -> None:
    """Hands callbacks to a receiver, that notes them and now and then fails."""
    journal = terms.journal("received")

    def receive(envelope: Callback) -> None:
        if random.random() < 0.05:
            raise RuntimeError("the receiver has failed, as it sometimes does")
        journal.note(**envelope.model_dump(mode="json"))

    with Client.from_url(terms.url) as client:
        while True:
            answered(partial(client.dispatch_callbacks, receive, lease=LEASE))
            time.sleep(PAUSE)
