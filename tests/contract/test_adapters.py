"""Executors of the user's own: one suite for all adapters, with the real packages (§15)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from rwf import ResultView, Workflow, WorkflowView, result
from rwf.model.states import TERMINAL_WORKFLOWS
from tests.support.executors import EXECUTORS, Fleet, dispatching, fleet, sent_twice
from tests.support.servers import Server
from tests.support.waiting import until


def ended(fleet: Fleet, view: WorkflowView) -> str:
    """The state that a workflow has ended in."""
    until(
        lambda: fleet.client.get(view.id).state in TERMINAL_WORKFLOWS,
        timeout=60,
        what=f"the end of {view.name} on {fleet.name}: {fleet.client.explain(view.id)}",
    )
    return str(fleet.client.get(view.id).state)


def one(fleet: Fleet, worker: str, **options: Any) -> WorkflowView:
    """A workflow of one step."""
    return fleet.client.insert(Workflow(worker).add("a", worker=worker, **options))


def latest(fleet: Fleet, view: WorkflowView, step: str = "a") -> ResultView:
    """The latest result of a step."""
    found = fleet.client.result(view.id, step)
    assert found is not None
    return found


def payload(fleet: Fleet, view: WorkflowView, step: str = "a") -> Any:
    return latest(fleet, view, step).payload


# --- what each adapter must do


def steps_run_in_the_order_of_the_graph_and_pass_results_on(fleet: Fleet) -> None:
    flow = Workflow("graph").add("charge", worker="charge", input={"amount": 12})
    flow.add("n", worker="echo", input={"n": 2**53 + 1}, queue="billing")
    flow.add("m", worker="echo", input={"n": result("n")}, deps=["charge"], queue="billing")
    view = fleet.client.insert(flow)
    assert ended(fleet, view) == "completed"
    assert (payload(fleet, view, "charge"), payload(fleet, view, "m")) == ("charged 12", 2**53 + 1)
    assert latest(fleet, view, "m").worker_id != fleet.dispatcher().name


def the_graph_retries(fleet: Fleet) -> None:
    view = one(fleet, "flaky", backoff=0.01)
    assert ended(fleet, view) == "completed"
    assert [row.status for row in fleet.client.results(view.id)] == ["retryable", "completed"]


def a_failure_is_the_graphs(fleet: Fleet) -> None:
    view = one(fleet, "fails")
    assert ended(fleet, view) == "failed"
    assert latest(fleet, view).summary == "no stock"
    typed = one(fleet, "echo", input={"n": "many"})
    assert ended(fleet, typed) == "failed"
    assert "n: " in str(latest(fleet, typed).summary)


def a_step_waits_for_a_signal(fleet: Fleet) -> None:
    view = one(fleet, "asks")
    until(
        lambda: fleet.client.step(view.id, "a").state == "awaiting_signal", what="the step's wait"
    )
    fleet.client.deliver_signal("answer", view.id, payload="yes")
    assert (ended(fleet, view), payload(fleet, view)) == ("completed", "yes")


def a_step_runs_a_workflow_of_its_own(fleet: Fleet) -> None:
    view = one(fleet, "parent")
    assert ended(fleet, view) == "completed"
    assert payload(fleet, view)["results"] == {"inner": 7}


def a_step_appends_steps(fleet: Fleet) -> None:
    view = one(fleet, "appends")
    assert ended(fleet, view) == "completed"
    assert payload(fleet, view, "more") == 8


def a_cancel_request_reaches_the_handler(fleet: Fleet) -> None:
    view = one(fleet, "until_cancelled")
    until(lambda: fleet.client.step(view.id, "a").attempt, what="the step's start")
    fleet.client.request_cancel(view.id, actor="ann", reason="changed my mind")
    assert ended(fleet, view) == "cancelled"
    assert latest(fleet, view).summary == "as asked"


def a_time_limit_ends_the_attempt(fleet: Fleet) -> None:
    view = one(fleet, "sleeps", input={"seconds": 1.5}, timeout=0.2, max_attempts=1)
    assert ended(fleet, view) == "failed"
    assert "0.2 s" in str(latest(fleet, view).summary)


def steps_run_by_priority(fleet: Fleet) -> None:
    flow = Workflow("priorities")
    for number, priority in enumerate((-9, 0, 5)):
        flow.add(f"s{number}", worker="sleeps", input={"seconds": 0.01}, priority=priority)
    view = fleet.client.insert(flow)
    assert ended(fleet, view) == "completed"
    rows = sorted(fleet.client.results(view.id), key=lambda row: row.recorded_at)
    assert [row.step for row in rows] == ["s2", "s1", "s0"]


def a_message_that_is_delivered_twice_runs_once(fleet: Fleet) -> None:
    with sent_twice(fleet.dispatcher()):
        view = one(fleet, "echo", input={"n": 1})
        assert ended(fleet, view) == "completed"
    assert [row.attempt for row in fleet.client.results(view.id)] == [1]
    refused = until(
        lambda: [row for row in fleet.client.evidence(view.id) if row.action == "start"],
        what="evidence of the second delivery",
    )
    assert refused[0].reason_code in ("stale_ticket", "already_started")


def a_worker_that_ends_finishes_its_step(fleet: Fleet) -> None:
    view = one(fleet, "sleeps", input={"seconds": 0.5})
    until(lambda: fleet.client.step(view.id, "a").attempt, what="the step's start")
    fleet.ask_worker_to_end()
    assert ended(fleet, view) == "completed"
    assert [row.attempt for row in fleet.client.results(view.id)] == [1]


def a_broker_that_has_lost_everything_costs_time_alone(fleet: Fleet) -> None:
    fleet.kill_worker()
    sent = fleet.dispatcher().health.sent
    view = one(fleet, "echo", input={"n": 1})
    until(lambda: fleet.dispatcher().health.sent > sent, what="a ticket that is sent")
    fleet.broker.flushdb()
    fleet.start_worker()
    assert ended(fleet, view) == "completed"
    assert [row.attempt for row in fleet.client.results(view.id)] == [1]
    codes = [row.reason_code for row in fleet.client.evidence(view.id)]
    assert "ticket_void" in codes


SUITE: Final[list[Callable[[Fleet], None]]] = [
    steps_run_in_the_order_of_the_graph_and_pass_results_on,
    the_graph_retries,
    a_failure_is_the_graphs,
    a_step_waits_for_a_signal,
    a_step_runs_a_workflow_of_its_own,
    a_step_appends_steps,
    a_cancel_request_reaches_the_handler,
    a_time_limit_ends_the_attempt,
    steps_run_by_priority,
    a_message_that_is_delivered_twice_runs_once,
    a_worker_that_ends_finishes_its_step,
    a_broker_that_has_lost_everything_costs_time_alone,
]


@pytest.mark.server
@pytest.mark.parametrize("name", EXECUTORS)
def test_an_adapter_keeps_to_the_suite(name: str, tmp_path: Path) -> None:
    """All cases in order, with one worker process: starting one takes seconds."""
    with (
        Server.start("redis70") as server,
        fleet(name, server, tmp_path, dispatcher="hold=4, ") as at_work,
    ):
        dispatcher = at_work.dispatcher()
        with dispatching(dispatcher):
            for case in SUITE:
                begun = time.monotonic()
                try:
                    case(at_work)
                except BaseException:
                    print(f"{name}: {case.__name__}", dispatcher.health, at_work.log(), sep="\n")
                    raise
                print(f"{name}: {case.__name__} {time.monotonic() - begun:.2f} s")
