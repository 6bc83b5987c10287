"""Awaits and signals (contract §5)."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rwf import Client
from rwf.model.views import AwaitView, SignalView
from rwf.ops.signals import await_step, deliver_signal
from rwf.ops.timer_pages import PassedOver
from rwf.ops.waits import settle_waits
from rwf.protocol.functions.repairs import RepairTopic
from rwf.protocol.functions.topics import RecordSignal, UpdateTopic
from rwf.protocol.keys import topic_digest
from rwf.protocol.requests import Call, ask
from rwf.repair.timers import fire_due
from rwf.repair.topics import check_topic
from tests.contract.flows import (
    drive,
    fan_out,
    first_call_only,
    flow,
    noted,
    one_call,
    other_semantics,
    own_key,
    partition_key,
    raw,
    refused,
    states,
    until_past,
)
from tests.contract.outbox import stat
from tests.waiting import until


def wait(client: Client, workflow_id: str, step: str = "a", **options: Any) -> AwaitView:
    given: dict[str, Any] = {"signal": "go", "correlation_key": "k", **options}
    return client.await_step(workflow_id, step, **given)


def deliver(client: Client, dedupe: str, payload: Any = None) -> SignalView:
    return client.deliver_signal("go", "k", payload=payload, dedupe_key=dedupe)


def logged(client: Client) -> list[tuple[str, str | None, str]]:
    """Evidence of signals that no workflow has taken: status, reason, dedupe key."""
    return [
        (entry.status, entry.reason_code, entry.metadata["dedupe_key"])
        for entry in client.evidence()
    ]


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
    """The claim after a wait counts none, though none may be open that it could go on with."""
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


def test_a_duplicate_that_is_sent_twice_is_noted_once(one_client: Client) -> None:
    deliver(one_client, "d")
    call = next(deliver_signal(one_client._ctx, "go", "k", None, "d"))
    assert isinstance(call, Call)
    for one in (call, call.repeated(), call.repeated()):
        assert one_client._run(one_call(one))[0] == b"duplicate"
    assert logged(one_client) == [("duplicate", "duplicate_signal", "d")]


def test_a_registration_that_is_finished_by_another_is_counted(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    drive(one_client, await_step(one_client._ctx, view.id, "a", "go", "k", None, None), 1)
    repairs = one_client.reconcile(view.id).repairs
    assert [repair.kind for repair in repairs] == ["registration_unfinished"]
    assert stat(one_client, "rr|registration_unfinished") == 1


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


def test_a_repeated_signal_whose_call_is_sent_again_is_noted_once(one_client: Client) -> None:
    deliver(one_client, "d")
    call = next(deliver_signal(one_client._ctx, "go", "k", None, "d"))
    assert isinstance(call, Call)
    for sent in (call, call.repeated()):
        assert one_client._run(one_call(sent))[0] == b"duplicate"
    assert logged(one_client) == [("duplicate", "duplicate_signal", "d")]


def test_what_woke_a_step_goes_when_it_waits_again(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    wait(one_client, view.id)
    deliver(one_client, "1", payload="x")
    payloads = own_key(view.id, "p")
    assert raw(one_client).hget(payloads, "s:a") == b'"x"'
    wait(one_client, view.id)
    assert raw(one_client).hget(payloads, "s:a") is None


# --- what a topic and a workflow know of each other


def test_a_wait_that_is_registered_late_is_not(one_client: Client) -> None:
    """Its end was told before; else the signal would be ambiguous."""
    first, second = (one_client.insert(flow("a")).id for _ in range(2))
    op = await_step(one_client._ctx, first, "a", "go", "k", None, None)
    registration = op.send(one_client._run(one_call(next(op))))
    assert isinstance(registration, Call)
    assert registration.function == UpdateTopic.name
    one_client.complete_step(first, "a")
    wait(one_client, second)
    one_client._run(one_call(registration))
    assert deliver(one_client, "1").workflow_id == second


def test_a_wait_that_its_topic_believes_to_be_over_is_registered_again(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    wait(one_client, view.id)
    record, places = one_client._ctx.keys.topic(topic_digest("go", "k"))[-2:]
    field, redis = f"l{view.id}|a", raw(one_client)
    n, _, stamp = redis.hget(record, field).split(b",")
    redis.hset(record, field, b",".join((n, b"g", stamp)))
    redis.delete(places)
    (repair,) = one_client.reconcile(view.id).repairs
    assert (repair.kind, repair.step) == ("registration_unfinished", "a")
    assert stat(one_client, "rr|registration_unfinished") == 1
    assert redis.hget(record, field) == b",".join((n, b"w", stamp))
    assert deliver(one_client, "1").status == "consumed"


def test_who_finds_a_hand_off_outstanding_hands_over_its_own_payload(one_client: Client) -> None:
    wait(one_client, one_client.insert(flow("a")).id)
    drive(one_client, deliver_signal(one_client._ctx, "go", "k", "first", "1"), 1)
    assert deliver(one_client, "2", payload="second").status == "unmatched"
    (claimed,) = one_client.claim(["default"], worker_id="w")
    assert claimed.signal is not None
    assert claimed.signal.payload == "first"


def test_a_signal_is_not_handed_to_the_next_wait_of_its_step(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    wait(one_client, view.id)
    deliver(one_client, "1")
    drive(one_client, await_step(one_client._ctx, view.id, "a", "go", "k", None, None), 1)
    (repair,) = one_client.reconcile(view.id).repairs
    assert repair.kind == "registration_unfinished"
    assert states(one_client, view.id) == "a=awaiting_signal"
    assert deliver(one_client, "2").status == "consumed"
    assert stat(one_client, "sg|consumed") == 2


def test_notices_that_nothing_waits_for_are_removed(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    notices = own_key(view.id, "d")
    raw(one_client).zadd(notices, {"!a": -5})
    one_client._run(settle_waits(one_client._ctx, view.id))
    assert not raw(one_client).exists(notices)


def test_what_was_noted_of_a_signal_is_not_noted_again(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    wait(one_client, view.id, deadline=timedelta(0))
    for dedupe in "12":
        assert deliver(one_client, dedupe).status == "late"
    assert logged(one_client) == [("late", "late_signal", dedupe) for dedupe in "12"]
    assert stat(one_client, "sg|late") == 2


def test_only_the_signal_that_is_handed_over_is_recorded(one_client: Client) -> None:
    first, second = (one_client.insert(flow("a")).id for _ in range(2))
    wait(one_client, first)
    drive(one_client, deliver_signal(one_client._ctx, "go", "k", None, "1"), 1)
    drive(one_client, await_step(one_client._ctx, second, "a", "go", "k", None, None), 2)
    for dedupe, status in (("1", "recorded"), ("2", "ambiguous")):
        call = next(deliver_signal(one_client._ctx, "go", "k", None, dedupe))
        reply = RecordSignal.decoded(one_client._run(one_call(call)))
        assert reply.signal.status == status
    one_client.reconcile(first)
    one_client.reconcile(second)


def test_forgetting_what_was_not_known_is_no_repair(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    keys = one_client._ctx.keys.topic(topic_digest("go", "k"))
    told = UpdateTopic("go", "k", view.id, "a", "1", "0", "n", None, None, True, False)
    assert one_client._run(ask(keys, told)).repair == ""
    assert not raw(one_client).exists(*keys[-2:])


def test_a_topic_that_fell_back_learns_that_a_wait_has_expired(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    wait(one_client, view.id, deadline=timedelta(0))
    record, places = one_client._ctx.keys.topic(topic_digest("go", "k"))[-2:]
    field, redis = f"l{view.id}|a", raw(one_client)
    expired = redis.hget(record, field)
    n, state, stamp = expired.decode().split(",")
    assert state == "x"
    redis.hset(record, field, f"{n},w,{stamp}")
    redis.delete(places)
    redis.zadd(places, {f"w|{view.id}|{stamp}|a|{n}": 0})
    digest = topic_digest("go", "k")
    assert one_client._run(check_topic(one_client._ctx, digest)) == {"handoff_unfinished": 1}
    assert redis.hget(record, field) == expired
    assert deliver(one_client, "1").status == "late"


def test_a_workflow_that_fell_back_gets_its_signal_again(one_client: Client) -> None:
    """A failover may take the workflow's partition back, and not the topic's."""
    view = one_client.insert(flow("a"))
    wait(one_client, view.id)
    topic = set(one_client._ctx.keys.topic(topic_digest("go", "k"))[-2:])
    redis = raw(one_client)
    before = {key: redis.dump(key) for key in redis.scan_iter("rwf:*") if key.decode() not in topic}
    signal = deliver(one_client, "1", payload="x")
    redis.delete(*(key for key in redis.scan_iter("rwf:*") if key.decode() not in topic))
    for key, dump in before.items():
        redis.restore(key, 0, dump)
    assert states(one_client, view.id) == "a=awaiting_signal"
    (repair,) = one_client.reconcile(view.id).repairs
    assert (repair.kind, repair.step) == ("handoff_unfinished", "a")
    (claimed,) = one_client.claim(["default"], worker_id="w")
    assert claimed.signal is not None
    assert (claimed.signal.id, claimed.signal.payload) == (signal.id, "x")


def test_a_topic_whose_hand_off_came_too_late_knows_the_wait_by_its_stamp(
    one_client: Client,
) -> None:
    view = one_client.insert(flow("a"))
    end = datetime.now(UTC) + timedelta(milliseconds=50)
    wait(one_client, view.id, deadline=end)
    record = one_client._ctx.keys.topic(topic_digest("go", "k"))[-2]
    field, redis = f"l{view.id}|a", raw(one_client)
    n, _, stamp = redis.hget(record, field).split(b",")
    delivery = deliver_signal(one_client._ctx, "go", "k", None, None)
    drive(one_client, delivery, 1)
    until_past(one_client, end)
    assert one_client.deliver_signal("go", "k").status == "late"
    assert redis.hget(record, field) == b",".join((n, b"x", stamp))


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


def test_a_call_that_is_repeated_behind_another_wait_is_found(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    call = next(await_step(one_client._ctx, view.id, "a", "go", "k", None, None))
    assert isinstance(call, Call)
    assert call.function == "await"
    one_client._run(one_call(call))
    wait(one_client, view.id, correlation_key="other")
    assert one_client._run(one_call(call.repeated()))[0] == b"accepted"
    awaiting = one_client.step(view.id, "a").awaiting
    assert awaiting is not None
    assert awaiting.correlation_key == "other"


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


def test_a_workflow_of_other_semantics_is_left_alone(
    client: Client, broken_on_purpose: None
) -> None:
    """It waits, has a topic to tell and a release to finish: a later release's to do."""
    workflow_id = client.insert(fan_out(900)).id
    first_call_only(client, workflow_id, "root", "completed")
    wait(client, workflow_id, "c0")
    drive(client, await_step(client._ctx, workflow_id, "c1", "go", "k", None, None), 1)
    other_semantics(client, workflow_id)
    assert deliver(client, "1").status == "recorded"
    before = raw(client).hgetall(own_key(workflow_id))
    with refused("unsupported_semantics"):
        drive(client, await_step(client._ctx, workflow_id, "c2", "go", "k", None, None), 20)
    raw(client).zadd(partition_key(workflow_id, "timers"), {f"w|{workflow_id}": 1})
    partition = int(workflow_id.partition("-")[0])
    assert drive(client, fire_due(client._ctx, partition, PassedOver()), 20) is not None
    assert raw(client).hgetall(own_key(workflow_id)) == before


def test_a_check_reads_payloads_a_few_at_a_time(client: Client) -> None:
    """They stand among what a topic's record says of waits."""
    for number in range(20):
        client.deliver_signal("go", "k", payload="x" * 200_000, dedupe_key=f"d{number}")
    digest = topic_digest("go", "k")
    op, pages = check_topic(client._ctx, digest), 0
    reply: Any = None
    with contextlib.suppress(StopIteration):
        while True:
            call = op.send(reply)
            reply = client._run(one_call(call))
            if isinstance(call, Call) and call.function == RepairTopic.name:
                pages += call.args[0] == "1"  # of its record
    assert pages >= 5  # of 4 MB
