"""A reply is lost, and the client sends again: one effect, and the first answer.

Each server function that writes is cut before the server sees it, after it ran, and in the middle
of its reply, once to three times in a row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from rwf import AsyncClient, Client, CommandRejected, Completion, StoreUnavailable, Workflow, result
from rwf.model.states import PauseReason
from rwf.model.views import Callback, CommandResult, WorkflowView
from rwf.ops.claims import Claimer, pause
from rwf.ops.complete import complete_step, exchange, prepared
from rwf.protocol.functions.claims import ReserveSteps
from rwf.protocol.requests import Call, ask
from rwf.transport import patience
from tests.conftest import connect
from tests.support import invariants
from tests.support.daemons import swept
from tests.support.flows import effect, fan_out, flow, noted, one_call, own_key, raw, refused
from tests.support.outbox import counted, ended, fail, hasten, ignore
from tests.support.proxy import Proxy
from tests.support.servers import AnyServer, Server

CUTS = [(where, times) for where in ("request", "reply", "mid_reply") for times in (1, 2, 3)]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client with as many tries as usual, and shorter pauses between them."""
    monkeypatch.setattr("rwf.transport.patience._PAUSES", (0.01,) * len(patience._PAUSES))


@pytest.fixture
def proxy(one_server: AnyServer) -> Iterator[Proxy]:
    assert isinstance(one_server, Server)
    with Proxy(one_server.port) as between:
        yield between


@pytest.fixture
def direct(one_server: AnyServer) -> Iterator[Client]:
    """A client with no proxy in between, to check the result; checked at the end."""
    with connect(one_server) as client:
        client.list()
        yield client
        assert invariants.check(client) == []


@pytest.fixture(params=CUTS, ids=lambda cut: f"{cut[0]}x{cut[1]}")
def cut(request: pytest.FixtureRequest, proxy: Proxy, direct: Client) -> Callable[[str], None]:
    """Loses the next calls of a server function."""
    where, times = request.param

    def lose(function: str) -> None:
        name = direct._session.library.function(function).encode()
        getattr(proxy, f"cut_{where}")(name + b"\r\n", times)

    return lose


@pytest.fixture
def lossy(proxy: Proxy, direct: Client) -> Iterator[Client]:
    """A client through the proxy, connected."""
    with Client.from_url(proxy.url) as client:
        client.list()
        yield client
    assert proxy.cuts > 0, "nothing was lost, so nothing was shown"


Cut = Callable[[str], None]


@pytest.mark.parametrize("command", [b"HGETALL", b"ZMSCORE"])
@pytest.mark.parametrize("where", ["request", "mid_reply"])
def test_plain_reads(
    proxy: Proxy, direct: Client, lossy: Client, command: bytes, where: str
) -> None:
    for _ in range(20):
        direct.insert(flow("a b:a"))
    raw(direct).delete("rwf:{0}:ready")
    getattr(proxy, f"cut_{where}")(command + b"\r\n", 2)
    assert swept(lossy) == {("ready_entry_missing", "a")}


def test_complete(direct: Client, lossy: Client, cut: Cut) -> None:
    view = direct.insert(flow("a b:a c:+a"))
    cut("complete")
    result = lossy.complete_step(view.id, "a", payload=[1], summary="s")
    assert result.outcome == "accepted"
    assert effect(result) == (("b", "c"), 2, (), 0)
    assert result.workflow == direct.get(view.id)
    assert result.step.attempt == 1
    assert len(direct.results(view.id)) == 1
    assert noted(direct, view.id) == [("complete_step", "a", "accepted", None)]


def test_complete_with_a_command_id(direct: Client, lossy: Client, cut: Cut) -> None:
    view = direct.insert(flow("a"))
    cut("complete")
    assert lossy.complete_step(view.id, "a", command_id="one").outcome == "accepted"
    assert lossy.complete_step(view.id, "a", command_id="one").outcome == "duplicate"
    assert len(direct.evidence(view.id)) == 2


