"""A server's clock that is set back delays no lease and no retry by more than their own length."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from rwf import Client
from tests.support.clock_set_back_cases import HOUR, failed
from tests.support.clocks import set_back
from tests.support.daemons import fired, serving, swept
from tests.support.flows import flow, own_key, raw, states
from tests.support.waiting import until


def leased(client: Client, workflow_id: str) -> None:
    assert client.claim(["default"], worker_id="w", lease=0.3)


WAYS = [leased, failed]
Way = Callable[[Client, str], None]


@pytest.mark.parametrize("way", WAYS)
def test_what_was_begun_before_ends_with_the_next_sweep(client: Client, way: Way) -> None:
    view = client.insert(flow("a b:a", tags={"account": "42"}))
    way(client, view.id)
    set_back(client, HOUR)
    with serving(client, interval=0.05, sweep_interval=0.2):
        ended = "a=available b=pending"
        until(lambda: states(client, view.id) == ended, timeout=60, what="its end")


@pytest.mark.parametrize("way", WAYS)
def test_what_is_begun_after_ends_in_time(client: Client, way: Way) -> None:
    """In a workflow that was inserted before."""
    view = client.insert(flow("a b:a"))
    set_back(client, HOUR)
    way(client, view.id)
    partition = int(view.id.partition("-")[0])

    def ended() -> bool:
        fired(client, partition=partition)
        return states(client, view.id) == "a=available b=pending"

    until(ended, timeout=5, what="its end")


def test_the_workflow_says_so_and_stands_in_the_listing_once(one_client: Client) -> None:
    ids = [one_client.insert(flow("a b:a c")).id for _ in range(3)]
    assert len(one_client.claim(["default"], worker_id="w", limit=6, lease=60)) == 6
    set_back(one_client, HOUR)
    assert one_client.get(ids[0]).state == "running"  # a read moves nothing to the new clock
    assert swept(one_client) == {
        ("clock_set_back", None), ("lease_timer_missing", "a"), ("lease_timer_missing", "c"),
    }  # fmt: skip
    assert swept(one_client) == set()
    assert {one.id for one in one_client.list().workflows} == set(ids)
    for workflow_id in ids:
        (entry,) = one_client.evidence(workflow_id)
        assert (entry.action, entry.reason_code) == ("reconcile", "clock_set_back")
        assert entry.message is not None
        counted = re.fullmatch(r"all times count (.+) s earlier from now on", entry.message)
        assert counted is not None
        # Less by the time that has passed since the workflow's latest transition.
        assert HOUR - 60 < float(counted[1]) <= HOUR
        assert one_client.get(workflow_id).inserted_at < datetime.now(UTC) + timedelta(seconds=5)
        lease = one_client.step(workflow_id, "a").lease_expires_at
        assert lease is not None
        assert timedelta(seconds=0) < lease - datetime.now(UTC) < timedelta(seconds=70)


@pytest.mark.parametrize("way", WAYS)
def test_a_step_forward_delays_nothing(one_client: Client, way: Way) -> None:
    view = one_client.insert(flow("a"))
    way(one_client, view.id)
    set_back(one_client, -HOUR)
    fired(one_client)
    assert states(one_client, view.id) == "a=available"


def test_a_clock_that_is_off_by_less_than_a_second_moves_nothing(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    set_back(one_client, 0.5)
    before = raw(one_client).hget(own_key(view.id), ":s")
    leased(one_client, view.id)
    assert raw(one_client).hget(own_key(view.id), ":s") == before


def test_a_workflow_that_is_over_is_brought_to_the_clock_and_removed(one_client: Client) -> None:
    view = one_client.insert(flow("a"), retention=timedelta(0))
    one_client.complete_step(view.id, "a")
    one_client.dispatch_callbacks(lambda envelope: None)
    set_back(one_client, HOUR)
    raw(one_client).zadd("rwf:{0}:timers", {f"x|{view.id}": 1})
    until(lambda: one_client.prune().workflows == 1, what="its removal")
    assert one_client.list().workflows == ()
