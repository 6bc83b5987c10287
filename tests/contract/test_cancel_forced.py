"""A forced cancel request takes the leases of running steps away (contract §6)."""

from __future__ import annotations

from typing import Any

import pytest

from rwf import Client
from tests.support.cancel_forced_cases import claim_all, wide
from tests.support.flows import flow, noted, refused, states


def test_the_workflow_is_terminal_when_it_returns(client: Client) -> None:
    view = client.insert(flow("a b:a c:+a d"))
    client.claim(["default"], worker_id="w", limit=1)
    done = client.request_cancel(view.id, actor="ann", reason="now", force=True)
    assert (done.state, done.terminal_cause) == ("cancelled", "operator_cancelled")
    assert states(client, view.id) == "a=cancelled b=cancelled c=cancelled d=cancelled"
    assert client.step(view.id, "a").terminal_cause == "operator_cancelled"
    assert [one.event for one in client.callbacks(view.id)] == ["workflow.terminal"]


def test_without_force_a_running_step_goes_on(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    (held,) = client.claim(["default"], worker_id="w")
    assert client.request_cancel(view.id).state == "cancel_requested"
    assert client.complete(held).workflow.state == "cancelled"


def test_what_the_worker_says_afterwards_is_refused(client: Client) -> None:
    view = client.insert(flow("a b"))
    one, two = client.claim(["default"], worker_id="w", limit=2)
    client.request_cancel(view.id, force=True)
    report = client.heartbeat([one, two])
    assert len(report.lost) == 2
    for status in ("completed", "retryable", "failed"):
        with refused("stale_lease"):
            client.complete(one, status)
    assert client.release([two]) == 0
    assert states(client, view.id) == "a=cancelled b=cancelled"


def test_evidence_names_the_lease_that_was_taken(client: Client) -> None:
    view = client.insert(flow("a b"))
    (held,) = client.claim(["default"], worker_id="worker 7")
    client.request_cancel(view.id, actor="ann", force=True)
    first, second = client.evidence(view.id)
    assert (first.action, first.actor, first.status) == ("request_cancel", "ann", "accepted")
    assert (second.step, second.status, second.reason_code) == ("a", "accepted", "lease_taken")
    assert second.message == f"the lease {held.lease} of worker%207 was taken away"


def test_it_may_follow_a_request_that_was_not_forced(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    client.claim(["default"], worker_id="w")
    first = client.request_cancel(view.id, reason="first")
    done = client.request_cancel(view.id, reason="second", force=True)
    assert done.state == "cancelled"
    assert (done.cancel_requested_at, done.cancel_reason) == (first.cancel_requested_at, "first")
    assert [entry[2:] for entry in noted(client, view.id)] == [
        ("accepted", None), ("accepted", None), ("accepted", "lease_taken"),
    ]  # fmt: skip
    assert client.request_cancel(view.id, force=True) == done
    assert noted(client, view.id)[-1][2:] == ("duplicate", "duplicate_cancel")


def test_a_first_one_of_what_has_ended_is_refused(client: Client) -> None:
    view = client.insert(flow("a"))
    client.complete_step(view.id, "a")
    with refused("already_terminal"):
        client.request_cancel(view.id, force=True)


def test_a_later_request_is_not_forced_by_an_earlier_one(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    client.claim(["default"], worker_id="w")
    client.request_cancel(view.id, force=True)
    client.recover_step(view.id, "a", "retry", reopen=True)
    assert states(client, view.id) == "a=available b=pending"
    (held,) = client.claim(["default"], worker_id="w")
    assert held.attempt == 2
    assert client.request_cancel(view.id).state == "cancel_requested"
    assert states(client, view.id) == "a=executing b=cancelled"


def test_an_unfinished_recovery_is_superseded(one_client: Client) -> None:
    view = one_client.insert(wide(300))
    claim_all(one_client, 300)
    one_client.recover_step(view.id, "s0", "cancel", force=True)
    assert one_client.request_cancel(view.id, force=True).state == "cancelled"


@pytest.mark.parametrize("force", [1, None, "yes"])
def test_what_is_no_choice(one_client: Client, force: Any) -> None:
    view = one_client.insert(flow("a"))
    with refused("invalid_argument"):
        one_client.request_cancel(view.id, force=force)
