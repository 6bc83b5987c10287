"""Leases: extended, given up, passed and taken away (contract §8)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from rwf import Client
from rwf.model.views import EvidenceView
from tests.support.flows import flow, own_key, partition_key, raw, refused, states
from tests.support.leases_cases import SHORT, claim, pass_by
from tests.support.waiting import until


def taken_away(client: Client, workflow_id: str, step: str) -> None:
    """Waits until a step's lease has passed and was taken away."""

    def lapsed() -> bool:
        repairs = client.reconcile(workflow_id).repairs
        return ("lease_expired", step) in [(repair.kind, repair.step) for repair in repairs]

    until(lapsed, what=f"the lease of {step} to lapse")


def reasons(client: Client, workflow_id: str) -> list[str | None]:
    return [entry.reason_code for entry in client.evidence(workflow_id)]


def latest(client: Client, workflow_id: str) -> EvidenceView:
    return client.evidence(workflow_id)[-1]


# --- passed


def test_a_passed_lease_moves_on_and_its_holder_is_refused(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    (old,) = claim(client, lease=SHORT)
    taken_away(client, view.id, "a")
    lapse = latest(client, view.id)
    assert (lapse.action, lapse.step, lapse.reason_code) == ("claim", "a", "lease_expired")
    assert old.lease in str(lapse.message)
    assert states(client, view.id) == "a=available b=pending"
    with refused("stale_lease"):
        client.complete(old)
    (new,) = claim(client)
    assert (new.attempt, new.lease != old.lease) == (2, True)
    with refused("stale_lease"):
        client.complete(old, payload="late")
    assert client.heartbeat([old]).lost == (old,)
    assert client.release([old]) == 0
    assert states(client, view.id) == "a=executing b=pending"
    assert client.complete(new, payload="kept").released == ("b",)
    with refused("stale_lease"):
        client.complete(old, payload="late")
    assert reasons(client, view.id) == [
        "lease_expired", "stale_lease", "stale_lease", None, "stale_lease",
    ]  # fmt: skip
    assert [(row.attempt, row.payload) for row in client.results(view.id)] == [(2, "kept")]


def test_a_passed_lease_stays_current_until_it_is_taken_away(client: Client) -> None:
    view = client.insert(flow("a b"))
    late, slow = claim(client, 2, lease=SHORT)
    pass_by(client, slow)
    assert claim(client) == []
    (again,) = client.heartbeat([slow]).extended
    assert again.lease_expires_at > slow.lease_expires_at
    assert client.complete(late).outcome == "accepted"
    assert reasons(client, view.id) == [None]


def test_a_step_that_outlives_no_lease_is_discarded(client: Client) -> None:
    view = client.insert(flow("a b:a c:+a", max_attempts=2))
    for attempt in (1, 2):
        (held,) = claim(client, lease=SHORT)
        assert held.attempt == attempt
        taken_away(client, view.id, "a")
    assert states(client, view.id) == "a=discarded b=cancelled c=available"
    assert reasons(client, view.id) == ["lease_expired", "lease_expired", "attempts_exhausted"]
    assert client.step(view.id, "a").terminal_cause == "step_failed"
    assert client.results(view.id) == []
    client.recover_step(view.id, "a", "retry")
    granted = {one.step: one for one in claim(client, 2)}["a"]
    assert (granted.attempt, granted.max_attempts) == (3, 4)


def test_the_last_lease_of_a_step_with_more_children_than_a_call_walks(one_client: Client) -> None:
    view = one_client.insert(flow("a " + " ".join(f"c{n}:a" for n in range(300)), max_attempts=1))
    claim(one_client, lease=SHORT)
    taken_away(one_client, view.id, "a")
    one_client.reconcile(view.id)
    assert one_client.get(view.id).cancelled_step_count == 300


def test_a_lease_that_passes_under_a_cancel_request(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    (held,) = claim(client, lease=SHORT)
    client.request_cancel(view.id)
    taken_away(client, view.id, "a")
    found = client.get(view.id)
    assert (found.state, found.terminal_cause) == ("cancelled", "operator_cancelled")
    with refused("stale_lease"):
        client.complete(held)


def test_a_lease_after_a_wait_is_no_attempt_when_it_passes(one_client: Client) -> None:
    view = one_client.insert(flow("a", max_attempts=1))
    one_client.await_step(view.id, "a", signal="go", correlation_key="k")
    one_client.deliver_signal("go", "k", payload=7)
    claim(one_client, lease=SHORT)
    taken_away(one_client, view.id, "a")
    (held,) = claim(one_client, lease=SHORT)
    assert (held.attempt, held.signal is not None) == (1, True)
    taken_away(one_client, view.id, "a")
    assert one_client.step(view.id, "a").state == "discarded"


def test_a_lost_timer_is_mended(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    claim(one_client, lease=60)
    raw(one_client).delete(partition_key(view.id, "timers"))
    repairs = one_client.reconcile(view.id).repairs
    assert [repair.kind for repair in repairs] == ["lease_timer_missing"]
    assert one_client.reconcile(view.id).repairs == ()


# --- heartbeats


def test_a_heartbeat_over_many_workflows(client: Client) -> None:
    ids = [client.insert(flow("a b c d e")).id for _ in range(30)]
    held = claim(client, 150, lease=1)
    assert len(held) == 150
    asked = {one.workflow_id for one in held[:50]}
    for workflow_id in asked:
        client.request_cancel(workflow_id)
    gone = held[-1]
    client.complete(gone)
    told = client.heartbeat(iter(held), lease=timedelta(minutes=5))
    assert told.lost == (gone,)
    assert len(told.extended) == 149
    assert {one.workflow_id for one in told.cancel_requested} == asked
    for one in told.extended:
        before = next(old for old in held if old.lease == one.lease and old.step == one.step)
        assert one.lease_expires_at - before.lease_expires_at > timedelta(minutes=4)
    step = client.step(told.extended[0].workflow_id, told.extended[0].step)
    assert step.lease_expires_at == told.extended[0].lease_expires_at
    assert client.release(told.extended) == 149
    assert client.heartbeat(told.extended).extended == ()
    for workflow_id in asked:
        client.reconcile(workflow_id)
    assert {client.get(workflow_id).state for workflow_id in ids} >= {"cancelled"}


def test_a_shorter_lease_may_be_asked_for(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    held = claim(one_client, lease=3600)
    one_client.heartbeat(held, lease=SHORT)
    taken_away(one_client, view.id, "a")


@pytest.mark.parametrize(
    "lease", [0, -1, float("nan"), float("inf"), 86_401, True, "30", None, timedelta(days=2)]
)
def test_bad_leases(one_client: Client, lease: Any) -> None:
    one_client.insert(flow("a b"))
    (held,) = claim(one_client, lease=86_400)
    with refused("invalid_argument"):
        claim(one_client, lease=lease)
    with refused("invalid_argument"):
        one_client.heartbeat([held], lease=lease)
    with refused("invalid_argument"):
        one_client.complete_many([], claim_next=1, worker_id="w", lease=lease)


@pytest.mark.parametrize("wrong", [None, 5, [None], ["lease"], [{"lease": "1-x"}]])
def test_what_is_no_claim(one_client: Client, wrong: Any) -> None:
    for command in (one_client.heartbeat, one_client.release):
        with refused("invalid_argument"):
            command(wrong)
    assert raw(one_client).keys("*:w:*") == []


def test_claims_of_nothing_are_lost_or_refused(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    (held,) = claim(one_client)
    for strange in (
        {"workflow_id": "0-aaaaaaaaaaaaaaaa"},
        {"workflow_id": "77-aaaaaaaaaaaaaaaa"},
        {"step": ":s"},
        {"step": "x"},
        {"lease": "1-,|:"},
    ):
        other = held.model_copy(update=strange)
        assert one_client.heartbeat([other]).lost == (other,)
        assert one_client.release([other]) == 0
    with refused("workflow_not_found"):
        one_client.heartbeat([held.model_copy(update={"workflow_id": "x"})])
    for field, value in (("step", 5), ("lease", None)):
        with refused("invalid_argument"):
            one_client.release([held.model_copy(update={field: value})])
    assert one_client.heartbeat([held]).lost == ()
    assert raw(one_client).exists(own_key(view.id)) == 1
