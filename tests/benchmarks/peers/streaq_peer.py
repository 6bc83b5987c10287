"""streaq on four-step diamonds, one worker process: ``python -m ... URL DIAMONDS``.

Prints steps, and the seconds from the start of the worker to the last step.
"""

from __future__ import annotations

import os
import sys
import time

import anyio
import streaq

URL, DIAMONDS = sys.argv[1], int(sys.argv[2])
worker = streaq.Worker(redis_url=URL, concurrency=256, handle_signals=False)
done = 0


@worker.task
async def work() -> None:
    global done
    done += 1


async def main() -> None:
    async with worker:
        # One by one: with dependencies it takes none in batches.
        for _ in range(DIAMONDS):
            a = await work.enqueue()
            b, c = [await work.enqueue().start(after=a.id) for _ in range(2)]
            await work.enqueue().start(after=[b.id, c.id])
    async with anyio.create_task_group() as group:
        started = time.perf_counter()
        group.start_soon(worker.run_async)
        while done < 4 * DIAMONDS:  # noqa: ASYNC110 - the steps are the worker's
            await anyio.sleep(0.001)
        print(done, time.perf_counter() - started, flush=True)
        os._exit(0)  # a worker that is cancelled takes its time


if __name__ == "__main__":
    anyio.run(main)
