"""Which of a worker's loops is woken, and for which partition."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import pytest

from rwf.errors import RecordUnreadable, RwfError, StoreUnavailable
from rwf.ops.base import OpContext
from rwf.ops.claims import Claimer
from rwf.protocol.keys import Keys
from rwf.reachability import Away
from rwf.worker.availability import Availability
from rwf.worker.inflight import Inflight, PartitionBuffer
from rwf.worker.poller import Poller


def _inflight(partitions: int = 2) -> Inflight:
    return Inflight(partitions, 4, Away())


async def _settled() -> None:
    """Lets all tasks run until each waits."""
    for _ in range(10):
        await asyncio.sleep(0)


async def _two_wait(inflight: Inflight) -> list[asyncio.Task[PartitionBuffer]]:
    tasks = [asyncio.create_task(inflight.next_buffer()) for _ in range(2)]
    await _settled()
    return tasks


def _done(tasks: list[asyncio.Task[PartitionBuffer]]) -> list[int]:
    return [task.result().partition for task in tasks if task.done()]


def test_one_thing_to_carry_wakes_one_of_those_who_wait() -> None:
    async def main() -> None:
        inflight = _inflight()
        tasks = await _two_wait(inflight)
        inflight.buffers[1].reserved.append(b"entry")
        inflight.notify()
        await _settled()
        assert _done(tasks) == [1]
        inflight.buffers[1].reserved.clear()
        inflight.pass_on()
        await _settled()
        assert _done(tasks) == [1]

    asyncio.run(main())


def test_whoever_has_taken_something_wakes_another_where_there_is_more() -> None:
    async def main() -> None:
        inflight = _inflight()
        tasks = await _two_wait(inflight)
        for buffer in inflight.buffers:
            buffer.reserved.append(b"entry")
        inflight.notify()
        await _settled()
        assert _done(tasks) == [0]
        inflight.buffers[0].reserved.clear()
        inflight.pass_on()
        await _settled()
        assert _done(tasks) == [0, 1]

    asyncio.run(main())


def test_one_who_was_cancelled_is_not_woken_in_place_of_another() -> None:
    async def main() -> None:
        inflight = _inflight()
        tasks = await _two_wait(inflight)
        tasks[0].cancel()
        await _settled()
        inflight.buffers[0].reserved.append(b"entry")
        inflight.notify()
        assert (await asyncio.wait_for(tasks[1], 5)).partition == 0

    asyncio.run(main())


def test_a_partition_that_did_not_answer_is_tried_again_after_its_pause() -> None:
    async def main() -> None:
        inflight = _inflight(1)
        begun = time.monotonic()
        inflight.unanswered(inflight.buffers[0], 0.05)
        inflight.buffers[0].has_more = True
        assert (await asyncio.wait_for(inflight.next_buffer(), 5)).partition == 0
        assert time.monotonic() - begun >= 0.05

    asyncio.run(main())


@pytest.mark.parametrize("fault", [RecordUnreadable("spoilt"), StoreUnavailable("away")])
def test_places_that_a_failed_poll_leaves_are_taken_at_once(fault: RwfError) -> None:
    async def main() -> None:
        inflight = Inflight(2, 1, Away())

        class FailingRuntime:
            ctx = OpContext(Keys("rwf"), max_payload=1)

            async def run(self, _op: Any) -> Any:
                inflight.buffers[1].has_more = True
                self.completer = asyncio.create_task(inflight.next_buffer())
                await _settled()
                assert not self.completer.done()  # the poll has taken the only place
                raise fault

        runtime = FailingRuntime()
        claimer = Claimer.checked(["default"], "w", 30.0)
        poller = Poller(cast(Any, runtime), Availability(), inflight, claimer)
        polling = asyncio.create_task(poller.poll())
        await _settled()
        await _settled()
        assert runtime.completer.done()
        assert runtime.completer.result().partition == 1
        polling.cancel()

    asyncio.run(main())
