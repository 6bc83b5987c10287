"""The server's cost of a step, from its insert to its end: one table, beside another checkout.

    .venv/bin/python -m tests.benchmarks.server_time [--against PATH] [--kind redis70] [--rounds 3]

``--against`` takes the root of another checkout, of an earlier release for instance. Each round
measures this one and then that one, each in a process and on a server of its own, so that both see
the same machine; a figure is the median of the rounds, a ratio that of the rounds' ratios.
Peers that are installed (``make bench-peers``) run in each round as well.

- *a step's whole life*: all that the server's process uses, inserts included, with the round trips
  of a worker: a batch is reported, and as many steps are claimed in the same call. No handler runs.
- *complete* and *insert*: the time inside the calls, and all that the process uses (``cpu``).
- *memory*: what a workflow adds to the server's, divided by its steps; no step has a payload.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

if __name__ == "__main__" and sys.argv[1:2] == ["--round"]:
    # A round of another checkout imports its library, and its own loop over the library.
    sys.path.insert(0, sys.argv[2])

from rwf import Client, Completion, Workflow
from rwf.ops.claims import Claimer
from tests.benchmarks import transitions
from tests.benchmarks.handout import Loop
from tests.benchmarks.throughput import fan, peers
from tests.benchmarks.transitions import Meter, diamond, layered
from tests.support.flows import chain
from tests.support.servers import Server

BATCH = 32
LIVES: dict[str, tuple[int, Workflow, int]] = {
    "diamonds": (600, diamond(), BATCH),
    "a fan of 2,000 and a join": (1, fan(2000), BATCH),
    "100-step layers, two parents each": (20, layered(100, 10), BATCH),
    "64 chains of 30": (64, chain(30), BATCH),
    "one chain of 300, a call a step": (1, chain(300), 1),
}
Figures = dict[str, float]


def lives(client: Client, meter: Meter) -> Iterator[tuple[str, float]]:
    for name, (copies, graph, batch) in LIVES.items():
        sink: dict[str, list[float]] = {}
        steps = copies * len(graph.steps)
        with meter.measure(sink, "life", steps):
            client.insert_many([graph] * copies)
            Loop(client, Claimer.checked(["default"], "bench", 30), batch).run(steps)
        yield f"life of a step: {name}, cpu", sink["life/cpu"][0]
        meter.redis.flushall()


def completions(client: Client, meter: Meter) -> Iterator[tuple[str, float]]:
    """Completions beside the floor; the floor's figures are named as the completions' are."""
    for measure, name in ((transitions.lone, "alone"), (transitions.batches, "batch of 50")):
        for width in (1, 2):
            sink: dict[str, list[float]] = {}
            measure(client, meter, sink, width)
            for key, (value,) in sink.items():
                kind = "floor" if key.startswith("floor") else "complete"
                part = "in the call" if key.endswith("/call") else "cpu"
                yield f"{kind}: {name}, {width} child(ren), {part}", value
            meter.redis.flushall()


def inserts(client: Client, meter: Meter) -> Iterator[tuple[str, float]]:
    graph, copies = diamond(), 512
    sink: dict[str, list[float]] = {}
    with meter.measure(sink, "alone", copies):
        for _ in range(copies):
            client.insert(graph)
    with meter.measure(sink, "insert_many", copies):
        client.insert_many([graph] * copies)
    for name in ("alone", "insert_many"):
        yield f"insert a diamond: {name}, in the call", sink[f"{name}/call"][0]
        yield f"insert a diamond: {name}, cpu", sink[f"{name}/cpu"][0]
    meter.redis.flushall()


def memory(kind: str) -> Iterator[tuple[str, float]]:
    """On servers of their own, one with the settings of ``deploy/redis.conf`` for small hashes."""
    yield from memory_of(kind, (), "memory of a diamond's step")
    compact = ("--hash-max-listpack-value", "256", "--hash-max-listpack-entries", "64")
    yield from memory_of(kind, compact, "memory, our redis.conf")


def stored(meter: Meter) -> float:
    """The server's memory in bytes, without the buffers of its clients."""
    memory = meter.redis.info("memory")
    return float(memory["used_memory"]) - float(memory["mem_clients_normal"])


def memory_of(kind: str, settings: tuple[str, ...], name: str) -> Iterator[tuple[str, float]]:
    graph, copies = diamond(), 1000
    steps = copies * len(graph.steps)
    with Server.start(kind, extra=settings) as server, Client.from_url(server.url) as client:
        meter = Meter(server)
        client.insert(graph)
        before = stored(meter)
        views = client.insert_many([graph] * copies)
        yield f"{name}: inserted, bytes", (stored(meter) - before) / steps
        # As a worker leaves it: claimed and reported, without a payload.
        while claims := client.claim(["default"], worker_id="bench", limit=64):
            client.complete_many(
                Completion(workflow_id=claim.workflow_id, step=claim.step, lease=claim.lease)
                for claim in claims
            )
        assert client.get(views[-1].id).state == "completed"
        yield f"{name}: ended, bytes", (stored(meter) - before) / steps


def measured(kind: str) -> Figures:
    """One round of the library that is imported here."""
    figures: Figures = {}
    with Server.start(kind, aof=True) as server, Client.from_url(server.url) as client:
        meter = Meter(server)
        meter.redis.function_load(Path(transitions.__file__).with_name("floor.lua").read_text())
        for part in (lives, completions, inserts):
            figures.update(part(client, meter))
    figures.update(memory(kind))
    return figures


def checkout_measured(root: Path, kind: str) -> Figures:
    """One round of the library in a checkout."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), "--round", str(root), kind],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=root,
    )
    figures: Figures = json.loads(done.stdout)
    return figures


def ratio(ours: list[float], theirs: list[float]) -> str:
    return f"{statistics.median(a / b for a, b in zip(ours, theirs, strict=True)):.2f}"


def report(here: list[Figures], there: list[Figures], others: dict[str, list[float]]) -> None:
    heads = f"{'here':>9}{'there':>9}{'ratio':>8}{'x floor':>9}"
    print(f"{'microseconds of the server, or bytes':50}{heads}")
    for name in (name for name in here[0] if not name.startswith("floor")):
        ours = [figures[name] for figures in here]
        line = f"{name:50}{statistics.median(ours):9.1f}"
        if there:
            theirs = [figures[name] for figures in there]
            line += f"{statistics.median(theirs):9.1f}{ratio(ours, theirs):>8}"
        if name.startswith("complete"):
            floor = [figures[name.replace("complete", "floor")] for figures in here]
            line = f"{line:76}{ratio(ours, floor):>9}"
        print(line)
    diamonds = [figures["life of a step: diamonds, cpu"] for figures in here]
    for name, theirs in others.items():
        label = f"life of a step: {name}, cpu; ours beside it"
        print(f"{label:59}{statistics.median(theirs):9.1f}{ratio(diamonds, theirs):>8}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--against", type=Path, help="the root of another checkout")
    parser.add_argument("--kind", default="redis70")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    here: list[Figures] = []
    there: list[Figures] = []
    others: dict[str, list[float]] = {}
    installed = peers(options.kind, 0.4)
    for _ in range(options.rounds):
        here.append(checkout_measured(Path(__file__).parents[2], options.kind))
        if options.against is not None:
            there.append(checkout_measured(options.against.resolve(), options.kind))
        for name, measure in installed.items():
            others.setdefault(name, []).append(measure().server)
    report(here, there, others)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--round"]:
        print(json.dumps(measured(sys.argv[3])))
    else:
        main()
