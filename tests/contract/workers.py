"""Workers in tests: run in a thread of their own, with either client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from rwf import AsyncClient, Client, Worker
from rwf.model.states import TERMINAL_WORKFLOWS
from tests.servers import AnyServer
from tests.waiting import until

CLIENTS = pytest.mark.parametrize("kind", ["sync", "async"])


def client_of(
    kind: str, server: AnyServer, durability: str = "server", **options: Any
) -> Client | AsyncClient:
    """A client of this kind, with the partitions that the fixtures' clients have."""
    made = Client if kind == "sync" else AsyncClient
    partitions = 16 if server.kind == "cluster" else None
    return made.from_url(server.url, partitions=partitions, durability=durability, **options)


class _Blocking:
    """An AsyncClient whose methods block, in a loop of its own."""

    def __init__(self, client: AsyncClient, runner: asyncio.Runner) -> None:
        self._client = client
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return lambda *args, **options: self._runner.run(method(*args, **options))


@contextmanager
def blocking(
    kind: str, server: AnyServer, durability: str = "server", **options: Any
) -> Iterator[Client]:
    """The same with methods that block, for tests that are one for both clients."""
    client = client_of(kind, server, durability, **options)
    if isinstance(client, Client):
        with client:
            yield client
    else:
        with asyncio.Runner() as runner:
            yield cast(Client, _Blocking(client, runner))
            runner.run(client.close())


@contextmanager
def at_work(worker: Worker, *, told: bool = False) -> Iterator[None]:
    """The worker works, until the block ends; then it is told to end, unless the block has told it
    already, and has to."""
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
        until(lambda: not thread.is_alive(), timeout=30, what="the worker's end")
        assert faults == []


def run_to_end(worker: Worker, client: Client, *ids: str) -> None:
    """Has the worker work until these workflows have ended."""
    with at_work(worker):
        for workflow_id in ids:
            until_ended(client, workflow_id)


def until_ended(client: Client, workflow_id: str, timeout: float = 20) -> None:
    until(
        lambda: client.get(workflow_id).state in TERMINAL_WORKFLOWS,
        timeout=timeout,
        what=f"the end of {workflow_id}",
    )
