"""Workers in tests: run in a thread of their own, with either client."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from rwf import AsyncClient, Client, Worker
from rwf.model.states import TERMINAL_WORKFLOWS
from tests.conftest import connect
from tests.support.servers import AnyServer
from tests.support.waiting import until

CLIENTS = pytest.mark.parametrize("kind", ["sync", "async"])


def client_of(
    kind: str, server: AnyServer, durability: str = "server", **options: Any
) -> Client | AsyncClient:
    """A client of this kind, with the partitions that the fixtures' clients have."""
    made = Client if kind == "sync" else AsyncClient
    partitions = 16 if server.kind == "cluster" else None
    return made.from_url(server.url, partitions=partitions, durability=durability, **options)


def blocking(kind: str, server: AnyServer, durability: str = "server", **options: Any) -> Client:
    """A client of this kind whose methods block, for tests that run with either kind; to be used in
    ``with``."""
    face = "blocking" if kind == "sync" else "asyncio"
    return connect(server, face, durability=durability, **options)


@contextmanager
def at_work(worker: Worker, *, told: bool = False) -> Iterator[None]:
    """Runs the worker until the block ends, and then ends it, unless the block has done so
    already."""
    faults: list[BaseException] = []

    def serve() -> None:
        try:
            worker.run()
        except BaseException as fault:
            faults.append(fault)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        until(lambda: worker._loop or not thread.is_alive(), what="the worker's start")
        if not told:
            worker.stop()
        until(lambda: not thread.is_alive(), timeout=60, what="the worker's end")
        if worker._runtime is not None and isinstance(worker._runtime.client, Client):
            worker._runtime.client.close()  # an AsyncClient's has ended with the worker's loop
        assert faults == []


def run_to_end(worker: Worker, client: Client, *ids: str) -> None:
    """Runs the worker until these workflows have ended."""
    with at_work(worker):
        for workflow_id in ids:
            until_ended(client, workflow_id)


def until_ended(client: Client, workflow_id: str, timeout: float = 60) -> None:
    until(
        lambda: client.get(workflow_id).state in TERMINAL_WORKFLOWS,
        timeout=timeout,
        what=f"the end of {workflow_id}",
    )
