"""Retention: what is over leaves, with all that belongs to it (contract §10)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Generic, TypeVar

import pytest

from rwf import AsyncClient, Client, NotFound, Reconciler, StoreUnavailable, Workflow
from rwf.model.limits import CALLBACK_ATTEMPTS, CALLBACK_KEPT_MS, SIGNAL_KEPT_MS
from rwf.model.views import PruneReport, WorkflowView
from rwf.ops import prune as pruning_ops
from rwf.ops.complete import Completion, complete_step
from rwf.ops.insert import insert
from rwf.ops.signals import await_step, deliver_signal
from rwf.ops.timer_pages import PassedOver
from rwf.protocol.functions.topics import Forget, ForgottenWait
from rwf.protocol.keys import topic_digest
from rwf.protocol.requests import Call, Op, ask
from rwf.repair.timers import fire_due
from tests.contract.commandline import NO_ID
from tests.contract.daemons import swept, ticked
from tests.contract.flows import (
    drive,
    fan_out,
    flow,
    one_call,
    outdate_reservations,
    own_key,
    partition_key,
    raw,
    refused,
    stored,
)
from tests.contract.outbox import (
    claimed,
    counted,
    fail,
    hasten,
    ignore,
    settled,
    stat,
    with_callbacks,
)
from tests.servers import AnyServer
from tests.waiting import until

T = TypeVar("T")
NOW = timedelta(0)
WEEK_AND_A_BIT = SIGNAL_KEPT_MS + 1000


def finish(client: Client, workflow: Workflow, **options: Any) -> str:
    """The id of a workflow of one step ``a`` that has ended; its callbacks are delivered."""
    workflow_id = client.insert(workflow, **options).id
    client.complete_step(workflow_id, "a")
    client.dispatch_callbacks(ignore)
    return workflow_id


def prune(client: Client, workflows: int = 0, signals: int = 0) -> None:
    """Prunes, and expects this to leave."""
    assert client.prune() == PruneReport(workflows=workflows, signals=signals)


def op_of(client: Client, workflow_id: str) -> Op[bool | pruning_ops.Undelivered]:
    """The operation that removes one workflow."""
    return pruning_ops.prune(client._ctx, workflow_id)


class Paused(Generic[T]):
    """An operation of a client that stops between two calls, and goes on later."""

    def __init__(self, client: Client, op: Op[T]) -> None:
        self._client = client
        self._op = op
        self._reply: Any = None

    def go_on(self, calls: int = 99) -> T | None:
        """Carries out the next calls; the result, once it is over."""
        for _ in range(calls):
            try:
                call = self._op.send(self._reply)
            except StopIteration as end:
                result: T = end.value
                return result
            self._reply = self._client._run(one_call(call))
        return None


def removal(client: Client, workflow_id: str) -> float | None:
    """The time of the workflow's timer."""
    found: float | None = raw(client).zscore(
        partition_key(workflow_id, "timers"), f"x|{workflow_id}"
    )
    return found


def keys_of(client: Client, text: str) -> list[bytes]:
    return [key for key in stored(client) if text.encode() in key]


def gauges(client: Client) -> set[tuple[bytes, bytes]]:
    """The gauges of all partitions that are not zero."""
    found = set()
    for key in raw(client).scan_iter("rwf:*:stats"):
        for name, value in raw(client).hgetall(key).items():
            if name[:3] in (b"gs|", b"gw|", b"gc|") and value != b"0":
                found.add((name, value))
    return found


def counters(client: Client) -> dict[bytes, int]:
    """What transitions have counted, in all partitions."""
    found: dict[bytes, int] = {}
    for key in raw(client).scan_iter("rwf:*:stats"):
        for name, value in raw(client).hgetall(key).items():
            if name[:3] not in (b"gs|", b"gw|", b"gc|"):
                found[name] = found.get(name, 0) + int(value)
    return found


