"""Threads for blocking calls: what comes back, which never begin, and which are left behind."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from rwf.threads import Threads
from tests.support.waiting import until


def named(name: str) -> int:
    return sum(thread.name == name for thread in threading.enumerate())


async def until_async(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - threads make it true
            await asyncio.sleep(0.01)


def test_results_and_exceptions_come_back() -> None:
    async def run() -> None:
        threads = Threads(2, "t-results")
        found = await asyncio.gather(*(threads.run(partial(pow, n, 2)) for n in range(20)))
        assert found == [n * n for n in range(20)]
        with pytest.raises(ZeroDivisionError):
            await threads.run(lambda: 1 // 0)
        for error in (StopIteration, SystemExit, KeyboardInterrupt, GeneratorExit):

            def fail(error: type[BaseException] = error) -> None:
                raise error

            job, _ = threads.submit(fail)
            _, raised = await job.future
            assert type(raised) is error
        assert named("t-results") <= 2

    asyncio.run(run())


def test_a_job_that_is_withdrawn_never_begins() -> None:
    async def run() -> None:
        threads, gate = Threads(1, "t-withdrawn"), threading.Event()
        calls: list[str] = []
        first, at_once = threads.submit(gate.wait)
        assert at_once
        second, at_once = threads.submit(lambda: calls.append("second"))
        third, _ = threads.submit(lambda: calls.append("third"))
        assert not at_once
        await until_async(lambda: first.begun_at is not None)
        assert not threads.withdraw(first)
        assert threads.withdraw(second)
        gate.set()
        await third.future
        assert calls == ["third"]

    asyncio.run(run())


def test_an_abandoned_call_keeps_its_thread_until_it_ends() -> None:
    async def run() -> None:
        freed: list[int] = []
        threads = Threads(2, "t-abandoned", lambda: freed.append(1))
        gate = threading.Event()
        task = asyncio.create_task(threads.run(gate.wait))
        await asyncio.sleep(0)
        await until_async(lambda: named("t-abandoned") == 1)
        await asyncio.to_thread(time.sleep, 0.1)  # so that it has begun
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert threads.abandoned == 1
        assert await threads.run(lambda: "another") == "another"
        gate.set()
        await until_async(lambda: freed)
        assert threads.abandoned == 0

    asyncio.run(run())


@pytest.mark.parametrize("closed", [True, False])
def test_threads_end_with_their_pool(closed: bool) -> None:
    async def run() -> None:
        threads: Any = Threads(4, "t-ending")
        gate = threading.Event()
        jobs = [threads.submit(gate.wait)[0] for _ in range(3)]
        assert named("t-ending") == 3
        gate.set()
        for job in jobs:
            await job.future
        if closed:
            threads.close()
        else:
            del threads, job, jobs
            gc.collect()
        await until_async(lambda: named("t-ending") == 0)

    asyncio.run(run())
    until(lambda: named("t-ending") == 0, what="the threads")


def test_what_was_withdrawn_takes_no_place_for_good() -> None:
    async def run() -> None:
        threads, hold = Threads(1, "t-withdrawn"), threading.Event()
        first, _ = threads.submit(hold.wait)
        await until_async(lambda: first.begun_at)
        second, at_once = threads.submit(lambda: None)
        assert not at_once
        assert threads.withdraw(second)
        threads.abandon(second)  # as its waiter does, once it is cancelled
        assert threads.abandoned == 0
        hold.set()
        assert (await first.future)[0] is True
        threads.close()

    asyncio.run(run())
