"""The server's cost of a step's whole life: handing out, completing, releasing children.

    python -m tests.benchmarks.handout [--kind valkey91] [--rounds 5] [--batches 32 64]

No worker and no handlers: a loop reports its steps and asks for as many again, in the round trips
that a worker makes (``complete`` with reserved entries to start). `call` is the time
inside our functions, `cpu` all that the server's process used, in microseconds a step; `slowest` is
the longest call, in milliseconds. The lowest of the rounds counts, as noise only adds.
"""

from __future__ import annotations

import argparse
from collections import deque
from dataclasses import dataclass, field

from rwf import Client, Completion, Workflow
from rwf.model.views import ClaimedStep
from rwf.ops.claims import Claimer
from rwf.ops.complete import Item, exchange, prepared
from tests.benchmarks.transitions import Meter, diamond, layered
from tests.support.flows import chain, fan_out
from tests.support.servers import Server

LOADS = {
    "diamonds": (500, diamond),
    "layers of 10, two parents": (20, lambda: layered(100, 10)),
    "fan-out of 2,000": (1, lambda: fan_out(2000)),
    "64 chains of 30": (64, lambda: chain(30)),
}


@dataclass
class Loop:
    """A worker's round trips in partition 0, one after the other."""

    client: Client
    claimer: Claimer
    batch: int
    reports: deque[Item] = field(default_factory=deque)
    reserved: list[bytes] = field(default_factory=list)

    def run(self, steps: int) -> None:
        """Runs until so many steps are reported."""
        scope, done = self.client._ctx, 0
        while done < steps:
            items = [self.reports.popleft() for _ in range(min(self.batch, len(self.reports)))]
            free = self.batch - len(self.reports) - len(self.reserved)
            answer = self.client._run(
                exchange(scope, 0, items, self.reserved, self.claimer, max(free, 0))
            )
            assert not any(answer.refusals)
            done += len(items)
            self.reserved = answer.reserved
            self.reports.extend(prepared(scope, report(one)) for one in answer.claimed)


def report(claimed: ClaimedStep) -> Completion:
    return Completion(
        workflow_id=claimed.workflow_id,
        step=claimed.step,
        lease=claimed.lease,
        payload={"ok": True},
    )


def measured(
    meter: Meter, client: Client, load: str, batch: int, sink: dict[str, list[float]]
) -> None:
    copies, workflow = LOADS[load]
    graph: Workflow = workflow()
    for _ in range(copies):
        client.insert(graph)
    steps = copies * len(graph.steps)
    meter.redis.config_set("slowlog-log-slower-than", 500)
    meter.redis.slowlog_reset()
    name = f"{load}, batches of {batch}"
    with meter.measure(sink, name, steps):
        Loop(client, Claimer.checked(["default"], "bench", 30), batch).run(steps)
    slow = (entry["duration"] / 1000 for entry in meter.redis.slowlog_get(256))
    sink.setdefault(f"{name}/slowest", []).append(max(slow, default=0.5))
    meter.redis.flushall()


def report_all(kind: str, sink: dict[str, list[float]]) -> None:
    print(f"{kind}: microseconds of the server a step")
    print(f"{'':45}{'call':>8}{'cpu':>8}{'slowest, ms':>14}")
    for name in dict.fromkeys(key.rpartition("/")[0] for key in sink):
        call, cpu, slowest = (min(sink[f"{name}/{what}"]) for what in ("call", "cpu", "slowest"))
        print(f"{name:45}{call:8.1f}{cpu:8.1f}{slowest:14.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", default="valkey91")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 64])
    options = parser.parse_args()
    sink: dict[str, list[float]] = {}
    with Server.start(options.kind, aof=True) as server, Client.from_url(server.url) as client:
        meter = Meter(server)
        for _ in range(options.rounds):
            for load in LOADS:
                for batch in options.batches:
                    measured(meter, client, load, batch, sink)
    report_all(options.kind, sink)


if __name__ == "__main__":
    main()
