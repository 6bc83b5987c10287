"""Completing a batch and claiming the next steps in the same round trip (contract §4 and §8)."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest

from rwf import Client, Completion, RecordUnreadable, StoreUnavailable, result
from rwf.model.views import ClaimedStep
from rwf.ops.claims import Claimer
from rwf.ops.complete import complete_many, exchange, prepared
from rwf.protocol.functions.claims import ReserveSteps
from rwf.protocol.functions.completion import Complete
from rwf.protocol.records import Record
from rwf.protocol.requests import Call, ask
from tests.support.flows import (
    fan_out,
    flow,
    one_call,
    own_key,
    raw,
    refused,
    states,
    until_past,
)


def report(claimed: ClaimedStep, status: str = "completed") -> Completion:
    return Completion(
        workflow_id=claimed.workflow_id, step=claimed.step, status=status, lease=claimed.lease
    )


def test_the_children_of_what_is_completed_are_claimed_with_it(client: Client) -> None:
    view = client.insert(flow("a b:a c:a d:b,c"))
    (first,) = client.claim(["default"], worker_id="w", limit=5)
    batch = client.complete_many([report(first)], claim_next=5, worker_id="w")
    assert not any(isinstance(answer, Exception) for answer in batch)
    assert sorted(claimed.step for claimed in batch.claimed) == ["b", "c"]
    assert states(client, view.id) == "a=completed b=executing c=executing d=pending"
    last = client.complete_many([report(one) for one in batch.claimed], claim_next=1, worker_id="w")
    assert [claimed.step for claimed in last.claimed] == ["d"]
    end = client.complete_many([report(last.claimed[0])], claim_next=1, worker_id="w")
    assert end.claimed == []
    assert client.get(view.id).state == "completed"


def test_what_waits_elsewhere_in_the_partition_is_claimed_too(one_client: Client) -> None:
    first = one_client.insert(flow("a b:a"))
    (claimed,) = one_client.claim(["default"], worker_id="w")
    others = [one_client.insert(flow("x")).id for _ in range(3)]
    batch = one_client.complete_many([report(claimed)], claim_next=4, worker_id="w")
    # The older come first; b has only just become available.
    assert sorted(one.workflow_id for one in batch.claimed) == sorted([first.id, *others])
    assert {one.lease for one in batch.claimed if one.workflow_id != first.id}


def test_a_limit_and_a_queue_bound_what_is_claimed(one_client: Client) -> None:
    view = one_client.insert(flow("a b:a c:a d:a"))
    (claimed,) = one_client.claim(["default"], worker_id="w")
    assert one_client.complete_many([report(claimed)]).claimed == []
    (claimed,) = one_client.claim(["default"], worker_id="w")
    batch = one_client.complete_many([report(claimed)], claim_next=1, worker_id="w")
    assert len(batch.claimed) == 1
    other = one_client.complete_many(
        [report(batch.claimed[0])], claim_next=5, worker_id="w", queues=["other"]
    )
    assert other.claimed == []
    assert one_client.get(view.id).runnable_step_count == 1


def test_a_refusal_in_the_batch_stops_no_claim(client: Client) -> None:
    client.insert(flow("a b:a"))
    (claimed,) = client.claim(["default"], worker_id="w")
    stale = claimed.model_copy(update={"lease": "1-nobody"})
    batch = client.complete_many([report(stale), report(claimed)], claim_next=2, worker_id="w")
    assert [isinstance(answer, Exception) for answer in batch] == [True, False]
    assert [one.step for one in batch.claimed] == ["b"]


def test_bad_arguments(one_client: Client) -> None:
    for wrong in ({"claim_next": -1}, {"claim_next": 1}, {"claim_next": True, "worker_id": "w"}):
        with refused("invalid_argument"):
            one_client.complete_many([], **wrong)


def test_a_workers_round_trip_starts_what_the_last_has_reserved(one_client: Client) -> None:
    ids = {one_client.insert(flow("a b:a")).id for _ in range(3)}
    claimer = Claimer.checked(["default"], "w", 30)
    done: list[ClaimedStep] = []
    reserved: list[bytes] = []
    while True:
        ctx = one_client._ctx
        items = [prepared(ctx, report(one)) for one in done]
        answer = one_client._run(exchange(ctx, 0, items, reserved, claimer, 2))
        assert answer.refusals == [None] * len(done)
        done, reserved = answer.claimed, answer.reserved
        if not (done or reserved):
            break
    assert {one_client.get(workflow_id).state for workflow_id in ids} == {"completed"}


def test_a_batch_sent_again_gets_its_own_claims_only(one_client: Client) -> None:
    one_client.insert(flow("a b:a c:a"))
    (held,) = one_client.claim(["default"], worker_id="first")
    claimer = Claimer.checked(["default"], "first", 30.0)
    call = next(complete_many(one_client._ctx, [report(held)], claimer, 2))
    assert isinstance(call, Call)
    both = Complete.decoded(one_client._run(one_call(call))).found
    raced = {one.rpartition(b"|")[2].decode() for one in both}
    assert raced == {"b", "c"}
    one_client.recover_step(held.workflow_id, "c", "retry", force=True)
    (other,) = one_client.claim(["default"], worker_id="second")
    again = Complete.decoded(one_client._run(one_call(call.repeated()))).found
    assert (other.step, [one.rpartition(b"|")[2] for one in again]) == ("c", [b"b"])


def test_a_round_trip_sent_again_hands_out_each_step_once(one_client: Client) -> None:
    one_client.insert(flow("a b c"))
    (held,) = one_client.claim(["default"], worker_id="w")
    claimer = Claimer.checked(["default"], "w", 30)
    reserved = reserve_one(one_client)
    items = [prepared(one_client._ctx, report(held))]
    call = next(exchange(one_client._ctx, 0, items, reserved, claimer, 5))
    assert isinstance(call, Call)
    first = handed_out(one_client._run(one_call(call)))
    again = handed_out(one_client._run(one_call(call.repeated())))
    assert first == again == ["b", "c"]


def test_a_round_trip_sent_again_returns_no_lease_that_has_passed(one_client: Client) -> None:
    one_client.insert(flow("a b c"))
    (held,) = one_client.claim(["default"], worker_id="w")
    claimer = Claimer.checked(["default"], "w", 0.01)
    reserved = reserve_one(one_client)
    items = [prepared(one_client._ctx, report(held))]
    call = next(exchange(one_client._ctx, 0, items, reserved, claimer, 5))
    assert isinstance(call, Call)
    assert handed_out(one_client._run(one_call(call))) == ["b", "c"]
    ends = one_client.step(held.workflow_id, "c").lease_expires_at
    assert ends is not None
    until_past(one_client, ends)
    assert handed_out(one_client._run(one_call(call.repeated()))) == []


def test_a_round_trip_sent_again_finds_claims_that_a_timeout_has_shortened(
    one_client: Client,
) -> None:
    view = one_client.insert(flow("a b:a", timeout=20))
    (held,) = one_client.claim(["default"], worker_id="w")
    claimer = Claimer.checked(["default"], "w", 3600)
    items = [prepared(one_client._ctx, report(held))]
    call = next(exchange(one_client._ctx, 0, items, [], claimer, 5))
    assert isinstance(call, Call)
    assert handed_out(one_client._run(one_call(call))) == ["b"]
    assert handed_out(one_client._run(one_call(call.repeated()))) == ["b"]
    assert states(one_client, view.id) == "a=completed b=executing"


def reserve_one(client: Client) -> list[bytes]:
    """Reserves an entry of the queue, as a worker's earlier round trip has."""
    return client._run(ask(client._ctx.keys.partition(0), ReserveSteps(1, ["default"])))


