"""Handlers that do not end when they should, and those that block the event loop: no other step is
affected, and the worker ends in any case (contract §8)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from rwf import Client, StepContext, Worker, Workflow
from tests.support.flows import flow
from tests.support.servers import AnyServer
from tests.support.waiting import until
from tests.support.workers import CLIENTS, at_work, client_of, until_ended


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """The event for which hung handlers wait; set at the end, so that their threads end."""
    event = threading.Event()
    yield event
    event.set()


def hanging(count: int, **options: Any) -> Workflow:
    workflow = Workflow("hang")
    for number in range(count):
        workflow.add(f"h{number}", worker="hang", backoff=3600, **options)
    return workflow


@CLIENTS
def test_a_thread_that_hangs_keeps_its_place_and_no_step_suffers(
    one_client: Client,
    one_server: AnyServer,
    kind: str,
    never: threading.Event,
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker = Worker(client_of(kind, one_server), concurrency=2)
    worker.step("hang")(never.wait)
    calls: list[int] = []
    worker.step("fine")(lambda ctx: calls.append(ctx.attempt))
    first = one_client.insert(hanging(2, timeout=0.3))
    with at_work(worker):
        until(
            lambda: {step.state for step in one_client.steps(first.id)} == {"retryable"},
            what="both timeouts",
        )
        until(lambda: worker.health.abandoned == 2, what="both to be left behind")
        second = one_client.insert(flow("a", worker="fine", timeout=1, max_attempts=1))
        assert "all 2 threads hang" in (worker.health.error or "")
        # Two polls and more: it is not claimed, as there is no thread for it.
        ends = time.monotonic() + 2.5
        while time.monotonic() < ends:
            assert one_client.step(second.id, "a").state == "available"
            time.sleep(0.05)
        assert calls == []
        never.set()
        until_ended(one_client, second.id)
        until(lambda: worker.health.abandoned == 0, what="the threads")
        assert worker.health.error is None
    assert calls == [1]
    assert one_client.get(second.id).state == "completed"
    assert {row.summary for row in one_client.results(first.id)} == {"timed out after 0.3 s"}
    assert any("all 2 threads hang" in one.getMessage() for one in caplog.records)


def test_one_thread_that_hangs_leaves_the_others_to_work(
    one_client: Client, one_server: AnyServer, never: threading.Event
) -> None:
    worker = Worker(client_of("async", one_server), concurrency=2)
    worker.step("hang")(never.wait)
    worker.step("fine")(lambda: None)
    hung = one_client.insert(hanging(1, timeout=0.2))
    with at_work(worker):
        until(lambda: worker.health.abandoned == 1, what="the timeout")
        workflow = Workflow("w")
        for number in range(20):
            workflow.add(f"a{number}", worker="fine", timeout=5, max_attempts=1)
        view = one_client.insert(workflow)
        until_ended(one_client, view.id)
        assert worker.health.abandoned == 1
    assert one_client.get(view.id).state == "completed"
    assert one_client.step(hung.id, "h0").attempt == 1


def test_a_step_that_finds_no_thread_goes_back_uncounted(
    one_client: Client, one_server: AnyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system has no more threads: nothing begins late, and no attempt is lost."""
    worker = Worker(client_of("async", one_server), concurrency=2, reconcile=False)
    calls: list[int] = []
    worker.step("work")(lambda ctx: calls.append(ctx.attempt))
    begin = threading.Thread.start

    def refused(thread: threading.Thread) -> None:
        if thread.name == "rwf-step":
            raise RuntimeError("can't start new thread")
        begin(thread)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refused)
        view = one_client.insert(flow("a", max_attempts=1))
        with at_work(worker):
            until(
                lambda: one_client.step(view.id, "a").state == "executing", what="the first claim"
            )
            until(lambda: one_client.step(view.id, "a").state == "available", what="its return")
    assert calls == []
    assert one_client.step(view.id, "a").attempt == 0
    with at_work(worker):
        until_ended(one_client, view.id)
    assert calls == [1]


def test_a_timeout_begins_when_the_handler_begins(
    one_client: Client, one_server: AnyServer
) -> None:
    worker = Worker(client_of("async", one_server), concurrency=1)
    lefts: list[float] = []

    @worker.step("work")
    def work(ctx: StepContext) -> None:
        assert ctx.deadline is not None
        lefts.append(ctx.deadline.timestamp() - time.time())
        time.sleep(0.6)

    view = one_client.insert(flow("a b c d", timeout=2, max_attempts=1))
    with at_work(worker):
        until_ended(one_client, view.id)
    assert one_client.get(view.id).state == "completed"
    assert len(lefts) == 4
    assert all(1.5 < left <= 2 for left in lefts)


