"""Workers in tests: run in a thread of their own, with either client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rwf import AsyncClient, Client, Worker
from rwf.model.states import TERMINAL_WORKFLOWS
from tests.servers import AnyServer
from tests.waiting import until

CLIENTS = pytest.mark.parametrize("kind", ["sync", "async"])


def client_of(kind: str, server: AnyServer) -> Client | AsyncClient:
    """A client of this kind, with the partitions that the fixtures' clients have."""
    made = Client if kind == "sync" else AsyncClient
    return made.from_url(server.url, partitions=16 if server.kind == "cluster" else None)


@contextmanager
def at_work(worker: Worker, *, told: bool = False) -> Iterator[None]:
    """The worker works, until the block ends; then it is told to end, unless the block has told it
    already, and has to."""
    faults: list[BaseException] = []

    def serve() -> None:
        try:
            asyncio.run(_serve(worker))
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


async def _serve(worker: Worker) -> None:
    try:
        await worker.serve()
    finally:
        await worker._runtime.close()


def run_to_end(worker: Worker, client: Client, *ids: str) -> None:
    """Has the worker work until these workflows have ended."""
    with at_work(worker):
        for workflow_id in ids:
            until_ended(client, workflow_id)


def until_ended(client: Client, workflow_id: str) -> None:
    until(
        lambda: client.get(workflow_id).state in TERMINAL_WORKFLOWS,
        timeout=20,
        what=f"the end of {workflow_id}",
    )