def handed_out(reply: Any) -> list[str]:
    """The steps that a reply hands out, once for each time."""
    done = Complete.decoded(reply)
    parsed = [Record.named("", one.record) for one in (*done.started, *done.claims) if one]
    return sorted("abc"[record.position] for record in parsed)


def test_the_next_steps_of_several_queues(one_client: Client) -> None:
    ended = one_client.insert(flow("a"))
    for queue in ("q1", "q2"):
        one_client.insert(flow("x", queue=queue))
    items = [Completion(workflow_id=ended.id, step="a")]
    batch = one_client.complete_many(items, claim_next=1_000, queues=["q1", "q2"], worker_id="w")
    assert [claimed.queue for claimed in batch.claimed] == ["q1", "q2"]


def test_a_workers_round_trip_returns_refusals_and_finishes_releases(one_client: Client) -> None:
    wide, other = one_client.insert(fan_out(600)), one_client.insert(flow("a"))
    completions = [
        Completion(workflow_id=wide.id, step="root"),
        Completion(workflow_id=other.id, step="a", lease="9-x"),
    ]
    items = [prepared(one_client._ctx, one) for one in completions]
    claimer = Claimer.checked(["default"], "w", 30)
    done = one_client._run(exchange(one_client._ctx, 0, items, [], claimer, 0))
    accepted, refusal = done.refusals
    assert accepted is None
    assert refusal is not None
    assert (refusal.reason_code, refusal.scope) == ("stale_lease", "step")
    assert one_client.get(wide.id).runnable_step_count == 600


