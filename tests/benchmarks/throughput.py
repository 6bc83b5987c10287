"""Steps per second of one worker process, and their cost for the server; no-op steps.

    .venv/bin/python -m tests.benchmarks.throughput [--kind valkey91] [--rounds 3] [--scale 1]

Three shapes: four-step diamonds, one chain of 500 steps, and one root with 2,000 children and a
join. `server` is all of the server's CPU for a step from its insert to its end, `call` the longest
call of a round, and `p99` the longest of 99 in 100. Peers that are installed (`pip install rq
streaq`; BullMQ with `npm install bullmq ioredis`, found through NODE_PATH) run beside ours in every
round; machines are noisy, so the ratio of the same round is what counts.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from rwf import AsyncClient, Client, Worker, Workflow
from tests.support.flows import chain, fan_out
from tests.support.servers import Server

CONCURRENCY = 256
PEERS = Path(__file__).with_name("peers")


class Figures(NamedTuple):
    """The result of one run: steps per second, microseconds of CPU per step, the longest call in
    milliseconds, and the longest of 99 in 100, and the median time from one step to the next in
    milliseconds."""

    rate: float
    server: float
    client: float
    longest: float
    most: float
    hop: float


def diamond() -> Workflow:
    workflow = Workflow("diamond").add("a", worker="work")
    workflow.add("b", worker="work", deps=["a"]).add("c", worker="work", deps=["a"])
    return workflow.add("d", worker="work", deps=["b", "c"])


def fan(width: int) -> Workflow:
    join = [f"c{number}" for number in range(width)]
    return fan_out(width).add("join", worker="work", deps=join)


def shapes(scale: float) -> dict[str, list[Workflow]]:
    return {
        "diamonds": [diamond()] * int(2500 * scale),
        "chain of 500": [chain(500)],
        "2,000 children and a join": [fan(2000)] * max(int(4 * scale), 1),
    }


def cpu(redis: Any) -> float:
    info = redis.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def run(kind: str, asynchronous: bool, workflows: list[Workflow]) -> Figures:
    """One round of ours, on a server of its own with its append-only file on."""
    with Server.start(kind, aof=True) as server:
        redis: Any = server.client()
        redis.config_set("latency-tracking-info-percentiles", "50 99 100")
        before = cpu(redis)
        with Client.from_url(server.url) as client:
            client.insert_many(workflows)
        steps = sum(len(workflow.steps) for workflow in workflows)
        client_ = (AsyncClient if asynchronous else Client).from_url(server.url)
        worker = Worker(client_, concurrency=CONCURRENCY, reconcile=False)
        ends: list[float] = []

        @worker.step("work")
        async def work() -> None:
            ends.append(time.perf_counter())
            if len(ends) == steps:
                asyncio.get_running_loop().call_soon(worker.stop)

        redis.config_resetstat()
        own, started = time.process_time(), time.perf_counter()
        worker.run()
        seconds = time.perf_counter() - started
        calls = redis.info("latencystats").get("latency_percentiles_usec_fcall", {})
        return Figures(
            rate=steps / seconds,
            server=(cpu(redis) - before) / steps * 1e6,
            client=(time.process_time() - own) / steps * 1e6,
            longest=float(calls.get("p100", 0)) / 1000,
            most=float(calls.get("p99", 0)) / 1000,
            hop=statistics.median(b - a for a, b in pairwise(ends)) * 1000,
        )


def peer(kind: str, command: list[str], trees: int, by_port: bool) -> Figures:
    """One round of a peer, on a server of its own as well."""
    with Server.start(kind, aof=True) as server:
        redis: Any = server.client()
        before = cpu(redis)
        place = str(server.port) if by_port else server.url
        done = subprocess.run(
            [*command, place, str(trees)], capture_output=True, text=True, check=True, timeout=300
        )
        steps, seconds = done.stdout.split()
        used = (cpu(redis) - before) / int(steps) * 1e6
        return Figures(int(steps) / float(seconds), used, 0, 0, 0, 0)


def peers(kind: str, scale: float) -> dict[str, Callable[[], Figures]]:
    """The peers that are installed here."""
    found: dict[str, Callable[[], Figures]] = {}

    def add(name: str, command: list[str], trees: int, by_port: bool = False) -> None:
        found[name] = lambda: peer(kind, command, max(int(trees * scale), 1), by_port)

    for name, trees in (("rq", 50), ("streaq", 250)):
        if importlib.util.find_spec(name) is None:
            print(f"{name} is not installed")
        else:
            add(name, [sys.executable, "-m", f"tests.benchmarks.peers.{name}_peer"], trees)
    node = shutil.which("node")
    script = str(PEERS / "bullmq_peer.cjs")
    ask = [str(node), "-e", "require.resolve('bullmq'); require.resolve('ioredis')"]
    if node is None or subprocess.run(ask, capture_output=True, check=False).returncode:
        print(f"BullMQ is not installed (NODE_PATH is {os.environ.get('NODE_PATH', 'not set')})")
    else:
        add("BullMQ (trees)", [node, script], 2500, by_port=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", default="valkey91")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0)
    options = parser.parse_args()
    others = peers(options.kind, options.scale)
    sink: dict[str, list[Figures]] = {}
    for _ in range(options.rounds):
        for name, workflows in shapes(options.scale).items():
            for asynchronous in (True, False):
                label = f"{name}, {'AsyncClient' if asynchronous else 'Client'}"
                sink.setdefault(label, []).append(run(options.kind, asynchronous, workflows))
        for name, measure in others.items():
            sink.setdefault(name, []).append(measure())
    report(sink)


def report(sink: dict[str, list[Figures]]) -> None:
    base = sink["diamonds, AsyncClient"]
    heads = ("steps/s", "server us", "client us", "call ms", "p99 ms", "hop ms", "ours x")
    print(f"{'':40}" + "".join(f"{head:>11}" for head in heads))
    for name, rounds in sink.items():
        middle = [statistics.median(column) for column in zip(*rounds, strict=True)]
        line = f"{name:40}{middle[0]:11.0f}{middle[1]:11.1f}{middle[2]:11.1f}"
        line += f"{middle[3]:11.2f}{middle[4]:11.2f}{middle[5]:11.3f}"
        if "," not in name:
            ratios = [ours.rate / theirs.rate for ours, theirs in zip(base, rounds, strict=True)]
            line += f"{statistics.median(ratios):11.1f}"
        print(line)


if __name__ == "__main__":
    main()