@pytest.mark.parametrize("max_attempts", [1, 5])
def test_a_retry_is_one_attempt(direct: Client, lossy: Client, cut: Cut, max_attempts: int) -> None:
    view = direct.insert(flow("a b:a", max_attempts=max_attempts))
    cut("complete")
    result = lossy.complete_step(view.id, "a", "retryable", retry_in=60)
    assert (result.outcome, result.step.attempt) == ("accepted", 1)
    assert direct.step(view.id, "a").attempt == 1
    assert len(direct.results(view.id)) == 1
    exhausted = [entry.reason_code for entry in direct.evidence(view.id)]
    assert exhausted.count("attempts_exhausted") == (1 if max_attempts == 1 else 0)


def test_a_repeat_that_other_attempts_overtake(direct: Client) -> None:
    view = direct.insert(flow("a", max_attempts=100))
    item = Completion(workflow_id=view.id, step="a", status="retryable", retry_in=60)
    call = next(complete_step(direct._ctx, item))
    assert isinstance(call, Call)
    first = direct._run(one_call(call))
    for _ in range(7):
        direct.complete_step(view.id, "a", "retryable", retry_in=60)
    again = direct._run(one_call(call.repeated()))
    assert again[0][0][:3] == first[0][0][:3]  # accepted, as attempt 1, with that row
    assert len(direct.results(view.id)) == 8


REFUSALS = [
    ("dependencies_unresolved", {"step": "b"}),
    ("step_not_found", {"step": "nobody"}),
    ("stale_lease", {"step": "a", "lease": "x"}),
    ("already_terminal", {"step": "done", "status": "failed"}),
]


@pytest.mark.parametrize(("reason", "arguments"), REFUSALS, ids=lambda value: str(value)[:24])
def test_a_refusal_is_recorded_once(
    direct: Client, lossy: Client, cut: Cut, reason: str, arguments: dict[str, Any]
) -> None:
    view = direct.insert(flow("a b:a done"))
    direct.complete_step(view.id, "done")
    cut("complete")
    with refused(reason) as caught:
        lossy.complete_step(view.id, **arguments)
    entries = [entry for entry in direct.evidence(view.id) if entry.status == "rejected"]
    assert [entry.reason_code for entry in entries] == [reason]
    assert caught.value.requested_at == entries[0].requested_at
    assert caught.value.message == entries[0].message
    counted = raw(direct).hget("rwf:{0}:stats", f"cr|complete_step|{reason}")
    assert counted == b"1"


def test_a_refusal_of_an_unknown_workflow_is_logged_once(
    direct: Client, lossy: Client, cut: Cut
) -> None:
    cut("complete")
    with refused("workflow_not_found"):
        lossy.complete_step("0-" + "a" * 16, "a")
    assert raw(direct).llen("rwf:{0}:log") == 1


def test_a_duplicate_is_recorded_once(direct: Client, lossy: Client, cut: Cut) -> None:
    view = direct.insert(flow("a"))
    direct.complete_step(view.id, "a", payload=1)
    cut("complete")
    assert lossy.complete_step(view.id, "a", payload=1).outcome == "duplicate"
    statuses = [entry.status for entry in direct.evidence(view.id)]
    assert statuses == ["accepted", "duplicate"]


def test_a_batch(direct: Client, lossy: Client, cut: Cut) -> None:
    ids = [direct.insert(flow("a b:a")).id for _ in range(5)]
    cut("complete")
    items = [Completion(workflow_id=id_, step="a", payload=n) for n, id_ in enumerate(ids)]
    items.append(Completion(workflow_id=ids[0], step="nobody"))
    *done, last = lossy.complete_many(items)
    for answer in done:
        assert isinstance(answer, CommandResult)
        assert (answer.outcome, answer.released) == ("accepted", ("b",))
    assert isinstance(last, CommandRejected)
    assert [len(direct.evidence(id_)) for id_ in ids] == [2, 1, 1, 1, 1]