def spoilt(*_: Any) -> Any:
    """An operation that meets a corrupt record."""
    raise RecordUnreadable("corrupt record")
    yield


def test_claims_reach_their_worker_though_a_release_cannot_go_on(
    one_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = one_client.insert(fan_out(600))
    (root,) = one_client.claim(["default"], worker_id="w")
    monkeypatch.setattr("rwf.ops.advance.advance_origin", spoilt)
    ctx = one_client._ctx
    items = [prepared(ctx, report(root))]
    claimer = Claimer.checked(["default"], "w", 30)
    done = one_client._run(exchange(ctx, 0, items, [], claimer, 5))
    assert done.refusals == [None]
    assert {claimed.workflow_id for claimed in done.claimed} == {view.id}


def test_what_was_claimed_is_given_back_when_a_report_raises(
    one_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = one_client.insert(flow("a b:a"))
    (first,) = one_client.claim(["default"], worker_id="w")
    monkeypatch.setattr("rwf.ops.complete._result", spoilt)
    with pytest.raises(RecordUnreadable):
        one_client.complete_many([report(first)], claim_next=5, worker_id="w")
    assert states(one_client, view.id) == "a=completed b=available"
    assert one_client.step(view.id, "b").attempt == 0


def test_claims_are_kept_though_notices_of_their_workflow_cannot_be_given(
    one_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = one_client.insert(flow("a b"))
    one_client.await_step(view.id, "a", signal="s", correlation_key="k")
    raw(one_client).zadd(own_key(view.id, "d"), {"!a": -5})
    settle = Mock(side_effect=spoilt)
    monkeypatch.setattr("rwf.ops.claims.settle_waits", settle)
    (claimed,) = one_client.claim(["default"], worker_id="w")
    assert claimed.step == "b"
    settle.assert_called_once()
    monkeypatch.undo()
    one_client.reconcile(view.id)


def test_claims_that_can_run_are_kept_though_others_cannot_be_given_back(
    one_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow = flow("check")
    met = result("check", "n") == 1
    workflow.add("yes", worker="w", when=met, deps=["check"])
    workflow.add("no", worker="w", when=~met, deps=["check"])
    view = one_client.insert(workflow)
    one_client.complete_step(view.id, "check", payload={"n": 1})
    away = Mock(side_effect=StoreUnavailable("away"))
    monkeypatch.setattr("rwf.ops.claims.skip_branches", away)
    (claimed,) = one_client.claim(["default"], worker_id="w", limit=5)
    assert claimed.step == "yes"
    away.assert_called_once()
    monkeypatch.undo()
    one_client.reconcile(view.id)
