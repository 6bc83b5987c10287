"""Hand-offs between a workflow and its topics, cut off between any two of their calls.

The stop is simulated: an operation is dropped after its first k calls, as if its process had died.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rwf import Client, CommandRejected
from rwf.ops.cancel import request_cancel
from rwf.ops.complete import Completion, complete_step
from rwf.ops.recover import Recovery, recover_step
from rwf.ops.signals import await_step, deliver_signal
from rwf.ops.timer_pages import PassedOver
from rwf.protocol.requests import Op
from rwf.repair.timers import fire_due
from tests.support.flows import drive, flow, noted, raw, states, until_past
from tests.support.waiting import until


def awaiting(client: Client, workflow_id: str, step: str = "a") -> Op[Any]:
    return await_step(client._ctx, workflow_id, step, "go", "k", None, None)


def delivery(client: Client, dedupe: str = "d") -> Op[Any]:
    return deliver_signal(client._ctx, "go", "k", {"n": 1}, dedupe)


ALL = 100


def cuts(count: int) -> pytest.MarkDecorator:
    """Cuts an operation of ``count`` calls off after each of them, and once not at all."""
    return pytest.mark.parametrize("calls", [*range(1, count), ALL])


def cut(client: Client, make: Callable[[], Op[Any]], calls: int) -> None:
    """Carries out the first calls only."""
    done = drive(client, make(), calls) is not None
    assert done == (calls == ALL), "the operation has another number of calls"


def consumed(client: Client, workflow_id: str) -> int:
    return noted(client, workflow_id).count(("deliver_signal", "a", "accepted", None))


@pytest.mark.parametrize("by", ["reconcile", "timers"])
@cuts(4)
def test_a_delivery_cut_off(client: Client, calls: int, by: str) -> None:
    view = client.insert(flow("a b:a"))
    client.await_step(view.id, "a", signal="go", correlation_key="k")
    cut(client, lambda: delivery(client), calls)
    finish(client, view.id, by)
    assert states(client, view.id) == "a=available b=pending"
    assert consumed(client, view.id) == 1
    again = client.deliver_signal("go", "k", dedupe_key="d")
    assert (again.status, again.workflow_id) == ("consumed", view.id)
    assert client.reconcile(view.id).repairs == ()


@pytest.mark.parametrize("by", ["reconcile", "timers"])
@cuts(7)
def test_a_registration_cut_off(client: Client, calls: int, by: str) -> None:
    view = client.insert(flow("a b:a"))
    assert client.deliver_signal("go", "k", dedupe_key="d").status == "unmatched"
    cut(client, lambda: awaiting(client, view.id), calls)
    finish(client, view.id, by)
    assert states(client, view.id) == "a=available b=pending"
    assert consumed(client, view.id) == 1
    assert client.reconcile(view.id).repairs == ()


@cuts(8)
def test_the_end_of_a_wait_cut_off(client: Client, calls: int) -> None:
    """Two wait, one is ended: the other gets the signal that was ambiguous."""
    first, second = two_that_wait(client, None)
    item = Completion(workflow_id=first, step="a")
    cut(client, lambda: complete_step(client._ctx, item), calls)
    for workflow_id in (first, second):
        client.reconcile(workflow_id)
    assert states(client, second) == "a=available b=pending"
    assert consumed(client, second) == 1


@pytest.mark.parametrize("by", ["reconcile", "timers"])
@cuts(10)
def test_a_wait_that_expires_cut_off(client: Client, calls: int, by: str) -> None:
    """The due timer is fired, and the signal that was ambiguous goes to the other workflow."""
    # Long enough for the signal to come before it, also on a machine that is loaded.
    ahead = timedelta(milliseconds=150)
    first, second = two_that_wait(client, ahead)
    end = datetime.now(UTC) + ahead
    until_past(client, end)
    partition = int(first.partition("-")[0])
    cut(client, lambda: fire_due(client._ctx, partition, PassedOver()), calls)
    finish(client, first, by)
    assert states(client, first) == "a=expired b=cancelled"
    assert states(client, second) == "a=available b=pending"
    assert consumed(client, second) == 1


@cuts(10)
def test_a_wait_replaced_by_another_cut_off(client: Client, calls: int) -> None:
    first, second = two_that_wait(client, None)
    other = await_step(client._ctx, first, "a", "stop", "k", None, None)
    cut(client, lambda: other, calls)
    finish(client, first, "timers")
    assert states(client, first) == "a=awaiting_signal b=pending"
    assert states(client, second) == "a=available b=pending"
    assert consumed(client, second) == 1
    assert client.deliver_signal("stop", "k").workflow_id == first


def two_that_wait(client: Client, deadline: timedelta | None) -> tuple[str, str]:
    """Two workflows that wait for the same signal, which came; the first until a deadline."""
    second, first = (client.insert(flow("a b:a")).id for _ in range(2))
    client.await_step(second, "a", signal="go", correlation_key="k")
    client.await_step(first, "a", signal="go", correlation_key="k", deadline=deadline)
    assert client.deliver_signal("go", "k", dedupe_key="d").status == "ambiguous"
    return first, second


@cuts(5)
def test_a_cancel_request_cut_off(client: Client, calls: int) -> None:
    view = client.insert(flow("a b:a"))
    client.await_step(view.id, "a", signal="go", correlation_key="k")
    cut(client, lambda: request_cancel(client._ctx, view.id, None, None), calls)
    client.reconcile(view.id)
    assert client.deliver_signal("go", "k").status == "unmatched"
    assert [callback.event for callback in client.callbacks(view.id)] == ["workflow.terminal"]


@cuts(5)
def test_a_recovery_of_a_waiting_step_cut_off(client: Client, calls: int) -> None:
    view = client.insert(flow("a b:a"))
    client.await_step(view.id, "a", signal="go", correlation_key="k")
    asked = Recovery(workflow_id=view.id, step="a", action="retry")
    cut(client, lambda: recover_step(client._ctx, asked, False), calls)
    client.reconcile(view.id)
    assert states(client, view.id) == "a=available b=pending"
    assert client.deliver_signal("go", "k").status == "unmatched"
    events = [callback.event for callback in client.callbacks(view.id)]
    assert events == ["workflow.recovery_completed"]


def finish(client: Client, workflow_id: str, by: str) -> None:
    """Finishes the work that a dead client has left: by hand, or as a daemon does, by due
    timers."""
    if by == "reconcile":
        client.reconcile(workflow_id)
        return

    redis, partitions = raw(client), range(client._ctx.keys.partitions)
    timers = [f"rwf:{{{partition}}}:timers" for partition in partitions]

    def told() -> bool:
        for partition, key in zip(partitions, timers, strict=True):
            if members := pending(key):
                redis.zadd(key, dict.fromkeys(members, 1))  # due, without the wait
            client._run(fire_due(client._ctx, partition, PassedOver()))
        return not any(map(pending, timers))

    def pending(key: str) -> list[bytes]:
        """All timers except the ends of retentions."""
        return [one for one in redis.zrange(key, 0, -1) if not one.startswith(b"x|")]

    until(told, what="the timers")


# --- races


@pytest.mark.parametrize("_round", range(3))
def test_deliverers_awaiters_and_a_canceller_at_once(client: Client, _round: int) -> None:
    """The outcome is that of some order of the commands."""
    first, second = (client.insert(flow("a b:a")).id for _ in range(2))
    hour = timedelta(hours=1)
    commands: list[Callable[[], object]] = [
        lambda: client.deliver_signal("go", "k", dedupe_key="1"),
        lambda: client.deliver_signal("go", "k", dedupe_key="2"),
        lambda: client.await_step(first, "a", signal="go", correlation_key="k"),
        lambda: client.await_step(second, "a", signal="go", correlation_key="k", deadline=hour),
        lambda: client.request_cancel(first),
    ]
    refusals: list[CommandRejected] = []
    threads = [threading.Thread(target=run, args=(command, refusals)) for command in commands]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for workflow_id in (first, second):
        client.reconcile(workflow_id)
    assert {refusal.reason_code for refusal in refusals} <= {"already_terminal", "cancel_requested"}
    assert states(client, first) == "a=cancelled b=cancelled"
    # Two signals came, and first can have consumed one of them at most.
    assert states(client, second) == "a=available b=pending"


def run(command: Callable[[], object], refusals: list[CommandRejected]) -> None:
    """Runs a command that the race may have made illegal."""
    try:
        command()
    except CommandRejected as refusal:
        refusals.append(refusal)
