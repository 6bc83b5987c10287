"""Two releases at work on the same data, each with a library of its own on the server."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from rwf import AsyncClient, Client, Worker
from rwf.protocol.library import Library, library
from tests.fault.outages import insisting
from tests.support import invariants
from tests.support.counted import Counts, counted, sample
from tests.support.flows import flow
from tests.support.metrics_cases import scrape
from tests.support.servers import ALWAYS, Server, ask
from tests.support.workers import at_work, until_ended

FAULTS = 4


def of_another_release(client: Any) -> Any:
    """A client whose functions have other names on the server."""
    ours = library()
    name = "rwf_" + hashlib.sha256(b"another release").hexdigest()[:12]
    text = ours.text.replace(ours.name, name) + "-- of another release\n"
    client._session.library = Library(name, text, ours.lines)
    return client


def worker_on(client: AsyncClient) -> Worker:
    worker = Worker(client, concurrency=8, lease=2.0)

    @worker.step("work")
    def work() -> str:
        return "done"

    return worker


@contextmanager
def again_and_again(act: Callable[[], None], seconds: float) -> Iterator[list[int]]:
    """Acts every so many seconds, on a thread; notes each time."""
    over = threading.Event()
    times: list[int] = []

    def run() -> None:
        while not over.wait(seconds):
            act()
            times.append(len(times))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield times
    finally:
        over.set()
        thread.join()


def flush(server: Server) -> None:
    """Deletes all libraries, as an operator may."""
    with contextlib.suppress(redis.RedisError):
        ask(server, "FUNCTION FLUSH")


def kill(server: Server) -> None:
    server.kill()
    server.restart()


def inserted(client: Client, key: str) -> str:
    return insisting(lambda: client.insert(flow("a b:a c:a d:b,c"), key=key)).id


def total(counts: Counts, metric: str) -> int:
    return sum(value for (name, _), value in counts.items() if name == metric)


@pytest.mark.parametrize(("fault", "every"), [(flush, 0.1), (kill, 0.5)])
@pytest.mark.parametrize("kind", ["redis70", "valkey91"])
def test_two_releases_count_right_whatever_befalls_the_server(
    kind: str, fault: Callable[[Server], None], every: float
) -> None:
    """Each inserts, runs and completes workflows of the other too."""
    with (
        Server.start(kind, aof=True, extra=ALWAYS) as server,
        Client.from_url(server.url) as present,
        of_another_release(Client.from_url(server.url)) as other,
    ):
        workers = [
            worker_on(AsyncClient.from_url(server.url)),
            worker_on(of_another_release(AsyncClient.from_url(server.url))),
        ]
        present.list()
        with at_work(workers[0]), at_work(workers[1]):
            other.list()
            assert len(ask(server, "FUNCTION LIST")) >= 2
            with again_and_again(lambda: fault(server), every) as times:
                ids: list[str] = []
                while len(times) < FAULTS:
                    one = (present, other)[len(ids) % 2]
                    ids.append(inserted(one, f"k{len(ids)}"))
                    assert inserted(other, f"k{len(ids) - 1}") == ids[-1]
            for workflow_id in ids:
                until_ended(present, workflow_id)
        number = len(set(ids))
        assert number == len(ids)
        counts = counted(scrape(present))
        assert total(counts, "rwf_steps_completed_total") == 4 * number
        assert total(counts, "rwf_workflows_terminal_total") == number
        assert counts[sample("rwf_steps", {"state": "completed"})] == 4 * number
        assert counts[sample("rwf_workflows", {"state": "completed"})] == number
        assert invariants.check(present) == invariants.check(other) == []
