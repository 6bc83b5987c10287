"""The cost of a daemon while nothing is due: open workflows of 10 steps, default settings.

    .venv/bin/python -m tests.benchmarks.idle [--kind valkey91] [--open 1000 10000 100000]

CPU is in percent of a core over one whole round of the sweep: of the server, by its INFO, and of
the daemon's process; beside it the server's cost of each workflow in a round.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rwf import Client
from tests.benchmarks.transitions import layered
from tests.support.servers import Server
from tests.support.waiting import until

STEPS = 10


def server_cpu(redis: Any) -> float:
    info = redis.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def process_cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


SWEEP = "rwf:{0}:sweep"


def measure(server: Server, count: int) -> tuple[float, float, float]:
    """Seconds of a round, and the CPU seconds of the server and of the daemon in it."""
    redis: Any = server.client()
    redis.delete(SWEEP)
    command = [sys.executable, "-m", "rwf", "reconciler", "--url", server.url]
    daemon = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: redis.hget(SWEEP, "open:began"), timeout=30, what="the round to begin")
        began = time.monotonic()
        spent = server_cpu(redis), process_cpu(daemon.pid)
        while not redis.hget(SWEEP, "open:ended"):
            time.sleep(0.5)
        seconds = time.monotonic() - began
        used = server_cpu(redis) - spent[0], process_cpu(daemon.pid) - spent[1]
    finally:
        daemon.terminate()
        daemon.wait()
    return seconds, *used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", default="valkey91")
    parser.add_argument("--open", type=int, nargs="+", default=[1000, 10_000, 100_000])
    options = parser.parse_args()
    print(f"{options.kind}, open workflows of {STEPS} steps, nothing due, one daemon")
    print(f"{'open':>8}{'round, s':>10}{'server, %':>11}{'daemon, %':>11}{'us a workflow':>15}")
    with Server.start(options.kind, aof=True) as server, Client.from_url(server.url) as client:
        inserted = 0
        for count in sorted(options.open):
            for _ in range(count - inserted):
                client.insert(layered(STEPS, 1), retention=None)
            inserted = count
            seconds, server_used, daemon_used = measure(server, count)
            shares = [100 * used / seconds for used in (server_used, daemon_used)]
            line = f"{count:8}{seconds:10.1f}{shares[0]:11.2f}{shares[1]:11.2f}"
            print(f"{line}{server_used * 1e6 / count:15.1f}", flush=True)


if __name__ == "__main__":
    main()
