"""Lost replies of awaits, signals, cancel requests, recoveries and claims: the effect of once.

As in ``test_lost_replies``, whose fixtures these are: each function is cut before the server sees
it, after it ran, and in the middle of its reply, once to three times in a row.
"""

from __future__ import annotations

from rwf import Client, Completion
from rwf.store.catalog import Call
from rwf.store.ops.cancel import request_cancel
from tests.contract.flows import flow, noted, one_call, refused, states
from tests.fault.test_lost_replies import (  # noqa: F401 - fixtures
    Cut,
    cut,
    direct,
    impatient,
    lossy,
    proxy,
)


def test_await(direct: Client, lossy: Client, cut: Cut) -> None:  # noqa: F811
    view = direct.insert(flow("a"))
    cut("await")
    assert lossy.await_step(view.id, "a", signal="go", correlation_key="k").status == "waiting"
    assert noted(direct, view.id) == [("await_step", "a", "accepted", None)]
    assert direct.deliver_signal("go", "k").status == "consumed"


def test_registering(direct: Client, lossy: Client, cut: Cut) -> None:  # noqa: F811
    view = direct.insert(flow("a"))
    direct.deliver_signal("go", "k")
    for function in ("sync", "told", "wake"):
        cut(function)
    assert lossy.await_step(view.id, "a", signal="go", correlation_key="k").status == "resolved"
    assert states(direct, view.id) == "a=available"
    assert noted(direct, view.id).count(("deliver_signal", "a", "accepted", None)) == 1


def test_signal(direct: Client, lossy: Client, cut: Cut) -> None:  # noqa: F811
    view = direct.insert(flow("a"))
    direct.await_step(view.id, "a", signal="go", correlation_key="k")
    for function in ("signal", "wake", "sync"):
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
    call = next(request_cancel(direct._scope, view.id, None, None))
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
    cut("start")
    (claimed,) = lossy.claim(["default"], worker_id="w")
    assert (claimed.step, claimed.attempt) == ("a", 1)
    assert direct.step(view.id, "a").attempt == 1
    cut("heartbeat")
    assert len(lossy.heartbeat([claimed]).extended) == 1
    cut("complete")
    item = Completion(workflow_id=view.id, step="a", lease=claimed.lease)
    batch = lossy.complete_many([item], claim_next=1, worker_id="w")
    assert not isinstance(batch[0], Exception)
    assert batch[0].outcome == "accepted"
    assert len(direct.results(view.id)) == 1