def age(client: Client, signal: str, key: str, by_ms: int = WEEK_AND_A_BIT) -> None:
    """Has all kept signals of a topic be that much older, and its timer too."""
    digest = topic_digest(signal, key)
    (name,) = raw(client).scan_iter(f"rwf:*:sig:{digest}")
    for field, text in raw(client).hgetall(name).items():
        if field[:1] == b"s" and text[:1] == b"k":
            status, stamp, rest = text.split(b",", 2)
            older = b"%d%b" % (int(stamp[:-4]) - by_ms * 1000, stamp[-4:])
            raw(client).hset(name, field, b",".join((status, older, rest)))
    timers = name[: name.index(b"sig:")] + b"timers"
    raw(client).zincrby(timers, -by_ms, f"s|{digest}")


def grow_older(client: Client, workflow_id: str, by_ms: int) -> None:
    """Has a workflow be that much older, with all that is derived of it."""
    redis, key = raw(client), own_key(workflow_id)
    index = partition_key(workflow_id, "index")
    for member in redis.zrange(index, 0, -1):
        if workflow_id.encode() in member:
            redis.zrem(index, member)
    version, definition, steps, inserted, rest = redis.hget(key, ":s").split(b",", 4)
    inserted = b"%d" % (int(inserted) - by_ms)
    redis.hset(key, ":s", b",".join((version, definition, steps, inserted, rest)))
    for name, members in (("timers", f"x|{workflow_id}"), ("outbox", f"{workflow_id}|")):
        entries = redis.zrange(partition_key(workflow_id, name), 0, -1, withscores=True)
        for member, score in entries:
            if member.startswith(members.encode()):
                redis.zadd(partition_key(workflow_id, name), {member: score - by_ms})
    client.reconcile(workflow_id)


# --- when a workflow leaves


def test_a_finished_workflow_leaves_when_its_time_is_over(client: Client) -> None:
    workflow_id = finish(client, flow("a"), retention=NOW)
    prune(client, workflows=1)
    assert keys_of(client, workflow_id) == []
    assert gauges(client) == set()
    prune(client)


def test_one_call_removes_what_has_nothing_elsewhere(one_client: Client) -> None:
    view = one_client.insert(fan_out(450), retention=NOW)
    one_client.request_cancel(view.id)
    one_client.dispatch_callbacks(ignore)
    drive(one_client, op_of(one_client, view.id), 1)
    assert keys_of(one_client, view.id) == []


def test_its_time_begins_when_it_finishes(client: Client) -> None:
    day = timedelta(days=1)
    workflow_id = finish(client, flow("a"), retention=day)
    finished = client.get(workflow_id).finished_at
    assert finished is not None
    assert removal(client, workflow_id) == round((finished + day).timestamp() * 1000)
    prune(client)
    assert client.get(workflow_id).state == "completed"


def test_one_that_is_kept_for_ever_never_leaves(client: Client) -> None:
    workflow_id = finish(client, flow("a"), retention=None)
    assert removal(client, workflow_id) is None
    prune(client)
    assert client.reconcile(workflow_id).repairs == ()


def test_one_that_is_open_stays(client: Client) -> None:
    view = client.insert(flow("a b"), retention=NOW)
    client.complete_step(view.id, "a")
    assert removal(client, view.id) is None
    prune(client)
    assert client.get(view.id).state == "available"


def test_one_that_is_revived_stays_until_it_ends_again(client: Client) -> None:
    view = client.insert(flow("a"), retention=NOW)
    client.complete_step(view.id, "a", "failed")
    client.dispatch_callbacks(ignore)
    assert removal(client, view.id) is not None
    client.recover_step(view.id, "a", "retry")
    assert removal(client, view.id) is None
    prune(client)
    client.complete_step(view.id, "a")
    client.dispatch_callbacks(ignore)
    prune(client, workflows=1)


