"""Hand-offs between child workflows and the steps that wait for them, cut off between any two of
their calls, and finished by a reconciliation by hand, or by what is due, as a daemon does.

The stop is injected: an operation is dropped after its first k calls, as if its process had died.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from rwf import Client
from rwf.ops.cancel import request_cancel
from rwf.ops.child_notices import GONE, NOT_WAITED_FOR, to_child
from rwf.ops.children import start_child
from rwf.ops.complete import Completion, complete_step
from rwf.ops.recover import Recovery, recover_step
from rwf.protocol.requests import Op
from tests.conftest import Pool
from tests.fault.test_handoffs import finish
from tests.support.children_cases import PARENT, child_of, claim, started
from tests.support.flows import drive, flow, raw, states
from tests.support.servers import KINDS, AnyServer

LONG: Final = (*KINDS[1:], "cluster")


WHOLE: Final = (pytest.mark.long, pytest.mark.whole)


@pytest.fixture(params=[KINDS[0], *(pytest.param(kind, marks=WHOLE) for kind in LONG)])
def server(request: pytest.FixtureRequest, pool: Pool) -> AnyServer:
    """One server; in the long tests the others, and a cluster, where a child and its parent are on
    different nodes."""
    return pool.get(request.param)


FINISHED_BY = pytest.mark.parametrize("by", ["reconcile", "timers"])


def each_cut(client: Client, again: Callable[[], tuple[Op[Any], Callable[[], None]]]) -> None:
    """Cuts an operation off after its first call, its second and so on, on fresh workflows each
    time, until it ends by itself; and judges each."""
    for calls in range(1, 100):
        op, judge = again()
        done = drive(client, op, calls) is not None
        judge()
        if done:
            return
    raise AssertionError("the operation has no end")


def settled(client: Client, by: str, *workflow_ids: str) -> None:
    """All hand-offs of these are over; once more changes nothing."""
    for _ in range(2):
        for workflow_id in workflow_ids:
            finish(client, workflow_id, by)
    for workflow_id in workflow_ids:
        assert client.reconcile(workflow_id).repairs == ()


def children(client: Client, parent: str) -> list[str]:
    return [one.id for one in client.list(limit=500).workflows if one.parent == parent]


@FINISHED_BY
def test_a_start_cut_off(client: Client, by: str) -> None:
    """The child runs if its step waits for it; else it never does."""

    def again() -> tuple[Op[Any], Callable[[], None]]:
        parent = client.insert(flow(PARENT, "parent"))
        lease = claim(client, "call").lease
        op = start_child(client._ctx, parent.id, "call", child_of(), lease, None)

        def judge() -> None:
            if by == "timers":
                # A held child asks again while its step runs; here nobody does any more.
                kids = children(client, parent.id)
                if states(client, parent.id).startswith("call=executing"):
                    client.recover_step(parent.id, "call", "retry", force=True)
                    for kid in kids:
                        finish(client, kid, by)
                        assert states(client, kid) == "a=cancelled b=cancelled"
                    client.request_cancel(parent.id)
                    return
                finish(client, parent.id, by)
            waits = states(client, parent.id).startswith("call=awaiting")
            if waits:
                settled(client, by, parent.id)
                (kid,) = children(client, parent.id)
                assert states(client, kid) == "a=available b=pending"
            again = client.start_child(parent.id, "call", child_of(), lease=lease)
            assert children(client, parent.id) == [again.id]
            assert again.duplicate == waits
            client.complete_step(again.id, "a")
            client.complete_step(again.id, "b", payload=1)
            assert states(client, parent.id) == "call=completed next=available"
            client.complete_step(parent.id, "next")

        return op, judge

    each_cut(client, again)


@FINISHED_BY
@pytest.mark.parametrize("status", ["completed", "failed"])
def test_the_end_of_a_child_cut_off(client: Client, by: str, status: str) -> None:
    def again() -> tuple[Op[Any], Callable[[], None]]:
        parent, kid = started(client, child="a")
        report = Completion(workflow_id=kid.id, step="a", status=status, payload=1)

        def judge() -> None:
            settled(client, by, kid.id, parent.id)
            below = "available" if status == "completed" else "cancelled"
            assert states(client, parent.id) == f"call={status} next={below}"
            assert len(client.results(parent.id, step="call")) == 1
            client.request_cancel(parent.id) if status == "completed" else None

        return complete_step(client._ctx, report), judge

    each_cut(client, again)


@FINISHED_BY
def test_a_cancel_request_cut_off(client: Client, by: str) -> None:
    def again() -> tuple[Op[Any], Callable[[], None]]:
        parent, kid = started(client)

        def judge() -> None:
            settled(client, by, parent.id, kid.id)
            assert states(client, parent.id) == "call=cancelled next=cancelled"
            assert states(client, kid.id) == "a=cancelled b=cancelled"

        return request_cancel(client._ctx, parent.id, None, None), judge

    each_cut(client, again)


@FINISHED_BY
def test_a_recovery_of_a_waiting_step_cut_off(client: Client, by: str) -> None:
    def again() -> tuple[Op[Any], Callable[[], None]]:
        parent, kid = started(client)
        asked = Recovery(workflow_id=parent.id, step="call", action="retry")

        def judge() -> None:
            settled(client, by, parent.id, kid.id)
            assert states(client, parent.id) == "call=available next=pending"
            assert states(client, kid.id) == "a=cancelled b=cancelled"
            client.request_cancel(parent.id)

        return recover_step(client._ctx, asked, False), judge

    each_cut(client, again)


@FINISHED_BY
def test_results_taken_over_by_a_retry_cut_off(client: Client, by: str) -> None:
    def again() -> tuple[Op[Any], Callable[[], None]]:
        parent, kid = started(client, child="a")
        client.complete_step(kid.id, "a", "failed")
        client.recover_step(kid.id, "a", "retry")
        client.complete_step(kid.id, "a", payload=2)
        client.recover_step(parent.id, "call", "retry")
        lease = claim(client, "call").lease
        op = start_child(client._ctx, parent.id, "call", child_of("a"), lease, None)

        def judge() -> None:
            if states(client, parent.id).startswith("call=executing"):
                client.start_child(parent.id, "call", child_of("a"), lease=lease)
            settled(client, by, parent.id, kid.id)
            assert states(client, parent.id) == "call=completed next=available"
            assert children(client, parent.id) == [kid.id]
            client.request_cancel(parent.id)

        return op, judge

    each_cut(client, again)


def test_a_child_that_is_gone_fails_its_step(client: Client, broken_on_purpose: None) -> None:
    parent, kid = started(client)
    redis = raw(client)
    redis.delete(*client._ctx.keys.workflow(kid.id))
    (repair,) = client.reconcile(parent.id).repairs
    assert (repair.kind, repair.step) == ("handoff_unfinished", "call")
    row = client.result(parent.id, "call")
    assert row is not None
    assert row.summary == f"child workflow {kid.id} is gone"
    assert states(client, parent.id) == "call=failed next=cancelled"


def test_a_parent_that_is_gone_lets_its_child_be(client: Client, broken_on_purpose: None) -> None:
    parent, kid = started(client)
    raw(client).delete(*client._ctx.keys.workflow(parent.id))
    client.complete_step(kid.id, "a")
    client.complete_step(kid.id, "b")
    assert client.get(kid.id).state == "completed"
    assert client.reconcile(kid.id).repairs == ()


def test_a_parent_that_has_lost_the_end_is_told_again(client: Client) -> None:
    """As after a failover, by which the parent fell back to a time before."""
    parent, kid = started(client, child="a")
    redis = raw(client)
    keys = client._ctx.keys.workflow(parent.id)
    before = {key: redis.dump(key) for key in keys}
    client.complete_step(kid.id, "a", payload=7)
    for key, value in before.items():
        redis.delete(key)
        if value is not None:
            redis.restore(key, 0, value)
    client.rebuild()
    assert states(client, parent.id) == "call=completed next=available"
    row = client.result(parent.id, "call")
    assert row is not None
    assert row.payload["results"] == {"a": 7}
    client.rebuild()


def test_news_in_any_order_changes_nothing(client: Client) -> None:
    """Each message is sent again, late, after all others."""
    parent, kid = started(client, child="a")
    client.complete_step(kid.id, "a", "failed")
    client.recover_step(kid.id, "a", "retry")
    client.complete_step(kid.id, "a", payload=2)
    client.recover_step(parent.id, "call", "retry")
    lease = claim(client, "call").lease
    client.start_child(parent.id, "call", child_of("a"), lease=lease)
    for n, outcome in ((1, "w"), (1, NOT_WAITED_FOR), (1, GONE), (2, "w"), (1, "f")):
        client._run(to_child(client._ctx, parent.id, "call", n, outcome, kid.id))
    assert states(client, parent.id) == "call=completed next=available"
    assert client.get(kid.id).state == "completed"
    assert len(client.results(parent.id, step="call")) == 2
