"""Workflows in users' tests: run where they are called, and without waiting (contract §16)."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rwf import (
    AsyncClient,
    Await,
    Backoff,
    Client,
    Discard,
    Fail,
    Handlers,
    NotIdle,
    Retry,
    StepContext,
    Worker,
    Workflow,
    current_step,
    internals,
    result,
)
from rwf.testing import StepRun, run_until_idle
from tests.internals.test_trips import Counted
from tests.support import invariants
from tests.support.flows import flow
from tests.support.run_until_idle_cases import handlers_of

Run = tuple[str, int, str]


@pytest.fixture(autouse=True)
def silent(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="rwf.worker")


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test when anything sleeps."""

    def sleep(seconds: float) -> None:
        raise AssertionError(f"slept for {seconds} s")

    monkeypatch.setattr(time, "sleep", sleep)


def shown(ran: list[StepRun]) -> list[Run]:
    return [(each.step, each.attempt, each.outcome) for each in ran]


def failing_until(attempt: int) -> Callable[[StepContext], int]:
    def handler(ctx: StepContext) -> int:
        if ctx.attempt < attempt:
            raise ValueError(f"attempt {ctx.attempt}")
        return ctx.attempt

    return handler


def sync_customer() -> Workflow:
    wf = Workflow("sync_customer", context={"account_id": 42})
    wf.add("fetch_customer", worker="fetch_customer", input={"account_id": 42})
    customer = {"customer": result("fetch_customer")}
    wf.add("sync_billing", worker="sync_billing", queue="billing", input=customer)
    wf.add("notify", worker="notify", deps=["sync_billing"])
    wf.add("cleanup", worker="cleanup")
    return wf.connect("sync_billing", "cleanup", policy="continue")


def no_address(customer: dict[str, str]) -> None:
    raise Fail("no address")


CUSTOMERS: dict[str, Callable[..., Any]] = {
    "fetch_customer": lambda account_id: {"name": "Ada"},
    "sync_billing": no_address,
    "notify": lambda: None,
    "cleanup": lambda: "clean",
}


# --- steps that run


