"""The worker and its handlers (contract §8); ``test_worker_life`` tests its loops."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from datetime import timedelta
from typing import Any, cast

import pytest
from pydantic import BaseModel

from rwf import (
    Await,
    Cancel,
    Client,
    CommandRejected,
    Discard,
    Fail,
    Retry,
    StepContext,
    Worker,
    Workflow,
    result,
)
from rwf.model.states import StepState
from tests.support.flows import flow, states
from tests.support.servers import AnyServer
from tests.support.waiting import until
from tests.support.workers import CLIENTS, at_work, client_of, run_to_end, until_ended


class Customer(BaseModel):
    name: str
    tags: list[str] = []


def step_of(client: Client, workflow_id: str, name: str = "a") -> StepState:
    return client.step(workflow_id, name).state


@CLIENTS
def test_a_workflow_runs_to_its_end(client: Client, server: AnyServer, kind: str) -> None:
    worker = Worker(client_of(kind, server), queues=["default", "billing"])

    @worker.step("fetch")
    async def fetch(input: dict[str, int]) -> Customer:
        return Customer(name=f"customer {input['account_id']}", tags=["new"])

    @worker.step("bill")
    def bill(customer: Customer, account_id: int) -> dict[str, Any]:
        return {"billed": customer.name, "account_id": account_id}

    flow_ = Workflow("sync").add("fetch_customer", worker=fetch, input={"account_id": 42})
    fields = {"account_id": 42, "customer": result("fetch_customer")}
    flow_.add("sync_billing", worker=bill, queue="billing", input=fields)
    flow_.add("notify", worker="fetch", input={"account_id": result("sync_billing", "account_id")})
    view = client.insert(flow_)
    run_to_end(worker, client, view.id)
    assert client.get(view.id).state == "completed"
    payloads = {found.step: found.payload for found in client.results(view.id)}
    assert payloads == {
        "fetch_customer": {"name": "customer 42", "tags": ["new"]},
        "sync_billing": {"billed": "customer 42", "account_id": 42},
        "notify": {"name": "customer 42", "tags": ["new"]},
    }
    assert all(step.attempt == 1 for step in client.steps(view.id))


@CLIENTS
@pytest.mark.parametrize("plain", [True, False])
def test_the_outcomes(one_client: Client, one_server: AnyServer, kind: str, plain: bool) -> None:
    worker = Worker(client_of(kind, one_server))

    def act(what: str) -> str:
        match what:
            case "fail":
                raise Fail("no address", payload={"code": 7})
            case "discard":
                raise Discard("pointless")
            case "cancel":
                raise Cancel("not wanted")
            case "retry":
                raise Retry("later", in_=timedelta(hours=1))
            case "await":
                raise Await(signal="approved", correlation_key="order-1")
            case "error":
                raise KeyError("nobody")
            case "exit":
                raise SystemExit(3)
            case "cancelled":
                raise asyncio.CancelledError
        return what

    if plain:
        worker.step("work")(act)
    else:

        @worker.step("work")
        async def work(what: str) -> str:
            return act(what)

    outcomes = {
        "fail": "failed",
        "discard": "discarded",
        "cancel": "cancelled",
        "retry": "retryable",
        "await": "awaiting_signal",
        "error": "retryable",
        "fine": "completed",
        "cancelled": "retryable",
    }
    if plain:
        outcomes["exit"] = "retryable"
    workflow = Workflow("w")
    for what in outcomes:
        workflow.add(what, worker="work", input=what, backoff=3600)
    view = one_client.insert(workflow)
    with at_work(worker):
        until(
            lambda: {step.name: step.state for step in one_client.steps(view.id)} == outcomes,
            what=f"the outcomes, so far {states(one_client, view.id)}",
        )
    told = {found.step: (found.payload, found.summary) for found in one_client.results(view.id)}
    assert told["fail"] == ({"code": 7}, "no address")
    assert told["discard"] == (None, "pointless")
    assert told["cancel"] == (None, "not wanted")
    assert told["retry"] == (None, "later")
    assert told["error"] == (None, "KeyError: 'nobody'")
    assert told["fine"] == ("fine", None)
    assert "await" not in told
    retry_at = one_client.step(view.id, "retry").retry_at
    assert retry_at is not None
    assert timedelta(minutes=59) < retry_at - one_client.get(view.id).inserted_at


def test_an_exception_is_logged_with_its_step(
    one_client: Client, one_server: AnyServer, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(client_of("async", one_server))

    @worker.step("work")
    async def work() -> None:
        raise RuntimeError("x" * 5000)

    view = one_client.insert(flow("a", max_attempts=1))
    with caplog.at_level(logging.ERROR, logger="rwf.worker"):
        run_to_end(worker, one_client, view.id)
    [record] = [record for record in caplog.records if record.exc_info]
    assert record.getMessage() == f"step a of {view.id} failed in attempt 1"
    assert step_of(one_client, view.id) == "discarded"
    [row] = one_client.results(view.id)
    assert row.summary is not None
    assert row.summary.startswith("RuntimeError: xxx")
    assert len(row.summary) == 500


def test_a_step_without_a_handler_runs_elsewhere_as_its_first_attempt(
    one_client: Client, one_server: AnyServer, caplog: pytest.LogCaptureFixture
) -> None:
    ids = [one_client.insert(flow("a", worker="known", max_attempts=1)).id for _ in range(2)]
    with at_work(Worker(client_of("async", one_server), reconcile=False)):
        until(
            lambda: {step_of(one_client, workflow_id) for workflow_id in ids} == {"retryable"},
            what="their return",
        )
    warnings = [one for one in caplog.messages if "has no handler named 'known'" in one]
    assert len(warnings) == 1
    why = one_client.explain_step(ids[0], "a")
    assert (why.operator_status, why.blockers[0].code) == ("Blocked", "no_handler")
    worker = Worker(client_of("async", one_server))
    worker.step("known")(lambda: "done")
    run_to_end(worker, one_client, *ids)
    assert one_client.step(ids[0], "a").attempt == 1


def test_a_rolling_deploy_burns_no_attempt(one_client: Client, one_server: AnyServer) -> None:
    """One worker of the old release, which lacks the new handler, beside one of the new."""
    workflow = flow("a", worker="old", max_attempts=2).add(
        "b", worker="new", deps=["a"], max_attempts=2
    )
    ids = [one_client.insert(workflow).id for _ in range(40)]
    old, new = (Worker(client_of("async", one_server), concurrency=8) for _ in range(2))
    for worker in (old, new):
        worker.step("old")(lambda: "old")
    new.step("new")(lambda: "new")
    with at_work(new):
        with at_work(old):
            time.sleep(3)
        # Which worker takes a step is chance, and each time the old one does, the step pauses for
        # twice as long: without its end some of the 40 would pause for half a minute.
        for workflow_id in ids:
            until_ended(one_client, workflow_id)
    assert {one_client.get(workflow_id).state for workflow_id in ids} == {"completed"}
    assert {one_client.step(workflow_id, "b").attempt for workflow_id in ids} == {1}
    rows = [row for workflow_id in ids for row in one_client.results(workflow_id)]
    assert len(rows) == 80


def test_a_handler_polls_without_counting_attempts(
    one_client: Client, one_server: AnyServer
) -> None:
    view = one_client.insert(flow("a", max_attempts=2))
    worker = Worker(client_of("async", one_server))
    runs: list[int] = []

    @worker.step("work")
    async def poll(ctx: StepContext) -> str:
        runs.append(ctx.attempt)
        if len(runs) < 6:
            raise Retry("not yet", in_=0, count=False)
        return "done"

    run_to_end(worker, one_client, view.id)
    assert runs == [1] * 6
    assert [(row.attempt, row.payload) for row in one_client.results(view.id)] == [(1, "done")]


def test_a_worker_joins_more_results_than_one_reply_holds(
    one_client: Client, one_server: AnyServer
) -> None:
    names = [f"s{number}" for number in range(150)]
    joined = Workflow("joined").add_many({"name": name, "worker": "part"} for name in names)
    joined.add("last", worker="sum", input={"parts": [result(name) for name in names]})
    ids = [one_client.insert(joined).id for _ in range(3)]
    worker = Worker(client_of("async", one_server))
    worker.step("part")(lambda: 2)
    worker.step("sum")(lambda parts: sum(parts))
    run_to_end(worker, one_client, *ids)
    for workflow_id in ids:
        row = one_client.result(workflow_id, "last")
        assert row is not None
        assert (row.attempt, row.payload) == (1, 300)


@pytest.mark.parametrize("plain", [True, False])
def test_what_cannot_be_an_input_or_a_result_fails(
    one_client: Client, one_server: AnyServer, plain: bool
) -> None:
    worker = Worker(client_of("async", one_server))

    def typed(customer: Customer) -> int:
        return cast("int", customer)

    async def endless(input: str) -> Any:
        return object() if input == "object" else "x" * 300_000

    async def atyped(customer: Customer) -> int:
        return typed(customer)

    worker.step("typed")(typed if plain else atyped)
    worker.step("endless")(endless)
    workflow = Workflow("w").add("invalid", worker="typed", input={"tags": 3})
    workflow.add("wrong", worker="typed", input={"name": "Ada"})
    workflow.add("object", worker="endless", input="object")
    workflow.add("large", worker="endless", input="large")
    view = one_client.insert(workflow)
    run_to_end(worker, one_client, view.id)
    assert all(step.state == "failed" for step in one_client.steps(view.id))
    told = {found.step: found.summary or "" for found in one_client.results(view.id)}
    assert told["invalid"] == "the input is not valid: name: Field required and 1 more"
    assert told["wrong"] == "the result is not what typed says it returns"
    assert told["object"].startswith("the outcome cannot be stored: non_serializable_payload")
    assert told["large"].startswith("the outcome cannot be stored: payload_too_large")


@pytest.mark.parametrize("plain", [True, False])
def test_a_timeout_ends_an_attempt(one_client: Client, one_server: AnyServer, plain: bool) -> None:
    worker = Worker(client_of("async", one_server), concurrency=1)
    never = threading.Event()
    deadlines: list[Any] = []

    def wait(ctx: StepContext) -> None:
        deadlines.append(ctx.deadline)
        if ctx.attempt == 1:
            never.wait()

    async def await_(ctx: StepContext) -> None:
        deadlines.append(ctx.deadline)
        if ctx.attempt == 1:
            await asyncio.Event().wait()

    worker.step("work")(wait if plain else await_)
    view = one_client.insert(flow("a", timeout=0.1, backoff=0))
    with at_work(worker):
        until(lambda: step_of(one_client, view.id) == "retryable", what="the timeout")
        never.set()
        one_client.reconcile(view.id)
        until_ended(one_client, view.id)
    assert [row.summary for row in one_client.results(view.id)] == ["timed out after 0.1 s", None]
    assert len(deadlines) == 2
    assert None not in deadlines


def test_a_timeout_of_the_handlers_own_is_an_error(
    one_client: Client, one_server: AnyServer
) -> None:
    worker = Worker(client_of("async", one_server))

    @worker.step("work")
    async def work() -> None:
        raise TimeoutError("of a socket")

    view = one_client.insert(flow("a", timeout=60, max_attempts=1))
    run_to_end(worker, one_client, view.id)
    assert one_client.results(view.id)[0].summary == "TimeoutError: of a socket"


@CLIENTS
@pytest.mark.parametrize("plain", [True, False])
def test_a_handler_learns_of_a_cancel_request(
    one_client: Client, one_server: AnyServer, kind: str, plain: bool
) -> None:
    worker = Worker(client_of(kind, one_server), lease=0.3)
    beats: list[bool] = []

    def wait(ctx: StepContext) -> str:
        beats.append(ctx.heartbeat())
        until(lambda: ctx.cancel_requested, what="the cancel request")
        return "cleaned up"

    async def await_(ctx: StepContext) -> str:
        beats.append(await ctx.heartbeat())
        while not ctx.cancel_requested:
            await ctx.heartbeat()
        return "cleaned up"

    worker.step("work")(wait if plain else await_)
    view = one_client.insert(flow("a b"))
    with at_work(worker):
        until(lambda: len(beats) == 2, what="both handlers")
        one_client.request_cancel(view.id)
        until_ended(one_client, view.id)
    assert beats == [True, True]
    assert one_client.get(view.id).terminal_cause == "completed_after_cancel_request"
    assert one_client.step(view.id, "a").attempt == 1


def test_a_long_step_keeps_its_lease(one_client: Client, one_server: AnyServer) -> None:
    worker = Worker(client_of("async", one_server), lease=0.2)
    go = threading.Event()
    leases: list[Any] = []

    @worker.step("work")
    async def work(ctx: StepContext) -> None:
        while not go.is_set():
            leases.append(ctx.claim.lease_expires_at)
            await asyncio.sleep(0.02)

    view = one_client.insert(flow("a"))
    with at_work(worker):
        # Past three leases; a reconciler would have taken away a lease that had passed.
        until(lambda: len(set(leases)) > 9, what="heartbeats")
        assert one_client.reconcile(view.id).repairs == ()
        go.set()
        until_ended(one_client, view.id)
    assert one_client.step(view.id, "a").attempt == 1


def test_a_lost_lease_stops_the_handler_and_writes_nothing(
    one_client: Client, one_server: AnyServer
) -> None:
    worker = Worker(client_of("async", one_server), lease=0.6)
    started, stopped = threading.Event(), threading.Event()
    contexts: list[StepContext] = []

    @worker.step("work")
    async def work(ctx: StepContext) -> None:
        contexts.append(ctx)
        if ctx.attempt > 1:
            return
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    view = one_client.insert(flow("a"))
    with at_work(worker):
        assert started.wait(10)
        one_client.recover_step(view.id, "a", "retry", force=True)
        assert stopped.wait(10)
        until(lambda: step_of(one_client, view.id) == "completed", what="the second attempt")
    assert contexts[0].lost
    assert [row.attempt for row in one_client.results(view.id, step="a")] == [2]


def test_a_signal_wakes_its_step_with_its_payload(
    one_client: Client, one_server: AnyServer
) -> None:
    worker = Worker(client_of("async", one_server))

    @worker.step("work")
    def work(ctx: StepContext) -> Any:
        if ctx.signal is None:
            raise Await(
                signal="approved", correlation_key=ctx.workflow_id, deadline=timedelta(hours=1)
            )
        return [ctx.signal.payload, ctx.attempt, ctx.workflow_context, ctx.context, ctx.step]

    workflow = Workflow("w", context={"c": 1}).add("a", worker=work, context=[2])
    view = one_client.insert(workflow)
    with at_work(worker):
        until(lambda: step_of(one_client, view.id) == "awaiting_signal", what="the wait")
        one_client.deliver_signal("approved", view.id, payload={"by": "ann"})
        until_ended(one_client, view.id)
    found = one_client.result(view.id, "a")
    assert found is not None
    assert found.payload == [{"by": "ann"}, 1, {"c": 1}, [2], "a"]


def test_a_wait_that_cannot_be_fails(one_client: Client, one_server: AnyServer) -> None:
    worker = Worker(client_of("async", one_server))

    @worker.step("work")
    def work() -> None:
        raise Await(signal="no such name!", correlation_key="k")

    view = one_client.insert(flow("a"))
    run_to_end(worker, one_client, view.id)
    [row] = one_client.results(view.id)
    assert row.status == "failed"
    assert (row.summary or "").startswith("the wait was refused: invalid_argument")


def test_a_wait_under_a_cancel_request_is_cancelled(
    one_client: Client, one_server: AnyServer
) -> None:
    worker = Worker(client_of("async", one_server))
    started, go = threading.Event(), threading.Event()

    @worker.step("work")
    def work() -> None:
        started.set()
        go.wait(10)
        raise Await(signal="approved", correlation_key="k")

    view = one_client.insert(flow("a"))
    with at_work(worker):
        assert started.wait(10)
        one_client.request_cancel(view.id)
        go.set()
        until_ended(one_client, view.id)
    assert one_client.step(view.id, "a").terminal_cause == "operator_cancelled"


def test_handlers_are_checked_when_they_are_registered(one_client: Client) -> None:
    worker = Worker(one_client)
    worker.step("one")(lambda: None)
    with pytest.raises(ValueError, match="one"):
        worker.step("one")(lambda: None)
    with pytest.raises(TypeError, match="cannot be filled"):
        worker.step("two")(lambda *args: args)
    assert worker.handlers == ("one",)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"queues": "default"}, CommandRejected),
        ({"queues": []}, CommandRejected),
        ({"queues": ["a b"]}, CommandRejected),
        ({"lease": 0}, CommandRejected),
        ({"worker_id": "x" * 600}, CommandRejected),
        ({"concurrency": 0}, ValueError),
        ({"concurrency": True}, ValueError),
        ({"grace": -1}, ValueError),
        ({"grace": "1"}, ValueError),
    ],
)
def test_bad_options(one_client: Client, options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        Worker(one_client, **options)


def test_a_worker_needs_a_client() -> None:
    url: Any = "redis://"
    with pytest.raises(TypeError, match="Client"):
        Worker(url)


def test_a_fake_client_has_workers_too() -> None:
    client = Client.fake()
    worker = Worker(client)

    @worker.step("work")
    async def work(number: int) -> int:
        return number + 1

    view = client.insert(Workflow("w").add("a", worker=work, input=1))
    run_to_end(worker, client, view.id)
    found = client.result(view.id, "a")
    assert found is not None
    assert found.payload == 2
