"""Due timers are carried out by any client that looks at them (contract §10)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rwf import Client
from rwf.ops.cancel import request_cancel
from rwf.ops.recover import Recovery, recover_step
from rwf.ops.timer_pages import PassedOver
from rwf.protocol.functions.timers import FiredTimer, FireTimers
from rwf.protocol.functions.workflows import Advance
from rwf.protocol.requests import Call, Together, ask
from rwf.repair.timers import fire_due
from tests.support.daemons import backlog, corrupt, fired
from tests.support.flows import (
    drive,
    fan_out,
    first_call_only,
    flow,
    one_call,
    other_semantics,
    partition_key,
    raw,
    states,
    until_past,
)
from tests.support.waiting import until


def walk_timer(client: Client, workflow_id: str) -> float | None:
    score: float | None = raw(client).zscore(
        partition_key(workflow_id, "timers"), f"u|{workflow_id}"
    )
    return score


def fire_until(client: Client, workflow_id: str, state: str) -> None:
    partition = int(workflow_id.partition("-")[0])

    def reached() -> bool:
        fired(client, partition=partition)
        return client.get(workflow_id).state == state

    until(reached, what=f"the workflow to be {state}")


def test_a_release_that_was_left_is_finished_when_its_timer_is_due(client: Client) -> None:
    view = client.insert(fan_out(600))
    first_call_only(client, view.id, "root", "completed")
    assert walk_timer(client, view.id) is not None
    partition = int(view.id.partition("-")[0])

    def released() -> bool:
        fired(client, partition=partition)
        return client.get(view.id).runnable_step_count == 600

    until(released, what="all of it")
    assert walk_timer(client, view.id) is None


def test_a_cancel_request_that_was_left(client: Client) -> None:
    view = client.insert(flow(" ".join(f"s{n}" for n in range(700))))
    assert drive(client, request_cancel(client._ctx, view.id, None, None), 1) is None
    assert walk_timer(client, view.id) is not None
    fire_until(client, view.id, "cancelled")
    assert walk_timer(client, view.id) is None


def test_a_recovery_that_was_left(client: Client) -> None:
    view = client.insert(fan_out(600))
    client.complete_step(view.id, "root", "failed")
    asked = Recovery(workflow_id=view.id, step="root", action="retry")
    assert drive(client, recover_step(client._ctx, asked, False), 1) is None
    assert walk_timer(client, view.id) is not None
    fire_until(client, view.id, "available")
    assert walk_timer(client, view.id) is None


def test_whoever_walks_puts_the_timer_off(one_client: Client) -> None:
    """A live driver is left alone, however long it takes."""
    view = one_client.insert(fan_out(2000))
    first_call_only(one_client, view.id, "root", "completed")
    before = walk_timer(one_client, view.id)
    assert before is not None

    def moved() -> bool:
        one_client._run(ask(one_client._ctx.workflow_keys(view.id), Advance(None)))
        now = walk_timer(one_client, view.id)
        assert now is not None
        return now > before

    until(moved, what="a later timer")
    one_client.reconcile(view.id)


def calls_of(client: Client, passed: PassedOver) -> list[str]:
    """The functions that one look at due timers calls."""
    called: list[str] = []
    op = fire_due(client._ctx, 0, passed)
    reply = None
    while True:
        try:
            call = op.send(reply)
        except StopIteration:
            return called
        assert isinstance(call, Call | Together)
        calls = call.calls if isinstance(call, Together) else [call]
        called += [one.function for one in calls if isinstance(one, Call)]
        reply = client._run(one_call(call))


def test_a_look_at_nothing_is_one_call_and_tells_when_to_come_again(one_client: Client) -> None:
    view = one_client.insert(flow("a b"))
    assert fired(one_client) == (0, None, None)
    one_client.complete_step(view.id, "a", "retryable", retry_in=600)
    done, next_in, _ = fired(one_client)
    assert done == 0
    assert next_in is not None
    assert 590 < next_in <= 600
    assert calls_of(one_client, PassedOver()) == ["due_timers"]


def test_many_workflows_are_carried_out_in_one_call(one_client: Client) -> None:
    ids = [one_client.insert(flow("a")).id for _ in range(64)]
    for workflow_id in ids:
        one_client.complete_step(workflow_id, "a", "retryable", retry_in=0)
    assert calls_of(one_client, PassedOver()) == ["due_timers", "fire_timers", "due_timers"]
    assert {states(one_client, workflow_id) for workflow_id in ids} == {"a=available"}


def test_a_backlog_does_not_hold_up_what_is_due_now(client: Client) -> None:
    """Timers that become due beside a backlog of many pages are carried out with the next page."""
    view = client.insert(flow("a"))
    partition, timers = int(view.id.partition("-")[0]), partition_key(view.id, "timers")
    raw(client).zadd(timers, dict.fromkeys(backlog(partition, 2000), 1))
    passed = PassedOver()
    fired(client, passed, partition)
    due = client.complete_step(view.id, "a", "retryable", retry_in=0.01).step.retry_at
    assert due is not None
    clock = raw(client).get_node_from_key(timers) if hasattr(raw(client), "get_nodes") else None
    until(lambda: server_time(client, clock) > due.timestamp() + 0.01, what="the retry to be due")
    fired(client, passed, partition)
    assert states(client, view.id) == "a=available"
    assert raw(client).zcard(timers) > 1000
    raw(client).delete(timers)


def server_time(client: Client, node: Any) -> float:
    seconds, micros = raw(client).time(target_nodes=node) if node else raw(client).time()
    return float(seconds + micros / 1e6)


def test_of_a_backlog_both_ends_are_carried_out(one_client: Client) -> None:
    """The longest overdue are not delayed by timers that become due all the time."""
    timers = backlog(0, 1000)
    raw(one_client).zadd("rwf:{0}:timers", {one: at for at, one in enumerate(timers, 1)})
    assert fired(one_client).done == 200
    left = [name.decode() for name in raw(one_client).zrange("rwf:{0}:timers", 0, -1)]
    assert left == timers[100:900]
    raw(one_client).delete("rwf:{0}:timers")


@pytest.mark.parametrize(("width", "advances"), [(0, 0), (150, 1), (350, 2)])
def test_what_a_timer_begins_is_finished(one_client: Client, width: int, advances: int) -> None:
    view = one_client.insert(flow("a " + " ".join(f"c{n}:+a" for n in range(width))))
    end = datetime.now(UTC) + timedelta(milliseconds=50)
    one_client.await_step(view.id, "a", signal="go", correlation_key="k", deadline=end)
    until_past(one_client, end)
    calls = calls_of(one_client, PassedOver())
    assert one_client.get(view.id).runnable_step_count == width
    assert calls.count("advance") == advances


def test_a_lapse_is_followed_to_its_last_child(one_client: Client) -> None:
    view = one_client.insert(flow("a " + " ".join(f"c{n}:a" for n in range(300)), max_attempts=1))
    (held,) = one_client.claim(["default"], worker_id="w", lease=0.05)
    until_past(one_client, held.lease_expires_at)
    until(lambda: "fire_timers" in calls_of(one_client, PassedOver()), what="its timer")
    assert one_client.get(view.id).cancelled_step_count == 300


def test_what_cannot_be_carried_out_holds_up_nothing(
    one_client: Client, broken_on_purpose: None, caplog: pytest.LogCaptureFixture
) -> None:
    """More than a page of them, of other semantics and corrupt, before all others."""
    strange = one_client.insert(flow(" ".join(f"s{n}" for n in range(130)))).id
    spoiled = one_client.insert(flow("a")).id
    good = one_client.insert(flow("a")).id
    for number in range(130):
        one_client.complete_step(strange, f"s{number}", "retryable", retry_in=0)
    one_client.complete_step(spoiled, "a", "retryable", retry_in=0)
    other_semantics(one_client, strange)
    corrupt(one_client, spoiled, "a")
    one_client.complete_step(good, "a", "retryable", retry_in=0.01)
    passed = PassedOver()

    def done() -> bool:
        fired(one_client, passed)
        return states(one_client, good) == "a=available"

    until(lambda: done() and passed.count == 131, what="the retry behind all that")
    assert f"workflow {spoiled} was skipped" in caplog.text
    assert calls_of(one_client, passed) == ["due_timers"]
    # That another daemon has carried out one meanwhile is no reason to leave out another.
    raw(one_client).zrem("rwf:{0}:timers", f"r|{strange}|s5")
    one_client.complete_step(good, "a", "retryable", retry_in=0)
    until(done, what="the next retry")


def test_timers_that_nothing_implies_are_dropped_or_passed_over(client: Client) -> None:
    view = client.insert(flow("a"))
    gone = f"{view.id.partition('-')[0]}-{'a' * 16}"
    timers = partition_key(view.id, "timers")
    implied_by_nothing = [f"{kind}|{gone}" for kind in "wu"]
    implied_by_nothing += [f"{kind}|{gone}|a" for kind in "rl"]
    implied_by_nothing += [f"w|{view.id}", f"u|{view.id}", f"r|{view.id}|a", f"l|{view.id}|b"]
    garbage = ["", "r", "|", "x|y|z", "r|a", f"r|{view.id}", f"u|{view.id}|a", "s|zz", "u|9-a"]
    raw(client).zadd(timers, dict.fromkeys(implied_by_nothing + garbage, 1))
    raw(client).zadd(timers, {b"r|\xff|\xfe": 1})
    partition = int(view.id.partition("-")[0])
    until(lambda: fired(client, partition=partition)[0] == 0, what="nothing more to be done")
    left = raw(client).zrange(timers, 0, -1)
    assert {member.decode(errors="replace") for member in left} == {*garbage, "r|\ufffd|\ufffd"}
    assert states(client, view.id) == "a=available"
    raw(client).delete(timers)


def fire(client: Client, workflow_id: str, kind: str, step: str = "") -> None:
    """Carries out a due timer as a daemon does."""
    fire = FireTimers(None, [FiredTimer(1, kind, step)])
    client._run(ask(client._ctx.workflow_keys(workflow_id), fire))


def test_a_lease_timer_that_is_too_early_is_set_anew(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    one_client.claim(["default"], worker_id="w")
    raw(one_client).zadd(partition_key(view.id, "timers"), {f"l|{view.id}|a": 1})
    fire(one_client, view.id, "l", "a")
    assert states(one_client, view.id) == "a=executing"
    assert raw(one_client).zscore(partition_key(view.id, "timers"), f"l|{view.id}|a") > 1


def test_a_timer_of_a_walk_that_is_over_is_dropped(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    raw(one_client).zadd(partition_key(view.id, "timers"), {f"u|{view.id}": 1})
    fire(one_client, view.id, "u")
    assert raw(one_client).zcard(partition_key(view.id, "timers")) == 0


def test_a_last_attempt_that_lapses_cancels_what_follows(one_client: Client) -> None:
    view = one_client.insert(flow("a b:a", max_attempts=1))
    one_client.claim(["default"], worker_id="w", lease=0.05)

    def lapsed() -> bool:
        fire(one_client, view.id, "l", "a")
        return one_client.step(view.id, "a").state == "discarded"

    until(lapsed, what="the lease to pass")
    assert states(one_client, view.id) == "a=discarded b=cancelled"
