"""Lost replies of awaits, signals, cancel requests, recoveries and claims: each has its effect
once.

As in ``test_lost_replies``, whose fixtures these are: each function is cut before the server sees
it, after it ran, and in the middle of its reply, once to three times in a row.
"""

from __future__ import annotations

from rwf import Client, Completion, result
from rwf.ops.cancel import request_cancel
from rwf.protocol.requests import Call
from tests.fault.test_lost_replies import (  # noqa: F401 - fixtures
    Cut,
    cut,
    direct,
    impatient,
    lossy,
    proxy,
)
from tests.internals.test_claim_next import report
from tests.support.flows import flow, noted, one_call, partition_key, raw, refused, states


def test_inserting_many(direct: Client, lossy: Client, cut: Cut) -> None:  # noqa: F811
    lossy.list()
    cut("insert")
    views = lossy.insert_many([flow("a"), flow("b"), flow("c")])
    assert [states(direct, view.id) for view in views] == [f"{s}=available" for s in "abc"]
    assert len(direct.list().workflows) == 3


def test_await(direct: Client, lossy: Client, cut: Cut) -> None:  # noqa: F811
    view = direct.insert(flow("a"))
    cut("await")
    assert lossy.await_step(view.id, "a", signal="go", correlation_key="k").status == "waiting"
    assert noted(direct, view.id) == [("await_step", "a", "accepted", None)]
    assert direct.deliver_signal("go", "k").status == "consumed"


def test_registering(direct: Client, lossy: Client, cut: Cut) -> None:  # noqa: F811
    view = direct.insert(flow("a"))
    direct.deliver_signal("go", "k")
    for function in ("update_topic", "ack_wait_notices", "resolve_wait"):
        cut(function)
    assert lossy.await_step(view.id, "a", signal="go", correlation_key="k").status == "resolved"
    assert states(direct, view.id) == "a=available"
    assert noted(direct, view.id).count(("deliver_signal", "a", "accepted", None)) == 1


def test_signal(direct: Client, lossy: Client, cut: Cut) -> None:  # noqa: F811
    view = direct.insert(flow("a"))
    direct.await_step(view.id, "a", signal="go", correlation_key="k")
    for function in ("signal", "resolve_wait", "update_topic"):
        cut(function)
    assert lossy.deliver_signal("go", "k", payload=1).status == "consumed"
    assert noted(direct, view.id)[1:] == [("deliver_signal", "a", "accepted", None)]


def test_cancel(direct: Client, lossy: Client, cut: Cut) -> None:  # noqa: F811
    view = direct.insert(flow("a b:a"))
    cut("cancel")
    assert lossy.request_cancel(view.id).terminal_cause == "operator_cancelled"
    assert noted(direct, view.id) == [("request_cancel", None, "accepted", None)]
    assert len(direct.callbacks(view.id)) == 1


def test_a_cancel_request_that_was_closed_meanwhile(direct: Client) -> None:  # noqa: F811
    view = direct.insert(flow("a"))
    call = next(request_cancel(direct._ctx, view.id, None, None))
    assert isinstance(call, Call)
    direct._run(one_call(call))
    direct.recover_step(view.id, "a", "retry", reopen=True)
    assert direct._run(one_call(call.repeated()))[0] == b"accepted"
    assert states(direct, view.id) == "a=available"


def test_recover(direct: Client, lossy: Client, cut: Cut) -> None:  # noqa: F811
    view = direct.insert(flow("a b:a"))
    direct.complete_step(view.id, "a", "failed")
    cut("recover")
    done = lossy.recover_step(view.id, "a", "retry")
    assert (done.duplicate, done.change_count) == (False, 2)
    assert done.session_id == f"{view.id}/1"
    assert states(direct, view.id) == "a=available b=pending"
    assert [entry[2] for entry in noted(direct, view.id)] == ["accepted", "accepted"]


def test_a_refused_recovery(direct: Client, lossy: Client, cut: Cut) -> None:  # noqa: F811
    view = direct.insert(flow("a"))
    direct.complete_step(view.id, "a")
    cut("recover")
    with refused("illegal_transition"):
        lossy.recover_step(view.id, "a", "retry")
    assert [entry[2] for entry in noted(direct, view.id)] == ["accepted", "rejected"]