def test_the_records_decide_and_not_the_timer(client: Client) -> None:
    open_, kept = client.insert(flow("a"), retention=NOW).id, finish(client, flow("a"))
    due = removal(client, kept)
    for workflow_id in (open_, kept):
        timers = partition_key(workflow_id, "timers")
        raw(client).zadd(timers, {f"x|{workflow_id}": 5})
    prune(client)
    assert (removal(client, open_), removal(client, kept)) == (None, due)


def test_a_timer_of_nothing_goes(one_client: Client) -> None:
    workflow_id = finish(one_client, flow("a"), retention=NOW)
    prune(one_client, workflows=1)
    raw(one_client).zadd(partition_key(workflow_id, "timers"), {f"x|{workflow_id}": 5})
    prune(one_client)
    assert removal(one_client, workflow_id) is None


@pytest.mark.parametrize("damage", ["lost", "wrong"])
def test_reconcile_mends_the_timer(client: Client, damage: str) -> None:
    workflow_id = finish(client, flow("a"))
    due = removal(client, workflow_id)
    timers = partition_key(workflow_id, "timers")
    raw(client).zrem(timers, f"x|{workflow_id}")
    if damage == "wrong":
        raw(client).zadd(timers, {f"x|{workflow_id}": 5})
    (repair,) = client.reconcile(workflow_id).repairs
    assert (repair.kind, removal(client, workflow_id)) == ("retention_timer_missing", due)
    assert client.reconcile(workflow_id).repairs == ()


def test_what_is_due_carries_it_out_too(client: Client) -> None:
    workflow_id = finish(client, flow("a"), retention=timedelta(milliseconds=20))
    partition = int(workflow_id.partition("-")[0])
    until(
        lambda: client._run(fire_due(client._ctx, partition, PassedOver())).done,
        what="the retention",
    )
    assert keys_of(client, workflow_id) == []


# --- callbacks


def test_it_stays_until_its_callbacks_are_delivered(client: Client) -> None:
    view = client.insert(flow("a"), retention=NOW)
    client.complete_step(view.id, "a")
    fail(client, view.id, 1)
    prune(client)
    hasten(client, view.id)
    claim = claimed(client)
    prune(client)
    settled(client, claim)
    prune(client, workflows=1)


def test_one_whose_callback_is_dead_leaves(client: Client) -> None:
    view = client.insert(flow("a"), retention=NOW)
    client.complete_step(view.id, "a")
    fail(client, view.id, CALLBACK_ATTEMPTS)
    assert stat(client, "gc|dead") == 1
    prune(client, workflows=1)
    assert gauges(client) == set()


def test_one_whose_callback_is_sent_again_stays_until_then(client: Client) -> None:
    workflow_id = finish(client, flow("a"), retention=NOW)
    client.resend_callback(f"{workflow_id}/1")
    prune(client)
    client.dispatch_callbacks(ignore)
    prune(client, workflows=1)


def test_with_nobody_to_dispatch_callbacks_hold_back_nothing(client: Client) -> None:
    ids = [client.insert(flow("a"), retention=NOW).id for _ in range(40)]
    for workflow_id in ids:
        client.complete_step(workflow_id, "a")
    prune(client, workflows=40)
    assert gauges(client) == set()
    assert [key for key in stored(client) if key.endswith((b":outbox", b":timers"))] == []
    assert stat(client, "cb|workflow.terminal|dead") == 0


def test_a_daemon_without_a_handler_removes_them_too(client: Client) -> None:
    view = client.insert(flow("a"), retention=NOW)
    client.complete_step(view.id, "a")
    ticked(client)
    assert keys_of(client, view.id) == []


