"""White-box cases beside those of ``contract/test_cancel_forced.py``."""

from __future__ import annotations

from rwf import Client
from rwf.ops.cancel import request_cancel
from tests.support.cancel_forced_cases import claim_all, wide
from tests.support.flows import drive, own_key, raw


def test_many_running_steps_are_taken_in_slices(one_client: Client) -> None:
    view = one_client.insert(wide(1_000))
    claim_all(one_client, 700)
    op = request_cancel(one_client._ctx, view.id, None, None, True)
    assert drive(one_client, op, 1) is None
    assert one_client.get(view.id).state == "cancel_requested"
    # Any client that comes next goes on with it, and takes leases away as well.
    one_client.reconcile(view.id)
    after = one_client.get(view.id)
    assert (after.state, after.cancelled_step_count) == ("cancelled", 1_000)
    taken = [one for one in one_client.evidence(view.id) if one.reason_code == "lease_taken"]
    assert len({one.step for one in taken}) == len(taken) == 1_000


def test_what_an_earlier_release_has_swept_is_swept_again(one_client: Client) -> None:
    """An earlier release goes on with the request, and leaves running steps alone."""
    view = one_client.insert(wide(450))
    claim_all(one_client, 450)
    op = request_cancel(one_client._ctx, view.id, None, None, True)
    drive(one_client, op, 1)
    forced = raw(one_client).hget(own_key(view.id), ":f")
    raw(one_client).hdel(own_key(view.id), ":f")
    one_client.reconcile(view.id)
    assert one_client.get(view.id).state == "cancel_requested"
    raw(one_client).hset(own_key(view.id), ":f", forced)
    assert one_client.request_cancel(view.id, force=True).state == "cancelled"
