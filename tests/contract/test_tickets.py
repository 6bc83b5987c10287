"""Tickets: steps that a dispatcher hands to an executor of the user's own (contract §15)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from rwf import Client, Ticket, Workflow, internals, metrics, outcome, result
from rwf.model.states import TicketStatus
from tests.contract.test_branching import causes
from tests.support.commandline import Cli
from tests.support.daemons import ticked
from tests.support.flows import flow, noted, refused, states, stored, until_past
from tests.support.waiting import until

SHORT = 0.01
MOMENT = timedelta(milliseconds=50)


def dispatch(client: Client, limit: int = 1, **options: Any) -> list[Ticket]:
    return client.dispatch(["default"], dispatcher="d", limit=limit, **options)


def start(client: Client, ticket: Ticket | str, run_id: str = "r1", **options: Any) -> Any:
    return client.start(ticket, run_id=run_id, worker_id="w", **options)


def ticket_of(client: Client, step: str = "a", **options: Any) -> Ticket:
    """The ticket of the only step that is available."""
    (ticket,) = dispatch(client, **options)
    assert ticket.step == step
    return ticket


# --- issued and started


def test_a_ticket_takes_its_step_out_of_the_queue_and_counts_no_attempt(client: Client) -> None:
    view = client.insert(flow("a b:a", priority=3))
    ticket = ticket_of(client)
    assert (ticket.workflow_id, ticket.worker, ticket.queue, ticket.priority) == (
        view.id, "work", "default", 3,
    )  # fmt: skip
    assert states(client, view.id) == "a=executing b=pending"
    step = client.step(view.id, "a")
    assert (step.attempt, step.started_at, step.leased_by) == (0, None, "d")
    assert client.get(view.id).started_at is None
    assert dispatch(client) == []
    assert client.claim(["default"], worker_id="w") == []


def test_a_started_ticket_is_a_claim(client: Client) -> None:
    view = client.insert(flow("a b:a", input={"n": 2**53 + 1}, context={"c": []}))
    held = start(client, ticket_of(client))
    assert (held.workflow_id, held.step, held.worker, held.attempt) == (view.id, "a", "work", 1)
    assert (held.input, held.context) == ({"n": 2**53 + 1}, {"c": []})
    step = client.step(view.id, "a")
    assert (step.attempt, step.leased_by, step.started_at is not None) == (1, "w", True)
    assert client.heartbeat([held]).extended[0].step == "a"
    assert client.complete(held, payload="kept").released == ("b",)
    (row,) = client.results(view.id)
    assert (row.attempt, row.worker_id, row.claimed_at is not None) == (1, "w", True)


def test_a_ticket_is_a_short_text(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    ticket = ticket_of(one_client)
    text = str(ticket)
    assert len(text) < 64
    assert text.split() == [text]
    assert start(one_client, text).workflow_id == view.id


def test_the_lease_of_a_start_is_bounded_by_the_timeout_but_a_hold_is_not(
    one_client: Client,
) -> None:
    one_client.insert(flow("a", timeout=5))
    ticket = ticket_of(one_client, hold=600)
    held = start(one_client, ticket, lease=30)
    assert (
        timedelta(seconds=590) < ticket.expires_at - held.lease_expires_at < timedelta(minutes=10)
    )


def test_tickets_come_in_the_order_of_claims(client: Client) -> None:
    workflow = Workflow("w")
    for number, priority in enumerate([0, 5, 2]):
        workflow.add(f"s{number}", worker="w", priority=priority)
    client.insert(workflow)
    assert [ticket.step for ticket in dispatch(client, 3)] == ["s1", "s2", "s0"]


def test_what_a_started_step_comes_to_is_what_a_claimed_one_does(one_client: Client) -> None:
    view = one_client.insert(flow("a b:a"))
    held = start(one_client, ticket_of(one_client))
    one_client.complete(held, "retryable", retry_in=0)
    until(lambda: one_client.reconcile(view.id).repairs, what="the retry to be due")
    held = start(one_client, ticket_of(one_client))
    assert held.attempt == 2
    one_client.await_step(view.id, "a", signal="go", correlation_key="k", lease=held.lease)
    one_client.deliver_signal("go", "k", payload=7)
    again = start(one_client, ticket_of(one_client))
    assert (again.attempt, again.signal.payload) == (2, 7)
    assert one_client.release([again]) == 1
    one_client.complete(start(one_client, ticket_of(one_client), "r9"))
    assert states(one_client, view.id) == "a=completed b=available"


# --- who starts it


def test_the_first_run_has_the_step_and_gets_the_same_answer_again(client: Client) -> None:
    view = client.insert(flow("a"))
    ticket = ticket_of(client)
    held = start(client, ticket, "first")
    before = client.step(view.id, "a")
    assert start(client, ticket, "first") == held
    assert client.step(view.id, "a") == before
    with refused("already_started") as caught:
        start(client, ticket, "second")
    assert caught.value.legal_next_steps == ("drop_ticket", "explain_step")
    assert client.step(view.id, "a") == before
    assert noted(client, view.id) == [
        ("start", "a", "duplicate", "duplicate_start"),
        ("start", "a", "rejected", "already_started"),
    ]
    rejected = client.evidence(view.id)[-1]
    assert rejected.metadata == {"run_id": "second", "worker_id": "w"}
    client.complete(held)
    with refused("stale_ticket"):
        start(client, ticket, "second")
    with refused("stale_ticket"):
        start(client, ticket, "first")


def test_a_run_of_which_the_lease_has_passed_leaves_a_void_ticket(client: Client) -> None:
    view = client.insert(flow("a"))
    ticket = ticket_of(client)
    held = start(client, ticket, lease=SHORT)
    until_past(client, held.lease_expires_at)
    with refused("stale_ticket") as caught:
        start(client, ticket, "other")
    assert caught.value.message == "the lease of its run has passed"
    assert states(client, view.id) == "a=available"
    assert [one[3] for one in noted(client, view.id)] == ["lease_expired", "stale_ticket"]
    assert start(client, ticket_of(client), "other").attempt == 2
    with refused("stale_lease"):
        client.complete(held)
    with refused("stale_ticket"):
        start(client, ticket)


def test_a_passed_lease_of_the_last_attempt_ends_the_step(one_client: Client) -> None:
    view = one_client.insert(flow("a b:a", max_attempts=1))
    ticket = ticket_of(one_client)
    until_past(one_client, start(one_client, ticket, lease=SHORT).lease_expires_at)
    with refused("stale_ticket"):
        start(one_client, ticket, "other")
    assert states(one_client, view.id) == "a=discarded b=cancelled"


# --- void


def test_a_ticket_that_nobody_starts_is_void_and_burns_no_attempt(one_client: Client) -> None:
    view = one_client.insert(flow("a b", max_attempts=1))
    for _ in range(3):
        tickets = dispatch(one_client, 2, hold=SHORT)
        assert [ticket.step for ticket in tickets] == ["a", "b"]
        until_past(one_client, tickets[1].expires_at)
        repairs = one_client.reconcile(view.id).repairs
        assert [repair.kind for repair in repairs] == ["lease_expired", "lease_expired"]
        with refused("stale_ticket"):
            start(one_client, tickets[0])
    assert states(one_client, view.id) == "a=available b=available"
    assert one_client.step(view.id, "a").attempt == 0
    assert noted(one_client, view.id).count(("dispatch", "a", "accepted", "ticket_void")) == 3


def test_a_start_after_the_hold_is_refused_though_nobody_has_looked(client: Client) -> None:
    view = client.insert(flow("a"))
    ticket = ticket_of(client, hold=SHORT)
    until_past(client, ticket.expires_at)
    with refused("stale_ticket") as caught:
        start(client, ticket)
    assert caught.value.message == "the ticket was held for too long"
    assert states(client, view.id) == "a=available"
    assert [one[3] for one in noted(client, view.id)] == ["ticket_void", "stale_ticket"]


def test_a_daemon_gives_void_tickets_back(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    ticket = ticket_of(one_client, hold=SHORT)
    until_past(one_client, ticket.expires_at)
    ticked(one_client)
    assert states(one_client, view.id) == "a=available"


@pytest.mark.parametrize(("hold", "attempt"), [(3600, 1), (600, 0)])
def test_a_ticket_that_waits_for_20_minutes_burns_no_attempt(
    fake_client: Client, hold: float, attempt: int
) -> None:
    view = fake_client.insert(flow("a", max_attempts=1))
    ticket = ticket_of(fake_client, hold=hold)
    clock = internals.clock_of(fake_client)
    assert clock is not None
    with clock.held():
        clock.move_on(clock.micros() + 1_200_000_000)
        ticked(fake_client)
        if attempt:
            assert start(fake_client, ticket).attempt == 1
        else:
            with refused("stale_ticket"):
                start(fake_client, ticket)
    assert fake_client.step(view.id, "a").attempt == attempt
    assert states(fake_client, view.id) == ("a=executing" if attempt else "a=available")


def test_a_ticket_is_given_back_to_its_place(one_client: Client) -> None:
    one_client.insert(flow("a b c"))
    first, second = dispatch(one_client, 2)
    assert one_client.release([second, first]) == 2
    with refused("stale_ticket"):
        start(one_client, first)
    assert one_client.release([first]) == 0
    assert [ticket.step for ticket in dispatch(one_client, 3)] == ["a", "b", "c"]


def test_the_claim_after_a_wait_counts_none_through_a_void_ticket(one_client: Client) -> None:
    view = one_client.insert(flow("a", max_attempts=1))
    (held,) = one_client.claim(["default"], worker_id="w")
    one_client.await_step(view.id, "a", signal="go", correlation_key="k", lease=held.lease)
    one_client.deliver_signal("go", "k")
    until_past(one_client, ticket_of(one_client, hold=SHORT).expires_at)
    one_client.reconcile(view.id)
    again = start(one_client, ticket_of(one_client))
    assert (again.attempt, again.signal is not None) == (1, True)


# --- commands on a dispatched step


def test_a_cancel_request_ends_a_step_that_nobody_has_started(one_client: Client) -> None:
    view = one_client.insert(flow("a b:a"))
    ticket = ticket_of(one_client)
    assert one_client.request_cancel(view.id).state == "cancelled"
    with refused("stale_ticket"):
        start(one_client, ticket)
    assert states(one_client, view.id) == "a=cancelled b=cancelled"
    assert all(one.reason_code != "lease_taken" for one in one_client.evidence(view.id))


def test_a_start_first_ends_waits_whose_deadline_has_passed(one_client: Client) -> None:
    view = one_client.insert(flow("a b c:b"))
    wait = one_client.await_step(view.id, "b", signal="go", correlation_key="k", deadline=MOMENT)
    ticket = ticket_of(one_client)
    assert wait.deadline is not None
    until_past(one_client, wait.deadline)
    start(one_client, ticket)
    assert states(one_client, view.id) == "a=executing b=expired c=cancelled"


def test_a_cancel_request_leaves_a_started_step_to_report(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    held = start(one_client, ticket_of(one_client))
    one_client.request_cancel(view.id)
    assert one_client.heartbeat([held]).cancel_requested != ()
    one_client.complete(held)
    assert one_client.get(view.id).terminal_cause == "completed_after_cancel_request"


def test_a_finalizer_that_is_dispatched_outlasts_a_cancel_request(one_client: Client) -> None:
    view = one_client.insert(flow("a b*:a"))
    one_client.complete_step(view.id, "a", "failed")
    ticket = ticket_of(one_client, "b")
    one_client.request_cancel(view.id)
    one_client.complete(start(one_client, ticket))
    assert states(one_client, view.id) == "a=failed b=completed"


def test_a_dispatched_step_is_completed_by_force_in_an_attempt_of_its_own(
    one_client: Client,
) -> None:
    view = one_client.insert(flow("a"))
    (lost,) = one_client.claim(["default"], worker_id="w", lease=SHORT)
    until_past(one_client, lost.lease_expires_at)
    one_client.reconcile(view.id)
    ticket = ticket_of(one_client)
    with refused("lease_required"):
        one_client.complete_step(view.id, "a")
    one_client.complete_step(view.id, "a", force=True)
    (row,) = one_client.results(view.id)
    assert (row.attempt, row.worker_id) == (2, None)
    with refused("stale_ticket"):
        start(one_client, ticket)


def test_a_report_that_counts_no_attempt_leaves_a_dispatched_step_without_one(
    one_client: Client,
) -> None:
    view = one_client.insert(flow("a", max_attempts=1))
    ticket_of(one_client)
    one_client.complete_step(view.id, "a", "retryable", retry_in=0, count=False, force=True)
    until(lambda: one_client.reconcile(view.id).repairs, what="the retry to be due")
    assert start(one_client, ticket_of(one_client)).attempt == 1


def test_a_recovery_takes_a_ticket_away_by_force(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    ticket = ticket_of(one_client)
    with refused("illegal_transition"):
        one_client.recover_step(view.id, "a", "skip")
    one_client.recover_step(view.id, "a", "retry", force=True)
    with refused("stale_ticket"):
        start(one_client, ticket)
    assert start(one_client, ticket_of(one_client)).attempt == 1


# --- conditions, references, inputs


def test_no_ticket_is_issued_for_a_step_whose_condition_does_not_hold(client: Client) -> None:
    workflow = Workflow("w").add("check", worker="w")
    workflow.add("ship", worker="w", when=result("check", "status") == "approved")
    workflow.add("note", worker="w", deps=["ship"]).add("log", worker="w", deps=["check"])
    view = client.insert(workflow)
    client.complete_step(view.id, "check", payload={"status": "declined"})
    assert [ticket.step for ticket in dispatch(client, 10)] == ["log"]
    assert causes(client, view.id) == "check=completed ship=skipped note=skipped log=executing"
    row = client.result(view.id, "ship")
    assert row is not None
    assert (row.attempt, row.status) == (1, "completed")


def test_a_start_tells_results_and_outcomes(one_client: Client) -> None:
    workflow = Workflow("w").add("a", worker="w").add("b", worker="w")
    workflow.add("c", worker="w", input={"a": result("a", "n"), "b": outcome("b")})
    view = one_client.insert(workflow)
    one_client.complete_step(view.id, "a", payload={"n": 7})
    one_client.complete_step(view.id, "b", "failed", summary="no")
    held = start(one_client, ticket_of(one_client, "c"))
    assert held.input["a"] == 7
    assert (held.input["b"]["state"], held.input["b"]["summary"]) == ("failed", "no")


def test_a_step_that_lacks_a_result_is_not_dispatched(one_client: Client) -> None:
    workflow = Workflow("w").add("a", worker="w")
    workflow.add("b", worker="w", input=result("a", "gone"))
    view = one_client.insert(workflow)
    one_client.complete_step(view.id, "a", payload={})
    assert dispatch(one_client) == []
    assert one_client.explain_step(view.id, "b").blockers[0].code == "missing_dependency_result"
    assert one_client.step(view.id, "b").attempt == 0


def test_a_condition_is_judged_again_at_the_start(one_client: Client) -> None:
    """The result that it is about may have come from another attempt since."""
    workflow = Workflow("w").add("a", worker="w")
    workflow.add("b", worker="w", when=result("a") == 1, input=result("a"))
    view = one_client.insert(workflow)
    one_client.complete_step(view.id, "a", payload=1)
    ticket = ticket_of(one_client, "b")
    one_client.recover_step(view.id, "a", "retry", scope="downstream", force=True)
    one_client.complete_step(view.id, "a", payload=2)
    with refused("stale_ticket"):
        start(one_client, ticket)
    assert dispatch(one_client) == []
    assert causes(one_client, view.id) == "a=completed b=skipped"


# --- what is told of it


def test_explain_names_the_dispatcher(one_client: Client) -> None:
    view = one_client.insert(flow("a b:a"))
    ticket = ticket_of(one_client)
    found = one_client.explain_step(view.id, "a")
    assert found.operator_status == "Runnable"
    (blocker,) = found.blockers
    assert (blocker.code, blocker.details["dispatcher"]) == ("dispatched", "d")
    assert blocker.details["void_at"] == ticket.expires_at
    assert blocker.since is not None
    (cause,) = one_client.explain(view.id).root_causes
    assert (cause.step, cause.code, cause.held_count) == ("a", "dispatched", 1)
    assert one_client.explain_step(view.id, "b").root_causes[0].code == "dispatched"
    start(one_client, ticket)
    assert one_client.explain_step(view.id, "a").blockers[0].code == "executing"


def test_what_is_derived_of_a_ticket_is_rebuilt(one_client: Client) -> None:
    view = one_client.insert(flow("a b:a"))
    ticket_of(one_client)
    before = stored(one_client)
    assert one_client.reconcile(view.id).repairs == ()
    one_client.rebuild()
    assert {key: value for key, value in stored(one_client).items() if b":stats" not in key} == {
        key: value for key, value in before.items() if b":stats" not in key
    }


def test_show_tells_who_has_dispatched_a_step(one_client: Client, cli: Cli) -> None:
    view = one_client.insert(flow("a"))
    ticket = ticket_of(one_client)
    assert one_client.step(view.id, "a").dispatched is True
    shown = cli.ok("show", view.id, "a")
    assert "d has dispatched it, to be started by" in shown
    assert "dispatched by d until" in cli.ok("show", view.id)
    start(one_client, ticket)
    assert one_client.step(view.id, "a").dispatched is False
    assert "w runs it until" in cli.ok("show", view.id, "a")


def test_metrics_count_tickets(one_client: Client) -> None:
    one_client.insert(flow("a b c"))
    first, second, third = dispatch(one_client, 3, hold=0.5)
    start(one_client, first)
    one_client.release([second])
    until_past(one_client, third.expires_at)
    ticked(one_client)
    registry = CollectorRegistry()
    registry.register(metrics.FleetCollector(one_client))
    counts = {
        status: registry.get_sample_value("rwf_tickets_total", {"status": status})
        for status in TicketStatus
    }
    assert counts == {"issued": 3, "started": 1, "void": 1}


# --- refused arguments


@pytest.mark.parametrize(
    "options",
    [
        {"hold": 0}, {"hold": -1}, {"hold": 8 * 86_400}, {"hold": "1"}, {"limit": 0},
        {"limit": 1001}, {"limit": True},
    ],
)  # fmt: skip
def test_bad_arguments_of_dispatch(one_client: Client, options: dict[str, Any]) -> None:
    with refused("invalid_argument"):
        dispatch(one_client, **options)


@pytest.mark.parametrize("queues", ["default", [], ["no/name"], None])
def test_bad_queues_of_dispatch(one_client: Client, queues: Any) -> None:
    with refused("invalid_argument"):
        one_client.dispatch(queues, dispatcher="d")


@pytest.mark.parametrize("dispatcher", ["", None, 5, "x" * 513])
def test_bad_dispatchers(one_client: Client, dispatcher: Any) -> None:
    with refused("invalid_argument"):
        one_client.dispatch(["default"], dispatcher=dispatcher)


@pytest.mark.parametrize("ticket", ["", "a/b", "a/b/c/d", None, 7, "0-x/a/b"])
def test_bad_tickets(one_client: Client, ticket: Any) -> None:
    with refused("invalid_argument"):
        start(one_client, ticket)


@pytest.mark.parametrize("run_id", ["", None, 5, "x" * 513])
def test_bad_run_ids(one_client: Client, run_id: Any) -> None:
    one_client.insert(flow("a"))
    with refused("invalid_argument"):
        start(one_client, str(ticket_of(one_client)), run_id)


def test_tickets_of_what_does_not_exist(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    ticket = str(ticket_of(one_client))
    workflow_id, _, lease = ticket.split("/")
    with refused("step_not_found"):
        start(one_client, f"{workflow_id}/zzz/{lease}")
    with refused("stale_ticket"):
        start(one_client, f"{workflow_id}/a/{lease}x")
    with refused("workflow_not_found"):
        start(one_client, f"{workflow_id[:-1]}{'0' if workflow_id[-1] != '0' else '1'}/a/{lease}")
    assert states(one_client, view.id) == "a=executing"
