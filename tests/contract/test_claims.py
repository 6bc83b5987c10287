"""Claims: who gets a step, and what counts as an attempt (contract §8)."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import Any

import pytest

from rwf import Client, Workflow
from rwf.model.views import ClaimedStep
from tests.conftest import connect
from tests.support.claims_cases import claim, report, woken
from tests.support.flows import flow, partition_key, raw, refused, states
from tests.support.servers import AnyServer
from tests.support.waiting import until

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
    """A step that waited before it was ever claimed."""
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


# --- a part of the store is away


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
