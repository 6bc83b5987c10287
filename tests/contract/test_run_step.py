"""``rwf.run_step``: the step of a ticket is run by the rules of a worker (contract §15)."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from rwf import (
    Append,
    AsyncClient,
    Await,
    Client,
    CommandRejected,
    Fail,
    Fragment,
    Handlers,
    Retry,
    RunWorkflow,
    Skip,
    StepContext,
    StepRun,
    StoreUnavailable,
    Ticket,
    current_step,
    run_step,
)
from tests.support.flows import flow, states
from tests.support.proxy import Proxy
from tests.support.servers import AnyServer, Server
from tests.support.waiting import until
from tests.support.workers import CLIENTS

Run = Callable[..., StepRun]


@pytest.fixture(autouse=True)
def silent(caplog: pytest.LogCaptureFixture) -> None:
    """Records logged here could not travel between processes of pytest-xdist."""
    caplog.set_level(logging.CRITICAL, logger="rwf.worker")


def runner(kind: str, server: AnyServer | Proxy) -> Run:
    """``run_step`` with a client of this kind, blocking."""

    def run(handlers: Handlers, ticket: Ticket | str, **options: Any) -> StepRun:
        if kind == "sync":
            with Client.from_url(server.url) as client:
                return run_step(client, handlers, ticket, **options)
        return asyncio.run(_run_async(server, handlers, ticket, **options))

    return run


async def _run_async(server: AnyServer | Proxy, *args: Any, **options: Any) -> StepRun:
    async with AsyncClient.from_url(server.url) as client:
        return await run_step(client, *args, **options)


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest, one_server: AnyServer) -> Run:
    return runner(request.param, one_server)


def ticket_of(client: Client, **options: Any) -> Ticket:
    (ticket,) = client.dispatch(["default"], dispatcher="d", **options)
    return ticket


class Order(BaseModel):
    number: int


class Receipt(BaseModel):
    paid: bool


def test_a_typed_handler_runs_and_its_result_is_reported(one_client: Client, run: Run) -> None:
    handlers = Handlers()
    seen: list[Any] = []

    @handlers.step("work")
    def work(order: Order, ctx: StepContext) -> Receipt:
        seen.append((order, ctx.attempt, current_step() is ctx, ctx.parents))
        return Receipt(paid=True)

    view = one_client.insert(flow("a b:a", input={"order": {"number": 7}}))
    ran = run(handlers, ticket_of(one_client), run_id="r", worker_id="me")
    assert (ran.workflow_id, ran.step, ran.worker, ran.attempt) == (view.id, "a", "work", 1)
    assert (ran.outcome, ran.summary, ran.error) == ("completed", None, None)
    assert seen == [(Order(number=7), 1, True, {})]
    (row,) = one_client.results(view.id)
    assert (row.payload, row.worker_id) == ({"paid": True}, "me")
    assert states(one_client, view.id) == "a=completed b=available"


def test_a_coroutine_function_runs_in_a_loop(one_client: Client, run: Run) -> None:
    handlers = Handlers()

    @handlers.step("work")
    async def work(ctx: StepContext) -> list[str]:
        await asyncio.sleep(0)
        assert await ctx.heartbeat()
        return sorted(await ctx.parents)

    view = one_client.insert(flow("a b:a"))
    for step in ("a", "b"):
        assert run(handlers, str(ticket_of(one_client))).step == step
    assert one_client.result(view.id, "b").payload == ["a"]  # type: ignore[union-attr]


OUTCOMES: dict[str, tuple[Callable[[], BaseException], str]] = {
    "error": (lambda: KeyError("x"), "retryable"),
    "fail": (lambda: Fail("no"), "failed"),
    "retry": (lambda: Retry("later", in_=3600), "retryable"),
    "skip": (lambda: Skip("not today"), "completed"),
    "await": (lambda: Await(signal="go", correlation_key="k"), "awaiting_signal"),
    "bad await": (lambda: Await(signal="go", correlation_key=7), "failed"),  # type: ignore[arg-type]
    "unstorable": (lambda: Fail("x", payload=object()), "failed"),
    "exit": (lambda: SystemExit(3), "retryable"),
}


@pytest.mark.parametrize("case", OUTCOMES)
def test_what_a_handler_raises_is_its_outcome(one_client: Client, run: Run, case: str) -> None:
    make, expected = OUTCOMES[case]
    raised = make()
    handlers = Handlers()

    @handlers.step("work")
    def work() -> None:
        raise raised

    view = one_client.insert(flow("a"))
    ran = run(handlers, ticket_of(one_client))
    assert (ran.outcome, ran.error) == (expected, raised)
    assert states(one_client, view.id) == f"a={expected}"


def test_steps_that_a_handler_appends_come_in(one_client: Client, run: Run) -> None:
    handlers = Handlers()

    @handlers.step("work")
    def work(ctx: StepContext) -> Any:
        return Append(Fragment().add("more", worker="work")) if ctx.step == "a" else None

    view = one_client.insert(flow("a b:a"))
    assert run(handlers, ticket_of(one_client)).outcome == "completed"
    assert states(one_client, view.id) == "a=completed b=pending more=available"
    assert run(handlers, ticket_of(one_client)).step == "more"
    assert states(one_client, view.id) == "a=completed b=available more=completed"


def test_a_child_workflow_is_waited_for(one_client: Client, run: Run) -> None:
    handlers = Handlers()

    @handlers.step("work")
    def work(ctx: StepContext) -> str:
        if ctx.step == "a":
            raise RunWorkflow(flow("inner", name="child"))
        return "done"

    view = one_client.insert(flow("a"))
    assert run(handlers, ticket_of(one_client)).outcome == "awaiting_signal"
    assert run(handlers, ticket_of(one_client)).step == "inner"
    result = one_client.result(view.id, "a")
    assert result is not None
    assert result.payload["results"] == {"inner": "done"}


def test_a_bad_input_fails_and_names_the_field(one_client: Client, run: Run) -> None:
    handlers = Handlers()

    @handlers.step("work")
    def work(order: Order) -> None:
        raise AssertionError("never called")

    one_client.insert(flow("a", input={"order": {"number": "x"}}))
    ran = run(handlers, ticket_of(one_client))
    assert ran.outcome == "failed"
    assert "number" in str(ran.summary)


def test_a_step_without_a_handler_is_given_back_uncounted(one_client: Client, run: Run) -> None:
    view = one_client.insert(flow("a"))
    ran = run(Handlers(), ticket_of(one_client))
    assert (ran.outcome, ran.attempt) == ("no_handler", 1)
    step = one_client.step(view.id, "a")
    assert (step.state, step.attempt) == ("retryable", 0)
    assert one_client.explain_step(view.id, "a").blockers[0].code == "no_handler"


def test_a_second_delivery_runs_nothing(one_client: Client, run: Run) -> None:
    handlers, runs = Handlers(), []

    @handlers.step("work")
    def work(ctx: StepContext) -> None:
        runs.append(run(handlers, ticket).outcome)

    view = one_client.insert(flow("a"))
    ticket = ticket_of(one_client)
    assert run(handlers, ticket).outcome == "completed"
    assert run(handlers, ticket).outcome == "stale_ticket"
    assert runs == ["already_started"]
    reasons = [one.reason_code for one in one_client.evidence(view.id)]
    assert reasons == ["already_started", None, "stale_ticket"]


def test_a_wrong_ticket_is_raised(one_client: Client, run: Run) -> None:
    one_client.list()
    with pytest.raises(CommandRejected, match="invalid_argument"):
        run(Handlers(), "no ticket")
    with pytest.raises(TypeError):
        run({}, "no ticket")


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "coroutine"])
def test_the_timeout_of_a_step_ends_its_attempt(one_client: Client, run: Run, plain: bool) -> None:
    handlers, release = Handlers(), threading.Event()

    if plain:

        @handlers.step("work")
        def work() -> None:
            release.wait(30)

    else:

        @handlers.step("work")
        async def work_async() -> None:
            await asyncio.sleep(30)

    view = one_client.insert(flow("a", timeout=0.2))
    begun = time.monotonic()
    ran = run(handlers, ticket_of(one_client))
    release.set()
    assert (ran.outcome, ran.summary) == ("retryable", "timed out after 0.2 s")
    assert time.monotonic() - begun < 10
    assert states(one_client, view.id) == "a=retryable"


def test_leases_are_extended_and_a_cancel_request_is_seen(one_client: Client, run: Run) -> None:
    """The handler blocks for longer than its lease, and asks for nothing."""
    handlers = Handlers()

    @handlers.step("work")
    def work(ctx: StepContext) -> bool:
        first = ctx.claim.lease_expires_at
        one_client.request_cancel(ctx.workflow_id)
        until(lambda: ctx.cancel_requested, what="the request to be seen")
        until(lambda: ctx.claim.lease_expires_at > first + timedelta(seconds=0.6), what="renewals")
        return ctx.lost

    view = one_client.insert(flow("a"))
    ran = run(handlers, ticket_of(one_client), lease=0.6)
    assert ran.outcome == "completed"
    assert one_client.get(view.id).terminal_cause == "completed_after_cancel_request"
    assert one_client.result(view.id, "a").payload is False  # type: ignore[union-attr]


def test_a_run_that_loses_its_step_reports_nothing(one_client: Client, run: Run) -> None:
    handlers = Handlers()

    @handlers.step("work")
    def work(ctx: StepContext) -> None:
        one_client.recover_step(ctx.workflow_id, "a", "retry", force=True)
        until(lambda: ctx.lost, what="the loss to be seen")

    view = one_client.insert(flow("a"))
    ran = run(handlers, ticket_of(one_client), lease=0.3)
    assert ran.outcome == "stale_lease"
    assert states(one_client, view.id) == "a=available"
    assert one_client.results(view.id) == []


@CLIENTS
def test_a_report_is_repeated_while_the_server_is_away(
    one_client: Client, one_server: Server, impatient: None, kind: str
) -> None:
    view = one_client.insert(flow("a"))
    ticket, handlers = ticket_of(one_client), Handlers()
    with Proxy(one_server.port) as proxy:

        @handlers.step("work")
        def work() -> str:
            proxy.sever()
            threading.Timer(0.7, proxy.heal).start()
            return "kept"

        assert runner(kind, proxy)(handlers, ticket).outcome == "completed"
    assert one_client.result(view.id, "a").payload == "kept"  # type: ignore[union-attr]


@CLIENTS
def test_a_server_that_stays_away_is_raised(
    one_client: Client, one_server: Server, impatient: None, kind: str
) -> None:
    one_client.insert(flow("a"))
    ticket, handlers = ticket_of(one_client), Handlers()
    with Proxy(one_server.port) as proxy:
        handlers.step("work")(proxy.sever)
        with pytest.raises(StoreUnavailable):
            runner(kind, proxy)(handlers, ticket, lease=0.5)


class TimeLimit(Exception):
    """As an executor raises it in the middle of a task."""


@pytest.mark.parametrize(
    ("raised", "state", "attempt"), [(TimeLimit, "retryable", 1), (SystemExit, "available", 0)]
)
def test_an_executor_that_interrupts_a_run(
    one_client: Client, raised: type[BaseException], state: str, attempt: int
) -> None:
    """Its own time limit is the outcome; the end of its process gives the step back."""
    handlers, over = Handlers(), threading.Event()

    @handlers.step("work")
    def work() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        over.wait(30)

    def interrupt(*_: Any) -> None:
        raise raised("enough")

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        view = one_client.insert(flow("a"))
        with pytest.raises(raised):
            run_step(one_client, handlers, ticket_of(one_client))
    finally:
        over.set()
        signal.signal(signal.SIGUSR1, before)
    step = one_client.step(view.id, "a")
    assert (step.state, step.attempt) == (state, attempt)


def test_a_task_that_is_cancelled_gives_its_step_back(
    one_client: Client, one_server: AnyServer
) -> None:
    handlers, begun = Handlers(), threading.Event()

    @handlers.step("work")
    async def work() -> None:
        begun.set()
        await asyncio.sleep(30)

    async def cancelled(ticket: Ticket) -> None:
        async with AsyncClient.from_url(one_server.url) as client:
            task = asyncio.create_task(run_step(client, handlers, ticket))
            await asyncio.to_thread(begun.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    view = one_client.insert(flow("a"))
    asyncio.run(cancelled(ticket_of(one_client)))
    step = one_client.step(view.id, "a")
    assert (step.state, step.attempt) == ("available", 0)


def test_it_runs_on_a_fake(fake_client: Client) -> None:
    handlers = Handlers()
    handlers.step("work")(lambda: 1)
    view = fake_client.insert(flow("a"))
    assert run_step(fake_client, handlers, ticket_of(fake_client)).outcome == "completed"
    assert states(fake_client, view.id) == "a=completed"
