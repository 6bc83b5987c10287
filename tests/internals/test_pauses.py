"""Steps that a worker could not begin: given back for a while, uncounted (``pauses.lua``)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest

from rwf import Client, CommandRejected, Workflow
from rwf.model.states import PauseReason
from rwf.model.views import ClaimedStep
from rwf.ops.claims import pause
from tests.support.flows import end_pause, flow, own_key, raw, refused, states
from tests.support.waiting import until


def claim(client: Client, worker: str = "w", limit: int = 1) -> list[ClaimedStep]:
    return client.claim(["default", "q"], worker_id=worker, limit=limit)


def give_back(
    client: Client, claims: Sequence[ClaimedStep], reason: PauseReason = PauseReason.NO_HANDLER
) -> int:
    return client._run(pause(client._ctx, claims, reason))


def hurry(client: Client, workflow_id: str, step: str = "a") -> None:
    """Shortens a pause, and waits until it is over."""
    end_pause(client, workflow_id, step)
    client.reconcile(workflow_id)
    assert client.step(workflow_id, step).state == "available"


def due(client: Client, workflow_id: str, step: str = "a") -> float:
    """How long a pause lasts, in seconds."""
    found = client.step(workflow_id, step)
    assert found.retry_at is not None
    return (found.retry_at - found.last_transition_at) / timedelta(seconds=1)


def reasons(client: Client, workflow_id: str) -> list[str | None]:
    return [entry.reason_code for entry in client.evidence(workflow_id)]


def test_a_step_without_a_handler_pauses_uncounted(client: Client) -> None:
    view = client.insert(flow("a b:a", worker="send"))
    assert give_back(client, claim(client, "old|1")) == 1
    step = client.step(view.id, "a")
    assert (step.state, step.attempt, due(client, view.id)) == ("retryable", 0, 0.5)
    assert claim(client) == []
    why = client.explain_step(view.id, "a")
    (blocker,) = why.blockers
    assert (why.operator_status, blocker.code) == ("Blocked", "no_handler")
    assert blocker.details == {
        "worker": "send", "given_back_by": "old|1", "retry_at": step.retry_at, "times": 1,
    }  # fmt: skip
    assert blocker.retry_at == step.retry_at
    assert blocker.summary == "old|1 has no handler named send"
    cause = client.explain_step(view.id, "b").root_causes[0]
    assert (cause.step, cause.code) == ("a", "no_handler")
    assert "run_worker_with_handler" in cause.legal_next_steps
    assert [cause.code for cause in client.explain(view.id).root_causes] == ["no_handler"]
    (entry,) = client.evidence(view.id)
    assert (entry.action, entry.step, entry.reason_code) == ("claim", "a", "no_handler")
    until(lambda: client.reconcile(view.id).repairs, what="the end of the pause")
    (held,) = claim(client)
    assert held.attempt == 1
    assert client.complete(held).released == ("b",)


def test_each_pause_in_a_row_is_twice_as_long(one_client: Client) -> None:
    view = one_client.insert(flow("a", max_attempts=2))
    found = []
    for _ in range(9):
        give_back(one_client, claim(one_client))
        found.append(due(one_client, view.id))
        hurry(one_client, view.id)
    assert found == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert one_client.step(view.id, "a").attempt == 0
    assert reasons(one_client, view.id) == ["no_handler"]


@pytest.mark.parametrize("between", ["retryable", "wait", "poll"])
def test_whoever_runs_the_step_begins_the_row_anew(one_client: Client, between: str) -> None:
    view = one_client.insert(flow("a"))
    for _ in range(3):
        give_back(one_client, claim(one_client))
        hurry(one_client, view.id)
    (held,) = claim(one_client)
    if between == "wait":
        one_client.await_step(view.id, "a", signal="go", correlation_key=view.id, lease=held.lease)
        one_client.deliver_signal("go", view.id)
    else:
        one_client.complete(held, "retryable", retry_in=0, count=between != "poll")
        one_client.reconcile(view.id)
    give_back(one_client, claim(one_client))
    assert due(one_client, view.id) == 0.5


def test_another_reason_is_another_row(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    for reason in (PauseReason.NO_HANDLER, PauseReason.INPUT_TOO_LARGE):
        give_back(one_client, claim(one_client), reason)
        assert due(one_client, view.id) == 0.5
        assert one_client.explain_step(view.id, "a").blockers[0].code == reason
        hurry(one_client, view.id)
    assert reasons(one_client, view.id) == ["no_handler", "input_too_large"]


def test_a_step_comes_back_to_its_place_with_all_that_it_was_given(client: Client) -> None:
    workflow = Workflow("kept")
    backoff = {"base": 9, "factor": 1, "jitter": "none"}
    for name in ("a", "b"):
        workflow.add(
            name, worker="w", queue="q", priority=7, max_attempts=3, backoff=backoff, timeout=60
        )
    view = client.insert(workflow)
    before = client.step(view.id, "a")
    give_back(client, claim(client))
    hurry(client, view.id)
    after = client.step(view.id, "a")
    moved = {"last_transition_at", "started_at"}
    assert after.model_dump(exclude=moved) == before.model_dump(exclude=moved)
    first, second = claim(client, limit=2)
    assert (first.step, second.step) == ("a", "b")
    assert (first.attempt, first.max_attempts, first.timeout) == (1, 3, 60)
    result = client.complete(first, "retryable")
    assert result.step.retry_at is not None
    assert (result.step.retry_at - result.step.last_transition_at).total_seconds() == 9


def test_a_woken_step_stays_woken_through_a_pause(client: Client) -> None:
    view = client.insert(flow("a", max_attempts=1))
    (held,) = claim(client)
    client.await_step(view.id, "a", signal="go", correlation_key="k", lease=held.lease)
    client.deliver_signal("go", "k", payload=[7])
    give_back(client, claim(client))
    hurry(client, view.id)
    (again,) = claim(client)
    assert again.signal is not None
    assert (again.attempt, again.signal.payload) == (1, [7])
    assert client.complete(again).step.state == "completed"


def test_a_lost_lease_gives_nothing_back(client: Client) -> None:
    view = client.insert(flow("a"))
    held = claim(client)
    client.release(held)
    assert give_back(client, held) == 0
    assert states(client, view.id) == "a=available"
    other = claim(client)
    assert give_back(client, held) == 0
    assert give_back(client, [*other, *other]) == 1


def test_under_a_cancel_request_a_step_that_is_given_back_ends(client: Client) -> None:
    view = client.insert(flow("a"))
    held = claim(client)
    client.request_cancel(view.id)
    give_back(client, held)
    assert client.step(view.id, "a").terminal_cause == "operator_cancelled"


def test_a_cancel_request_ends_a_pause(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    give_back(one_client, claim(one_client))
    assert one_client.request_cancel(view.id).state == "cancelled"


@pytest.mark.parametrize("action", ["retry", "skip", "cancel"])
def test_an_operator_ends_a_pause(one_client: Client, action: str) -> None:
    view = one_client.insert(flow("a b:+a"))
    give_back(one_client, claim(one_client))
    one_client.recover_step(view.id, "a", action)
    (held,) = claim(one_client)
    assert (held.step, held.attempt) == ("a" if action == "retry" else "b", 1)


def test_a_pausing_step_can_be_completed(client: Client) -> None:
    view = client.insert(flow("a"))
    give_back(client, claim(client))
    done = client.complete_step(view.id, "a")
    assert (done.step.state, done.step.attempt, done.workflow.state) == (
        "completed", 1, "completed",
    )  # fmt: skip


# --- settings after every way back to the queue


def _released(client: Client, view_id: str) -> None:
    client.release(claim(client))


def _lapsed(client: Client, view_id: str) -> None:
    client.claim(["q"], worker_id="w", lease=0.01)
    until(lambda: client.reconcile(view_id).repairs, what="the lease's end")


def _retried(client: Client, view_id: str) -> None:
    client.complete(claim(client)[0], "retryable", retry_in=0)
    client.reconcile(view_id)


def _polled(client: Client, view_id: str) -> None:
    client.complete(claim(client)[0], "retryable", retry_in=0, count=False)
    client.reconcile(view_id)


def _woken(client: Client, view_id: str) -> None:
    client.await_step(view_id, "a", signal="go", correlation_key=view_id)
    client.deliver_signal("go", view_id)


def _paused(client: Client, view_id: str) -> None:
    give_back(client, claim(client))
    hurry(client, view_id)


def _recovered(client: Client, view_id: str) -> None:
    client.complete_step(view_id, "a", "failed")
    client.recover_step(view_id, "a", "retry")


def _taken_away(client: Client, view_id: str) -> None:
    claim(client)
    client.recover_step(view_id, "a", "retry", force=True)


WAYS = [_released, _lapsed, _retried, _polled, _woken, _paused, _recovered, _taken_away]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__[1:])
def test_every_way_back_to_the_queue_keeps_what_a_step_was_given(
    one_client: Client, way: object
) -> None:
    workflow = Workflow("kept").add("first", worker="w")
    backoff = {"base": 9, "factor": 1, "jitter": "none"}
    workflow.add(
        "a", worker="do", queue="q", priority=7, max_attempts=5, backoff=backoff, timeout=60,
        input=[1], context={"c": 1},
    )  # fmt: skip
    view = one_client.insert(workflow)
    one_client.complete_step(view.id, "first")
    assert callable(way)
    way(one_client, view.id)
    step = one_client.step(view.id, "a")
    assert (step.state, step.queue, step.priority) == ("available", "q", 7)
    # One of lower priority that came in later does not go before it.
    one_client.insert(flow("x", queue="q", priority=6))
    (held,) = claim(one_client)
    assert (held.step, held.worker, held.timeout) == ("a", "do", 60)
    assert (held.input, held.context) == ([1], {"c": 1})
    assert held.max_attempts >= 5
    result = one_client.complete(held, "retryable")
    assert result.step.retry_at is not None
    assert (result.step.retry_at - result.step.last_transition_at).total_seconds() == 9


# --- retries that count no attempt


def test_polling_counts_no_attempt_and_leaves_one_row(client: Client) -> None:
    view = client.insert(flow("a b:a", max_attempts=2))
    for _ in range(30):
        (held,) = claim(client)
        assert held.attempt == 1
        done = client.complete(held, "retryable", retry_in=0, count=False, summary="not yet")
        assert (done.step.state, done.step.attempt) == ("retryable", 1)
        client.reconcile(view.id)
    assert client.results(view.id) == []
    assert len(raw(client).hkeys(own_key(view.id, "p"))) <= 3
    assert client.evidence(view.id) == []
    (held,) = claim(client)
    client.complete(held, "retryable", retry_in=0)
    client.reconcile(view.id)
    (held,) = claim(client)
    assert held.attempt == 2
    done = client.complete(held, "retryable", retry_in=0, count=False)
    assert done.step.state == "retryable"
    client.reconcile(view.id)
    (held,) = claim(client)
    assert held.attempt == 2
    assert client.complete(held).released == ("b",)
    assert [row.attempt for row in client.results(view.id)] == [1, 2]


def test_an_uncounted_retry_sent_again_is_a_duplicate(client: Client) -> None:
    view = client.insert(flow("a"))
    (held,) = claim(client)
    first = client.complete(held, "retryable", retry_in=60, count=False)
    again = client.complete(held, "retryable", retry_in=60, count=False)
    assert (first.outcome, again.outcome) == ("accepted", "duplicate")
    assert again.step == first.step
    with refused("already_terminal"):
        client.complete(held)
    with refused("already_terminal"):
        client.complete(held, "retryable")
    one = client.complete_step(view.id, "a", "retryable", count=False, command_id="c")
    two = client.complete_step(view.id, "a", "retryable", count=False, command_id="c")
    assert (one.outcome, two.outcome) == ("accepted", "duplicate")
    with refused("stale_lease"):  # only the latest is on record
        client.complete(held, "retryable", count=False)


def test_what_nobody_has_claimed_goes_on_uncounted(one_client: Client) -> None:
    view = one_client.insert(flow("a", max_attempts=1))
    for _ in range(3):
        done = one_client.complete_step(view.id, "a", "retryable", retry_in=0, count=False)
        assert (done.step.attempt, done.step.state) == (0, "retryable")
        one_client.reconcile(view.id)
    (held,) = claim(one_client)
    assert held.attempt == 1
    assert one_client.complete(held).step.attempt == 1


def test_an_uncounted_retry_under_a_cancel_request_ends_the_step(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    (held,) = claim(one_client)
    one_client.request_cancel(view.id)
    done = one_client.complete(held, "retryable", count=False)
    assert (done.step.terminal_cause, done.step.attempt) == ("operator_cancelled", 1)


def test_an_uncounted_retry_waits_for_its_backoff(one_client: Client) -> None:
    backoff = {"base": 3, "factor": 2, "jitter": "none"}
    view = one_client.insert(flow("a", backoff=backoff))
    done = one_client.complete_step(view.id, "a", "retryable", count=False)
    assert done.step.retry_at is not None
    assert (done.step.retry_at - done.step.last_transition_at).total_seconds() == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": "completed", "count": False},
        {"status": "retryable", "count": False, "payload": 1},
        {"status": "retryable", "count": 0},
    ],
    ids=str,
)
def test_only_a_retry_without_a_payload_is_uncounted(
    one_client: Client, wrong: dict[str, object]
) -> None:
    view = one_client.insert(flow("a"))
    with pytest.raises(CommandRejected, match="invalid_argument"):
        one_client.complete_step(view.id, "a", **wrong)  # type: ignore[arg-type]
