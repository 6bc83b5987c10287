"""The cost of a failover: writes that were acknowledged, and that the new primary does not have.

    .venv/bin/python -m tests.fault.loss [--kind valkey91] [--times 3]

Four clients insert as fast as they can. Their primary is killed, with its link to the replica
healthy, or held or cut half a second before; the replica takes its place. "ms" is the time
from the first acknowledgement of a lost write to the last; there is a number for each run. The
append-only file is synced always, and is of no use to a replica.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from rwf import Client, NotFound, StoreUnavailable
from tests.support import invariants
from tests.support.flows import flow
from tests.support.proxy import Proxy
from tests.support.servers import Server, ask, in_step
from tests.support.waiting import until

LINKS: Final = ("healthy", "held", "cut")
WRITERS: Final = 4
_HEALTHY: Final = 50
"""How many writes a client makes before anything is done to the link."""
_APART: Final = 0.5
"""For how long the link is held or cut before the kill, in seconds."""


@dataclass(frozen=True)
class Loss:
    """How many writes were acknowledged and how many of those were lost, since the link was
    changed; and the time over which the lost ones were acknowledged, in ms."""

    acknowledged: int
    lost: int
    ms: float


def tiers(kind: str) -> list[str]:
    """The durability tiers that a server can give."""
    return ["server", *(["aof"] if kind != "redis70" else []), "replicas:1"]


@contextmanager
def followed(kind: str = "valkey91", **options: Any) -> Iterator[tuple[Server, Server, Proxy]]:
    """A primary and a replica that follows it through a proxy."""
    quick = ("--repl-diskless-sync-delay", "0", "--appendfsync", "always")
    with (
        Server.start(kind, extra=quick, **options) as primary,
        Server.start(kind, extra=quick, **options) as replica,
        Proxy(primary.port, framed=False) as link,
    ):
        ask(replica, "REPLICAOF", "127.0.0.1", link.port)
        until(lambda: in_step(replica), what="a replica in step")
        yield primary, replica, link


class Writers:
    """Clients that insert until their primary is gone, and note each acknowledgement and its
    time."""

    def __init__(self, url: str, durability: str) -> None:
        self.acknowledged: list[tuple[float, str]] = []
        self._url = url
        self._durability = durability
        self._over = threading.Event()

    def write(self) -> None:
        connected = Client.from_url(self._url, durability=self._durability)
        with connected as client, suppress(StoreUnavailable):
            while not self._over.is_set():
                workflow_id = client.insert(flow("a")).id
                self.acknowledged.append((time.monotonic(), workflow_id))

    @contextmanager
    def at_work(self) -> Iterator[None]:
        with ThreadPoolExecutor(WRITERS) as threads:
            writing = [threads.submit(self.write) for _ in range(WRITERS)]
            yield
            self._over.set()
        for one in writing:
            one.result()


def measure(kind: str, durability: str, state: str) -> Loss:
    """Kills a primary amid work, with the link to its replica in this state."""
    with followed(kind, aof=True) as (primary, replica, link):
        writers = Writers(primary.url, durability)
        with writers.at_work():
            until(lambda: len(writers.acknowledged) > WRITERS * _HEALTHY, what="some writes")
            if state != "healthy":
                (link.partition if state == "held" else link.sever)()
            before = len(writers.acknowledged)
            time.sleep(_APART)
            primary.kill()
        ask(replica, "REPLICAOF", "NO", "ONE")
        with Client.from_url(replica.url) as client:
            assert invariants.check(client) == []
            lost = [at for at, one in writers.acknowledged if is_lost(client, one)]
    window = (max(lost) - min(lost)) * 1000 if lost else 0.0
    return Loss(len(writers.acknowledged) - before, len(lost), window)


def is_lost(client: Client, workflow_id: str) -> bool:
    try:
        client.get(workflow_id)
    except NotFound:
        return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", default="valkey91")
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    print("| durability | link | acknowledged | lost | ms |\n|---|---|---|---|---|")
    for durability in tiers(options.kind):
        for state in LINKS:
            found = [measure(options.kind, durability, state) for _ in range(options.times)]
            cells = [
                " ".join(f"{getattr(one, name):.0f}" for one in found)
                for name in ("acknowledged", "lost", "ms")
            ]
            print(f"| `{durability}` | {state} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
