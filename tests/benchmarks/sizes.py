"""Graphs of 100,000 steps: how long the server is held, and how long other clients wait.

    .venv/bin/python -m tests.benchmarks.sizes [--kind valkey91] [--runs 5] [--steps 100000]

For each shape and operation: the wall time, how many server calls it took, the longest of them by
the server's own slow log (1 ms is its least), and the longest ping of another client meanwhile.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis

from rwf import Client, Workflow
from tests.support.servers import Server

WIDTH = 300
OPERATIONS = ("insert", "first step", "explain the last", "explain the workflow")


def fan_out(steps: int) -> Workflow:
    workflow = Workflow("fan_out").add("root", worker="work")
    return workflow.add_many(
        {"name": f"s{number}", "worker": "work", "deps": ["root"]} for number in range(steps - 1)
    )


def fan_in(steps: int) -> Workflow:
    names = [f"s{number}" for number in range(steps - 1)]
    workflow = Workflow("fan_in").add_many({"name": name, "worker": "work"} for name in names)
    return workflow.add("join", worker="work", deps=names)


def chain(steps: int) -> Workflow:
    return Workflow("chain").add_many(
        {"name": f"s{n}", "worker": "work", "deps": [f"s{n - 1}"] if n else []}
        for n in range(steps)
    )


def layered(steps: int) -> Workflow:
    def deps(number: int) -> list[str]:
        row, column = divmod(number, WIDTH)
        above = (row - 1) * WIDTH
        return [f"s{above + (column + shift) % WIDTH}" for shift in range(3)] if row else []

    return Workflow("layered").add_many(
        {"name": f"s{number}", "worker": "work", "deps": deps(number)} for number in range(steps)
    )


@dataclass(frozen=True)
class Shape:
    """A graph, what is reported of its first step, and which step is explained."""

    build: Callable[[int], Workflow]
    first: str
    status: str
    last: Callable[[int], str]


SHAPES = {
    "fan-out": Shape(fan_out, "root", "completed", lambda steps: f"s{steps - 2}"),
    "fan-in": Shape(fan_in, "s0", "failed", lambda _: "join"),
    "chain that fails": Shape(chain, "s0", "failed", lambda steps: f"s{steps - 1}"),
    "layered, 300 wide": Shape(layered, "s0", "failed", lambda steps: f"s{steps - 1}"),
}


@dataclass
class Held:
    """How long one operation held the server, and others."""

    seconds: float = 0
    calls: int = 0
    longest_ms: float = 0
    ping_ms: float = 0


def _ping(url: str, done: Any, longest: Any) -> None:
    """Pings from a process of its own, as another client would."""
    connection = redis.Redis.from_url(url)
    connection.ping()
    while not done.wait(0.002):
        start = time.perf_counter()
        connection.ping()
        longest.value = max(longest.value, (time.perf_counter() - start) * 1000)


class Watch:
    """Reads the slow log, and has another client ping while something runs."""

    def __init__(self, server: Server) -> None:
        self._url = server.url
        self._redis: Any = server.client()
        # A log of every call holds the server itself for tens of milliseconds when it is emptied.
        self._redis.config_set("slowlog-log-slower-than", 1000)
        self._redis.config_set("slowlog-max-len", 10_000)

    @contextmanager
    def over(self) -> Iterator[Held]:
        held = Held()
        context = multiprocessing.get_context("spawn")
        done, longest = context.Event(), context.Value("d", 0.0)
        other = context.Process(target=_ping, args=(self._url, done, longest))
        other.start()
        self._redis.slowlog_reset()
        self._redis.config_resetstat()
        start = time.perf_counter()
        yield held
        held.seconds = time.perf_counter() - start
        done.set()
        other.join()
        slow = [
            row["duration"] / 1000
            for row in self._redis.slowlog_get(10_000)
            if row["command"].startswith(b"FCALL")
        ]
        stats = self._redis.info("commandstats")
        held.calls = sum(
            stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("fcall", "fcall_ro")
        )
        held.longest_ms = max(slow, default=1)
        held.ping_ms = longest.value


def measure(server: Server, shape: Shape, steps: int) -> dict[str, Held]:
    """One run of one shape on an emptied server."""
    server.flush()
    workflow = shape.build(steps)
    workflow.validate()
    watch = Watch(server)
    found: dict[str, Held] = {}
    with Client.from_url(server.url) as client:
        client.list()
        with watch.over() as found["insert"]:
            workflow_id = client.insert(workflow).id
        with watch.over() as found["explain the last"]:
            client.explain_step(workflow_id, shape.last(steps))
        with watch.over() as found["first step"]:
            client.complete_step(workflow_id, shape.first, shape.status)
        with watch.over() as found["explain the workflow"]:
            client.explain(workflow_id)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", default="valkey91")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100_000)
    options = parser.parse_args()
    print(f"{options.kind}, {options.steps} steps, median (and worst) of {options.runs} runs")
    print(f"{'':42}{'wall s':>8}{'calls':>7}{'longest call, ms':>20}{'longest ping, ms':>20}")
    with Server.start(options.kind, aof=True) as server:
        for name, shape in SHAPES.items():
            runs = [measure(server, shape, options.steps) for _ in range(options.runs)]
            for operation in OPERATIONS:
                held = [run[operation] for run in runs]
                line = f"{f'{name}: {operation}':42}"
                line += f"{statistics.median(one.seconds for one in held):8.2f}{held[0].calls:7}"
                for values in ([one.longest_ms for one in held], [one.ping_ms for one in held]):
                    line += f"{statistics.median(values):12.1f} ({max(values):5.1f})"
                print(line, flush=True)


if __name__ == "__main__":
    main()
