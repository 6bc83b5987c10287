"""The timeout of a step, as the server enforces it; and who ran an attempt, and since when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from rwf import Client, Completion
from rwf.model.views import ClaimedStep
from tests.contract.test_leases import reasons, taken_away
from tests.support.flows import flow, refused, server_time, states, until_past
from tests.support.leases_cases import pass_by

GRACE = timedelta(seconds=1)


def claim(client: Client, lease: float = 30.0) -> ClaimedStep:
    (claimed,) = client.claim(["default"], worker_id="w", lease=lease)
    return claimed


@pytest.mark.parametrize("timeout", [0.5, 7, 12.3456])
def test_no_lease_outlasts_the_timeout(client: Client, timeout: float) -> None:
    view = client.insert(flow("a", timeout=timeout))
    held = claim(client)
    begun = client.step(view.id, "a").started_at
    assert begun is not None
    end = begun + timedelta(milliseconds=round(timeout * 1000)) + GRACE
    assert held.lease_expires_at == end
    (kept,) = client.heartbeat([held], lease=3600).extended
    assert kept.lease_expires_at == end
    (short,) = client.heartbeat([held], lease=0.2).extended
    assert short.lease_expires_at < end
    assert client.step(view.id, "a").lease_expires_at == short.lease_expires_at


def test_a_timeout_beyond_all_leases_changes_nothing(one_client: Client) -> None:
    one_client.insert(flow("a", timeout=1e9))
    held = claim(one_client, 60)
    assert timedelta(seconds=50) < held.lease_expires_at - datetime.now(UTC)


def test_an_attempt_that_takes_too_long_has_timed_out(client: Client) -> None:
    view = client.insert(flow("a", timeout=0.01))
    held = claim(client)
    pass_by(client, held)
    client.heartbeat([held], lease=30)
    taken_away(client, view.id, "a")
    assert reasons(client, view.id) == ["timed_out"]
    assert states(client, view.id) == "a=available"
    with refused("stale_lease"):
        client.complete(held)
    assert claim(client).attempt == 2


def test_a_lease_that_nobody_extends_has_expired_and_not_timed_out(one_client: Client) -> None:
    view = one_client.insert(flow("a", timeout=600))
    claim(one_client, 0.01)
    taken_away(one_client, view.id, "a")
    assert reasons(one_client, view.id) == ["lease_expired"]


def test_a_retry_has_the_whole_timeout_again(one_client: Client) -> None:
    view = one_client.insert(flow("a", timeout=5))
    first = claim(one_client)
    one_client.complete(first, "retryable", retry_in=0)
    one_client.reconcile(view.id)
    until_past(one_client, server_time(one_client))
    second = claim(one_client)
    assert second.attempt == 2
    assert second.lease_expires_at > first.lease_expires_at


# --- who, and since when


def test_a_result_tells_who_ran_it_and_since_when(client: Client) -> None:
    view = client.insert(flow("a", max_attempts=3))
    started = []
    for worker, status in (('wörker 1|:,"', "retryable"), ("two", "completed")):
        (held,) = client.claim(["default"], worker_id=worker)
        started.append(client.step(view.id, "a").last_transition_at)
        report = Completion(
            workflow_id=view.id, step="a", status=status, lease=held.lease,
            retry_in=0 if status == "retryable" else None, summary="s", actor="ann",
        )  # fmt: skip
        client.complete_many([report])
        client.reconcile(view.id)
    rows = client.results(view.id)
    assert [row.worker_id for row in rows] == ['wörker 1|:,"', "two"]
    assert [row.claimed_at for row in rows] == started
    assert [row.summary for row in rows] == ["s", "s"]
    assert {entry.actor for entry in client.evidence(view.id)} == {"ann"}


def test_nobody_has_run_what_was_reported_without_a_claim(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    one_client.complete_step(view.id, "a")
    row = one_client.result(view.id, "a")
    assert row is not None
    assert (row.worker_id, row.claimed_at) == (None, None)


def test_a_forced_report_tells_whose_attempt_it_ended(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    claim(one_client)
    one_client.complete_step(view.id, "a", force=True)
    row = one_client.result(view.id, "a")
    assert row is not None
    assert row.worker_id == "w"
