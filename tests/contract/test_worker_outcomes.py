"""The table of outcomes: whatever a handler returns or raises is the outcome of its step alone, and
the worker goes on (contract §8)."""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
from collections.abc import Callable
from typing import Any

import pytest

from rwf import Cancel, Client, Discard, Fail, Retry, Worker, Workflow
from tests.support.flows import flow
from tests.support.servers import AnyServer
from tests.support.waiting import until
from tests.support.workers import CLIENTS, at_work, client_of, until_ended


@pytest.fixture(autouse=True)
def silent(caplog: pytest.LogCaptureFixture) -> None:
    """Log messages with these values could not travel between processes of pytest-xdist."""
    caplog.set_level(logging.CRITICAL, logger="rwf.worker")


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class Hostile(Exception):
    def __str__(self) -> str:
        raise SystemExit("from the text")


class Own(BaseException):
    pass


class Endless(dict[str, Any]):
    def items(self) -> Any:
        raise KeyboardInterrupt


def group(*errors: BaseException) -> BaseException:
    return BaseExceptionGroup("some", [BaseExceptionGroup("inner", list(errors))])


Raised = Callable[[], BaseException]

# The exception, the state of the step after it, and its summary.
RAISED: dict[str, tuple[Raised, str, str | None]] = {
    "error": (lambda: KeyError("x"), "retryable", "KeyError: 'x'"),
    "base": (lambda: Own("x"), "retryable", "Own: x"),
    "system_exit": (lambda: SystemExit(3), "retryable", "SystemExit: 3"),
    "keyboard": (lambda: KeyboardInterrupt(), "retryable", "KeyboardInterrupt: "),
    "generator_exit": (lambda: GeneratorExit(), "retryable", "GeneratorExit: "),
    "cancelled": (lambda: asyncio.CancelledError(), "retryable", "the handler was cancelled"),
    "stop_iteration": (lambda: StopIteration(1), "retryable", None),
    "stop_async": (lambda: StopAsyncIteration(1), "retryable", None),
    "timeout": (lambda: TimeoutError("of its own"), "retryable", "TimeoutError: of its own"),
    "memory": (lambda: MemoryError(), "retryable", "MemoryError: "),
    "unspeakable": (Unspeakable, "retryable", "Unspeakable, whose text cannot be made"),
    "hostile": (Hostile, "retryable", "Hostile, whose text cannot be made"),
    "huge": (lambda: RuntimeError("x" * 1_000_000), "retryable", f"RuntimeError: {'x' * 483}..."),
    "surrogate": (lambda: RuntimeError("\ud800"), "retryable", "RuntimeError: ?"),
    "group": (
        lambda: group(ValueError("x")),
        "retryable",
        "ExceptionGroup: some (1 sub-exception), "
        "the first ExceptionGroup: inner (1 sub-exception), the first ValueError: x",
    ),
    "group_fail": (lambda: group(ValueError(), Fail("no")), "failed", "no"),
    "group_retry": (lambda: group(Retry("later", in_=3600)), "retryable", "later"),
    "group_exit": (lambda: group(SystemExit(1), Discard("d")), "discarded", "d"),
    "fail": (lambda: Fail("no"), "failed", "no"),
    "fail_error": (lambda: Fail(ValueError("x")), "failed", "ValueError: x"),  # type: ignore[arg-type]
    "fail_unspeakable": (
        lambda: Fail(Unspeakable()),  # type: ignore[arg-type]
        "failed",
        "Unspeakable, whose text cannot be made",
    ),
    "fail_number": (lambda: Fail(7), "failed", "7"),  # type: ignore[arg-type]
    "fail_huge": (lambda: Fail("x" * 1_000_000), "failed", f"{'x' * 4093}..."),
    "fail_surrogate": (lambda: Fail("\udfff"), "failed", "?"),
    "fail_object": (lambda: Fail("x", payload=object()), "failed", "the outcome cannot be stored"),
    "fail_endless": (lambda: Fail("x", payload=Endless(a=1)), "failed", None),
    "cancel": (lambda: Cancel("c"), "cancelled", "c"),
    "retry_wrong": (lambda: Retry("r", in_=-1), "failed", "the outcome cannot be stored"),
    "retry_nan": (lambda: Retry("r", in_=float("nan")), "failed", "the outcome cannot be stored"),
}


def generator() -> Any:
    yield 1


async def async_generator() -> Any:
    yield 1


class Awaitable:
    def __await__(self) -> Any:
        yield from asyncio.sleep(0.01).__await__()
        return "awaited"


# The value returned, the state of the step after it, and its payload.
RETURNED: dict[str, tuple[Callable[[], Any], str, Any]] = {
    "nothing": (lambda: None, "completed", None),
    "text": (lambda: "x", "completed", "x"),
    "object": (object, "failed", None),
    "generator": (generator, "failed", None),
    "async_generator": (async_generator, "failed", None),
    "large": (lambda: "x" * 300_000, "failed", None),
    "nan": (lambda: float("nan"), "failed", None),
    "lone_surrogate": (lambda: "\ud800", "failed", None),
    "an_exception": (lambda: ValueError("x"), "failed", None),
    "awaitable": (Awaitable, "completed", "awaited"),
    "coroutine": (lambda: asyncio.sleep(0.01, "slept"), "completed", "slept"),
}


