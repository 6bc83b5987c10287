"""Claims: who gets a step, and what counts as an attempt (contract §8)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from rwf import Client, Completion, StoreUnavailable, Workflow
from rwf.model.views import ClaimedStep
from rwf.ops.claims import Claimer, claim_in, start
from rwf.protocol.functions.claims import ReserveSteps
from rwf.protocol.functions.commands import Cancel
from rwf.protocol.requests import Call, ask
from rwf.transport.session import Session
from tests.conftest import connect
from tests.contract.flows import drive, flow, one_call, partition_key, raw, refused, states
from tests.servers import AnyServer
from tests.waiting import until

ANYBODY = Claimer(("default",), "anybody", 30_000)


def claim(client: Client, **options: Any) -> ClaimedStep:
    """The one step that there is to be claimed."""
    (claimed,) = client.claim(["default"], worker_id="w", **options)
    return claimed


def report(claimed: ClaimedStep) -> Completion:
    return Completion(
        workflow_id=claimed.workflow_id, step=claimed.step, lease=claimed.lease, payload=1
    )


def woken(client: Client, workflow_id: str, step: str = "a", lease: str | None = None) -> None:
    """Has a step wait for a signal, and delivers it."""
    client.await_step(workflow_id, step, signal="go", correlation_key=workflow_id, lease=lease)
    client.deliver_signal("go", workflow_id)


# --- each step once


def test_a_thousand_concurrent_claims_hand_out_each_step_once(
    client: Client, server: AnyServer
) -> None:
    wide = flow(" ".join(f"s{n}" for n in range(75)))
    ids = [client.insert(wide).id for _ in range(20)]
    found: list[ClaimedStep] = []

    def work(own: Client, limit: int) -> None:
        for _ in range(125):
            found.extend(own.claim(["default"], worker_id="w", limit=limit))

    with ExitStack() as stack:
        clients = [stack.enter_context(connect(server)) for _ in range(4)]
        threads = [
            threading.Thread(target=work, args=(own, limit)) for own in clients for limit in (1, 2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) > 1_000
    found += client.claim(["default"], worker_id="w", limit=1_000)
    assert len(found) == len({(one.workflow_id, one.step) for one in found}) == 1_500
    answers = client.complete_many(map(report, found))
    assert not any(isinstance(answer, Exception) for answer in answers)
    assert {client.get(workflow_id).state for workflow_id in ids} == {"completed"}


def test_what_a_claim_tells(client: Client) -> None:
    workflow = Workflow("told", context={"of": ["all"]})
    workflow.add(
        "a",
        worker="do_it",
        input=[2**53 + 1],
        context={"own": 1},
        queue="q",
        max_attempts=7,
        timeout=90,
    )
    view = client.insert(workflow)
    (claimed,) = client.claim(["q"], worker_id="wörker 1|:,", lease=20)
    assert (claimed.workflow_id, claimed.step, claimed.worker) == (view.id, "a", "do_it")
    assert (claimed.queue, claimed.attempt, claimed.max_attempts) == ("q", 1, 7)
    assert (claimed.input, claimed.context) == ([2**53 + 1], {"own": 1})
    assert (claimed.workflow_context, claimed.signal) == ({"of": ["all"]}, None)
    assert claimed.timeout == 90
    step = client.step(view.id, "a")
    assert (step.state, step.leased_by) == ("executing", "wörker 1|:,")
    assert step.lease_expires_at == claimed.lease_expires_at
    assert step.started_at is not None
    assert (claimed.lease_expires_at - step.started_at).total_seconds() == 20
    assert client.explain_step(view.id, "a").blockers[0].details["leased_by"] == "wörker 1|:,"


def test_a_limit_beyond_one_call(client: Client) -> None:
    client.insert(flow(" ".join(f"s{n}" for n in range(150))))
    assert len(client.claim(["default"], worker_id="w", limit=100)) == 100
    assert len(client.claim(["default", "nobody"], worker_id="w", limit=1_000)) == 50
    assert client.claim(["default"], worker_id="w", limit=1_000) == []


def test_a_claim_asks_256_queues(client: Client) -> None:
    queues = [f"q{n}" for n in range(256)]
    for n in (255, 3, 128):
        client.insert(flow("a", queue=f"q{n}", priority=n % 100))
    found = client.claim(queues, worker_id="w", limit=5)
    assert sorted(one.queue for one in found) == ["q128", "q255", "q3"]


BAD = [
    {"queues": []},
    {"queues": "default"},
    {"queues": None},
    {"queues": [""]},
    {"queues": ["a:b"]},
    {"queues": [b"default"]},
    {"queues": [["default"]]},
    {"queues": [f"q{n}" for n in range(257)]},
    {"worker_id": ""},
    {"worker_id": None},
    {"worker_id": "\ud800"},
    {"worker_id": "w" * 513},
    {"limit": 0},
    {"limit": 1_001},
    {"limit": True},
    {"limit": 1.0},
]


@pytest.mark.parametrize("wrong", BAD, ids=lambda wrong: str(wrong)[:24])
def test_bad_claims(one_client: Client, wrong: dict[str, Any]) -> None:
    one_client.insert(flow("a"))
    given: dict[str, Any] = {"queues": ["default"], "worker_id": "w", **wrong}
    with refused("invalid_argument"):
        one_client.claim(given.pop("queues"), **given)
    assert one_client.queues()[0].asked_at is None  # nothing was sent


# --- attempts


def test_a_claim_counts_an_attempt_and_giving_it_back_does_not(client: Client) -> None:
    view = client.insert(flow("a", max_attempts=3))
    first = claim(client)
    assert client.release([first]) == 1
    assert client.release([first]) == 0
    assert states(client, view.id) == "a=available"
    second = claim(client)
    assert (first.attempt, second.attempt) == (1, 1)
    with refused("stale_lease"):
        client.complete(first)
    client.complete(second, "retryable", retry_in=0)
    until(lambda: client.reconcile(view.id).repairs, what="the retry")
    client.complete_step(view.id, "a", "retryable", retry_in=0)  # nobody had claimed it
    until(lambda: client.reconcile(view.id).repairs, what="the retry")
    last = claim(client)
    assert last.attempt == 3
    assert client.complete(last, "retryable").step.state == "discarded"
    assert [row.attempt for row in client.results(view.id)] == [1, 2, 3]
    client.recover_step(view.id, "a", "retry")
    granted = claim(client)
    assert (granted.attempt, granted.max_attempts) == (4, 6)


def test_the_claim_after_a_resolved_wait_counts_none(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    first = claim(one_client)
    woken(one_client, view.id, lease=first.lease)
    second = claim(one_client)
    assert second.attempt == 1
    assert second.signal is not None
    one_client.release([second])
    third = claim(one_client)
    assert (third.attempt, third.signal) == (1, second.signal)
    one_client.complete(third, "retryable", retry_in=0)
    until(lambda: one_client.reconcile(view.id).repairs, what="the retry")
    fourth = claim(one_client)
    assert (fourth.attempt, fourth.signal) == (2, second.signal)


@pytest.mark.parametrize("status", ["completed", "retryable"])
def test_a_report_counts_when_neither_its_claim_nor_one_before_has(
    one_client: Client, status: str
) -> None:
    """A step that waited before anybody had claimed it."""
    view = one_client.insert(flow("a"))
    woken(one_client, view.id)
    claimed = claim(one_client)
    assert claimed.attempt == 0
    done = one_client.complete(claimed, status, payload=[1], **_soon(status))
    assert (done.outcome, done.step.attempt) == ("accepted", 1)
    again = one_client.complete(claimed, status, payload=[1], **_soon(status))
    assert again.outcome == "duplicate"
    with refused("already_terminal"):
        one_client.complete(claimed, "failed")
    with refused("already_terminal"):
        one_client.await_step(view.id, "a", signal="go", correlation_key="k", lease=claimed.lease)
    row = one_client.result(view.id, "a")
    assert row is not None
    assert (row.attempt, row.payload) == (1, [1])


def test_no_report_takes_the_place_of_an_earlier_one(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    one_client.complete(claim(one_client), "retryable", payload="first", retry_in=0)
    until(lambda: one_client.reconcile(view.id).repairs, what="the retry")
    woken(one_client, view.id)
    one_client.complete(claim(one_client), payload="second")
    rows = [(row.attempt, row.status, row.payload) for row in one_client.results(view.id)]
    assert rows == [(1, "retryable", "first"), (2, "completed", "second")]


def _soon(status: str) -> dict[str, Any]:
    return {"retry_in": 60} if status == "retryable" else {}


# --- between taking an entry and starting its step


@pytest.fixture
def reserved(one_client: Client) -> Iterator[bytes]:
    """An entry that a claimer has taken; one without a step is never handed out."""
    one_client.insert(flow("a b:a", name="reserved"))
    reserve = ReserveSteps(1, ANYBODY.queues)
    (entry,) = one_client._run(ask(one_client._ctx.keys.partition(0), reserve))
    yield entry
    assert one_client.queues()[0].available == 0


def _workflow_of(entry: bytes) -> str:
    return entry.decode().split("|")[2]


def _pass_reservation(client: Client, entry: bytes) -> None:
    key = partition_key(_workflow_of(entry), "reserved")
    assert raw(client).zadd(key, {entry: 1}, xx=True, ch=True) == 1


def test_a_reserved_step_is_nobody_elses_and_still_waits(
    one_client: Client, reserved: bytes
) -> None:
    assert one_client.claim(["default"], worker_id="w") == []
    (queue,) = one_client.queues()
    assert (queue.name, queue.available, queue.oldest_at is not None) == ("default", 1, True)
    assert one_client.get(_workflow_of(reserved)).state == "available"
    assert len(one_client._run(start(one_client._ctx, 0, ANYBODY, [reserved]))) == 1


def test_a_claimer_that_died_in_between_has_counted_nothing(
    one_client: Client, reserved: bytes
) -> None:
    _pass_reservation(one_client, reserved)
    assert claim(one_client).attempt == 1


def test_a_start_that_comes_late_gets_the_step_only_while_nobody_has_it(
    one_client: Client, reserved: bytes
) -> None:
    ctx = one_client._ctx
    _pass_reservation(one_client, reserved)
    assert drive(one_client, claim_in(ctx, 0, ANYBODY, 1), 1) is None  # another took, and died
    (late,) = one_client._run(start(ctx, 0, ANYBODY, [reserved]))
    assert one_client._run(start(ctx, 0, ANYBODY, [reserved])) == []
    assert one_client.complete(late).released == ("b",)
    claim(one_client)


MOVES = {
    "completed": lambda client, id_: client.complete_step(id_, "a", "failed"),
    "cancelled": lambda client, id_: client.recover_step(id_, "a", "cancel"),
    "request": lambda client, id_: client.request_cancel(id_),
    "awaited": lambda client, id_: client.await_step(id_, "a", signal="s", correlation_key="k"),
    "retried": lambda client, id_: client.complete_step(id_, "a", "retryable", retry_in=60),
}


@pytest.mark.parametrize("move", MOVES)
def test_a_step_that_moves_meanwhile_is_not_started(
    one_client: Client, reserved: bytes, move: str
) -> None:
    MOVES[move](one_client, _workflow_of(reserved))
    assert one_client._run(start(one_client._ctx, 0, ANYBODY, [reserved])) == []
    assert one_client.claim(["default"], worker_id="w") == []


def test_a_step_that_came_back_meanwhile_has_another_entry(
    one_client: Client, reserved: bytes
) -> None:
    workflow_id = _workflow_of(reserved)
    woken(one_client, workflow_id)
    assert one_client._run(start(one_client._ctx, 0, ANYBODY, [reserved])) == []
    assert claim(one_client).signal is not None


def test_entries_that_may_not_be_started_hide_none_behind_them(one_client: Client) -> None:
    """A cancel request whose sweep was cut off leaves entries in the queue."""
    wide = one_client.insert(flow(" ".join(f"s{n}" for n in range(450))))
    claimed = one_client.claim(["default"], worker_id="w", limit=5)
    other = one_client.insert(flow("late", priority=-1))
    cancel = Cancel("call", "", b"{}", False)
    one_client._run(ask(one_client._ctx.workflow_keys(wide.id), cancel))
    found = []
    for one in claimed:
        batch = one_client.complete_many([report(one)], claim_next=64, worker_id="w")
        found += batch.claimed
    assert [one.workflow_id for one in found] == [other.id]
    one_client.reconcile(wide.id)
    assert one_client.get(wide.id).state == "cancelled"


# --- a part of the store is away


def test_what_was_claimed_before_a_partition_is_away_is_told(
    one_server: AnyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    away: set[str] = set()
    judged = Session._judged

    def partly(self: Session, call: Call, *rest: Any) -> Any:
        if any(part in call.keys[0] for part in away):
            raise StoreUnavailable("no answer from the server")
        return (yield from judged(self, call, *rest))

    monkeypatch.setattr(Session, "_judged", partly)
    with Client.from_url(one_server.url, partitions=3) as client:
        while client.queues() == [] or sum(q.available for q in client.queues()) < 20:
            client.insert(flow("a"))
        away.add("{2}")
        claims = client.claim(["default"], worker_id="w", limit=100)
        assert claims != []
        assert claims.unreachable == (2,)
        away.update(("{0}", "{1}"))
        with pytest.raises(StoreUnavailable):
            client.claim(["default"], worker_id="w", limit=100)


# --- who serves a queue


def test_idle_polls_write_nothing(one_client: Client) -> None:
    one_client.insert(flow("a"))
    claim(one_client)
    (before,) = one_client.queues()
    assert before.served
    raw(one_client).config_resetstat()
    for _ in range(5):
        assert one_client.claim(["default"], worker_id="w") == []
    stats = raw(one_client).info("commandstats")
    assert {"cmdstat_zadd", "cmdstat_hset", "cmdstat_zrem"}.isdisjoint(stats)
    assert one_client.queues() == [before]


def test_a_queue_that_nobody_serves_any_more(one_client: Client) -> None:
    view = one_client.insert(flow("a", queue="q"))
    why = one_client.explain_step(view.id, "a")
    details = dict(why.blockers[0].details)
    assert details.pop("waiting_seconds") >= 0
    assert details == {"queue": "q", "served": False, "served_before": False}
    assert (why.blockers[0].code, why.operator_status) == ("waiting_for_worker", "Runnable")
    assert one_client.claim(["other", "q"], worker_id="w", limit=2) != []
    other = one_client.insert(flow("a", queue="q"))
    assert one_client.explain_step(other.id, "a").blockers[0].details["served"] is True
    served = partition_key(view.id, "served")
    raw(one_client).zincrby(served, -61_000, "q")  # as if a minute had passed
    why = one_client.explain_step(other.id, "a")
    assert why.blockers[0].details["served_before"] is True
    assert (why.blockers[0].details["served"], why.operator_status) == (False, "Blocked")
    queues = {queue.name: queue for queue in one_client.queues()}
    assert (queues["q"].served, queues["q"].available) == (False, 1)
    assert (queues["other"].served, queues["other"].available) == (True, 0)
    assert one_client.claim(["q"], worker_id="w") != []
    assert all(queue.served for queue in one_client.queues())


def test_a_start_sent_again_gets_no_step_that_has_gone_to_another(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    claimer = Claimer.checked(["default"], "first", 30.0)
    entries = one_client._run(
        ask(one_client._session.keys.partition(0), ReserveSteps(1, ["default"]))
    )
    call = next(start(one_client._ctx, 0, claimer, entries))
    assert isinstance(call, Call)
    raw(one_client).zadd(partition_key(view.id, "reserved"), {entries[0]: 1})
    (held,) = one_client.claim(["default"], worker_id="second")
    assert one_client._run(one_call(call.repeated()))[0] == [None]
    assert one_client.complete(held).outcome == "accepted"
