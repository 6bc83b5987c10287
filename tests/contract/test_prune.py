"""Retention: a finished workflow is removed, with all that belongs to it (contract §10)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from rwf import AsyncClient, Client
from rwf.model.views import PruneReport, WorkflowView
from tests.support.commandline import NO_ID
from tests.support.daemons import swept, ticked
from tests.support.flows import (
    flow,
    own_key,
    partition_key,
    raw,
    refused,
    stored,
)
from tests.support.outbox import (
    claimed,
    fail,
    hasten,
    ignore,
    settled,
    stat,
)
from tests.support.prune_cases import NOW, finish, gauges, keys_of, prune, removal
from tests.support.servers import AnyServer


def counters(client: Client) -> dict[bytes, int]:
    """The counters of transitions, over all partitions."""
    found: dict[bytes, int] = {}
    for key in raw(client).scan_iter("rwf:*:stats"):
        for name, value in raw(client).hgetall(key).items():
            if name[:3] not in (b"gs|", b"gw|", b"gc|"):
                found[name] = found.get(name, 0) + int(value)
    return found


# --- when a workflow leaves


def test_a_finished_workflow_leaves_when_its_time_is_over(client: Client) -> None:
    workflow_id = finish(client, flow("a"), retention=NOW)
    prune(client, workflows=1)
    assert keys_of(client, workflow_id) == []
    assert gauges(client) == set()
    prune(client)


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


# --- its signals


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


# --- in slices


# --- signals that no workflow took


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