def test_claim(direct: Client, lossy: Client, cut: Cut) -> None:  # noqa: F811
    view = direct.insert(flow("a"))
    cut("start_steps")
    (claimed,) = lossy.claim(["default"], worker_id="w")
    assert (claimed.step, claimed.attempt) == ("a", 1)
    assert direct.step(view.id, "a").attempt == 1
    cut("extend_leases")
    assert len(lossy.heartbeat([claimed]).extended) == 1
    cut("complete")
    item = Completion(workflow_id=view.id, step="a", lease=claimed.lease)
    batch = lossy.complete_many([item], claim_next=1, worker_id="w")
    assert not isinstance(batch[0], Exception)
    assert batch[0].outcome == "accepted"
    assert len(direct.results(view.id)) == 1


def test_tickets(direct: Client, lossy: Client, cut: Cut) -> None:  # noqa: F811
    view = direct.insert(flow("a", max_attempts=1))
    cut("dispatch_steps")
    (ticket,) = lossy.dispatch(["default"], dispatcher="d")
    cut("start_ticket")
    held = lossy.start(ticket, run_id="r", worker_id="w")
    assert (held.step, held.attempt) == ("a", 1)
    assert noted(direct, view.id) == []
    cut("start_ticket")
    with refused("already_started"):
        lossy.start(ticket, run_id="other", worker_id="w")
    assert noted(direct, view.id) == [("start", "a", "rejected", "already_started")]
    assert direct.complete(held).outcome == "accepted"


def test_the_next_claims_of_a_batch(direct: Client, lossy: Client, cut: Cut) -> None:  # noqa: F811
    """They count their only attempt, so a second claim would be refused."""
    view = direct.insert(flow("a b:a c:a d", max_attempts=1))
    first = direct.claim(["default"], worker_id="w", limit=2)
    cut("complete")
    batch = lossy.complete_many(
        [report(one) for one in first if one.step == "a"], claim_next=3, worker_id="w"
    )
    assert sorted((one.step, one.attempt) for one in batch.claimed) == [("b", 1), ("c", 1)]
    for one in (*batch.claimed, *(one for one in first if one.step == "d")):
        assert direct.complete(one).outcome == "accepted"
    assert direct.get(view.id).state == "completed"


def test_a_repeated_batch_claims_no_more_than_asked(
    direct: Client,  # noqa: F811
    lossy: Client,  # noqa: F811
    cut: Cut,  # noqa: F811
) -> None:
    view = direct.insert(flow("a b:a c:a d:a e:a"))
    first = direct.claim(["default"], worker_id="w")
    cut("complete")
    batch = lossy.complete_many(map(report, first), claim_next=2, worker_id="w")
    assert sorted(one.step for one in batch.claimed) == ["b", "c"]
    assert direct.get(view.id).runnable_step_count == 2


def test_reserving(direct: Client, lossy: Client, cut: Cut) -> None:  # noqa: F811
    """Entries reserved by a lost call go back when their time is over, and count nothing."""
    view = direct.insert(flow("a"))
    cut("reserve_steps")
    found = lossy.claim(["default"], worker_id="w")
    if not found:
        assert states(direct, view.id) == "a=available"
        reserved = partition_key(view.id, "reserved")
        (entry,) = raw(direct).zrange(reserved, 0, -1)
        raw(direct).zadd(reserved, {entry: 1})  # as if its time had passed
        found = lossy.claim(["default"], worker_id="w")
    assert [(one.step, one.attempt) for one in found] == [("a", 1)]


def test_giving_back(direct: Client, lossy: Client, cut: Cut) -> None:  # noqa: F811
    direct.insert(flow("a"))
    held = direct.claim(["default"], worker_id="w")
    cut("release_claims")
    assert lossy.release(held) in (0, 1)
    (again,) = direct.claim(["default"], worker_id="w")
    assert again.attempt == 1


def test_a_missing_result(direct: Client, lossy: Client, cut: Cut) -> None:  # noqa: F811
    workflow = flow("a").add("b", worker="work", input=result("a", "x"))
    view = direct.insert(workflow)
    direct.complete_step(view.id, "a")
    cut("block_on_missing_result")
    assert lossy.claim(["default"], worker_id="w") == []
    assert states(direct, view.id) == "a=completed b=pending"
    assert direct.step(view.id, "b").attempt == 0