@pytest.mark.parametrize("seen", ["by a dispatch", "by a daemon"])
def test_once_a_dispatcher_was_seen_callbacks_hold_back(client: Client, seen: str) -> None:
    """In whichever partition, and even if it had nothing to do."""
    if seen == "by a dispatch":
        client.dispatch_callbacks(ignore)
    else:
        asyncio.run(Reconciler(client, callbacks=ignore).tick())
    ids = [client.insert(flow("a"), retention=NOW).id for _ in range(10)]
    for workflow_id in ids:
        client.complete_step(workflow_id, "a")
    prune(client)
    for workflow_id in ids:
        finished = client.get(workflow_id).finished_at
        assert finished is not None
        later = finished + timedelta(milliseconds=CALLBACK_KEPT_MS)
        # It is not looked at over and over meanwhile; a sweep finds nothing wrong with that.
        assert removal(client, workflow_id) == round(later.timestamp() * 1000)
        assert client.reconcile(workflow_id).repairs == ()
    assert swept(client) == set()
    assert client.rebuild().repairs == {}
    client.dispatch_callbacks(ignore)
    prune(client, workflows=10)
    assert gauges(client) == set()


def test_callbacks_undelivered_7_days_after_the_retention_are_dead(client: Client) -> None:
    client.dispatch_callbacks(ignore)
    early, late = (client.insert(flow("a"), retention=timedelta(hours=1)).id for _ in range(2))
    for workflow_id in (early, late):
        client.complete_step(workflow_id, "a", "failed")
        client.recover_step(workflow_id, "a", "skip")
    grow_older(client, early, CALLBACK_KEPT_MS + 3_500_000)
    grow_older(client, late, CALLBACK_KEPT_MS + 3_700_000)
    with counted(client, dead=2):
        prune(client, workflows=1)
    assert stat(client, "cb|workflow.recovery_completed|dead") == 1
    assert keys_of(client, late) == []
    assert [one.status for one in client.callbacks(early)] == ["pending"] * 3
    assert stat(client, "gc|dead") == 0
    assert stat(client, "gc|pending") == 3


def test_a_dispatcher_of_an_earlier_release_counts(one_client: Client) -> None:
    """It leaves no note, but its deliveries are counted."""
    view = one_client.insert(flow("a"))
    one_client.complete_step(view.id, "a")
    one_client.dispatch_callbacks(ignore)
    assert raw(one_client).hdel("rwf:{0}:meta", "dispatcher") == 1
    view = one_client.insert(flow("a"), retention=NOW)
    one_client.complete_step(view.id, "a")
    prune(one_client)
    assert one_client.dispatch_callbacks(ignore).delivered == 1
    prune(one_client, workflows=1)


def test_a_callback_that_came_after_the_look_for_dispatchers_holds_back(client: Client) -> None:
    """The workflow ends anew, and a dispatcher is seen, between the two calls of a removal."""
    view = client.insert(flow("a"), retention=NOW)
    client.complete_step(view.id, "a", "failed")
    asked = drive(client, op_of(client, view.id), 1)
    assert asked is not None
    assert client._run(pruning_ops.dispatcher_seen(client._ctx.keys)) is None
    client.recover_step(view.id, "a", "skip")
    client.dispatch_callbacks(ignore, limit=1)
    again = drive(client, pruning_ops.prune(client._ctx, view.id, never_seen_for=1), 1)
    assert again == pruning_ops.Undelivered(view.id, 3)
    prune(client)
    assert len(client.callbacks(view.id)) == 3


