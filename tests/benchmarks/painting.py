"""How long a workflow's page takes to be seen in a browser, in milliseconds.

    .venv/bin/python -m tests.benchmarks.painting [--rounds 7] [STEPS ...]

Layered graphs, half done, with one step that has failed. The console serves in a process of its
own; each load is one of a fresh browser context, without a cache. Figures are medians: the first
byte, the first contentful paint, and the CPU time of the server's calls.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from playwright.sync_api import Browser

from rwf import Client
from tests.benchmarks.transitions import layered
from tests.support.browsers import chromium
from tests.support.consoles import running
from tests.support.servers import Server
from tests.support.waiting import until

SIZES = (5, 50, 500, 100_000)
PAINTED = "performance.getEntriesByName('first-contentful-paint').length"
TIMES = """() => [
    performance.getEntriesByType('navigation')[0].responseStart,
    performance.getEntriesByName('first-contentful-paint')[0].startTime,
]"""


def half_done(client: Client, steps: int) -> str:
    """A workflow of about so many steps, in layers of as many as five, or of a hundred."""
    view = client.insert(layered(steps, 5 if steps < 1_000 else 100))
    names = [step.name for step in client.steps(view.id)]
    for name in names[: min(steps // 2, 200)]:
        client.complete_step(view.id, name)
    client.complete_step(view.id, names[min(steps // 2, 200)], "failed", summary="503")
    return view.id


def load(browser: Browser, address: str, redis: Any) -> tuple[float, float, float]:
    context = browser.new_context()
    page = context.new_page()
    redis.config_resetstat()
    page.goto(address)
    until(lambda: page.evaluate(PAINTED), what="the first paint")
    first, painted = page.evaluate(TIMES)
    stats = redis.info("commandstats").values()
    context.close()
    return first, painted, sum(one["usec"] for one in stats) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", type=int, default=SIZES, metavar="STEPS")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    print(f"{'steps':>8}{'first byte':>12}{'first paint':>13}{'server':>9}")
    with (
        Server.start("redis70", aof=True) as server,
        Client.from_url(server.url) as client,
        running(server.url) as (address, _),
        chromium() as browser,
    ):
        for steps in options.sizes:
            page = f"{address}/workflows/{half_done(client, steps)}"
            load(browser, page, server.client())
            rounds = [load(browser, page, server.client()) for _ in range(options.rounds)]
            first, painted, spent = map(statistics.median, zip(*rounds, strict=True))
            print(f"{steps:8,}{first:12.0f}{painted:13.0f}{spent:9.1f}", flush=True)


if __name__ == "__main__":
    main()