def test_a_wide_completion(direct: Client, lossy: Client, cut: Cut) -> None:
    view = direct.insert(fan_out(1300))
    cut("complete")
    cut("advance")
    result = lossy.complete_step(view.id, "root", "failed")
    assert (result.outcome, result.cancelled_count) == ("accepted", 1300)
    assert len(result.cancelled) == len(set(result.cancelled)) == 1000
    assert result.workflow == direct.get(view.id)
    assert result.workflow.state == "failed"


def test_insert(direct: Client, lossy: Client, cut: Cut) -> None:
    cut("insert")
    view = lossy.insert(flow("a b:a"))
    assert not view.duplicate
    assert view == direct.get(view.id)
    assert direct.list().workflows == (view,)
    assert direct.evidence(view.id) == []


def test_a_staged_insert(direct: Client, lossy: Client, cut: Cut) -> None:
    cut("insert")
    cut("advance")
    view = lossy.insert(fan_out(1300))
    assert direct.list().workflows == (view,)
    assert direct.complete_step(view.id, "root").released_count == 1300


def test_the_last_call_of_a_staged_insert(
    proxy: Proxy, direct: Client, lossy: Client, cut: Cut
) -> None:
    cut("advance")
    proxy.cut_reply(b"publish", 2)
    view = lossy.insert(flow(" ".join(f"s{n}" for n in range(1700))), key="k")
    assert not view.duplicate
    assert view.runnable_step_count == 1700
    assert direct.insert(flow(" ".join(f"s{n}" for n in range(1700))), key="k").duplicate


def test_a_keyed_insert(direct: Client, lossy: Client, cut: Cut) -> None:
    cut("reserve_key")
    cut("insert")
    view = lossy.insert(flow("a"), key="k")
    assert not view.duplicate
    assert [found.id for found in direct.list().workflows] == [view.id]
    assert direct.evidence(view.id) == []


def test_a_duplicate_insert_is_recorded_once(direct: Client, lossy: Client, cut: Cut) -> None:
    first = direct.insert(flow("a"), key="k")
    cut("record_evidence")
    again = lossy.insert(flow("a"), key="k")
    assert (again.id, again.duplicate) == (first.id, True)
    assert noted(direct, first.id) == [("insert", None, "duplicate", "duplicate_insert")]


def test_a_key_conflict_is_recorded_once(direct: Client, lossy: Client, cut: Cut) -> None:
    first = direct.insert(flow("a"), key="k")
    cut("record_evidence")
    with refused("key_conflict") as caught:
        lossy.insert(flow("b"), key="k")
    [entry] = direct.evidence(first.id)
    assert entry.reason_code == "key_conflict"
    assert caught.value.requested_at == entry.requested_at


def test_reconcile(direct: Client, lossy: Client, cut: Cut) -> None:
    view = direct.insert(flow("a b"))
    direct.complete_step(view.id, "a", "retryable", retry_in=0)
    raw(direct).delete("rwf:{0}:ready")
    cut("repair_workflow")
    lossy.reconcile(view.id)
    assert direct.get(view.id).runnable_step_count == 2
    assert direct.reconcile(view.id).repairs == ()


def test_counts_are_corrected_once(direct: Client, lossy: Client, cut: Cut) -> None:
    view = direct.insert(flow("a b"))
    key = own_key(view.id)
    counts = raw(direct).hget(key, ":c")
    raw(direct).hset(key, ":c", counts.replace(b"a2", b"a1c1", 1))
    cut("repair_workflow")
    lossy.reconcile(view.id)
    assert direct.get(view.id).runnable_step_count == 2


def test_a_delivery(direct: Client, lossy: Client, cut: Cut) -> None:
    workflow_id = ended(direct)
    got: list[str] = []
    cut("due_callbacks")
    cut("claim_callbacks")
    with counted(direct, delivered=1):
        report = lossy.dispatch_callbacks(lambda one: got.append(one.callback_id))
    assert (report.delivered, report.failed) == (1, 0)
    assert got == [f"{workflow_id}/1"]
    [after] = direct.callbacks(workflow_id)
    assert (after.status, after.attempts) == ("delivered", 1)
    assert len(direct.evidence(workflow_id)) == 1


