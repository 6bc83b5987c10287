"""White-box cases beside those of ``contract/test_prune.py``."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Generic, TypeVar

import pytest

from rwf import Client, NotFound, Reconciler, StoreUnavailable
from rwf.model.limits import CALLBACK_ATTEMPTS, CALLBACK_KEPT_MS, SIGNAL_KEPT_MS
from rwf.model.views import PruneReport
from rwf.ops import prune as pruning_ops
from rwf.ops.complete import Completion, complete_step
from rwf.ops.insert import insert
from rwf.ops.signals import await_step, deliver_signal
from rwf.ops.timer_pages import PassedOver
from rwf.protocol.functions.topics import Forget, ForgottenWait
from rwf.protocol.keys import topic_digest
from rwf.protocol.requests import Call, Op, ask
from rwf.repair.timers import fire_due
from tests.support.daemons import swept
from tests.support.flows import (
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
from tests.support.outbox import (
    counted,
    fail,
    ignore,
    stat,
    with_callbacks,
)
from tests.support.prune_cases import NOW, finish, gauges, keys_of, prune, removal
from tests.support.waiting import until

T = TypeVar("T")


WEEK_AND_A_BIT = SIGNAL_KEPT_MS + 1000


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


def age(client: Client, signal: str, key: str, by_ms: int = WEEK_AND_A_BIT) -> None:
    """Makes all kept signals of a topic that much older, and its timer too."""
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
    """Makes a workflow that much older, with all keys derived from it."""
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


def test_one_call_removes_what_has_nothing_elsewhere(one_client: Client) -> None:
    view = one_client.insert(fan_out(450), retention=NOW)
    one_client.request_cancel(view.id)
    one_client.dispatch_callbacks(ignore)
    drive(one_client, op_of(one_client, view.id), 1)
    assert keys_of(one_client, view.id) == []


def test_what_is_due_carries_it_out_too(client: Client) -> None:
    workflow_id = finish(client, flow("a"), retention=timedelta(milliseconds=20))
    partition = int(workflow_id.partition("-")[0])
    until(
        lambda: client._run(fire_due(client._ctx, partition, PassedOver())).done,
        what="the retention",
    )
    assert keys_of(client, workflow_id) == []


def test_one_whose_callback_is_dead_leaves(client: Client) -> None:
    view = client.insert(flow("a"), retention=NOW)
    client.complete_step(view.id, "a")
    fail(client, view.id, CALLBACK_ATTEMPTS)
    assert stat(client, "gc|dead") == 1
    prune(client, workflows=1)
    assert gauges(client) == set()


@pytest.mark.parametrize("seen", ["by a dispatch", "by a daemon"])
def test_once_a_dispatcher_was_seen_callbacks_hold_back(client: Client, seen: str) -> None:
    """In any partition, and even if the dispatcher had nothing to do."""
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
        # It is not checked over and over meanwhile; a sweep finds no fault in that.
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
    """After the first call of the removal, and after the last."""
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


@pytest.mark.parametrize("definition", ["a", "other"])
def test_its_key_while_it_is_removed(client: Client, definition: str) -> None:
    """An insert with the key, while the reservation still names a workflow that is gone."""
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
    """It goes on only after everything was removed, and does not come in under the old id."""
    first = finish(client, flow("a"), key="k", retention=NOW)
    inserting = Paused(client, insert(client._ctx, flow("a"), "k", NOW))
    inserting.go_on(1)  # it has read whose the key is
    prune(client, workflows=1)
    second = inserting.go_on()
    assert second is not None
    assert (second.id != first, second.duplicate) == (True, False)
    assert client.insert(flow("a"), key="k").id == second.id
    assert raw(client).pttl(own_key(first)) > 0


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
    """Expired, abandoned, replaced and resolved waits, of several steps and topics."""
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
    """Otherwise a signal that it has consumed would be given to another."""
    first, second = (client.insert(flow("a"), retention=NOW).id for _ in range(2))
    client.await_step(first, "a", signal="go", correlation_key="k")
    # Wakes the step, and dies before it notifies the topic.
    drive(client, deliver_signal(client._ctx, "go", "k", None, "d"), 2)
    item = Completion(workflow_id=first, step="a")
    assert drive(client, complete_step(client._ctx, item), 1) is None
    client.dispatch_callbacks(ignore)
    prune(client, workflows=1)
    assert client.await_step(second, "a", signal="go", correlation_key="k").status == "waiting"


def test_a_registration_that_comes_after_it_is_gone(client: Client) -> None:
    """A client that registers a wait and then finds no workflow has the topic forget it."""
    view = client.insert(flow("a"), retention=NOW)
    waiting = Paused(client, await_step(client._ctx, view.id, "a", "go", "k", None, None))
    waiting.go_on(1)
    client.complete_step(view.id, "a")
    client.dispatch_callbacks(ignore)
    prune(client, workflows=1)
    assert waiting.go_on() is not None
    assert keys_of(client, topic_digest("go", "k")) == []


def test_a_delivery_that_reaches_it_after_it_is_gone(client: Client) -> None:
    """The signal is kept for others, and the topic knows nothing of the removed workflow."""
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
