"""Contract §4: completions of many steps, in slices, in batches and from many sides."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from rwf import Client, CommandRejected, Completion
from rwf.model.views import CommandResult
from tests.support.flows import effect, fan_in, fan_out, first_call_only, flow, refused
from tests.support.servers import AnyServer

# --- slices


def test_a_wide_completion_on_every_server(client: Client) -> None:
    view = client.insert(fan_out(1234, "+"))
    result = client.complete_step(view.id, "root", "discarded", command_id="once")
    assert (result.released_count, len(result.released), result.cancelled_count) == (1234, 1000, 0)
    again = client.complete_step(view.id, "root", "failed", command_id="once")
    assert again.outcome == "duplicate"
    assert effect(again) == effect(result)


def test_released_and_cancelled_are_capped_each(one_client: Client) -> None:
    words = ["root", *(f"r{n}:+root" for n in range(1100)), *(f"x{n}:root" for n in range(1050))]
    view = one_client.insert(flow(" ".join(words)))
    result = one_client.complete_step(view.id, "root", "failed")
    assert (result.released_count, result.cancelled_count) == (1100, 1050)
    assert (len(result.released), len(result.cancelled)) == (1000, 1000)
    assert {name[0] for name in result.released} == {"r"}
    assert {name[0] for name in result.cancelled} == {"x"}


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_an_unfinished_release_is_not_an_end_and_runs_nothing_early(
    client: Client, status: str
) -> None:
    wf = fan_out(700)
    wf.add("after", worker="w", deps=[f"c{n}" for n in range(700)])
    view = client.insert(wf)
    first_call_only(client, view.id, "root", status)
    now = client.get(view.id)
    assert now.terminal_cause is None
    assert now.finished_at is None
    counted = [str(step.state) for step in client.steps(view.id)]
    assert counted.count("pending") > 0
    assert now.runnable_step_count == counted.count("available")
    assert now.cancelled_step_count == counted.count("cancelled")
    # Sent again, the command finishes it, and answers for all of it.
    again = client.complete_step(view.id, "root", "completed", command_id="cut")
    assert again.outcome == "duplicate"
    assert again.released_count + again.cancelled_count == (700 if status == "completed" else 701)
    assert client.get(view.id).state == ("available" if status == "completed" else "failed")


def test_another_completion_finishes_only_what_is_its_own(client: Client) -> None:
    wf = fan_out(1200)
    wf.add("other", worker="w").add("next", worker="w", deps=["other"])
    view = client.insert(wf)
    first_call_only(client, view.id, "root", "completed")
    result = client.complete_step(view.id, "other")
    assert effect(result) == (("next",), 1, (), 0)
    again = client.complete_step(view.id, "root", command_id="cut")
    assert (again.released_count, again.outcome) == (1200, "duplicate")
    assert "next" not in again.released


def test_two_unfinished_releases_keep_their_own_counts(one_client: Client) -> None:
    words = ["a", "b", *(f"x{n}:a" for n in range(800)), *(f"y{n}:b" for n in range(900))]
    view = one_client.insert(flow(" ".join(words)))
    first_call_only(one_client, view.id, "a", "completed")
    first_call_only(one_client, view.id, "b", "failed")
    second = one_client.complete_step(view.id, "b", command_id="cut")
    first = one_client.complete_step(view.id, "a", command_id="cut")
    assert (first.released_count, first.cancelled_count) == (800, 0)
    assert (second.released_count, second.cancelled_count) == (0, 900)
    assert {name[0] for name in first.released} == {"x"}
    assert {name[0] for name in second.cancelled} == {"y"}


def test_a_step_released_by_a_slice_may_complete_before_the_release_is_done(
    client: Client,
) -> None:
    view = client.insert(fan_out(600))
    first_call_only(client, view.id, "root", "completed")
    first = next(step.name for step in client.steps(view.id) if step.state == "available")
    assert client.complete_step(view.id, first, "failed").outcome == "accepted"
    again = client.complete_step(view.id, "root", command_id="cut")
    assert again.released_count == 600
    workflow = client.get(view.id)
    assert (workflow.runnable_step_count, workflow.failed_step_count) == (599, 1)


def test_a_pending_step_of_an_unfinished_release_is_refused(client: Client) -> None:
    view = client.insert(fan_out(600))
    first_call_only(client, view.id, "root", "completed")
    waiting = next(step.name for step in client.steps(view.id) if step.state == "pending")
    with refused("dependencies_unresolved"):
        client.complete_step(view.id, waiting)
    client.reconcile(view.id)
    assert client.complete_step(view.id, waiting).outcome == "accepted"


# --- many at once


def test_a_batch_answers_each_item_in_its_place(client: Client) -> None:
    ids = [client.insert(flow("a b:a")).id for _ in range(9)]
    items = [Completion(workflow_id=id_, step="a", payload=n) for n, id_ in enumerate(ids)]
    items[3] = Completion(workflow_id=ids[3], step="b")  # pending
    items[5] = Completion(workflow_id="nobody", step="a")
    items[6] = Completion(workflow_id=ids[6], step="zzz")
    items[7] = Completion(workflow_id=ids[7], step="a", status="retryable", retry_in=-1)
    answers = client.complete_many(items)
    assert len(answers) == 9
    reasons = {
        number: answer.reason_code.value
        for number, answer in enumerate(answers)
        if isinstance(answer, CommandRejected)
    }
    assert reasons == {
        3: "dependencies_unresolved",
        5: "workflow_not_found",
        6: "step_not_found",
        7: "invalid_argument",
    }
    for number, answer in enumerate(answers):
        if number not in reasons:
            assert isinstance(answer, CommandResult)
            assert answer.workflow.id == ids[number]
            assert effect(answer) == (("b",), 1, (), 0)
            result = client.result(ids[number], "a")
            assert result is not None
            assert result.payload == number
        else:
            assert client.step(ids[number], "a").state == "available"


def test_an_empty_batch(client: Client) -> None:
    assert client.complete_many([]) == []


def test_a_batch_of_more_than_one_call(client: Client) -> None:
    ids = [client.insert(flow("a")).id for _ in range(150)]
    answers = client.complete_many(Completion(workflow_id=id_, step="a") for id_ in ids)
    assert [answer.workflow.id for answer in answers if isinstance(answer, CommandResult)] == ids


def test_a_batch_is_taken_in_its_order(client: Client) -> None:
    view = client.insert(flow("a b:a c:b"))
    answers = client.complete_many(
        Completion(workflow_id=view.id, step=step) for step in ("c", "a", "b", "c")
    )
    assert isinstance(answers[0], CommandRejected)
    assert answers[0].reason_code == "dependencies_unresolved"
    rest = [answer for answer in answers[1:] if isinstance(answer, CommandResult)]
    assert [answer.released for answer in rest] == [("b",), ("c",), ()]
    assert client.get(view.id).state == "completed"


def test_the_same_step_twice_in_a_batch(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    one = Completion(workflow_id=view.id, step="a", payload=[1])
    other = Completion(workflow_id=view.id, step="a", payload=[2])
    first, second, third = client.complete_many([one, one, other])
    assert isinstance(first, CommandResult)
    assert isinstance(second, CommandResult)
    assert isinstance(third, CommandRejected)
    assert (first.outcome, second.outcome) == ("accepted", "duplicate")
    assert effect(second) == effect(first) == (("b",), 1, (), 0)
    assert third.reason_code == "already_terminal"


def test_the_same_command_id_twice_in_a_batch(client: Client) -> None:
    view = client.insert(flow("a"))
    item = Completion(
        workflow_id=view.id, step="a", status="retryable", retry_in=9, command_id="one"
    )
    first, second = client.complete_many([item, item])
    assert isinstance(first, CommandResult)
    assert isinstance(second, CommandResult)
    assert (first.outcome, second.outcome) == ("accepted", "duplicate")
    assert second.step.attempt == 1


def test_several_attempts_in_a_batch(client: Client) -> None:
    view = client.insert(flow("a", max_attempts=2))
    retry = Completion(workflow_id=view.id, step="a", status="retryable", retry_in=9)
    answers = client.complete_many([retry, retry])
    done = [answer for answer in answers if isinstance(answer, CommandResult)]
    assert [answer.outcome for answer in done] == ["accepted", "accepted"]
    assert client.step(view.id, "a").state == "discarded"


def test_wide_completions_in_one_batch_share_the_calls_but_not_the_counts(client: Client) -> None:
    wide, other = client.insert(fan_out(600)), client.insert(fan_out(450))
    items = [
        Completion(workflow_id=wide.id, step="root"),
        Completion(workflow_id=other.id, step="root", status="failed"),
    ]
    first, second = client.complete_many(items)
    assert isinstance(first, CommandResult)
    assert isinstance(second, CommandResult)
    assert (first.released_count, first.cancelled_count) == (600, 0)
    assert (second.released_count, second.cancelled_count) == (0, 450)
    assert first.workflow == client.get(wide.id)
    assert second.workflow == client.get(other.id)


# --- from many sides


def test_of_those_who_race_one_is_accepted(client: Client) -> None:
    view = client.insert(fan_out(40))
    client.complete_step(view.id, "root")
    start = threading.Barrier(6)

    def race(number: int) -> list[str]:
        start.wait()
        said: list[str] = []
        for step in range(40):
            try:
                done = client.complete_step(view.id, f"c{step}", payload=number % 3)
                said.append(done.outcome)
            except CommandRejected as error:
                said.append(error.reason_code.value)
        return said

    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(race, range(6)))
    for step in range(40):
        said = sorted(answer[step] for answer in answers)
        # One wins, the other with the same payload repeats it, four come too late.
        assert said == ["accepted", *["already_terminal"] * 4, "duplicate"]
    assert client.get(view.id).state == "completed"
    assert len(client.results(view.id)) == 41


def test_those_who_release_the_same_child_release_it_once(client: Client) -> None:
    view = client.insert(fan_in(48))
    start = threading.Barrier(6)

    def complete(part: int) -> int:
        start.wait()
        steps = range(part, 48, 6)
        return sum(client.complete_step(view.id, f"p{n}").released_count for n in steps)

    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(complete, range(6))) == 1
    assert client.step(view.id, "last").state == "available"


def test_a_batch_shows_each_item_its_own_workflow(client: Client) -> None:
    views = [client.insert(flow("a b", name=f"w{number}")) for number in range(3)]
    results = client.complete_many([Completion(workflow_id=view.id, step="a") for view in views])
    assert all(isinstance(result, CommandResult) for result in results)
    shown = [result.workflow for result in results if isinstance(result, CommandResult)]
    assert [(one.id, one.name) for one in shown] == [(one.id, one.name) for one in views]


def test_a_batch_over_many_partitions(one_server: AnyServer) -> None:
    """Claims, heartbeats and completions go to each item's own; the limit is one for all."""
    with Client.from_url(one_server.url, partitions=16) as client:
        ids = [client.insert(flow("a b:a")).id for _ in range(40)]
        assert len({one.partition("-")[0] for one in ids}) > 2
        held = client.claim(["default"], worker_id="w", limit=40)
        assert len(client.heartbeat(held).extended) == 40
        items = [Completion(workflow_id=one.workflow_id, step="a", lease=one.lease) for one in held]
        batch = client.complete_many(items, claim_next=30, worker_id="w")
        assert [type(answer) for answer in batch] == [CommandResult] * 40
        assert len(batch.claimed) == 30
        assert client.release(batch.claimed) == 30