@CLIENTS
@pytest.mark.parametrize("plain", [True, False])
def test_whatever_is_raised_is_the_outcome_of_its_step(
    one_client: Client, one_server: AnyServer, kind: str, plain: bool
) -> None:
    worker = Worker(client_of(kind, one_server))

    def work(what: str) -> None:
        raise RAISED[what][0]()

    async def awork(what: str) -> None:
        await asyncio.sleep(0)
        raise RAISED[what][0]()

    worker.step("work")(work if plain else awork)
    workflow = Workflow("w")
    for what in RAISED:
        workflow.add(what, worker="work", input=what, backoff=3600)
    view = one_client.insert(workflow)
    expected = {what: state for what, (_, state, _) in RAISED.items()}
    with at_work(worker):
        until(
            lambda: {step.name: step.state for step in one_client.steps(view.id)} == expected,
            timeout=60,
            what=f"all outcomes; so far {[(s.name, s.state) for s in one_client.steps(view.id)]}",
        )
        assert worker.health.running == worker.health.abandoned == 0
        after = one_client.insert(flow("a", worker="fine"))
        worker.step("fine")(lambda: "fine")
        until_ended(one_client, after.id)
    summaries = {row.step: row.summary or "" for row in one_client.results(view.id)}
    for what, (_, _, summary) in RAISED.items():
        assert summaries[what].startswith(summary or ""), what
        assert len(summaries[what]) <= 4096
    assert all(step.attempt == 1 for step in one_client.steps(view.id))


@CLIENTS
@pytest.mark.parametrize("plain", [True, False])
def test_whatever_is_returned_is_the_outcome_of_its_step(
    one_client: Client, one_server: AnyServer, kind: str, plain: bool
) -> None:
    worker = Worker(client_of(kind, one_server))

    def work(what: str) -> Any:
        return RETURNED[what][0]()

    async def awork(what: str) -> Any:
        returned = RETURNED[what][0]()
        # A coroutine function returns the value that it has awaited itself.
        return await returned if what in ("awaitable", "coroutine") else returned

    worker.step("work")(work if plain else awork)
    workflow = Workflow("w")
    for what in RETURNED:
        workflow.add(what, worker="work", input=what)
    view = one_client.insert(workflow)
    with at_work(worker):
        until_ended(one_client, view.id)
    found = {step.name: step.state for step in one_client.steps(view.id)}
    assert found == {what: state for what, (_, state, _) in RETURNED.items()}
    payloads = {row.step: row.payload for row in one_client.results(view.id)}
    assert payloads == {what: payload for what, (_, _, payload) in RETURNED.items()}


class Service:
    async def __call__(self, number: int) -> int:
        await asyncio.sleep(0)
        return number

    async def method(self, number: int) -> int:
        return number + 1

    def plain(self, number: int) -> int:
        return number + 2


def decorated(function: Any) -> Any:
    """A decorator that knows nothing of coroutines."""

    @functools.wraps(function)
    def wrapper(*args: Any, **options: Any) -> Any:
        return function(*args, **options)

    return wrapper


async def added(number: int, more: int) -> int:
    return number + more


@decorated
async def doubled(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


@CLIENTS
def test_whatever_can_be_called_is_a_handler(
    one_client: Client, one_server: AnyServer, kind: str
) -> None:
    worker, service = Worker(client_of(kind, one_server)), Service()
    handlers = {
        "object": (service, 5),
        "method": (service.method, 6),
        "plain": (service.plain, 7),
        "partial": (functools.partial(added, more=3), 8),
        "decorated": (doubled, 10),
    }
    workflow = Workflow("w")
    for name, (handler, _) in handlers.items():
        worker.step(name)(handler)
        workflow.add(name, worker=name, input={"number": 5})
    view = one_client.insert(workflow)
    with at_work(worker):
        until_ended(one_client, view.id)
    payloads = {row.step: row.payload for row in one_client.results(view.id)}
    assert payloads == {name: result for name, (_, result) in handlers.items()}


def test_a_timeout_holds_for_what_is_awaited_behind_a_plain_decorator(
    one_client: Client, one_server: AnyServer
) -> None:
    worker = Worker(client_of("async", one_server))

    @worker.step("work")
    @decorated
    async def work() -> None:
        await asyncio.Event().wait()

    view = one_client.insert(flow("a", timeout=0.1, max_attempts=1))
    with at_work(worker):
        until_ended(one_client, view.id)
    assert one_client.results(view.id)[0].summary == "timed out after 0.1 s"


def test_a_task_of_a_handler_that_exits_ends_nobody_else(
    one_client: Client, one_server: AnyServer
) -> None:
    worker = Worker(client_of("async", one_server))

    async def leave() -> None:
        sys.exit(3)

    @worker.step("alone")
    async def alone() -> str:
        task = asyncio.create_task(leave())
        await asyncio.wait([task])
        return type(task.exception()).__name__

    @worker.step("group")
    async def in_group() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(leave())

    workflow = Workflow("w").add("alone", worker="alone")
    workflow.add("group", worker="group", max_attempts=1)
    view = one_client.insert(workflow)
    with at_work(worker):
        until_ended(one_client, view.id)
        after = one_client.insert(flow("a", worker="alone"))
        until_ended(one_client, after.id)
    rows = {row.step: (row.payload, row.summary) for row in one_client.results(view.id)}
    assert rows == {"alone": ("SystemExit", None), "group": (None, "SystemExit: 3")}


def test_a_handler_that_stops_the_loop_ends_nobody(
    one_client: Client, one_server: AnyServer
) -> None:
    worker = Worker(client_of("async", one_server))

    @worker.step("stop")
    async def stop() -> None:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.05)

    @worker.step("work")
    async def work() -> None:
        await asyncio.sleep(0.2)

    view = one_client.insert(flow("a b").add("s", worker="stop"))
    with at_work(worker):
        until_ended(one_client, view.id)
    steps = one_client.steps(view.id)
    assert {(step.state, step.attempt) for step in steps} == {("completed", 1)}
