"""White-box cases beside those of ``contract/test_signals.py``."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from typing import Any

from rwf import Client
from rwf.ops.signals import await_step, deliver_signal
from rwf.ops.timer_pages import PassedOver
from rwf.ops.waits import settle_waits
from rwf.protocol.functions.repairs import RepairTopic
from rwf.protocol.functions.topics import RecordSignal, UpdateTopic
from rwf.protocol.keys import topic_digest
from rwf.protocol.requests import Call, ask
from rwf.repair.timers import fire_due
from rwf.repair.topics import check_topic
from tests.support.flows import (
    drive,
    fan_out,
    first_call_only,
    flow,
    one_call,
    other_semantics,
    own_key,
    partition_key,
    raw,
    refused,
    states,
    until_past,
)
from tests.support.outbox import stat
from tests.support.signals_cases import deliver, logged, wait


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


def test_a_repeated_signal_whose_call_is_sent_again_is_noted_once(one_client: Client) -> None:
    deliver(one_client, "d")
    call = next(deliver_signal(one_client._ctx, "go", "k", None, "d"))
    assert isinstance(call, Call)
    for sent in (call, call.repeated()):
        assert one_client._run(one_call(sent))[0] == b"duplicate"
    assert logged(one_client) == [("duplicate", "duplicate_signal", "d")]


def test_a_wait_that_is_registered_late_is_not(one_client: Client) -> None:
    """Its end was recorded before; otherwise the signal would be ambiguous."""
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


def test_a_workflow_of_other_semantics_is_left_alone(
    client: Client, broken_on_purpose: None
) -> None:
    """It waits, has a topic to notify and a release to finish: these are left to a later
    release."""
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
    """They are among the fields of a topic's record."""
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
