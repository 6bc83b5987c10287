"""One worker's run in a process of its own: ``python worker_process.py URL SHAPE CLIENT SCALE``.

Prints the microseconds of CPU that it used a step, the steps a second, and the median milliseconds
from one step to the next, from the first step on. It needs nothing but rwf, so that the same file
measures any checkout of it that PYTHONPATH names.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from itertools import pairwise

from rwf import AsyncClient, Client, Worker, Workflow

CONCURRENCY = 256


def diamond() -> Workflow:
    workflow = Workflow("diamond").add("a", worker="work")
    workflow.add("b", worker="work", deps=["a"]).add("c", worker="work", deps=["a"])
    return workflow.add("d", worker="work", deps=["b", "c"])


def fan(width: int) -> Workflow:
    workflow = Workflow("fan").add("root", worker="work")
    names = [f"c{number}" for number in range(width)]
    for name in names:
        workflow.add(name, worker="work", deps=["root"])
    return workflow.add("join", worker="work", deps=names)


def chain(length: int) -> Workflow:
    workflow = Workflow("chain").add("s0", worker="work")
    for number in range(1, length):
        workflow.add(f"s{number}", worker="work", deps=[f"s{number - 1}"])
    return workflow


def workflows(shape: str, scale: float) -> list[Workflow]:
    if shape == "diamonds":
        return [diamond()] * max(int(1500 * scale), 1)
    if shape == "fan":
        return [fan(2000)] * max(int(3 * scale), 1)
    return [chain(max(int(1000 * scale), 2))]


def main() -> None:
    url, shape, kind, scale = sys.argv[1:]
    inserted = workflows(shape, float(scale))
    steps = sum(len(workflow.steps) for workflow in inserted)
    with Client.from_url(url) as client:
        client.insert_many(inserted)
    worker = Worker(
        (AsyncClient if kind == "AsyncClient" else Client).from_url(url),
        concurrency=CONCURRENCY,
        reconcile=False,
    )
    begun: list[float] = []
    cpu = 0.0

    @worker.step("work")
    async def work() -> None:
        nonlocal cpu
        if not begun:
            cpu = time.process_time()
        begun.append(time.perf_counter())
        if len(begun) == steps:
            cpu = time.process_time() - cpu
            asyncio.get_running_loop().call_soon(worker.stop)

    worker.run()
    figures = {
        "cpu": cpu / steps * 1e6,
        "rate": steps / (begun[-1] - begun[0]),
        "hop": statistics.median(after - before for before, after in pairwise(begun)) * 1e3,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