@pytest.mark.parametrize("failures", [1, 20])
def test_the_acknowledgement_of_a_callback(
    direct: Client, lossy: Client, cut: Cut, failures: int
) -> None:
    workflow_id = ended(direct)
    fail(direct, workflow_id, failures - 1)
    hasten(direct, workflow_id)

    def handler(_: Callback) -> None:
        cut("settle_callbacks")
        raise OSError

    with counted(direct, failed=1, **({"dead": 1} if failures == 20 else {})):
        assert lossy.dispatch_callbacks(handler).failed == 1
    assert direct.callbacks(workflow_id)[0].attempts == failures
    assert len(direct.evidence(workflow_id)) == (2 if failures == 20 else 1)


def test_sending_again(direct: Client, lossy: Client, cut: Cut) -> None:
    workflow_id = ended(direct)
    direct.dispatch_callbacks(ignore)
    cut("resend_callback")
    again = lossy.resend_callback(f"{workflow_id}/1")
    assert (again.status, again.attempts) == ("pending", 0)
    assert noted(direct, workflow_id)[1:] == [("resend_callback", None, "accepted", None)]


def test_a_refusal_to_send_again_is_recorded_once(direct: Client, lossy: Client, cut: Cut) -> None:
    workflow_id = ended(direct)
    cut("resend_callback")
    with refused("invalid_argument"):
        lossy.resend_callback(f"{workflow_id}/7")
    assert len(direct.evidence(workflow_id)) == 2


def test_a_repeat_that_nobody_tells_of(proxy: Proxy, direct: Client, cut: Cut) -> None:
    """redis-py sends again by itself: a claim, its acknowledgement."""
    workflow_id = ended(direct)
    with redis.Redis(port=proxy.port) as own, Client.from_redis(own) as client:
        client.list()
        cut("claim_callbacks")
        assert client.dispatch_callbacks(lambda _: cut("settle_callbacks")).delivered == 1
    [after] = direct.callbacks(workflow_id)
    assert (after.status, after.attempts) == ("delivered", 1)
    assert len(direct.evidence(workflow_id)) == 1


def test_reads_come_back(direct: Client, lossy: Client, cut: Cut) -> None:
    view = direct.insert(flow("a b:a"))
    for function in ("show", "steps", "list", "callbacks"):
        cut(function)
    assert lossy.get(view.id) == view
    assert lossy.steps(view.id) == direct.steps(view.id)
    assert lossy.callbacks(view.id) == []
    assert [found.id for found in lossy.list().workflows] == [view.id]


def test_connecting(proxy: Proxy, direct: Client, lossy: Client, cut: Cut) -> None:
    view = direct.insert(flow("a"))
    cut("namespace")
    proxy.cut_reply(b"INFO", 2)
    proxy.cut_reply(b"FUNCTION", 2)
    with Client.from_url(proxy.url) as client:
        assert client.get(view.id) == view


def test_making_a_namespace(proxy: Proxy, direct: Client, lossy: Client, cut: Cut) -> None:
    cut("create_namespace")
    with Client.from_url(proxy.url, namespace="new", partitions=3) as client:
        assert client.list().workflows == ()
        assert raw(direct).hgetall("new:{0}:meta") == {b"partitions": b"3", b"homes": b"3"}


def test_a_loss_that_does_not_end_is_told(proxy: Proxy, direct: Client, lossy: Client) -> None:
    """And the command may have run: sent again later, it is a duplicate."""
    view = direct.insert(flow("a"))
    proxy.cut_reply(b"_complete\r\n", 100)
    with pytest.raises(StoreUnavailable):
        lossy.complete_step(view.id, "a", payload=1)
    assert direct.step(view.id, "a").state == "completed"
    assert direct.complete_step(view.id, "a", payload=1).outcome == "duplicate"
    assert len(direct.results(view.id)) == 1


