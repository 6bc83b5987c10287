"""White-box cases beside those of ``contract/test_callbacks.py``."""

from __future__ import annotations

import threading

from rwf import Client, Completion
from rwf.model.limits import CALLBACK_ATTEMPTS, CALLBACKS_AT_ONCE
from rwf.model.views import Callback
from rwf.ops.complete import complete_step

# --- written with the cause -------------------------------------------------------------------
from tests.support.callbacks_cases import numbers_of, recovered
from tests.support.flows import (
    drive,
    fan_out,
)
from tests.support.outbox import (
    ended,
    hasten,
    ignore,
)


def test_the_end_of_a_walk_in_slices_is_told_once(client: Client) -> None:
    view = client.insert(fan_out(900))
    item = Completion(workflow_id=view.id, step="root", status="failed")
    assert drive(client, complete_step(client._ctx, item), 1) is None
    assert client.callbacks(view.id) == []
    client.reconcile(view.id)
    assert client.get(view.id).state == "failed"
    assert [found.data["state"] for found in client.callbacks(view.id)] == ["failed"]


def test_no_more_are_claimed_than_are_at_work(one_client: Client) -> None:
    """So none of them waits under its lease."""
    ids = [ended(one_client) for _ in range(CALLBACKS_AT_ONCE + 36)]
    together = threading.Barrier(CALLBACKS_AT_ONCE)
    leased: list[str] = []
    looked = threading.Event()

    def handler(envelope: Callback) -> None:
        if not looked.is_set() and together.wait(30) == 0:
            leased.extend(one for one in ids if one_client.callbacks(one)[0].status == "leased")
            looked.set()
        assert looked.wait(30)

    assert one_client.dispatch_callbacks(handler, limit=1000).delivered == len(ids)
    assert len(leased) == CALLBACKS_AT_ONCE


def test_one_that_is_dead_holds_up_none_behind_it(client: Client) -> None:
    workflow_id = recovered(client, 2)
    count = len(client.callbacks(workflow_id))

    def handler(envelope: Callback) -> None:
        if envelope.callback_id == f"{workflow_id}/1":
            raise OSError
        got.append(envelope.callback_id)

    got: list[str] = []
    for _ in range(CALLBACK_ATTEMPTS):
        assert got == []
        hasten(client, workflow_id)
        client.dispatch_callbacks(handler, limit=1000)
    assert client.callbacks(workflow_id)[0].status == "dead"
    assert numbers_of(got, workflow_id) == list(range(2, count + 1))


def test_a_dispatch_takes_few_round_trips(one_client: Client) -> None:
    """Claims and reports travel in batches."""
    for _ in range(200):
        ended(one_client)
    trips: list[str] = []
    one_client._session.observers["test"] = lambda function, _: trips.append(function)
    assert one_client.dispatch_callbacks(ignore, limit=1000).delivered == 200
    assert trips.count("claim_callbacks") < 60
    assert trips.count("settle_callbacks") < 60
