"""White-box cases beside those of ``contract/test_leases.py``."""

from __future__ import annotations

from rwf import Client
from rwf.ops.claims import lease_ms
from rwf.ops.timer_pages import PassedOver
from rwf.repair.timers import fire_due
from tests.support.flows import flow, partition_key, raw
from tests.support.leases_cases import SHORT, claim, pass_by
from tests.support.waiting import until


def test_timers_take_passed_leases_away(one_client: Client) -> None:
    ids = [one_client.insert(flow("a b")).id for _ in range(60)]
    held = claim(one_client, 120, lease=SHORT)
    (kept,) = one_client.heartbeat(held[:1], lease=60).extended
    pass_by(one_client, held[-1])
    until(
        lambda: one_client._run(fire_due(one_client._ctx, 0, PassedOver())).done == 0,
        what="all that is due",
    )
    again = claim(one_client, 1_000)
    assert len(again) == 119
    assert one_client.complete(kept).outcome == "accepted"
    assert int(raw(one_client).hget(partition_key(ids[0], "stats"), "le")) == 119


def test_the_shortest_lease() -> None:
    assert lease_ms(0.0001, "claim") == 1
    assert lease_ms(0.0016, "claim") == 2
