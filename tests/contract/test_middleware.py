"""Middleware around handlers, the current step, and registries of handlers (contract §16)."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from rwf import Client, Fail, Handlers, Retry, StepContext, Worker, Workflow, current_step
from rwf.model.views import ResultView
from tests.support.waiting import until
from tests.support.workers import at_work, run_to_end

request_id: ContextVar[str] = ContextVar("request_id", default="none")


@pytest.fixture(autouse=True)
def silent(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="rwf.worker")


@pytest.fixture
def worker(one_client: Client) -> Worker:
    return Worker(one_client, reconcile=False)


def result_of(worker: Worker, function: Callable[..., Any], **step: Any) -> ResultView:
    """The only attempt of a step with this handler."""
    worker.step("work")(function)
    client = worker.client
    assert isinstance(client, Client)
    view = client.insert(Workflow("w").add("a", worker="work", max_attempts=1, **step))
    run_to_end(worker, client, view.id)
    found = client.result(view.id, "a")
    assert found is not None
    return found


def recorded(into: list[str], name: str) -> Callable[[StepContext], Iterator[None]]:
    def plain(ctx: StepContext) -> Iterator[None]:
        into.append(f"{name} {threading.current_thread().name}")
        yield
        into.append(f"{name} ends")

    return plain


def recorded_async(into: list[str], name: str) -> Callable[[StepContext], AsyncIterator[None]]:
    async def in_loop(ctx: StepContext) -> AsyncIterator[None]:
        await asyncio.sleep(0)
        into.append(f"{name} {asyncio.get_running_loop().is_running()}")
        yield
        into.append(f"{name} ends")

    return in_loop


def thread_name() -> str:
    return threading.current_thread().name


# --- where it runs, and in which order


def test_plain_middleware_runs_in_the_thread_of_a_plain_handler(worker: Worker) -> None:
    seen: list[str] = []
    worker.middleware(recorded(seen, "outer"))
    worker.middleware(recorded(seen, "inner"))
    found = result_of(worker, thread_name)
    assert found.payload == "rwf-step"
    assert seen == ["outer rwf-step", "inner rwf-step", "inner ends", "outer ends"]


def test_middleware_of_both_kinds_runs_in_the_loop_for_a_coroutine(worker: Worker) -> None:
    seen: list[str] = []
    worker.middleware(recorded(seen, "outer"))
    worker.middleware(recorded_async(seen, "inner"))

    async def name() -> str:
        seen.append("handler")
        return thread_name()

    loop_thread = result_of(worker, name).payload
    assert loop_thread != "rwf-step"
    assert seen == [f"outer {loop_thread}", "inner True", "handler", "inner ends", "outer ends"]


def test_async_middleware_stands_outside_around_a_plain_handler(worker: Worker) -> None:
    seen: list[str] = []
    worker.middleware(recorded(seen, "plain"))
    worker.middleware(recorded_async(seen, "async"))
    assert result_of(worker, thread_name).payload == "rwf-step"
    assert seen == ["async True", "plain rwf-step", "plain ends", "async ends"]


def test_async_middleware_wraps_what_a_plain_handler_returns_to_be_awaited(worker: Worker) -> None:
    seen: list[str] = []
    worker.middleware(recorded_async(seen, "async"))

    async def later() -> None:
        seen.append("awaited")

    def handler() -> Any:
        return later()

    result_of(worker, handler)
    assert seen == ["async True", "awaited", "async ends"]


def test_it_wraps_handlers_that_were_registered_before(worker: Worker) -> None:
    seen: list[str] = []
    worker.step("work")(thread_name)
    worker.middleware(recorded(seen, "m"))
    client = worker.client
    assert isinstance(client, Client)
    view = client.insert(Workflow("w").add("a", worker="work"))
    run_to_end(worker, client, view.id)
    assert seen == ["m rwf-step", "m ends"]


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_context_variables_set_by_it_reach_a_plain_handler(worker: Worker, kind: str) -> None:
    if kind == "plain":

        @worker.middleware
        def plain(ctx: StepContext) -> Iterator[None]:
            request_id.set(ctx.step)
            yield

    else:

        @worker.middleware
        async def in_loop(ctx: StepContext) -> AsyncIterator[None]:
            request_id.set(ctx.step)
            yield

    assert result_of(worker, lambda: request_id.get()).payload == "a"
    assert request_id.get() == "none"


# --- exceptions


def failing() -> None:
    raise ValueError("declined")


async def failing_async() -> None:
    failing()


def giving_up() -> None:
    raise Fail("no card")


BOTH = pytest.mark.parametrize("handler", [failing, failing_async])
KINDS = pytest.mark.parametrize("kind", ["plain", "async"])


def catching(
    worker: Worker, kind: str, caught: Callable[[BaseException], BaseException | None]
) -> None:
    """Has middleware of this kind catch the exceptions of handlers, and raise another in their
    place."""
    if kind == "plain":

        @worker.middleware
        def plain(ctx: StepContext) -> Iterator[None]:
            try:
                yield
            except Exception as error:
                if other := caught(error):
                    raise other from error

    else:

        @worker.middleware
        async def in_loop(ctx: StepContext) -> AsyncIterator[None]:
            try:
                yield
            except Exception as error:
                if other := caught(error):
                    raise other from error


@BOTH
@KINDS
def test_an_exception_that_it_swallows_counts_all_the_same(
    worker: Worker, handler: Callable[..., Any], kind: str
) -> None:
    seen: list[str] = []
    outer: list[str] = []
    catching(worker, kind, lambda error: outer.append(repr(error)))
    catching(worker, kind, lambda error: seen.append(repr(error)))
    found = result_of(worker, handler)
    assert (found.status, found.summary) == ("discarded", "ValueError: declined")
    assert seen == outer == ["ValueError('declined')"]
    assert found.traceback is not None
    assert found.traceback.endswith("ValueError: declined\n")


@BOTH
@KINDS
def test_an_exception_that_it_raises_instead_counts(
    worker: Worker, handler: Callable[..., Any], kind: str
) -> None:
    catching(worker, kind, lambda error: Fail(f"because of {error}"))
    found = result_of(worker, handler)
    assert (found.status, found.summary) == ("failed", "because of declined")


@KINDS
def test_it_sees_outcomes(worker: Worker, kind: str) -> None:
    seen: list[str] = []
    catching(worker, kind, lambda error: seen.append(repr(error)))
    found = result_of(worker, giving_up)
    assert (found.status, found.summary, seen) == ("failed", "no card", ["Fail('no card')"])


@KINDS
def test_what_it_raises_at_first_is_the_outcome_of_a_handler_that_never_ran(
    worker: Worker, kind: str
) -> None:
    ran: list[str] = []
    if kind == "plain":

        @worker.middleware
        def plain(ctx: StepContext) -> Iterator[None]:
            raise Fail("not today")
            yield

    else:

        @worker.middleware
        async def in_loop(ctx: StepContext) -> AsyncIterator[None]:
            raise Fail("not today")
            yield

    found = result_of(worker, lambda: ran.append("x"))
    assert (found.status, found.summary, ran) == ("failed", "not today", [])


def test_what_it_raises_at_last_is_the_outcome_too(worker: Worker) -> None:
    @worker.middleware
    def commit(ctx: StepContext) -> Iterator[None]:
        yield
        raise ValueError("cannot commit")

    found = result_of(worker, thread_name)
    assert (found.status, found.summary) == ("discarded", "ValueError: cannot commit")


def test_one_that_yields_twice_is_a_fault(worker: Worker) -> None:
    @worker.middleware
    def twice(ctx: StepContext) -> Iterator[None]:
        yield
        yield

    assert result_of(worker, thread_name).summary == "RuntimeError: generator didn't stop"


def test_a_steps_timeout_includes_it(worker: Worker) -> None:
    @worker.middleware
    async def slow(ctx: StepContext) -> AsyncIterator[None]:
        await asyncio.sleep(60)
        yield

    found = result_of(worker, thread_name, timeout=0.05)
    assert (found.status, found.summary) == ("discarded", "timed out after 0.05 s")


def test_a_plain_handlers_timeout_counts_within_async_middleware(worker: Worker) -> None:
    worker.middleware(recorded_async([], "async"))
    ended = threading.Event()
    found = result_of(worker, lambda: ended.wait(30), timeout=0.05)
    ended.set()
    assert (found.status, found.summary) == ("discarded", "timed out after 0.05 s")


@pytest.mark.parametrize("function", [lambda ctx: None, failing_async, print])
def test_what_is_no_generator_function_is_refused(function: Any) -> None:
    with pytest.raises(TypeError, match="yields once"):
        Handlers().middleware(function)


# --- the current step


def test_there_is_no_current_step_outside() -> None:
    assert current_step() is None


def here() -> list[Any]:
    context = current_step()
    assert context is not None
    return [context.workflow_id, context.step, context.attempt]


async def here_in_many_places() -> list[Any]:
    places = await asyncio.gather(asyncio.to_thread(here), asyncio.create_task(_here_async()))
    assert list(places) == [here(), here()]
    return here()


async def _here_async() -> list[Any]:
    return here()


@pytest.mark.parametrize("handler", [here, here_in_many_places, lambda: _here_async()])
def test_the_current_step_is_that_of_the_running_handler(
    worker: Worker, handler: Callable[..., Any]
) -> None:
    seen: list[Any] = []

    @worker.middleware
    def middleware(ctx: StepContext) -> Iterator[None]:
        seen.append(current_step() is ctx)
        yield
        seen.append(current_step() is ctx)

    workflow_id, step, attempt = result_of(worker, handler).payload
    assert (step, attempt, seen) == ("a", 1, [True, True])
    client = worker.client
    assert isinstance(client, Client)
    assert client.get(workflow_id).state == "completed"


def test_handlers_that_run_at_once_have_each_their_own(worker: Worker) -> None:
    meeting = threading.Barrier(2, timeout=20)

    @worker.step("plain")
    def plain() -> str:
        meeting.wait()
        return str(here()[1])

    @worker.step("coroutine")
    async def coroutine() -> str:
        await asyncio.to_thread(meeting.wait)
        return str(here()[1])

    client = worker.client
    assert isinstance(client, Client)
    for name in ("plain", "coroutine"):
        wf = Workflow("w").add("one", worker=name).add("two", worker=name)
        view = client.insert(wf)
        run_to_end(worker, client, view.id)
        assert {each.step: each.payload for each in client.results(view.id)} == {
            "one": "one",
            "two": "two",
        }


def test_log_records_of_a_failed_step_carry_it(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, logger="rwf.worker")
    seen: list[Any] = []

    def note(record: logging.LogRecord) -> bool:
        seen.append(here()[1])
        return True

    log = logging.getLogger("rwf.worker")
    log.addFilter(note)
    try:
        result_of(worker, failing)
    finally:
        log.removeFilter(note)
    assert seen == ["a"]


# --- registries


def test_several_workers_share_a_registry(one_client: Client) -> None:
    handlers = Handlers()
    seen: list[str] = []
    handlers.middleware(recorded(seen, "m"))

    @handlers.step("work")
    def work() -> str:
        return "done"

    workers = [Worker(one_client, queues=[name], handlers=handlers) for name in ("q1", "q2")]
    workers[0].step("more")(work)
    assert workers[1].handlers == handlers.names == ("work", "more")
    wf = Workflow("w").add("a", worker=work, queue="q1").add("b", worker="work", queue="q2")
    view = one_client.insert(wf)
    with at_work(workers[0]), at_work(workers[1]):
        until(lambda: one_client.get(view.id).state == "completed", what="the end")
    assert seen.count("m rwf-step") == 2


def test_workers_without_a_registry_share_nothing(one_client: Client) -> None:
    first, second = Worker(one_client), Worker(one_client)
    first.step("work")(thread_name)
    assert (first.handlers, second.handlers) == (("work",), ())


def test_a_name_is_taken_once() -> None:
    handlers = Handlers()
    handlers.step("work")(thread_name)
    with pytest.raises(ValueError, match="'work' already"):
        handlers.step("work")(failing)
    with pytest.raises(ValueError, match="'work' already"):
        Worker(handlers=handlers).step("work")(failing)


def test_what_is_no_registry_is_refused() -> None:
    with pytest.raises(TypeError, match=r"rwf\.Handlers"):
        Worker(handlers={"work": thread_name})  # type: ignore[arg-type]


def test_a_step_that_waits_or_polls_passes_through_it(worker: Worker) -> None:
    seen: list[str] = []
    catching(worker, "plain", lambda error: seen.append(type(error).__name__))

    def poll(ctx: StepContext) -> None:
        if len(seen) < 2:
            raise Retry("not yet", in_=0, count=False)

    client = worker.client
    assert isinstance(client, Client)
    worker.step("poll")(poll)
    view = client.insert(Workflow("w").add("a", worker="poll", max_attempts=1))
    reconciling = Worker(client, handlers=worker._handlers)
    run_to_end(reconciling, client, view.id)
    assert seen == ["Retry", "Retry"]
