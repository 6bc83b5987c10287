"""The server's cost of transitions: microseconds per step, beside a floor measured in the same run.

    .venv/bin/python -m tests.benchmarks.transitions [--kind valkey91] [--rounds 5]

Two figures each: `call` is the time inside the call, by the server's own command statistics, and
`cpu` all that the server's process used (the socket, the parsing and the reply as well). A ratio
is the median over the rounds of ours to the floor's in the same round; machines are noisy.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rwf import Client, Completion, Workflow
from tests.support.servers import Server

BATCH = 50
STEPS = 100
COPIES = 10
ROW = b"c,c,17953693811085900001,abcdefghijkl,,,0,1,0|s12||{}"


class Meter:
    """Measures the server's time for a piece of work."""

    def __init__(self, server: Server) -> None:
        self.redis: Any = server.client()

    @contextmanager
    def measure(self, sink: dict[str, list[float]], name: str, units: int) -> Iterator[None]:
        self.redis.config_resetstat()
        before = self._cpu()
        yield
        spent = self._cpu() - before
        stats = self.redis.info("commandstats")
        calls = (stats.get(f"cmdstat_{name}", {}) for name in ("fcall", "fcall_ro"))
        inside = sum(float(row.get("usec", 0)) for row in calls)
        sink.setdefault(f"{name}/call", []).append(inside / units)
        sink.setdefault(f"{name}/cpu", []).append(spent * 1e6 / units)

    def _cpu(self) -> float:
        info = self.redis.info("cpu")
        return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])

    def memory(self) -> int:
        return int(self.redis.info("memory")["used_memory"])


def ladder(width: int) -> Workflow:
    """STEPS steps in rows of ``width``; each is a parent of all steps of the next row."""
    workflow = Workflow("ladder")
    for number in range(STEPS):
        row, column = divmod(number, width)
        deps = [f"s{(row - 1) * width + above}" for above in range(width)] if row else []
        workflow.add(f"s{row * width + column}", worker="work", deps=deps)
    return workflow


def diamond() -> Workflow:
    workflow = Workflow("diamond").add("a", worker="work")
    workflow.add("b", worker="work", deps=["a"]).add("c", worker="work", deps=["a"])
    return workflow.add("d", worker="work", deps=["b", "c"])


def layered(steps: int, width: int) -> Workflow:
    """Layers of ``width`` steps, each with two parents in the layer above."""
    workflow = Workflow("layered")
    for number in range(steps):
        row, column = divmod(number, width)
        above = (row - 1) * width
        deps = {f"s{above + column}", f"s{above + (column + 1) % width}"} if row else set()
        workflow.add(f"s{number}", worker="work", deps=sorted(deps))
    return workflow


def floor_args(number: int, width: int) -> list[Any]:
    """The floor's arguments for one step of a ladder."""
    row, column = divmod(number, width)
    args: list[Any] = [f"s{number}", ROW]
    for below in range(width):
        args += [f"s{(row + 1) * width + below}", "1" if column == width - 1 else "0"]
    return args


def lone(client: Client, meter: Meter, sink: dict[str, list[float]], width: int) -> None:
    ids = [client.insert(ladder(width)).id for _ in range(COPIES)]
    units = COPIES * (STEPS - width)
    with meter.measure(sink, f"complete, {width} child(ren), alone", units):
        for number in range(STEPS - width):
            for workflow_id in ids:
                client.complete_step(workflow_id, f"s{number}", payload={"ok": True})
    with meter.measure(sink, f"floor, {width} child(ren), alone", units):
        for number in range(STEPS - width):
            for workflow_id in ids:
                keys = ["f:{0}:ready", f"f:{{0}}:w:{workflow_id}", f"f:{{0}}:p:{workflow_id}"]
                meter.redis.fcall("floor_complete", 3, *keys, *floor_args(number, width))


