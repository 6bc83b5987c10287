"""Awaits and signals (contract §5)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rwf import Client
from tests.support.flows import (
    flow,
    noted,
    own_key,
    raw,
    refused,
    states,
    until_past,
)
from tests.support.outbox import stat
from tests.support.signals_cases import deliver, logged, wait
from tests.support.waiting import until

# --- one workflow


def test_a_signal_wakes_the_step_that_waits(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    waiting = wait(client, view.id)
    assert (waiting.status, waiting.workflow_id, waiting.step) == ("waiting", view.id, "a")
    assert client.step(view.id, "a").awaiting == waiting
    assert client.get(view.id).state == "pending"
    signal = client.deliver_signal("go", "k", payload={"by": [1, "ä"]})
    assert (signal.status, signal.workflow_id, signal.step) == ("consumed", view.id, "a")
    assert states(client, view.id) == "a=available b=pending"
    (claimed,) = client.claim(["default"], worker_id="w")
    assert claimed.attempt == 0
    assert claimed.signal is not None
    assert (claimed.signal.id, claimed.signal.payload) == (signal.id, {"by": [1, "ä"]})
    client.complete(claimed)
    assert states(client, view.id) == "a=completed b=available"


def test_a_claimed_step_waits_and_gives_up_its_lease(client: Client) -> None:
    view = client.insert(flow("a"))
    (claimed,) = client.claim(["default"], worker_id="w")
    with refused("lease_required"):
        wait(client, view.id)
    with refused("stale_lease"):
        wait(client, view.id, lease="1-other")
    first = wait(client, view.id, lease=claimed.lease)
    again = wait(client, view.id, lease=claimed.lease)
    assert again == first
    assert noted(client, view.id)[-1] == ("await_step", "a", "duplicate", "duplicate_await")
    with refused("already_terminal"):
        client.complete(claimed)
    deliver(client, "1")
    (second,) = client.claim(["default"], worker_id="w")
    assert (second.attempt, second.lease != claimed.lease) == (1, True)
    client.complete(second, "retryable", retry_in=0)
    client.reconcile(view.id)
    (third,) = client.claim(["default"], worker_id="w")
    assert third.attempt == 2
    assert third.signal is not None


def test_a_report_has_an_attempt_of_its_own(client: Client) -> None:
    """The claim after a wait counts none, even when there is no open attempt to go on with."""
    view = client.insert(flow("a b:a"))
    attempts = []
    for number, status in enumerate(("retryable", "completed")):
        wait(client, view.id)
        deliver(client, str(number))
        (claimed,) = client.claim(["default"], worker_id="w")
        attempts.append(claimed.attempt)
        options: dict[str, Any] = {"retry_in": 0} if status == "retryable" else {}
        first = client.complete(claimed, status, payload=number, **options)
        again = client.complete(claimed, status, payload=number, **options)
        assert (first.outcome, again.outcome) == ("accepted", "duplicate")
        client.reconcile(view.id)
    assert attempts == [0, 1]
    rows = [(row.attempt, row.status, row.payload) for row in client.results(view.id)]
    assert rows == [(1, "retryable", 0), (2, "completed", 1)]
    (parent,) = client.explain_step(view.id, "b").dependencies
    assert parent.result_status == "completed"


def test_a_lease_that_has_reported_cannot_wait(client: Client) -> None:
    view = client.insert(flow("a"))
    (claimed,) = client.claim(["default"], worker_id="w")
    client.complete(claimed, "retryable", retry_in=60)
    with refused("already_terminal"):
        wait(client, view.id, lease=claimed.lease)


def test_a_second_await_replaces_the_first(client: Client) -> None:
    view = client.insert(flow("a"))
    wait(client, view.id)
    wait(client, view.id, correlation_key="other")
    assert deliver(client, "1").status == "unmatched"
    assert client.deliver_signal("go", "other").status == "consumed"
    assert ("await_step", "a", "abandoned", "abandoned_wait") in noted(client, view.id)


def test_a_completion_abandons_the_wait(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    wait(client, view.id)
    client.complete_step(view.id, "a")
    assert states(client, view.id) == "a=completed b=available"
    assert deliver(client, "1").status == "unmatched"


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        ("pending", "dependencies_unresolved"),
        ("retryable", "illegal_transition"),
        ("completed", "already_terminal"),
    ],
)
def test_where_a_step_cannot_wait(one_client: Client, before: str, reason: str) -> None:
    view = one_client.insert(flow("a b:a"))
    if before == "retryable":
        one_client.complete_step(view.id, "a", "retryable", retry_in=60)
    elif before == "completed":
        one_client.complete_step(view.id, "a")
    with refused(reason):
        wait(one_client, view.id, "b" if before == "pending" else "a")


# --- kept signals


def test_an_unmatched_signal_is_consumed_when_its_wait_comes(client: Client) -> None:
    assert deliver(client, "1", payload=1).status == "unmatched"
    assert deliver(client, "2", payload=2).status == "unmatched"
    first, second = (client.insert(flow("a")).id for _ in range(2))
    assert wait(client, first).status == "resolved"
    assert wait(client, second).status == "resolved"
    payloads = {
        one.workflow_id: one.signal.payload
        for one in client.claim(["default"], worker_id="w", limit=5)
        if one.signal is not None
    }
    assert payloads == {first: 1, second: 2}


def test_an_ambiguous_signal_waits_for_the_ambiguity_to_end(client: Client) -> None:
    first, second = (client.insert(flow("a")).id for _ in range(2))
    wait(client, first)
    wait(client, second)
    assert deliver(client, "1").status == "ambiguous"
    assert logged(client) == [("ambiguous", "ambiguous_signal", "1")]
    assert states(client, first) == states(client, second) == "a=awaiting_signal"
    client.complete_step(first, "a")
    assert states(client, second) == "a=available"
    again = deliver(client, "1")
    assert (again.status, again.workflow_id) == ("consumed", second)


def test_evidence_of_an_ambiguous_signal_tells_its_keys(one_client: Client) -> None:
    key = '"\\ä%41\n\0'
    for _ in range(2):
        wait(one_client, one_client.insert(flow("a")).id, correlation_key=key)
    one_client.deliver_signal("go", key)
    (entry,) = one_client.evidence()
    assert entry.metadata == {"signal": "go", "correlation_key": key, "dedupe_key": key}
    assert (entry.action, entry.scope, entry.source) == ("deliver_signal", "signal", "server")


def test_two_waits_of_one_workflow_are_no_ambiguity(client: Client) -> None:
    view = client.insert(flow("a b"))
    wait(client, view.id, "b")
    wait(client, view.id, "a")
    assert deliver(client, "1").step == "b"
    assert deliver(client, "2").step == "a"


def test_a_late_signal_stays_late_until_somebody_waits(client: Client) -> None:
    view = client.insert(flow("a"))
    assert wait(client, view.id, deadline=timedelta(0)).status == "expired"
    assert deliver(client, "1").status == "late"
    assert deliver(client, "1").status == "late"
    assert logged(client) == [
        ("late", "late_signal", "1"),
        ("duplicate", "duplicate_signal", "1"),
    ]
    assert states(client, view.id) == "a=expired"
    other = client.insert(flow("a"))
    assert wait(client, other.id).status == "resolved"


# --- duplicates


def test_the_same_signal_again_changes_nothing(client: Client) -> None:
    view = client.insert(flow("a"))
    first = deliver(client, "d", payload=1)
    again = deliver(client, "d", payload=2)
    assert (first.duplicate, again.duplicate) == (False, True)
    assert again.model_copy(update={"duplicate": False}) == first
    assert logged(client) == [("duplicate", "duplicate_signal", "d")]
    (attempt,) = client.evidence()
    assert (attempt.action, attempt.scope) == ("deliver_signal", "signal")
    assert attempt.metadata == {"signal": "go", "correlation_key": "k", "dedupe_key": "d"}
    wait(client, view.id)
    third = deliver(client, "d")
    assert (third.id, third.status, third.payload) == (first.id, "consumed", 1)
    assert third.duplicate
    assert not deliver(client, "e").duplicate
    kinds = [entry for entry in noted(client, view.id) if entry[0] == "deliver_signal"]
    assert ("deliver_signal", "a", "already_consumed", "already_consumed_signal") in kinds


def test_the_await_of_a_lease_again_is_evidence(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    (held,) = one_client.claim(["default"], worker_id="w")
    first = wait(one_client, view.id, lease=held.lease)
    assert wait(one_client, view.id, lease=held.lease).id == first.id
    assert noted(one_client, view.id)[-1][2] == "duplicate"


def test_the_default_dedupe_key_is_the_correlation_key(client: Client) -> None:
    view = client.insert(flow("a"))
    wait(client, view.id)
    first = client.deliver_signal("go", "k")
    wait(client, view.id)
    assert client.deliver_signal("go", "k").id == first.id
    assert states(client, view.id) == "a=awaiting_signal"
    (blocker,) = client.explain_step(view.id, "a").blockers
    assert blocker.code == "waiting_on_signal"
    assert blocker.details["signal"] == "go"
    assert blocker.details["correlation_key"] == "k"
    assert blocker.details["swallowed_by"] == first.id
    assert deliver(client, "another").status == "consumed"


def test_what_woke_a_step_goes_when_it_waits_again(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    wait(one_client, view.id)
    deliver(one_client, "1", payload="x")
    payloads = own_key(view.id, "p")
    assert raw(one_client).hget(payloads, "s:a") == b'"x"'
    wait(one_client, view.id)
    assert raw(one_client).hget(payloads, "s:a") is None


# --- agreement of a topic and a workflow


def test_what_was_noted_of_a_signal_is_not_noted_again(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    wait(one_client, view.id, deadline=timedelta(0))
    for dedupe in "12":
        assert deliver(one_client, dedupe).status == "late"
    assert logged(one_client) == [("late", "late_signal", dedupe) for dedupe in "12"]
    assert stat(one_client, "sg|late") == 2


# --- deadlines


def test_a_passed_deadline_expires_the_wait_and_cascades(client: Client) -> None:
    view = client.insert(flow("a b:a c:+a"))
    past = datetime.now(UTC) - timedelta(days=1)
    expired = wait(client, view.id, deadline=past)
    assert (expired.status, expired.deadline) == ("expired", past)
    assert states(client, view.id) == "a=expired b=cancelled c=available"
    assert client.step(view.id, "a").terminal_cause == "expired_wait"
    assert client.explain_step(view.id, "a").operator_status == "Needs Review"
    client.complete_step(view.id, "c")
    after = client.get(view.id)
    assert (after.state, after.terminal_cause, after.failed_step_count) == (
        "expired",
        "expired_wait",
        1,
    )


def test_the_first_call_that_reaches_the_workflow_decides(client: Client) -> None:
    view = client.insert(flow("a b"))
    deadline = wait(client, view.id, deadline=timedelta(milliseconds=30)).deadline
    assert deadline is not None
    until_past(client, deadline)
    client.complete_step(view.id, "b")
    assert states(client, view.id) == "a=expired b=completed"


def test_reconcile_expires_and_writes_nothing_more(client: Client) -> None:
    view = client.insert(flow("a"))
    wait(client, view.id, deadline=timedelta(milliseconds=20))
    until(
        lambda: any(one.kind == "wait_expired" for one in client.reconcile(view.id).repairs),
        what="the deadline",
    )
    assert client.reconcile(view.id).repairs == ()


def test_a_wait_that_has_run_out_is_replaced_by_none(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    end = datetime.now(UTC) + timedelta(milliseconds=50)
    wait(one_client, view.id, deadline=end)
    until_past(one_client, end)
    with refused("already_terminal"):
        wait(one_client, view.id)
    assert states(one_client, view.id) == "a=expired"


def test_a_signal_after_the_deadline_is_late(client: Client) -> None:
    view = client.insert(flow("a"))
    wait(client, view.id, deadline=timedelta(milliseconds=10))
    end = datetime.now(UTC) + timedelta(milliseconds=60)
    until_past(client, end)
    assert deliver(client, "1").status == "late"
    assert logged(client) == [("late", "late_signal", "1")]
    assert states(client, view.id) == "a=expired"


# --- bad input


@pytest.mark.parametrize(
    "arguments",
    [
        {"signal": "no name"},
        {"signal": ""},
        {"correlation_key": "k" * 513},
        {"correlation_key": "k" * 10_240},
        {"correlation_key": None},
        {"correlation_key": "\ud800"},
        {"deadline": datetime(2026, 1, 1)},
        {"deadline": 5},
        {"lease": ""},
    ],
)
def test_bad_arguments_of_an_await(one_client: Client, arguments: dict[str, Any]) -> None:
    view = one_client.insert(flow("a"))
    with refused("invalid_argument"):
        wait(one_client, view.id, **arguments)
    assert states(one_client, view.id) == "a=available"


def test_bad_arguments_of_a_delivery(one_client: Client) -> None:
    for name, key, options in (
        ("no name", "k", {}),
        ("go", "k" * 513, {}),
        ("go", "k", {"dedupe_key": "d" * 513}),
        ("go", "k", {"dedupe_key": 5}),
    ):
        given: dict[str, Any] = options
        with refused("invalid_argument"):
            one_client.deliver_signal(name, key, **given)
    with refused("non_serializable_payload"):
        one_client.deliver_signal("go", "k", payload=float("nan"))
    with refused("payload_too_large"):
        one_client.deliver_signal("go", "k", payload="x" * 262_145)


@pytest.mark.parametrize("key", ["", "{0}:[x]*\n\0|,'\"", "ä" * 512, "0|1|2", "%7C"])
def test_keys_are_data(client: Client, key: str) -> None:
    view = client.insert(flow("a"))
    assert wait(client, view.id, correlation_key=key).correlation_key == key
    signal = client.deliver_signal("go", key)
    assert (signal.status, signal.correlation_key, signal.dedupe_key) == ("consumed", key, key)


def test_unknown_workflows_and_steps(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    with refused("step_not_found"):
        wait(one_client, view.id, "z")
    with refused("workflow_not_found"):
        wait(one_client, view.id[:-1] + ("2" if view.id[-1] != "2" else "3"))


# --- semantics of another version