@pytest.mark.usefixtures("no_waiting")
def test_the_readmes_example_runs_to_its_end(
    fake_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = fake_client.insert(sync_customer())
    counted = Counted(fake_client, monkeypatch)
    ran = run_until_idle(fake_client, handlers_of(**CUSTOMERS))
    assert shown(ran) == [
        ("fetch_customer", 1, "completed"),
        ("sync_billing", 1, "failed"),
        ("cleanup", 1, "completed"),
    ]
    # Three to claim a step and report it, and a few to find queues and timers.
    assert counted.trips <= 18
    assert fake_client.get(view.id).terminal_cause == "step_failed"
    failed = ran[1]
    assert failed == StepRun(
        workflow_id=view.id,
        step="sync_billing",
        worker="sync_billing",
        attempt=1,
        outcome="failed",
        summary="no address",
        error=failed.error,
    )
    assert isinstance(failed.error, Fail)


def test_nothing_to_run_is_nothing(fake_client: Client) -> None:
    assert run_until_idle(fake_client, Handlers()) == []
    view = fake_client.insert(flow("a"))
    fake_client.complete_step(view.id, "a")
    assert run_until_idle(fake_client, handlers_of(work=lambda: None)) == []


def test_higher_priority_runs_first_and_steps_that_are_released_take_their_turn(
    fake_client: Client,
) -> None:
    wf = Workflow("w").add("low", worker="work").add("high", worker="work", priority=5)
    wf.add("urgent", worker="work", priority=9, deps=["high"])
    fake_client.insert(wf)
    ran = run_until_idle(fake_client, handlers_of(work=lambda: None))
    assert [each.step for each in ran] == ["high", "urgent", "low"]


def test_handlers_serve_all_queues_and_a_worker_its_own(fake_client: Client) -> None:
    queues = [f"q{number}" for number in range(300)]
    wf = Workflow("w").add("first", worker="work", queue="q0")
    for queue in queues[1:]:
        wf.add(queue, worker="work", queue=queue, deps=["first"])
    fake_client.insert(wf)
    worker = Worker(fake_client, queues=["q0", "q1"])
    worker.step("work")(lambda: None)
    assert [each.step for each in run_until_idle(fake_client, worker)] == ["first", "q1"]
    ran = run_until_idle(fake_client, handlers_of(work=lambda: None))
    assert sorted(each.step for each in ran) == sorted(queues[2:])


@pytest.mark.parametrize(
    ("raised", "outcome", "summary"),
    [
        (ValueError("x"), "discarded", "ValueError: x"),
        (Fail("no"), "failed", "no"),
        (Discard("d"), "discarded", "d"),
        (SystemExit(3), "discarded", "SystemExit: 3"),
        (StopIteration("s"), "discarded", "StopIteration: s"),
        (BaseExceptionGroup("some", [Fail("inner")]), "failed", "inner"),
    ],
    ids=repr,
)
def test_outcomes_are_those_of_a_worker(
    fake_client: Client, raised: BaseException, outcome: str, summary: str
) -> None:
    def handler() -> None:
        raise raised

    view = fake_client.insert(flow("a", max_attempts=1))
    (ran,) = run_until_idle(fake_client, handlers_of(work=handler))
    assert (ran.outcome, ran.summary, ran.error) == (outcome, summary, raised)
    found = fake_client.result(view.id, "a")
    assert found is not None
    assert found.summary == summary
    assert bool(found.traceback) is not isinstance(raised, Fail | Discard)
    assert "inline.py" not in (found.traceback or "")


def test_input_is_validated_and_results_are_checked(fake_client: Client) -> None:
    def typed(count: int) -> str:
        return "x" * count

    wf = Workflow("w").add("bad", worker="typed", input={"count": "many"})
    wf.add("good", worker="typed", input={"count": 2}).add("odd", worker="odd")
    view = fake_client.insert(wf)
    ran = run_until_idle(fake_client, handlers_of(typed=typed, odd=object))
    assert shown(ran) == [("bad", 1, "failed"), ("good", 1, "completed"), ("odd", 1, "failed")]
    assert "the input is not valid: count: " in str(ran[0].summary)
    assert "the outcome cannot be stored" in str(ran[2].summary)
    assert [each.payload for each in fake_client.results(view.id, step="good")] == ["xx"]


def test_a_keyboard_interrupt_ends_the_test(fake_client: Client) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    fake_client.insert(flow("a"))
    with pytest.raises(KeyboardInterrupt):
        run_until_idle(fake_client, handlers_of(work=interrupted))


def test_a_report_that_is_refused_is_told(fake_client: Client) -> None:
    def ending(ctx: StepContext) -> None:
        fake_client.request_cancel(ctx.workflow_id, force=True)

    fake_client.insert(flow("a"))
    (ran,) = run_until_idle(fake_client, handlers_of(work=ending))
    assert ran.outcome == "stale_lease"


def test_a_handler_may_insert_what_runs_next(fake_client: Client) -> None:
    def inserting() -> None:
        fake_client.insert(Workflow("next").add("b", worker="other", queue="later"))

    fake_client.insert(flow("a"))
    ran = run_until_idle(fake_client, handlers_of(work=inserting, other=lambda: None))
    assert [each.step for each in ran] == ["a", "b"]


# --- time


@pytest.mark.usefixtures("no_waiting")
def test_five_retries_take_their_whole_backoff_and_no_time(
    fake_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = fake_client.insert(flow("a"))
    counted = Counted(fake_client, monkeypatch)
    ran = run_until_idle(fake_client, handlers_of(work=failing_until(5)))
    # Nine per run: to claim and report the step, and to learn that only time is to pass.
    assert counted.trips <= 45
    assert shown(ran) == [*(("a", n, "retryable") for n in range(1, 5)), ("a", 5, "completed")]
    times = [each.recorded_at for each in fake_client.results(view.id)]
    pauses = [(b - a).total_seconds() for a, b in itertools.pairwise(times)]
    assert pauses == pytest.approx([1, 2, 4, 8], abs=0.01)


def test_each_run_is_the_same() -> None:
    def once() -> list[Run]:
        with Client.fake() as client:
            for number in range(12):
                wf = Workflow("w").add(f"a{number}", worker="work")
                client.insert(wf.add(f"b{number}", worker="work", deps=[f"a{number}"]))
            return shown(run_until_idle(client, handlers_of(work=failing_until(3))))

    first = once()
    assert len(first) == 72
    assert [once() for _ in range(4)] == [first] * 4


def test_steps_that_run_out_of_attempts_are_discarded(fake_client: Client) -> None:
    view = fake_client.insert(flow("a b:a", max_attempts=3))
    ran = run_until_idle(fake_client, handlers_of(work=failing_until(9)))
    assert shown(ran) == [("a", 1, "retryable"), ("a", 2, "retryable"), ("a", 3, "discarded")]
    assert fake_client.get(view.id).state == "failed"


def approve(ctx: StepContext) -> Any:
    if ctx.signal is None:
        raise Await(signal="approved", correlation_key="i-7", deadline=timedelta(days=7))
    return ctx.signal.payload


@pytest.mark.usefixtures("no_waiting")
def test_an_approval_that_does_not_come_expires_after_a_week(fake_client: Client) -> None:
    view = fake_client.insert(flow("a b:a"))
    ran = run_until_idle(fake_client, handlers_of(work=approve))
    assert shown(ran) == [("a", 1, "awaiting_signal")]
    ended = fake_client.get(view.id)
    assert ended.state == ended.terminal_cause.removesuffix("_wait") == "expired"  # type: ignore[union-attr]
    assert ended.finished_at is not None
    waited = ended.finished_at - ended.inserted_at
    assert timedelta(days=7) <= waited < timedelta(days=7, seconds=5)


@pytest.mark.usefixtures("no_waiting")
def test_an_approval_that_comes_in_time(fake_client: Client) -> None:
    view = fake_client.insert(flow("a"))
    handlers = handlers_of(work=approve)
    assert shown(run_until_idle(fake_client, handlers, within=0)) == [("a", 1, "awaiting_signal")]
    assert fake_client.explain(view.id).operator_status == "Waiting"
    assert run_until_idle(fake_client, handlers, within=timedelta(days=6)) == []
    fake_client.deliver_signal("approved", "i-7", payload="ann")
    assert shown(run_until_idle(fake_client, handlers)) == [("a", 1, "completed")]
    assert [each.payload for each in fake_client.results(view.id)] == ["ann"]


def test_a_signal_that_is_there_before_the_wait(fake_client: Client) -> None:
    fake_client.deliver_signal("approved", "i-7", payload="ann")
    fake_client.insert(flow("a"))
    ran = run_until_idle(fake_client, handlers_of(work=approve))
    assert shown(ran) == [("a", 1, "available"), ("a", 1, "completed")]


def test_a_wait_that_cannot_be_is_a_failure(fake_client: Client) -> None:
    def waiting() -> None:
        raise Await(signal="", correlation_key="k")

    fake_client.insert(flow("a"))
    (ran,) = run_until_idle(fake_client, handlers_of(work=waiting))
    assert ran.outcome == "failed"
    assert "the wait was refused: " in str(ran.summary)


def test_within_bounds_how_much_time_passes(fake_client: Client) -> None:
    fake_client.insert(flow("a"))
    handlers = handlers_of(work=failing_until(5))  # pauses of 1, 2, 4 and 8 s
    assert len(run_until_idle(fake_client, handlers, within=3.5)) == 3
    assert len(run_until_idle(fake_client, handlers, within=3.0)) == 0
    assert len(run_until_idle(fake_client, handlers, within=timedelta(seconds=4))) == 1
    assert len(run_until_idle(fake_client, handlers)) == 1


def test_a_lease_whose_holder_is_gone_ends(fake_client: Client) -> None:
    fake_client.insert(flow("a"))
    fake_client.claim(["default"], worker_id="gone", lease=600)
    handlers = handlers_of(work=lambda: None)
    assert run_until_idle(fake_client, handlers, within=599) == []
    assert shown(run_until_idle(fake_client, handlers)) == [("a", 2, "completed")]


def test_what_waits_for_other_reasons_stays(fake_client: Client) -> None:
    def forever() -> None:
        raise Await(signal="s", correlation_key="k")

    view = fake_client.insert(flow("a"))
    assert len(run_until_idle(fake_client, handlers_of(work=forever))) == 1
    assert fake_client.get(view.id).state == "pending"
    assert run_until_idle(fake_client, handlers_of(work=forever)) == []


def test_nothing_is_removed_though_its_retention_ends(fake_client: Client) -> None:
    ended = fake_client.insert(flow("a"), retention=timedelta(hours=1))
    waiting = fake_client.insert(Workflow("w").add("b", worker="approve"))
    run_until_idle(fake_client, handlers_of(work=lambda: None, approve=approve))
    assert fake_client.get(ended.id).state == "completed"
    assert fake_client.get(waiting.id).state == "expired"
    assert fake_client.prune().workflows == 1


def test_steps_without_a_handler_are_left_with_a_warning(
    fake_client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="rwf.worker")
    view = fake_client.insert(Workflow("w").add("a", worker="nobody").add("b", worker="work"))
    handlers = handlers_of(work=failing_until(5))
    assert {each.step for each in run_until_idle(fake_client, handlers)} == {"b"}
    assert caplog.text.count("there is no handler named 'nobody'") == 1
    assert [each.code for each in fake_client.explain_step(view.id, "a").blockers] == ["no_handler"]
    handlers.step("nobody")(lambda: None)
    assert shown(run_until_idle(fake_client, handlers)) == [("a", 1, "completed")]


@pytest.mark.parametrize("in_", [None, 0, 0.001, timedelta(days=1)])
def test_an_endless_poll_is_told_after_so_many_runs(fake_client: Client, in_: Any) -> None:
    def poll() -> None:
        raise Retry("not yet", in_=in_, count=False)

    view = fake_client.insert(flow("a"))
    with pytest.raises(NotIdle, match=r"after 50 runs: .* attempt 1 of step a of .* retryable"):
        run_until_idle(fake_client, handlers_of(work=poll), limit=50)
    step = fake_client.step(view.id, "a")
    assert (step.state, step.attempt) == ("available", 0) or step.attempt == 1


def test_exactly_so_many_runs_as_allowed_are_idle(fake_client: Client) -> None:
    fake_client.insert(flow("a b:a c:b"))
    handlers = handlers_of(work=lambda: None)
    with pytest.raises(NotIdle):
        run_until_idle(fake_client, handlers, limit=2)
    assert [each.step for each in run_until_idle(fake_client, handlers, limit=1)] == ["c"]


def test_a_poll_that_ends(fake_client: Client) -> None:
    answers = ["queued", "running", "done"]

    def poll() -> str:
        if (status := answers.pop(0)) != "done":
            raise Retry(status, in_=0, count=False)
        return status

    fake_client.insert(flow("a", max_attempts=1))
    ran = run_until_idle(fake_client, handlers_of(work=poll))
    assert [each.outcome for each in ran] == ["retryable", "retryable", "completed"]


def test_the_time_of_one_fake_server_is_its_own(fake_client: Client) -> None:
    fake_client.insert(flow("a"))
    run_until_idle(fake_client, handlers_of(work=approve))
    ahead = fake_client.insert(flow("b")).inserted_at - datetime.now(UTC)
    assert timedelta(days=6, hours=23) < ahead < timedelta(days=7, minutes=1)
    with Client.fake() as other:
        assert abs(other.insert(flow("b")).inserted_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_time_goes_on_afterwards_and_never_back(fake_client: Client) -> None:
    clock = internals.clock_of(fake_client)
    assert clock is not None
    with clock.held():
        first = clock.micros()
        # It begins at a whole millisecond, as timers do.
        assert first % 1000 == 1
        assert clock.micros() == first + 1
        clock.move_on(first + 5_000_000)
        clock.move_on(first)
        assert clock.micros() == first + 5_000_001
    assert clock.micros() > first + 5_000_001
    fake_client.insert(flow("a"))
    with clock.held(), pytest.raises(RuntimeError, match="held already"):
        run_until_idle(fake_client, handlers_of(work=lambda: None))


def test_large_releases_are_walked_to_their_end(fake_client: Client) -> None:
    wf = Workflow("w").add("root", worker="work")
    for number in range(450):
        wf.add(f"s{number}", worker="nobody", deps=["root"])
    view = fake_client.insert(wf)
    fake_client.claim(["default"], worker_id="gone", lease=1)
    handlers = handlers_of(work=lambda: fake_client.request_cancel(view.id))
    assert [each.step for each in run_until_idle(fake_client, handlers)] == ["root"]
    assert fake_client.get(view.id).cancelled_step_count == 450


# --- a real server


def test_a_real_servers_time_cannot_be_skipped(one_client: Client) -> None:
    with pytest.raises(ValueError, match="skip_time=False waits"):
        run_until_idle(one_client, Handlers())


def test_on_a_real_server_timers_are_waited_for(client: Client) -> None:
    wf = Workflow("w").add("a", worker="work", backoff=Backoff(base=0.2, factor=1))
    client.insert(wf.add("b", worker="quick", deps=["a"]))
    begun = time.monotonic()
    handlers = handlers_of(work=failing_until(3), quick=lambda: None)
    ran = run_until_idle(client, handlers, skip_time=False)
    assert shown(ran) == [
        ("a", 1, "retryable"),
        ("a", 2, "retryable"),
        ("a", 3, "completed"),
        ("b", 1, "completed"),
    ]
    assert time.monotonic() - begun >= 0.39


def test_on_a_real_server_what_is_later_than_within_is_left(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    ran = run_until_idle(one_client, handlers_of(work=approve), skip_time=False, within=0)
    assert shown(ran) == [("a", 1, "awaiting_signal")]
    assert one_client.get(view.id).state == "pending"


def test_a_fake_servers_time_may_be_waited_for_too(fake_client: Client) -> None:
    def soon(ctx: StepContext) -> None:
        if ctx.attempt == 1:
            raise Retry(in_=0.2)

    fake_client.insert(flow("a"))
    begun = time.monotonic()
    assert len(run_until_idle(fake_client, handlers_of(work=soon), skip_time=False)) == 2
    assert time.monotonic() - begun >= 0.19


# --- coroutines, contexts, and middleware


def test_a_blocking_client_runs_coroutines_in_one_loop_and_others_here(
    fake_client: Client,
) -> None:
    loops: list[Any] = []

    async def coroutine(ctx: StepContext) -> bool:
        loops.append(asyncio.get_running_loop())
        await asyncio.sleep(0)
        assert current_step() is ctx
        stands: bool = await ctx.heartbeat()
        return stands

    def plain(ctx: StepContext) -> Any:
        # No event loop is in the way of blocking calls.
        assert asyncio.run(asyncio.sleep(0, "slept")) == "slept"
        assert current_step() is ctx
        return ctx.heartbeat()

    def decorated(ctx: StepContext) -> Any:
        return coroutine(ctx)

    wf = Workflow("w").add("a", worker="coroutine").add("b", worker="decorated")
    view = fake_client.insert(wf.add("c", worker="plain"))
    handlers = handlers_of(coroutine=coroutine, decorated=decorated, plain=plain)
    ran = run_until_idle(fake_client, handlers)
    assert [each.outcome for each in ran] == ["completed"] * 3
    assert [each.payload for each in fake_client.results(view.id)] == [True] * 3
    assert len(loops) == 2
    assert loops[0] is loops[1]
    assert current_step() is None


def test_where_a_loop_runs_a_blocking_client_runs_no_coroutine(fake_client: Client) -> None:
    async def coroutine() -> None: ...

    async def main() -> None:
        with pytest.raises(RuntimeError, match="needs an event loop, and one runs here already"):
            run_until_idle(fake_client, handlers_of(work=coroutine))

    view = fake_client.insert(flow("a"))
    asyncio.run(main())
    assert fake_client.step(view.id, "a").state == "available"


def test_middleware_runs_around_all(fake_client: Client) -> None:
    seen: list[str] = []
    handlers = Handlers()

    @handlers.middleware
    def plain(ctx: StepContext) -> Iterator[None]:
        seen.append(f"plain {ctx.step}")
        yield

    async def coroutine() -> None:
        seen.append("coroutine")

    handlers.step("coroutine")(coroutine)
    handlers.step("plain")(lambda: seen.append("function"))
    wf = Workflow("w").add("a", worker="coroutine").add("b", worker="plain")
    fake_client.insert(wf)
    run_until_idle(fake_client, handlers)
    assert seen == ["plain a", "coroutine", "plain b", "function"]

    @handlers.middleware
    async def in_loop(ctx: StepContext) -> AsyncIterator[None]:
        seen.append("async")
        yield

    seen.clear()
    fake_client.insert(wf)
    run_until_idle(fake_client, handlers)
    assert seen == ["plain a", "async", "coroutine", "async", "plain b", "function"]


def test_a_lease_that_is_lost_is_told_by_the_heartbeat(fake_client: Client) -> None:
    def handler(ctx: StepContext) -> None:
        assert ctx.heartbeat() is True
        fake_client.request_cancel(ctx.workflow_id)
        assert ctx.heartbeat() is True
        assert ctx.cancel_requested
        fake_client.request_cancel(ctx.workflow_id, force=True)
        assert ctx.heartbeat() is False
        assert ctx.lost

    fake_client.insert(flow("a"))
    (ran,) = run_until_idle(fake_client, handlers_of(work=handler))
    assert (ran.outcome, ran.error) == ("stale_lease", None)


# --- the asynchronous client


async def _async_coroutine(ctx: StepContext) -> bool:
    assert current_step() is ctx
    stands: bool = await ctx.heartbeat()
    return stands


def _async_plain(ctx: StepContext) -> Any:
    assert current_step() is ctx
    assert asyncio.run(asyncio.sleep(0, "slept")) == "slept"
    return ctx.heartbeat()


def test_an_async_client_runs_coroutines_in_the_calling_loop(no_waiting: None) -> None:
    async def main() -> None:
        async with AsyncClient.fake() as client:
            loops = []

            async def coroutine(ctx: StepContext) -> bool:
                loops.append(asyncio.get_running_loop())
                return await _async_coroutine(ctx)

            handlers = handlers_of(
                coroutine=coroutine, plain=_async_plain, work=failing_until(5), approve=approve
            )
            wf = Workflow("w").add("a", worker="coroutine").add("b", worker="plain")
            view = await client.insert(wf.add("c", worker="work").add("d", worker="approve"))
            running = run_until_idle(client, handlers)
            assert inspect.iscoroutine(running)
            ran = await running
            assert shown(ran) == [
                ("a", 1, "completed"),
                ("b", 1, "completed"),
                ("c", 1, "retryable"),
                ("d", 1, "awaiting_signal"),
                *(("c", number, "retryable") for number in (2, 3, 4)),
                ("c", 5, "completed"),
            ]
            assert [each.payload for each in await client.results(view.id, step="b")] == [True]
            assert loops == [asyncio.get_running_loop()]
            assert (await client.get(view.id)).state == "expired"
            assert current_step() is None

    asyncio.run(main())


@pytest.mark.parametrize("raised", [StopIteration(), SystemExit(1), asyncio.CancelledError()])
@pytest.mark.parametrize("kind", ["coroutine", "plain"])
def test_whatever_a_handler_raises_ends_its_step_alone(raised: BaseException, kind: str) -> None:
    def plain() -> None:
        raise raised

    async def coroutine() -> None:
        raise raised

    async def main() -> list[StepRun]:
        async with AsyncClient.fake() as client:
            await client.insert(flow("a", max_attempts=1))
            handlers = handlers_of(work=plain if kind == "plain" else coroutine)
            return await run_until_idle(client, handlers)

    assert shown(asyncio.run(main())) == [("a", 1, "discarded")]


def test_a_run_that_is_cancelled_ends() -> None:
    async def main() -> None:
        started = asyncio.Event()

        async def slow() -> None:
            started.set()
            await asyncio.sleep(60)

        async with AsyncClient.fake() as client:
            view = await client.insert(flow("a"))
            run = asyncio.create_task(run_until_idle(client, handlers_of(work=slow)))
            await started.wait()
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run
            assert (await client.step(view.id, "a")).state == "executing"

    asyncio.run(main())


def test_on_a_real_server_an_async_client_waits_too(one_client: Client, one_server: Any) -> None:
    async def main() -> list[Run]:
        async with AsyncClient.from_url(one_server.url) as client:
            await client.insert(flow("a", backoff=0.2))
            handlers = handlers_of(work=failing_until(2))
            with pytest.raises(ValueError, match="skip_time=False"):
                await run_until_idle(client, handlers)
            return shown(await run_until_idle(client, handlers, skip_time=False))

    assert asyncio.run(main()) == [("a", 1, "retryable"), ("a", 2, "completed")]
    assert invariants.check(one_client) == []


# --- options


@pytest.mark.parametrize(
    "options", [{"limit": 0}, {"limit": True}, {"within": -1}, {"within": "1"}], ids=repr
)
def test_options_that_cannot_be_are_refused(fake_client: Client, options: Any) -> None:
    with pytest.raises(ValueError, match=r"must be|number"):
        run_until_idle(fake_client, Handlers(), **options)


def test_what_has_no_handlers_is_refused(fake_client: Client) -> None:
    with pytest.raises(TypeError, match="a Worker or Handlers"):
        run_until_idle(fake_client, {})  # type: ignore[call-overload]
