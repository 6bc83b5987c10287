"""Short histories in which every server function that writes is called, and ways to end them.

Each runs on a :class:`Stepped` client, whose every call of a server function passes through
``perform``, where a test may record it, or break it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, TypeVar
from unittest.mock import patch

from rwf import Client, Completion, RwfError, result
from rwf.model.states import TERMINAL_STEPS, PauseReason, StepState
from rwf.model.views import Callback
from rwf.ops import bulk
from rwf.ops.appending import append
from rwf.ops.claims import pause
from rwf.ops.insert import insert
from rwf.ops.timer_pages import PassedOver
from rwf.protocol.functions.bulk import SelectBulk, TakeBulk
from rwf.protocol.keys import home_partition, key_digest, topic_digest
from rwf.protocol.requests import CONNECT, Call, Op, Read, Request, Scan, Together, ask
from rwf.repair import daemons
from rwf.repair.sweep import Kind, Place, sweep
from rwf.repair.timers import fire_due
from tests.contract.test_append import fragment
from tests.internals.test_prune import age
from tests.support.children_cases import child_of, claim, started
from tests.support.flows import drive, fan_out, flow, one_call, own_key, raw, refused, until_past
from tests.support.outbox import hasten, ignore
from tests.support.waiting import until

T = TypeVar("T")

PARTITIONS: Final = 2
"""Several, so that a workflow and its topic can be in different ones."""
SOON: Final = 0.02
HOUR: Final = timedelta(hours=1)


class Stepped(Client):
    """A client whose calls are performed one by one."""

    def perform(self, call: Call) -> Any:
        """Sends a call. Returns the reply."""
        return super()._run(one_call(call))

    def _run(self, op: Op[T]) -> T:
        reply: Any = None
        fault: RwfError | None = None
        while True:
            try:
                request = op.send(reply) if fault is None else op.throw(fault)
            except StopIteration as end:
                result: T = end.value
                return result
            try:
                reply, fault = self._answer(request), None
            except RwfError as error:
                reply, fault = None, error

    def _answer(self, request: Request) -> Any:
        if request is CONNECT or isinstance(request, Scan | Read):
            return super()._run(one_call(request))
        if isinstance(request, Together):
            return [self._answer(call) for call in request.calls]
        return self.perform(request)


# --- histories


def inserts(client: Client) -> None:
    """Small ones, one in slices, and one that is given up."""
    view = client.insert(flow("a b:a c:+a", input={"n": 1}), key="k")
    assert client.insert(flow("a b:a c:+a", input={"n": 1}), key="k").id == view.id
    with refused("key_conflict"):
        client.insert(flow("z"), key="k")
    drive(client, insert(client._ctx, fan_out(1100), "dead", None), 4)
    drive(client, insert(client._ctx, flow("a"), "left", None), 1)
    forgotten(client, "left")
    client.insert(flow("b"), key="left")
    staged_long_ago(client)
    client.insert(fan_out(450), key="wide")
    swept(client)


def releases(client: Client) -> None:
    """Reports of all kinds, alone and together, and releases in slices."""
    view = client.insert(flow("a b:a c:+a d:b,c e:+d", max_attempts=2))
    client.complete_step(view.id, "a", payload={"n": 1}, summary="s", command_id="one")
    client.complete_step(view.id, "a", payload={"n": 1}, command_id="one")
    with refused("dependencies_unresolved"):
        client.complete_step(view.id, "d")
    client.complete_step(view.id, "b", "retryable", retry_in=600)
    client.complete_step(view.id, "b", "retryable", retry_in=600)
    wide = [client.insert(fan_out(450)).id for _ in range(2)]
    client.complete_step(wide[0], "root")
    client.complete_step(wide[1], "root", "failed")
    many = [client.insert(flow("a b:a")).id for _ in range(3)]
    client.complete_many([Completion(workflow_id=id_, step="a", payload=1) for id_ in many])


def claims(client: Client) -> None:
    """Leases: taken, extended, given back, reported, and run out; a retry that is due."""
    first = client.insert(flow("a b:a c:a", max_attempts=1))
    client.insert(flow("a b:a", queue="other"))
    (one,) = client.claim(["default"], worker_id="w")
    client.heartbeat([one])
    client.release([one])
    (one,) = client.claim(["default"], worker_id="w")
    item = Completion(workflow_id=first.id, step="a", lease=one.lease)
    batch = client.complete_many([item], claim_next=1, worker_id="w")
    client.complete(batch.claimed[0], "failed")
    for queue in ("other", "default"):  # the second is its step's only attempt
        client.claim([queue], worker_id="w", lease=SOON)
        fired(client)
    retried = client.insert(flow("a b:a"))
    client.complete_step(retried.id, "a", "retryable", retry_in=SOON)
    fired(client)
    (held,) = client.claim(["default"], worker_id="w")
    client._run(pause(client._ctx, [held], PauseReason.NO_HANDLER))
    fired(client)
    (held,) = client.claim(["default"], worker_id="w")
    client.complete(held, "retryable", retry_in=SOON, count=False)
    fired(client)
    lacking = flow("a", queue="lacking").add("b", worker="work", queue="b", input=result("a", "x"))
    client.complete_step(client.insert(lacking).id, "a")
    client.claim(["b"], worker_id="w")  # it is blocked: the result has no such place


def tickets(client: Client) -> None:
    """Issued, given back, started once or twice, void, cancelled; a lease that has run out."""
    view = client.insert(flow("a b:a c:a", max_attempts=1))
    (ticket,) = client.dispatch(["default"], dispatcher="d")
    client.release([ticket])
    client.dispatch(["default"], dispatcher="d", hold=SOON)
    fired(client)
    (ticket,) = client.dispatch(["default"], dispatcher="d")
    held = client.start(ticket, run_id="r", worker_id="w")
    client.start(ticket, run_id="r", worker_id="w")
    with refused("already_started"):
        client.start(ticket, run_id="other", worker_id="w")
    client.complete(held)
    (late,) = client.dispatch(["default"], dispatcher="d", hold=SOON)
    until_past(client, late.expires_at)
    with refused("stale_ticket"):  # which takes it away
        client.start(late, run_id="r", worker_id="w")
    (lost,) = client.dispatch(["default"], dispatcher="d")
    until_past(client, client.start(lost, run_id="r", worker_id="w", lease=SOON).lease_expires_at)
    with refused("stale_ticket"):  # which ends its step
        client.start(lost, run_id="r", worker_id="w")
    client.dispatch(["default"], dispatcher="d")
    client.request_cancel(view.id)


def signals(client: Client) -> None:
    """Delivered before and after the wait, ambiguous, late, withdrawn; waits that end."""
    ids = [client.insert(flow("a b:a")).id for _ in range(4)]
    client.await_step(ids[0], "a", signal="go", correlation_key="1")
    client.deliver_signal("go", "1", payload={"n": 1}, dedupe_key="d")
    client.deliver_signal("go", "1", dedupe_key="d")
    client.deliver_signal("go", "2")
    client.await_step(ids[0], "a", signal="go", correlation_key="2")
    client.await_step(ids[1], "a", signal="go", correlation_key="3", deadline=HOUR)
    client.await_step(ids[2], "a", signal="go", correlation_key="3")
    client.deliver_signal("go", "3")
    client.complete_step(ids[2], "a")
    client.await_step(ids[3], "a", signal="go", correlation_key="4")
    client.await_step(ids[3], "a", signal="stop", correlation_key="4")
    client.await_step(
        ids[3], "a", signal="go", correlation_key="5", deadline=timedelta(seconds=SOON)
    )
    fired(client)
    client.deliver_signal("go", "5", dedupe_key="late")
    for key in ("5", "6"):  # beside another one, and the last of its topic
        kept = client.deliver_signal("go", key, dedupe_key="mistake", actor="me")
        client.withdraw_signal(kept.id, actor="me", reason="why")
    with refused("signal_not_found"):
        client.withdraw_signal(kept.id)
    client.deliver_signal("go", "7")
    aged(client, topic_digest("go", "7"))
    fired(client)


def children(client: Client) -> None:
    """Children that complete, fail, and are recovered; that are cancelled, gone, and removed."""
    parent, kid = started(client, "call next:call", "a")
    client.complete_step(kid.id, "a", "failed")
    client.recover_step(kid.id, "a", "retry")
    client.complete_step(kid.id, "a", payload=1)
    client.recover_step(parent.id, "call", "retry")
    lease = claim(client, "call").lease
    client.start_child(parent.id, "call", child_of("a"), lease=lease)
    client.start_child(parent.id, "call", child_of("a"), lease=lease)
    client.complete_step(parent.id, "next")
    parent, kid = started(client, "call", "a")
    client.request_cancel(parent.id)
    with refused("stale_lease"):
        client.start_child(parent.id, "call", child_of(), lease="1-none")
    parent, kid = started(client, "call", "a")
    client.complete_step(kid.id, "a", "failed")
    for workflow_id in (kid.id, parent.id):
        client.set_retention(workflow_id, timedelta(0))
        client.prune()


def appends(client: Client) -> None:
    """Under a join and from outside, in one piece and in several; superseded, and given up."""
    view = client.insert(flow("split join:split"))
    for _ in range(2):
        client.complete_step(view.id, "split", append=fragment("a b"), command_id="one")
    client.complete_step(view.id, "a")
    for _ in range(2):
        client.append(view.id, fragment("c:a"), actor="me", command_id="two")
    client.recover_step(view.id, "split", "retry", scope="downstream")
    client.complete_step(view.id, "split", append=fragment("a d"))
    wide = client.insert(flow("split join:split"))
    many = fragment(" ".join(f"w{number}" for number in range(250)))
    client.complete_step(wide.id, "split", append=many)
    client.append(wide.id, fragment(" ".join(f"o{number}" for number in range(250))))
    drive(client, append(client._ctx, view.id, many, None, None), 3)
    staged_long_ago(client)
    swept(client)
    client.request_cancel(view.id)
    with refused("already_terminal"):
        client.append(view.id, fragment("later"))


def cancels(client: Client) -> None:
    """Requests: on steps that run, wait, retry, and in slices."""
    view = client.insert(flow("a b c:a d e:d"))
    client.claim(["default"], worker_id="w")
    client.complete_step(view.id, "d", "retryable", retry_in=600)
    client.await_step(view.id, "b", signal="go", correlation_key="1")
    client.request_cancel(view.id, actor="me", reason="why")
    client.complete_step(view.id, "a", force=True)
    client.request_cancel(client.insert(fan_out(450)).id)


def recoveries(client: Client) -> None:
    """Each action and scope, in slices too, and a request closed."""
    view = client.insert(flow("a b:a c:b d:+b"))
    client.complete_step(view.id, "a", "failed")
    client.recover_step(view.id, "a", "retry", command_id="one")
    client.complete_step(view.id, "a")
    client.recover_step(view.id, "a", "retry", scope="downstream")
    client.recover_step(view.id, "b", "cancel")
    client.recover_step(view.id, "a", "skip")
    client.request_cancel(view.id)
    client.recover_step(view.id, "b", "retry", reopen=True)
    with refused("illegal_transition"):
        client.recover_step(view.id, "a", "retry")
    wide = client.insert(fan_out(450))
    client.complete_step(wide.id, "root", "failed")
    client.recover_step(wide.id, "root", "retry")


def bulks(client: Client) -> None:
    """Sessions that recover and cancel, whose commands are refused, and that are stopped."""
    who: dict[str, Any] = {"actor": "me", "reason": "why"}
    ids = [client.insert(flow("a b:a")).id for _ in range(3)]
    for workflow_id in ids:
        client.complete_step(workflow_id, "a", "failed")
    with patch.object(bulk, "_PER_SLICE", 2):
        client.recover_many({"state": "failed"}, "retry", **who)
        client.recover_many({"name": "flow"}, "retry", step="nobody", **who)
    command = bulk.checked_command({"name": "flow"}, None, None, None, *who.values())
    idle, cut = (client._run(bulk.begin(client._ctx, command)) for _ in range(2))
    client.stop_bulk(idle, **who)
    keys = client._ctx.keys.bulk(cut)
    client._run(ask(keys, TakeBulk("dead", 1)))
    client._run(ask(keys, SelectBulk("dead", 1, "", False, 1, ids[0])))
    client.stop_bulk(cut, **who)  # the workflow in hand is left
    client.continue_bulk(cut)
    client.cancel_many({"name": "flow"}, **who)


def callbacks(client: Client) -> None:
    """Delivered, failed, sent again, left by a dispatcher that died."""
    ids = [client.insert(flow("a")).id for _ in range(2)]
    for workflow_id in ids:
        client.complete_step(workflow_id, "a")

    def failing(_: Callback) -> None:
        raise OSError

    client.dispatch_callbacks(failing, limit=1)
    client.dispatch_callbacks(ignore)
    for workflow_id in ids:
        if client.callbacks(workflow_id)[0].status == "pending":
            hasten(client, workflow_id)
    client.dispatch_callbacks(ignore)
    client.resend_callback(f"{ids[0]}/1")
    bad = client.insert(flow("a b:a"))
    with refused("illegal_transition"):
        client.acknowledge(bad.id, actor="me", reason="why")
    client.complete_step(bad.id, "a", "failed")
    for _ in range(2):
        client.acknowledge(bad.id, actor="me", reason="why")
    with refused("invalid_argument"):
        client.resend_callback(f"{ids[0]}/7")


def prunes(client: Client) -> None:
    """A workflow with an insert key, waits and a signal, and a signal that nobody took."""
    over = timedelta(0)
    view = client.insert(flow("a b:a"), key="key", retention=over)
    for number in range(3):
        client.await_step(view.id, "a", signal="go", correlation_key=str(number))
    client.deliver_signal("go", "2", payload={"n": 1})
    client.complete_step(view.id, "a")
    client.complete_step(view.id, "b")
    wide = client.insert(fan_out(450), retention=over)
    client.complete_step(wide.id, "root", "failed")
    client.set_retention(view.id, None)
    with refused("step_not_found"):
        client.recover_step(view.id, "nobody", "retry")
    client.set_retention(view.id, over)
    client.dispatch_callbacks(ignore)
    client.prune()


def upkeep(client: Client) -> None:
    """A store that has lost derived keys and counts, repaired by daemons and by a rebuild."""
    view = client.insert(flow("a b c:a d:b"))
    client.complete_step(view.id, "b", "retryable", retry_in=600)
    client.await_step(view.id, "a", signal="go", correlation_key="1", deadline=HOUR)
    client.deliver_signal("go", "2")
    ended = client.insert(flow("a"))
    client.complete_step(ended.id, "a")
    client.deliver_signal("stop", "1")
    age(client, "stop", "1")
    fired(client)
    client._run(daemons.join(client._ctx, "daemon", 1000))
    lose(client, "ready", "timers", "index")
    client.reconcile(view.id)
    lose(client, "outbox")
    counts = raw(client).hget(own_key(ended.id), ":c")
    raw(client).hset(own_key(ended.id), ":c", counts.replace(b"c1", b"f1", 1))
    client.reconcile(ended.id)
    swept(client)
    command = bulk.checked_command({"name": "flow"}, None, None, None, "me", "why")
    client._run(bulk.begin(client._ctx, command))
    lose(client, "index", "reg:*", "bulks")
    for partition in range(PARTITIONS):
        raw(client).set(f"rwf:{{{partition}}}:ready", "overwritten")
        raw(client).zadd(f"rwf:{{{partition}}}:timers", {f"r|{view.id}|nobody": 5})
        raw(client).hincrby(f"rwf:{{{partition}}}:stats", "gs|available", 2)
    client.rebuild()
    client._run(daemons.leave(client._ctx, "daemon", 1000))


HISTORIES: Final[dict[str, Callable[[Client], None]]] = {
    history.__name__: history
    for history in (
        inserts, releases, claims, tickets, signals, children, appends, cancels, recoveries, bulks,
        callbacks, prunes, upkeep,
    )
}  # fmt: skip

DAMAGED: Final = ("upkeep",)
"""Those that damage derived keys by hand, which a rebuild repairs."""


# --- helpers


def fired(client: Client) -> None:
    """Waits until a timer is due, and carries out all that are."""

    def done() -> bool:
        work = [
            client._run(fire_due(client._ctx, partition, PassedOver())).done
            for partition in range(PARTITIONS)
        ]
        return any(work)

    until(done, what="a timer to be due")


def forgotten(client: Client, key: str) -> None:
    """Makes an insert key look as if it were reserved long ago."""
    digest = key_digest(key)
    name = client._ctx.keys.derived(home_partition(digest, PARTITIONS), "keys")
    workflow_id, definition, _ = raw(client).hget(name, digest).split(b" ")
    raw(client).hset(name, digest, b"%b %b 1" % (workflow_id, definition))


def staged_long_ago(client: Client) -> None:
    """Makes all that is staged so old that it is given up."""
    for partition in range(PARTITIONS):
        staged = f"rwf:{{{partition}}}:staged"
        if left := raw(client).zrange(staged, 0, -1):
            raw(client).zadd(staged, dict.fromkeys(left, 1))


def aged(client: Client, digest: str) -> None:
    """Makes the signals of a topic so old that they are to be dropped now."""
    redis, keys = raw(client), client._ctx.keys
    record = keys.topic(digest)[-2]
    for field, text in redis.hgetall(record).items():
        if field.startswith(b"s"):
            status, _, rest = text.split(b",", 2)
            redis.hset(record, field, b"%b,20000000000,%b" % (status, rest))
    timers = keys.derived(home_partition(digest, PARTITIONS), "timers")
    redis.zadd(timers, {f"s|{digest}": 1})


def lose(client: Client, *names: str) -> None:
    """Deletes derived keys of all partitions."""
    for name in names:
        for key in raw(client).scan_iter(match=f"rwf:*:{name}", count=1000):
            raw(client).delete(key)


def swept(client: Client) -> None:
    """A whole round of both sweeps over all partitions, as a daemon does one."""
    for partition in range(PARTITIONS):
        for kind in Kind:
            place = Place(partition, kind)
            ended = client._run(sweep(client._ctx, place, 0, anew=True)).ended
            slices = 1
            while not ended:
                ended = client._run(sweep(client._ctx, place, 0)).ended
                slices += 1
                assert slices < 100, "a sweep does not end"


def finish(client: Client) -> None:
    """Has a worker run all steps that can be run, and an operator report the others, until every
    workflow has ended."""

    def ended() -> bool:
        while claimed := client.claim(["default", "other"], worker_id="last", limit=64):
            client.complete_many(
                Completion(workflow_id=one.workflow_id, step=one.step, lease=one.lease)
                for one in claimed
            )
        left, held = _open_steps(client)
        for workflow_id, step in left:
            client.complete_step(workflow_id, step, force=True)
        for workflow_id in held:
            client.reconcile(workflow_id)
        return not left and not held

    until(ended, what="the workflows to end")


def _open_steps(client: Client) -> tuple[list[tuple[str, str]], list[str]]:
    """The steps that can be reported on, and the children that are held until their parents' steps
    have been; AssertionError where another workflow has no such step, and has not ended."""
    found, held = [], []
    for view in client.list(limit=100).workflows:
        steps = client.steps(view.id)
        some = [
            (view.id, step.name)
            for step in steps
            if step.state not in TERMINAL_STEPS | {StepState.PENDING}
        ]
        over = all(step.state in TERMINAL_STEPS for step in steps)
        is_held = view.parent is not None and view.state == "pending" and not some
        assert some or over or is_held, f"{view.id} is stuck"
        assert over == (view.terminal_cause is not None)
        found += some
        held += [view.id] if is_held else []
    return found, held
