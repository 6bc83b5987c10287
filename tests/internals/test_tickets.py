"""White-box cases beside those of ``contract/test_tickets.py``."""

from __future__ import annotations

from rwf import Client
from rwf.ops.cancel import request_cancel
from tests.support.flows import drive, flow, refused


def test_nothing_is_started_that_a_cancel_request_has_still_to_come_to(one_client: Client) -> None:
    """It cancels 200 steps at a time; whoever has made it dies after the first call."""
    view = one_client.insert(flow(" ".join(f"s{n}" for n in range(201)) + " last*"))
    tickets = {one.step: one for one in one_client.dispatch(["default"], dispatcher="d", limit=250)}
    op = request_cancel(one_client._ctx, view.id, None, None)
    assert drive(one_client, op, 1) is None
    assert one_client.step(view.id, "s200").state == "executing"
    with refused("cancel_requested"):
        one_client.start(tickets["s200"], run_id="r", worker_id="w")
    one_client.complete(one_client.start(tickets["last"], run_id="r", worker_id="w"))
    assert one_client.reconcile(view.id).repairs
    assert one_client.get(view.id).state == "cancelled"