def batches(client: Client, meter: Meter, sink: dict[str, list[float]], width: int) -> None:
    ids = [client.insert(ladder(width)).id for _ in range(BATCH)]
    units = BATCH * (STEPS - width)
    with meter.measure(sink, f"complete, {width} child(ren), batch of {BATCH}", units):
        for number in range(STEPS - width):
            client.complete_many(
                Completion(workflow_id=workflow_id, step=f"s{number}", payload={"ok": True})
                for workflow_id in ids
            )
    keys = ["f:{0}:ready"]
    for workflow_id in ids:
        keys += [f"f:{{0}}:w:{workflow_id}", f"f:{{0}}:p:{workflow_id}"]
    with meter.measure(sink, f"floor, {width} child(ren), batch of {BATCH}", units):
        for number in range(STEPS - width):
            args = floor_args(number, width)
            meter.redis.fcall("floor_batch", len(keys), *keys, len(args), *(args * BATCH))


def inserts(client: Client, meter: Meter, sink: dict[str, list[float]]) -> None:
    for name, workflow, copies in (
        ("insert a step of 100", ladder(2), 50),
        ("insert a step of a diamond", diamond(), 300),
    ):
        steps = len(workflow.steps)
        with meter.measure(sink, name, copies * steps):
            for _ in range(copies):
                client.insert(workflow)


def explains(client: Client, meter: Meter, sink: dict[str, list[float]]) -> None:
    workflow_id = client.insert(ladder(2)).id
    with meter.measure(sink, "explain_step, 98 steps above", 100):
        for _ in range(100):
            client.explain_step(workflow_id, "s98")
    with meter.measure(sink, "explain_step, available", 100):
        for _ in range(100):
            client.explain_step(workflow_id, "s0")


def memory(client: Client, meter: Meter, sink: dict[str, list[float]]) -> None:
    for name, workflow, copies in (
        ("memory a step of 100, bytes", layered(100, 10), 100),
        ("memory a step of a diamond, bytes", diamond(), 2000),
        ("memory a step of 5,000, bytes", layered(5000, 50), 4),
    ):
        before = meter.memory()
        for _ in range(copies):
            client.insert(workflow)
        used = meter.memory() - before
        sink.setdefault(name, []).append(used / (copies * len(workflow.steps)))


def run(kind: str, rounds: int) -> dict[str, list[float]]:
    sink: dict[str, list[float]] = {}
    with Server.start(kind, aof=True) as server:
        meter = Meter(server)
        meter.redis.function_load(Path(__file__).with_name("floor.lua").read_text())
        work: list[Callable[[], None]] = []
        with Client.from_url(server.url) as client:
            for width in (1, 2):
                work.append(lambda width=width: lone(client, meter, sink, width))  # type: ignore[misc]
                work.append(lambda width=width: batches(client, meter, sink, width))  # type: ignore[misc]
            work.append(lambda: inserts(client, meter, sink))
            work.append(lambda: explains(client, meter, sink))
            work.append(lambda: memory(client, meter, sink))
            for _ in range(rounds):
                for piece in work:
                    piece()
                    meter.redis.flushall()
    return sink


def report(kind: str, sink: dict[str, list[float]]) -> None:
    print(f"{kind}: microseconds of the server, median of the rounds")
    print(f"{'':45}{'call':>8}{'cpu':>8}{'call x floor':>14}{'cpu x floor':>13}")
    for name in dict.fromkeys(key.rpartition("/")[0] for key in sink if "/" in key):
        call, cpu = (statistics.median(sink[f"{name}/{what}"]) for what in ("call", "cpu"))
        line = f"{name:45}{call:8.1f}{cpu:8.1f}"
        if name.startswith("complete"):
            for what, width in (("call", 14), ("cpu", 13)):
                floor = sink[f"{name.replace('complete', 'floor')}/{what}"]
                pairs = zip(sink[f"{name}/{what}"], floor, strict=True)
                line += f"{statistics.median(ours / base for ours, base in pairs):{width}.2f}"
        print(line)
    for name in (key for key in sink if "/" not in key):
        print(f"{name:45}{statistics.median(sink[name]):8.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", default="valkey91")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    report(options.kind, run(options.kind, options.rounds))


if __name__ == "__main__":
    main()
