"""Finding among a million workflows: the first page of a filter, and its cost on both sides.

    .venv/bin/python -m tests.benchmarks.finding [--workflows 1000000] [--rounds 15]

Workflows of one step in 64 partitions, inserted over ten days, of 10 names, with one of 1,000
accounts and one of four regions; 1 of 50 has failed, 1 of 50 is open. All are copies that the
server makes of three (``copies.lua``). Figures are medians: how long the caller waits, the CPU time
of its process and of the server's, and how many calls and plain reads the server had.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rwf import Client, Workflow
from tests.support.servers import Server

PARTITIONS = 64
NAMES, ACCOUNTS, REGIONS = 10, 1_000, 4
SPAN = timedelta(days=10)
SHARES = {"c": 48, "f": 1, "o": 1}
"""The groups of the listing, and how many of 50 are in each."""
ASKING = ("fcall_ro", "hmget")
COPIED_AT_ONCE = 1_000
COPIES = (Path(__file__).parent / "copies.lua").read_text()


def load(client: Client, redis: Any, number: int) -> None:
    """So many workflows, in all partitions as many."""
    graph = Workflow("name", tags={"account": "1", "region": "1"}).add("only", worker="work")
    originals = {"o": client.insert(graph).id}
    for group, status in (("c", "completed"), ("f", "failed")):
        originals[group] = client.insert(graph).id
        client.complete_step(originals[group], "only", status)
    for partition in range(PARTITIONS):
        for group, workflow_id in originals.items():
            wanted = number * SHARES[group] // 50 // PARTITIONS
            copy(client, redis, workflow_id, partition, group, wanted)


def copy(
    client: Client, redis: Any, workflow_id: str, partition: int, group: str, number: int
) -> None:
    """Copies a workflow of a group, so often, into a partition."""
    keys = client._ctx.keys
    named = [
        keys.record(workflow_id),
        keys.derived(partition, "index"),
        keys.derived(partition, "tags"),
        keys.record(f"{partition}-"),
    ]
    span = SPAN // timedelta(milliseconds=1)
    for done in range(0, number, COPIED_AT_ONCE):
        many = min(COPIED_AT_ONCE, number - done)
        seed = hash((partition, ord(group), done)) % 2**31
        redis.eval(COPIES, 4, *named, group, many, span, NAMES, ACCOUNTS, REGIONS, seed)


def filters() -> dict[str, Mapping[str, Any]]:
    half = datetime.now(UTC) - SPAN / 2
    account, region = {"account": "42"}, {"region": "1"}
    common = {"name": "name1", "state": "completed", "since": half}
    rare = {"name": "name1", "state": "failed", "since": half}
    return {
        "tag of 1,000": {"tags": account},
        "tag of 1,000, name, state, time": {"tags": account, **common},
        "tag of 1,000, name, rare state, time": {"tags": account, **rare},
        "two tags, name, state, time": {"tags": {**account, **region}, **common},
        "tag of 250,000": {"tags": region},
        "tag of 250,000, name, state, time": {"tags": region, **common},
        "tag of 250,000, name, rare state, time": {"tags": region, **rare},
        "name, rare state, time": rare,
        "name": {"name": "name1"},
        "all": {},
    }


class Cost:
    """The time and the calls of the server so far."""

    def __init__(self, redis: Any) -> None:
        cpu, calls = redis.info("cpu"), redis.info("commandstats")
        self.cpu = float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])
        self.asked = sum(calls.get(f"cmdstat_{one}", {}).get("calls", 0) for one in ASKING)


def first_page(client: Client, redis: Any, given: Mapping[str, Any], rounds: int) -> str:
    waited, used, served = [], [], []
    for _ in range(rounds):
        before = Cost(redis)
        spent, start = time.process_time(), time.perf_counter()
        page = client.list(**given)
        waited.append(time.perf_counter() - start)
        used.append(time.process_time() - spent)
        after = Cost(redis)
        served.append(after.cpu - before.cpu)
    figures = (statistics.median(each) * 1000 for each in (waited, used, served))
    shown = "".join(f"{figure:12.1f}" for figure in figures)
    return f"{len(page.workflows):8}{shown}{after.asked - before.asked:10}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", default="valkey91")
    parser.add_argument("--workflows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    with (
        Server.start(options.kind) as server,
        Client.from_url(server.url, partitions=PARTITIONS) as client,
    ):
        redis: Any = server.client()
        load(client, redis, options.workflows)
        print(f"{options.kind}, {options.workflows} workflows: the first page of 50; medians, ms")
        print(f"{'':40}{'found':>8}{'waited':>12}{'own CPU':>12}{'server CPU':>12}{'calls':>10}")
        for name, given in filters().items():
            print(f"{name:40}{first_page(client, redis, given, options.rounds)}", flush=True)


if __name__ == "__main__":
    main()