def test_a_record_out_of_reach_holds_back(
    one_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = one_client.insert(flow("a"), retention=NOW)
    one_client.complete_step(view.id, "a")

    def away(_: object) -> Op[float | None]:
        raise StoreUnavailable("the partition of the namespace's record is away")
        yield

    with monkeypatch.context() as patched:
        patched.setattr(pruning_ops, "dispatcher_seen", away)
        prune(one_client)
    prune(one_client, workflows=1)


@pytest.mark.parametrize("dispatcher", [False, True])
def test_hundreds_of_callbacks_leave_in_slices(one_client: Client, dispatcher: bool) -> None:
    if dispatcher:
        one_client.dispatch_callbacks(ignore)
    view = one_client.insert(flow("a"), retention=NOW)
    one_client.complete_step(view.id, "a")
    with_callbacks(one_client, view.id, 450)
    grow_older(one_client, view.id, CALLBACK_KEPT_MS + 1000)
    with counted(one_client, **({"dead": 450} if dispatcher else {})):
        prune(one_client, workflows=1)
    assert raw(one_client).zcard("rwf:{0}:outbox") == 0
    assert gauges(one_client) == set()


def test_one_that_an_earlier_release_has_given_no_timer_leaves_after_a_sweep(
    one_client: Client,
) -> None:
    view = one_client.insert(flow("a"), retention=NOW)
    one_client.complete_step(view.id, "a")
    raw(one_client).zrem("rwf:{0}:timers", f"x|{view.id}")
    prune(one_client)
    assert swept(one_client) == {("retention_timer_missing", None)}
    prune(one_client, workflows=1)


# --- it is not there any more


READS: list[Callable[[Client, str], object]] = [
    lambda client, w: client.get(w),
    lambda client, w: client.steps(w),
    lambda client, w: client.step(w, "a"),
    lambda client, w: client.result(w, "a"),
    lambda client, w: client.results(w),
    lambda client, w: client.evidence(w),
    lambda client, w: client.graph(w),
    lambda client, w: client.callbacks(w),
    lambda client, w: client.explain(w),
    lambda client, w: client.explain_step(w, "a"),
    lambda client, w: client.reconcile(w),
]
COMMANDS: list[Callable[[Client, str], object]] = [
    lambda client, w: client.complete_step(w, "a", payload=1),
    lambda client, w: client.await_step(w, "a", signal="go", correlation_key="k"),
    lambda client, w: client.request_cancel(w),
    lambda client, w: client.recover_step(w, "a", "retry", scope="downstream"),
    lambda client, w: client.resend_callback(f"{w}/1"),
]


@pytest.mark.parametrize("calls", [1, 9])
def test_no_read_and_no_command_finds_it(client: Client, calls: int) -> None:
    """With the first call of the removal, and after the last."""
    workflow_id = finish(client, flow("a"), key="k", retention=NOW)
    drive(client, op_of(client, workflow_id), calls)
    for read in READS:
        with pytest.raises(NotFound):
            read(client, workflow_id)
    for command in COMMANDS:
        with refused("workflow_not_found"):
            command(client, workflow_id)
    assert client.list().workflows == ()
    assert client.list(state="completed").workflows == ()
    assert gauges(client) == set()
    client.prune()


def test_the_counters_stay(client: Client) -> None:
    finish(client, flow("a"), retention=NOW)
    before = counters(client)
    prune(client, workflows=1)
    assert counters(client) == before
    assert before[b"wt|completed|completed|completed|2"] == 1


def test_a_claim_of_it_is_lost(client: Client) -> None:
    view = client.insert(flow("a"), retention=NOW)
    (claim,) = client.claim(["default"], worker_id="w")
    client.complete_step(view.id, "a", force=True)
    client.dispatch_callbacks(ignore)
    prune(client, workflows=1)
    assert client.heartbeat([claim]).lost == (claim,)
    assert client.release([claim]) == 0
    with refused("workflow_not_found"):
        client.complete(claim)


def test_one_of_other_semantics_is_left(one_client: Client, broken_on_purpose: None) -> None:
    workflow_id = finish(one_client, flow("a"), retention=NOW)
    static = raw(one_client).hget(own_key(workflow_id), ":s")
    raw(one_client).hset(own_key(workflow_id), ":s", b"9" + static[1:])
    other = finish(one_client, flow("a"), retention=NOW)
    prune(one_client, workflows=1)
    assert one_client.get(workflow_id).semantics_version == 9
    assert keys_of(one_client, other) == []


# --- its insert key


def test_its_key_is_free_again(client: Client) -> None:
    first = finish(client, flow("a"), key="k", retention=NOW)
    prune(client, workflows=1)
    second = client.insert(flow("other"), key="k")
    assert (second.duplicate, second.id != first) == (False, True)
    assert client.insert(flow("other"), key="k").id == second.id


@pytest.mark.parametrize("definition", ["a", "other"])
def test_its_key_while_it_is_removed(client: Client, definition: str) -> None:
    """The same key, while the reservation still names what is not there any more."""
    first = finish(client, flow("a"), key="k", retention=NOW)
    drive(client, op_of(client, first), 1)
    if definition == "other":
        with refused("key_conflict"):  # for as long as an insert may take
            client.insert(flow(definition), key="k")
        outdate_reservations(client)
    second = client.insert(flow(definition), key="k")
    assert (second.duplicate, second.id != first) == (False, True)
    prune(client, workflows=1)
    assert client.insert(flow(definition), key="k").id == second.id


def test_an_insert_that_found_the_key_just_before(client: Client) -> None:
    """It may go on only after all was removed, and does not come in under the old id."""
    first = finish(client, flow("a"), key="k", retention=NOW)
    inserting = Paused(client, insert(client._ctx, flow("a"), "k", NOW))
    inserting.go_on(1)  # it has read whose the key is
    prune(client, workflows=1)
    second = inserting.go_on()
    assert second is not None
    assert (second.id != first, second.duplicate) == (True, False)
    assert client.insert(flow("a"), key="k").id == second.id
    assert raw(client).pttl(own_key(first)) > 0


# --- its signals


def test_its_signals_go_with_it(client: Client) -> None:
    workflow_id = client.insert(flow("a"), retention=NOW).id
    client.await_step(workflow_id, "a", signal="go", correlation_key="k")
    first = client.deliver_signal("go", "k", payload={"by": "ann"})
    client.complete_step(workflow_id, "a")
    client.dispatch_callbacks(ignore)
    prune(client, workflows=1)
    assert keys_of(client, topic_digest("go", "k")) == []
    again = client.deliver_signal("go", "k")
    assert (again.status, again.id != first.id, again.payload) == ("unmatched", True, None)


def test_what_a_topic_knows_of_others_stays(client: Client) -> None:
    ids = []
    for number in range(2):
        ids.append(client.insert(flow("a"), retention=(NOW, None)[number]).id)
        client.await_step(ids[number], "a", signal="go", correlation_key="k")
        client.deliver_signal("go", "k", dedupe_key=str(number))
        client.complete_step(ids[number], "a")
    client.dispatch_callbacks(ignore)
    prune(client, workflows=1)
    again = client.deliver_signal("go", "k", dedupe_key="1")
    assert (again.status, again.workflow_id) == ("consumed", ids[1])
    assert client.deliver_signal("go", "k", dedupe_key="0").status == "unmatched"


def test_a_signal_that_another_has_consumed_stays_and_twice_is_once(one_client: Client) -> None:
    view = one_client.insert(flow("a"), retention=NOW)
    one_client.await_step(view.id, "a", signal="go", correlation_key="k")
    signal = one_client.deliver_signal("go", "k")
    one_client.complete_step(view.id, "a")
    one_client.dispatch_callbacks(ignore)
    keys = one_client._ctx.keys.topic(topic_digest("go", "k"))
    number = signal.id.rpartition("/")[2]
    record = raw(one_client).hgetall(keys[-2])
    drive(one_client, op_of(one_client, view.id), 1)

    def forget(workflow_id: str) -> None:
        forgotten = [ForgottenWait("a", int(number))]
        one_client._run(ask(keys, Forget("go", "k", workflow_id, forgotten)))

    forget(view.id[:-1] + ("2" if view.id[-1] != "2" else "3"))
    assert raw(one_client).hgetall(keys[-2]) == record
    for _ in range(2):
        forget(view.id)
        assert not raw(one_client).exists(keys[-2])
    prune(one_client, workflows=1)


def test_every_wait_it_ever_had_is_forgotten(client: Client) -> None:
    """Expired, abandoned, replaced and resolved ones, of several steps and topics."""
    view = client.insert(flow("a b c"), retention=NOW)
    for key in ("k", "other", "k"):
        client.await_step(view.id, "a", signal="go", correlation_key=key)
    client.await_step(view.id, "b", signal="go", correlation_key="b", deadline=NOW)
    client.await_step(view.id, "c", signal="go", correlation_key="c")
    assert client.deliver_signal("go", "c").status == "consumed"
    client.await_step(view.id, "c", signal="stop", correlation_key="c")
    assert client.deliver_signal("go", "b").status == "late"
    for step in "ac":
        client.complete_step(view.id, step)
    client.dispatch_callbacks(ignore)
    prune(client, workflows=1)
    topics = [key for key in stored(client) if b":sig:" in key]
    assert topics == keys_of(client, topic_digest("go", "b"))[-1:]  # a signal is kept there
    assert client.deliver_signal("go", "b").status == "unmatched"


def test_what_its_topics_were_not_told_is_told_first(client: Client) -> None:
    """A signal that it has consumed is not given to another."""
    first, second = (client.insert(flow("a"), retention=NOW).id for _ in range(2))
    client.await_step(first, "a", signal="go", correlation_key="k")
    # Wakes the step, and dies before it tells the topic.
    drive(client, deliver_signal(client._ctx, "go", "k", None, "d"), 2)
    item = Completion(workflow_id=first, step="a")
    assert drive(client, complete_step(client._ctx, item), 1) is None
    client.dispatch_callbacks(ignore)
    prune(client, workflows=1)
    assert client.await_step(second, "a", signal="go", correlation_key="k").status == "waiting"


def test_a_registration_that_comes_after_it_is_gone(client: Client) -> None:
    """Who tells a topic of a wait and then finds no workflow has it forget that."""
    view = client.insert(flow("a"), retention=NOW)
    waiting = Paused(client, await_step(client._ctx, view.id, "a", "go", "k", None, None))
    waiting.go_on(1)
    client.complete_step(view.id, "a")
    client.dispatch_callbacks(ignore)
    prune(client, workflows=1)
    assert waiting.go_on() is not None
    assert keys_of(client, topic_digest("go", "k")) == []


def test_a_delivery_that_reaches_it_after_it_is_gone(client: Client) -> None:
    """The signal is kept for others, and the topic knows nothing of what was removed."""
    view = client.insert(flow("a"), retention=NOW)
    client.await_step(view.id, "a", signal="go", correlation_key="k")
    delivery = Paused(client, deliver_signal(client._ctx, "go", "k", None, None))
    delivery.go_on(1)
    client.complete_step(view.id, "a")
    client.dispatch_callbacks(ignore)
    prune(client, workflows=1)
    found = delivery.go_on()
    assert found is not None
    assert (found.status, found.workflow_id) == ("unmatched", None)


# --- in slices


def test_hundreds_of_waits_and_steps(one_client: Client) -> None:
    """No call looks at more than a chunk of steps, or at more than 100 waits."""
    steps = [f"s{number}" for number in range(450)]
    view = one_client.insert(flow(" ".join(steps)), retention=NOW)
    for number in range(130):
        one_client.await_step(view.id, "s0", signal="go", correlation_key=str(number % 7))
    for step in steps[:110]:
        one_client.await_step(view.id, step, signal="go", correlation_key="k")
    one_client.request_cancel(view.id)
    one_client.dispatch_callbacks(ignore)
    sizes, stands = [], []
    removing = op_of(one_client, view.id)
    call = next(removing)
    with contextlib.suppress(StopIteration):
        while True:
            assert isinstance(call, Call)
            reply = one_client._run(one_call(call))
            if call.function == "prune" and reply[0] == b"removing":
                sizes.append(len(reply[3]))
                stands.append(raw(one_client).hget(own_key(view.id), ":x"))
            call = removing.send(reply)
    assert sizes == [100, 100, 40, 0, 0]
    assert stands == [b"2,0,1,1", b"2,0,1,101", b"2,0,71,1", b"2,1,1,1", b"2,2,1,1"]
    assert [key for key in stored(one_client) if b":sig:" in key or b":reg:" in key] == []


# --- signals that no workflow took


def test_a_signal_that_nobody_took_leaves_after_7_days(client: Client) -> None:
    first = client.deliver_signal("go", "k", payload=1)
    prune(client)
    age(client, "go", "k", SIGNAL_KEPT_MS - 60_000)
    prune(client)
    age(client, "go", "k", 61_000)
    prune(client, signals=1)
    assert keys_of(client, topic_digest("go", "k")) == []
    again = client.deliver_signal("go", "k", payload=2)
    assert (again.status, again.payload, again.id != first.id) == ("unmatched", 2, True)


def test_a_late_and_an_ambiguous_signal_leave_too(client: Client) -> None:
    late = client.insert(flow("a"), retention=None).id
    client.await_step(late, "a", signal="go", correlation_key="late", deadline=NOW)
    assert client.deliver_signal("go", "late").status == "late"
    two = [client.insert(flow("a")).id for _ in range(2)]
    for workflow_id in two:
        client.await_step(workflow_id, "a", signal="go", correlation_key="two")
    assert client.deliver_signal("go", "two").status == "ambiguous"
    for key in ("late", "two"):
        age(client, "go", key)
    prune(client, signals=2)
    client.complete_step(two[0], "a")
    assert client.get(two[1]).state == "pending"
    assert client.deliver_signal("go", "two").workflow_id == two[1]
    assert client.deliver_signal("go", "late").status == "late"


def test_one_that_is_over_is_given_to_nobody(client: Client) -> None:
    client.deliver_signal("go", "k", dedupe_key="1")
    age(client, "go", "k")
    client.deliver_signal("go", "k", dedupe_key="2", payload="fresh")
    view = client.insert(flow("a"))
    client.await_step(view.id, "a", signal="go", correlation_key="k")
    (claim,) = client.claim(["default"], worker_id="w")
    assert claim.signal is not None
    assert claim.signal.payload == "fresh"


def test_hundreds_of_signals_leave(one_client: Client) -> None:
    for number in range(230):
        one_client.deliver_signal("go", "k", dedupe_key=str(number))
    age(one_client, "go", "k")
    told: list[PruneReport] = []
    one_client.prune(progress=told.append)
    assert told[-1] == PruneReport(workflows=0, signals=230)
    assert keys_of(one_client, topic_digest("go", "k")) == []


# --- running it


def test_it_goes_on_behind_what_is_due_and_not_its_own(one_client: Client) -> None:
    def retries() -> WorkflowView:
        waiting = one_client.insert(flow(" ".join(f"s{number}" for number in range(120))))
        for step in one_client.steps(waiting.id):
            one_client.complete_step(waiting.id, step.name, "retryable", retry_in=0)
        return waiting

    waiting = retries()
    ids = [finish(one_client, flow("a"), retention=NOW) for _ in range(3)]
    retries()
    told: list[PruneReport] = []
    assert one_client.prune(progress=told.append).workflows == len(ids)
    assert [report.workflows for report in told] == [0, 3, 3]
    assert one_client.step(waiting.id, "s0").state == "retryable"


def test_progress_must_be_callable(one_client: Client) -> None:
    nonsense: Any = 5
    with refused("invalid_argument"):
        one_client.prune(progress=nonsense)


async def _pruned(url: str, told: list[PruneReport]) -> PruneReport:
    async with AsyncClient.from_url(url) as client:
        return await client.prune(progress=told.append)


def test_the_other_client_does_the_same(one_client: Client, one_server: AnyServer) -> None:
    finish(one_client, flow("a"), retention=NOW)
    told: list[PruneReport] = []
    report = asyncio.run(_pruned(one_server.url, told))
    assert (report, told) == (PruneReport(workflows=1, signals=0), [report])


def test_the_timer_of_one_that_is_gone(one_client: Client) -> None:
    raw(one_client).zadd("rwf:{0}:timers", {f"x|{NO_ID}": 1})
    one_client.prune()
    assert raw(one_client).zcard("rwf:{0}:timers") == 0
