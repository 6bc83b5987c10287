"""White-box cases beside those of ``contract/test_clock_set_back.py``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from rwf import Client
from rwf.ops.timer_pages import PassedOver
from tests.support.clock_set_back_cases import HOUR, failed
from tests.support.clocks import set_back
from tests.support.daemons import fired
from tests.support.flows import flow, states
from tests.support.waiting import until


def test_a_daemon_notices_it_at_once(one_client: Client) -> None:
    """Without waiting for the sweep, which takes long when many workflows are open."""
    ids = [one_client.insert(flow("a")).id for _ in range(300)]
    for workflow_id in ids:
        failed(one_client, workflow_id)
    passed = PassedOver()
    fired(one_client, passed)
    assert passed.looked is not None
    passed.looked += round(HOUR * 1000)
    set_back(one_client, HOUR)

    def retried() -> bool:
        fired(one_client, passed)
        return {states(one_client, workflow_id) for workflow_id in ids} == {"a=available"}

    until(retried, timeout=60, what="the retries")
    assert not passed.places


def test_a_lease_that_is_kept_up_for_long_ends_in_time_too(one_client: Client) -> None:
    """The workflow's latest transition is older than the time by which the clock is set back."""
    view = one_client.insert(flow("a"))
    claims = one_client.claim(["default"], worker_id="w", lease=60)
    set_back(one_client, -2 * HOUR)
    assert one_client.heartbeat(claims).lost == ()
    passed = PassedOver()
    fired(one_client, passed)
    assert passed.looked is not None
    passed.looked += round(HOUR * 1000)
    set_back(one_client, HOUR)
    fired(one_client, passed)
    left = one_client.step(view.id, "a").lease_expires_at
    assert left is not None
    assert timedelta(seconds=20) < left - datetime.now(UTC) < timedelta(seconds=40)


def test_a_callback_that_was_written_before_is_delivered(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    one_client.complete_step(view.id, "a")
    passed = PassedOver()
    fired(one_client, passed)
    assert passed.looked is not None
    passed.looked += round(HOUR * 1000)
    set_back(one_client, HOUR)
    assert one_client.dispatch_callbacks(lambda envelope: None).delivered == 0
    fired(one_client, passed)
    assert one_client.dispatch_callbacks(lambda envelope: None).delivered == 1
