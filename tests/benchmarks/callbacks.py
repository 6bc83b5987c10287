"""The speed at which a daemon delivers callbacks to a receiver that takes its time over each.

    .venv/bin/python -m tests.benchmarks.callbacks [--kind valkey91] [--count 5000]
        [--delay 0.05] [--concurrency 100] [--hanging 0]

The receiver is a process of its own, and keeps connections open. ``--hanging`` has so many of
every hundred callbacks never answered the first time; the daemon gives up after ``--timeout``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import subprocess
import sys
import time
from typing import Any

from rwf import Client, Completion, Workflow
from tests.support.servers import Server
from tests.support.waiting import until

RECEIVER = "tests.benchmarks.callbacks"
STAT = "cb|workflow.terminal|delivered"


async def receive(delay: float, hanging: int) -> None:
    """Serves until it is ended; prints its port."""
    seen: set[bytes] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = re.search(rb"(?i)content-length: (\d+)", head)
            body = await reader.readexactly(int(length[1]) if length else 0)
            found = re.search(rb'"callback_id":"([^"]+)"', body)
            callback = found[1] if found else b""
            if callback not in seen and hash(callback) % 100 < hanging:
                seen.add(callback)
                await asyncio.sleep(3600)
            await asyncio.sleep(delay)
            writer.write(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def prepare(client: Client, count: int) -> None:
    """Inserts this many workflows that have ended."""
    for start in range(0, count, 500):
        flows = [Workflow("told").add("a", worker="w") for _ in range(min(500, count - start))]
        views = client.insert_many(flows, retention=None)
        client.complete_many([Completion(workflow_id=view.id, step="a") for view in views])


def measure(server: Server, port: int, options: argparse.Namespace) -> tuple[float, float]:
    """Seconds until all are delivered, and the CPU seconds of the daemon."""
    redis: Any = server.client()
    environment = {
        **os.environ,
        "RWF_WEBHOOK_URL": f"http://127.0.0.1:{port}/hook",
        "RWF_WEBHOOK_SECRET": "secret",
    }
    command = [sys.executable, "-m", "rwf", "reconciler", "--url", server.url, "--metrics", "off"]
    command += ["--webhook-concurrency", str(options.concurrency)]
    command += ["--webhook-timeout", str(options.timeout)]
    daemon = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: redis.hget("rwf:{0}:stats", STAT), timeout=30, what="the first")
        began, first = time.monotonic(), int(redis.hget("rwf:{0}:stats", STAT))
        while int(redis.hget("rwf:{0}:stats", STAT)) < options.count:
            time.sleep(0.02)
        seconds = (time.monotonic() - began) * options.count / (options.count - first)
    finally:
        daemon.terminate()
        daemon.wait()
    times = os.times()
    return seconds, times.children_user + times.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kind", default="valkey91")
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--delay", type=float, default=0.05)
    parser.add_argument("--concurrency", type=int, default=100)
    parser.add_argument("--hanging", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=10.0)
    parser.add_argument("--receiver", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.receiver:
        asyncio.run(receive(options.delay, options.hanging))
        return
    command = [sys.executable, "-m", RECEIVER, "--receiver", "--delay", str(options.delay)]
    command += ["--hanging", str(options.hanging)]
    with (
        Server.start(options.kind) as server,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as receiver,
    ):
        assert receiver.stdout is not None
        port = int(receiver.stdout.readline())
        with Client.from_url(server.url) as client:
            prepare(client, options.count)
        seconds, spent = measure(server, port, options)
        receiver.terminate()
    print(
        f"{options.count} callbacks in {seconds:.2f} s: {options.count / seconds:.0f} a second; "
        f"the daemon took {spent / options.count * 1e6:.0f} us of CPU each"
    )


if __name__ == "__main__":
    main()
