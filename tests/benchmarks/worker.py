"""The CPU cost of a step in a worker's own process, in microseconds; steps that do nothing.

    .venv/bin/python -m tests.benchmarks.worker [--against CHECKOUT] [--rounds 5] [--scale 1]

Each run has a process of its own (``worker_process.py``). With another checkout of the repository
both run in every round, one after the other. The lowest of the rounds counts, as noise only
adds. `hop` is the time from one step of a chain to the next.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from tests.support.servers import Server

SHAPES = ("diamonds", "fan", "chain")
CLIENTS = ("AsyncClient", "Client")
PROCESS = Path(__file__).with_name("worker_process.py")
HERE = Path(__file__).parents[2]

Figures = dict[str, float]


def run(checkout: Path, url: str, shape: str, client: str, scale: float) -> Figures:
    """One run of a checkout's worker."""
    done = subprocess.run(
        [sys.executable, "-P", str(PROCESS), url, shape, client, str(scale)],
        env={**os.environ, "PYTHONPATH": str(checkout)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=300,
    )
    figures: Figures = json.loads(done.stdout)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, help="another checkout of the repository")
    parser.add_argument("--kind", default="valkey91")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=SHAPES)
    parser.add_argument("--clients", nargs="+", choices=CLIENTS, default=CLIENTS)
    options = parser.parse_args()
    checkouts = [HERE] if options.against is None else [HERE, options.against.resolve()]
    sink: dict[str, list[list[Figures]]] = defaultdict(list)
    with Server.start(options.kind, aof=True) as server:
        for number in range(options.rounds):
            for shape in options.shapes:
                for client in options.clients:
                    found = {}
                    for checkout in checkouts[:: -1 if number % 2 else 1]:
                        server.flush()
                        found[checkout] = run(checkout, server.url, shape, client, options.scale)
                    sink[f"{shape}, {client}"].append([found[one] for one in checkouts])
    report(sink)


def report(sink: dict[str, list[list[Figures]]]) -> None:
    print(f"{'':26}{'cpu us':>9}{'other':>9}{'ratio':>8}{'hop ms':>9}{'other':>9}{'ratio':>8}")
    for name, rounds in sink.items():
        line = f"{name:26}"
        for figure, digits in (("cpu", 1), ("hop", 3)):
            if figure == "hop" and not name.startswith("chain"):
                continue
            least = [min(one[figure] for one in runs) for runs in zip(*rounds, strict=True)]
            line += "".join(f"{value:9.{digits}f}" for value in least)
            line += f"{least[0] / least[-1]:8.2f}" if len(least) > 1 else " " * 17
        print(line)


if __name__ == "__main__":
    main()
