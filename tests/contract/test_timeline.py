"""When a workflow's steps waited, ran and ended (contract §17)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from rwf import Client, NotFound, Workflow
from tests.support.commandline import NO_ID, Cli
from tests.support.flows import flow
from tests.support.waiting import until


def available(client: Client, workflow_id: str) -> None:
    """Waits until the step a may run again."""

    def may_run() -> bool:
        client.reconcile(workflow_id)
        return client.step(workflow_id, "a").state == "available"

    until(may_run, what="the step to be available")


def test_each_attempt_tells_when_it_waited_ran_and_ended(client: Client) -> None:
    view = client.insert(flow("a b:a", max_attempts=3))
    [claim] = client.claim(["default"], worker_id="ann: 1")
    client.complete(claim, "retryable", retry_in=0)
    available(client, view.id)
    [claim] = client.claim(["default"], worker_id="bob")
    client.complete(claim)
    found = client.timeline(view.id)
    assert found.workflow == client.get(view.id)
    first, second = found.steps
    assert (first.step, first.state, second.step, second.state) == (
        *("a", "completed"),
        *("b", "available"),
    )
    told = [(one.attempt, one.worker_id, one.status) for one in first.attempts]
    assert told == [(1, "ann: 1", "retryable"), (2, "bob", "completed")]
    for attempt in first.attempts:
        times = (attempt.available_at, attempt.claimed_at, attempt.ended_at)
        assert list(times) == sorted(times)  # type: ignore[type-var]
    [again, before] = [first.attempts[1].available_at, first.attempts[0].ended_at]
    # Of the time at which a step becomes available the milliseconds are kept.
    assert again >= before - timedelta(milliseconds=1)  # type: ignore[operator]
    rows = client.results(view.id, step="a")
    assert [row.available_at for row in rows] == [one.available_at for one in first.attempts]
    [waiting] = second.attempts
    assert (waiting.attempt, waiting.status, waiting.claimed_at) == (1, "available", None)
    assert waiting.available_at is not None
    assert found.read_at >= waiting.available_at >= first.attempts[1].claimed_at  # type: ignore[operator]
    [claim] = client.claim(["default"], worker_id="eve")
    [running] = client.timeline(view.id).steps[1].attempts
    assert (running.attempt, running.status, running.worker_id) == (1, "executing", "eve")
    assert running.available_at == waiting.available_at


def test_attempts_that_lost_their_lease_are_told_too(client: Client) -> None:
    view = client.insert(flow("a"))
    client.claim(["default"], worker_id="ann: 1", lease=0.01)
    available(client, view.id)
    client.claim(["default"], worker_id="bob")
    [step] = client.timeline(view.id).steps
    told = [(one.attempt, one.worker_id, one.status) for one in step.attempts]
    assert told == [(1, "ann: 1", "lease_expired"), (2, "bob", "executing")]
    assert step.attempts[0].ended_at is not None


def test_the_critical_path_is_what_the_end_waited_for(client: Client) -> None:
    view = client.insert(flow("a b c:a d:b e:c,d f:e g"))
    assert client.timeline(view.id).critical_path in (("a",), ("b",), ("g",))
    for step in "gbdac":
        client.complete_step(view.id, step)
        # Their ends are to lie apart.
        until(
            lambda: client.get(view.id).last_transition_at < client.timeline(view.id).read_at,
            what="the clock to move",
        )
    found = client.timeline(view.id)
    assert found.critical_path == ("a", "c", "e")
    client.complete_step(view.id, "e")
    client.complete_step(view.id, "f")
    found = client.timeline(view.id)
    assert found.critical_path == ("a", "c", "e", "f")
    assert {step.step for step in found.steps if step.critical} == set("acef")
    [attempt] = found.steps[-1].attempts
    assert (attempt.claimed_at, attempt.worker_id) == (None, None)


def test_a_timeline_of_nothing(client: Client) -> None:
    with pytest.raises(NotFound):
        client.timeline(NO_ID)
    view = client.insert(flow("a b:a"))
    waiting = client.timeline(view.id).steps[1]
    assert (waiting.attempts, waiting.critical) == ((), False)


def test_the_command_graph_draws_it_as_bars(cli: Cli, one_client: Client) -> None:
    workflow = Workflow("w").add("a", worker="work")
    view = one_client.insert(workflow.add("b" * 40, worker="work", deps=["a"]))
    [claim] = one_client.claim(["default"], worker_id="w")
    one_client.complete(claim)
    lines = cli.ok("graph", view.id, "--format", "gantt").splitlines()
    assert lines[0].startswith("Runnable  available  w")
    assert "critical path" in lines[1]
    assert lines[2].startswith("* a ")
    assert "█" in lines[2]
    assert lines[3].startswith("* " + "b" * 23 + "…")
    assert lines[3].endswith("| available")
    assert "░" in lines[3]
    assert all(len(line) <= 80 for line in lines[2:])
    assert cli.json("graph", view.id, "--format", "gantt")["critical_path"] == ["a", "b" * 40]
