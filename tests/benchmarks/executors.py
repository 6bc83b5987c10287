"""Steps a second of each adapter, beside the executor's own rate with tasks that do nothing.

    .venv/bin/python -m tests.benchmarks.executors [--rounds 3] [--tasks 2000] [celery rq ...]

Both run in every round, on the same worker process, one after the other. A producer fills the queue
meanwhile: a loop for the executor's own tasks, and the dispatcher, in a process of its own, for
steps. A rate is that between the first and the last end; the median of the rounds counts.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

import redis

from rwf import Workflow
from tests.support.executors import EXECUTORS, Fleet, fleet
from tests.support.servers import Server
from tests.support.waiting import until

PATIENCE: Final = 600.0
WORKERS: Final = {
    "celery": "-c 2 -l warning --without-gossip --without-mingle --prefetch-multiplier 16",
    "rq": "",
    "taskiq": "--workers 1 --log-level WARNING",
    "dramatiq": "-p 1 -t 8",
}

MARK: Final = """
def mark(number: int) -> None:
    if number <= 0:
        broker_client().set(f"mark{number}", time.time())

def broker_client():
    import redis
    return redis.Redis(port=PORT, db=2)
"""
OWN: Final = {
    "celery": """
@app.task(name="own", ignore_result=True)
def own(number):
    mark(number)

def produce(numbers):
    for number in numbers:
        own.apply_async((number,), queue="default", retry=False)
""",
    "rq": """
from rq import Queue

def own(number):
    mark(number)

def produce(numbers):
    Queue("default", connection=broker).enqueue_many(
        [Queue.prepare_data("rq_app.own", args=[number], result_ttl=0) for number in numbers]
    )
""",
    "taskiq": """
import asyncio

@broker.task("own")
async def own(number: int):
    mark(number)

async def _produce(numbers):
    await broker.startup()
    for number in numbers:
        await own.kicker().with_labels(queue_name="default").kiq(number)
    await broker.shutdown()

def produce(numbers):
    asyncio.run(_produce(numbers))
""",
    "dramatiq": """
@dramatiq.actor(queue_name="default")
def own(number):
    mark(number)

def produce(numbers):
    for number in numbers:
        own.send(number)
""",
}


class Marks:
    """When the first and the last of the executor's own tasks ran; they write it down."""

    def __init__(self, server: Server) -> None:
        self._store = redis.Redis(port=server.port, db=2)

    def rate(self, name: str, tasks: int) -> float:
        """Tasks a second, from number 0, the first, to -1, the last."""
        self._store.flushdb()
        importlib.import_module(f"{name}_app").produce([0, *range(1, tasks - 1), -1])
        until(lambda: self._store.exists("mark0", "mark-1") == 2, timeout=PATIENCE, what="the last")
        first, last = (float(self._store.get(f"mark{number}") or 0) for number in (0, -1))
        return (tasks - 1) / (last - first)


def step_rate(at_work: Fleet, tasks: int) -> float:
    """Steps a second, from the first report to the last.

    It looks for the last step's result first, and so at little else while the others run.
    """
    flows = [Workflow("w").add("a", worker="echo", input={"n": n}) for n in range(tasks)]
    ids = [view.id for view in at_work.client.insert_many(flows)]
    daemon = at_work.dispatch_command()
    try:
        rows = [
            until(partial(at_work.client.result, one, "a"), timeout=PATIENCE, what="a result")
            for one in reversed(ids)
        ]
    finally:
        daemon.terminate()
        daemon.wait()
    ends = sorted(row.recorded_at for row in rows if row is not None)
    return (tasks - 1) / (ends[-1] - ends[0]).total_seconds()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(EXECUTORS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=2000)
    options = parser.parse_args()
    print(f"{'':10}{'own/s':>8}{'steps/s':>9}{'ratio':>7}")
    for name in options.names:
        rounds = []
        with Server.start("redis70", aof=True) as server, tempfile.TemporaryDirectory() as folder:
            more = MARK.replace("PORT", str(server.port)) + OWN[name]
            with fleet(name, server, Path(folder), worker=WORKERS[name], more=more) as at_work:
                marks = Marks(server)
                marks.rate(name, 10)
                for _ in range(options.rounds):
                    rounds.append(
                        (marks.rate(name, options.tasks), step_rate(at_work, options.tasks))
                    )
        tasks, steps = (median(rates) for rates in zip(*rounds, strict=True))
        ratio = median(one[1] / one[0] for one in rounds)
        print(f"{name:10}{tasks:8.0f}{steps:9.0f}{ratio:7.2f}", flush=True)


if __name__ == "__main__":
    main()