@CLIENTS
def test_a_coroutine_that_swallows_its_cancellation_is_left_behind(
    one_client: Client, one_server: AnyServer, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(client_of(kind, one_server), concurrency=1)
    over = threading.Event()

    @worker.step("hang")
    async def hang(ctx: StepContext) -> None:
        while not over.is_set() and ctx.attempt == 1:
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                continue

    view = one_client.insert(flow("a", worker="hang", timeout=0.2, backoff=0))
    with at_work(worker):
        until_ended(one_client, view.id)
        assert worker.health.abandoned == 1
        over.set()
        until(lambda: worker.health.abandoned == 0, what="the end of the first")
    assert [row.summary for row in one_client.results(view.id)] == ["timed out after 0.2 s", None]
    assert any("is abandoned" in one.getMessage() for one in caplog.records)


def test_what_a_cancelled_coroutine_returns_in_time_counts(
    one_client: Client, one_server: AnyServer
) -> None:
    worker = Worker(client_of("async", one_server))

    @worker.step("work")
    async def work() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "as far as it came"
        return "all"

    @worker.step("wrap")
    async def wrap() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise RuntimeError("interrupted") from None

    workflow = Workflow("w").add("a", worker="work", timeout=0.2)
    workflow.add("b", worker="wrap", timeout=0.2, max_attempts=1)
    view = one_client.insert(workflow)
    with at_work(worker):
        until_ended(one_client, view.id)
    rows = {row.step: (row.payload, row.summary) for row in one_client.results(view.id)}
    assert rows == {"a": ("as far as it came", None), "b": (None, "timed out after 0.2 s")}


@CLIENTS
def test_a_handler_that_blocks_the_event_loop_loses_nobodys_lease(
    one_client: Client, one_server: AnyServer, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Also with a reconciler in another process, which would take away any lease that had
    passed."""
    worker = Worker(client_of(kind, one_server), lease=1.5, reconcile=False)
    started, go = threading.Event(), threading.Event()

    @worker.step("neighbour")
    async def neighbour() -> str:
        started.set()
        while not go.is_set():  # noqa: ASYNC110 - another thread opens it
            await asyncio.sleep(0.01)
        return "done"

    @worker.step("block")
    async def block() -> str:
        time.sleep(3)  # noqa: ASYNC251 - that is the point
        return "blocked"

    view = one_client.insert(flow("a", worker="neighbour", max_attempts=1))
    other = Worker(client_of("async", one_server), queues=["other"])
    with at_work(worker), at_work(other):
        assert started.wait(10)
        blocking = one_client.insert(flow("b", worker="block", max_attempts=1))
        until(lambda: "blocks the event loop" in (worker.health.error or ""), what="the warning")
        error = worker.health.error or ""
        until_ended(one_client, blocking.id)
        go.set()
        until_ended(one_client, view.id)
        until(lambda: worker.health.error is None, what="health")
    assert [one_client.get(one).state for one in (view.id, blocking.id)] == ["completed"] * 2
    [warned] = [one for one in caplog.records if "blocks the event loop" in one.getMessage()]
    assert "the handler 'block'" in error
    assert f"step b of {blocking.id}" in warned.getMessage()
    assert "test_worker_hanging.py" in warned.getMessage()


def test_a_cancel_request_is_learnt_of_behind_a_blocked_event_loop(
    one_client: Client, one_server: AnyServer
) -> None:
    worker = Worker(client_of("async", one_server), lease=0.3)
    learnt: list[bool] = []
    started = threading.Event()

    @worker.step("work")
    async def work(ctx: StepContext) -> None:
        started.set()
        until(lambda: ctx.cancel_requested, what="the cancel request")
        learnt.append(ctx.cancel_requested)

    view = one_client.insert(flow("a b"))
    with at_work(worker):
        assert started.wait(10)
        one_client.request_cancel(view.id)
        until_ended(one_client, view.id)
    assert learnt[0]


def test_heartbeats_do_not_wait_for_the_threads_of_handlers(
    one_client: Client, one_server: AnyServer, never: threading.Event
) -> None:
    """Handlers fill the loop's own executor, as with ``asyncio.to_thread``."""
    worker = Worker(client_of("sync", one_server), lease=1.2, reconcile=False)
    entered: list[int] = []

    @worker.step("work")
    async def work(ctx: StepContext) -> None:
        entered.append(ctx.attempt)
        await asyncio.to_thread(never.wait)

    workflow = Workflow("w")
    for number in range(48):
        workflow.add(f"a{number}", worker="work", max_attempts=1)
    view = one_client.insert(workflow)
    reconciling = Worker(client_of("async", one_server), queues=["other"])
    with at_work(worker), at_work(reconciling):
        until(lambda: len(entered) == 48, what="all steps")
        time.sleep(3)  # past two leases; one that had passed would be taken away
        never.set()
        until_ended(one_client, view.id)
    assert one_client.get(view.id).state == "completed"