def test_the_async_client(direct: Client, proxy: Proxy, cut: Cut) -> None:
    view = direct.insert(fan_out(900))
    cut("complete")

    async def run() -> tuple[CommandResult, WorkflowView]:
        async with AsyncClient.from_url(proxy.url) as client:
            done = await client.complete_step(view.id, "root", payload=[1])
            with refused("step_not_found"):
                await client.complete_step(view.id, "nobody")
            return done, await client.get(view.id)

    result, after = asyncio.run(run())
    assert (result.outcome, result.released_count) == ("accepted", 900)
    assert after == direct.get(view.id)
    assert len(direct.evidence(view.id)) == 2


def test_an_uncounted_retry_is_one(direct: Client, lossy: Client, cut: Cut) -> None:
    view = direct.insert(flow("a b:a", max_attempts=1))
    (held,) = direct.claim(["default"], worker_id="w")
    cut("complete")
    done = lossy.complete(held, "retryable", retry_in=60, count=False)
    assert (done.outcome, done.step.state, done.step.attempt) == ("accepted", "retryable", 1)
    assert direct.results(view.id) == []
    assert noted(direct, view.id) == []


def test_a_step_is_given_back_for_a_while_once(direct: Client, lossy: Client, cut: Cut) -> None:
    view = direct.insert(flow("a"))
    held = direct.claim(["default"], worker_id="w")
    cut("pause_claims")
    lossy._run(pause(lossy._ctx, held, PauseReason.NO_HANDLER))
    step = direct.step(view.id, "a")
    assert step.retry_at is not None
    assert (step.attempt, (step.retry_at - step.last_transition_at).total_seconds()) == (0, 0.5)
    assert noted(direct, view.id) == [("claim", "a", "accepted", "no_handler")]


def test_what_a_claim_lacks_is_read_in_spite_of_losses(
    direct: Client, lossy: Client, cut: Cut
) -> None:
    names = [f"s{number}" for number in range(70)]
    workflow = Workflow("joined").add_many({"name": name, "worker": "work"} for name in names)
    workflow.add("last", worker="work", queue="late", input=[result(name) for name in names])
    view = direct.insert(workflow)
    direct.complete_many(Completion(workflow_id=view.id, step=name, payload=name) for name in names)
    cut("inputs")
    (held,) = lossy.claim(["late"], worker_id="w")
    assert held.input == names


def test_a_workers_trip_hands_out_each_step_once(direct: Client, lossy: Client, cut: Cut) -> None:
    direct.insert(flow("a b c d"))
    (held,) = direct.claim(["default"], worker_id="w")
    claimer = Claimer.checked(["default"], "w", 30)
    reserved = direct._run(ask(direct._ctx.keys.partition(0), ReserveSteps(2, ["default"])))
    report = Completion(workflow_id=held.workflow_id, step=held.step, lease=held.lease)
    cut("complete")
    items = [prepared(lossy._ctx, report)]
    done = lossy._run(exchange(lossy._ctx, 0, items, reserved, claimer, 5))
    assert sorted(claimed.step for claimed in done.claimed) == ["b", "c", "d"]
    assert len({claimed.lease for claimed in done.claimed}) == 1


def test_a_users_own_redis_client_that_sends_again_by_itself(
    proxy: Proxy, direct: Client, cut: Cut
) -> None:
    """redis-py retries by default, and then nothing tells the server that the call is a repeat."""
    view = direct.insert(flow("a b:a"))
    with redis.Redis(port=proxy.port) as own, Client.from_redis(own) as client:
        client.list()
        cut("complete")
        result = client.complete_step(view.id, "a", payload=1)
    assert (result.outcome, result.step.attempt) == ("accepted", 1)
    assert effect(result) == (("b",), 1, (), 0)
    assert len(direct.results(view.id)) == 1
    assert noted(direct, view.id) == [("complete_step", "a", "accepted", None)]


def test_a_users_own_redis_client_leaves_a_refusal_once(proxy: Proxy, direct: Client) -> None:
    view = direct.insert(flow("a"))
    with redis.Redis(port=proxy.port) as own, Client.from_redis(own) as client:
        client.list()
        proxy.cut_reply(b"_complete\r\n")
        with refused("step_not_found"):
            client.complete_step(view.id, "nobody")
    assert len(direct.evidence(view.id)) == 1
