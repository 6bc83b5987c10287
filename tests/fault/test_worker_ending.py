"""A worker ends within its grace time, whatever its server and its handlers do."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rwf import Client, Worker, Workflow
from tests.support.flows import flow
from tests.support.hanging import hanging
from tests.support.servers import AnyServer, Server
from tests.support.waiting import until
from tests.support.workers import CLIENTS, client_of

pytestmark = pytest.mark.usefixtures("cut_off")

# The time that a busy machine may need beyond the grace time.
SLACK = 8.0


class Thread(threading.Thread):
    """A worker that runs in a thread."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(daemon=True)
        self.worker = worker
        self.fault: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.worker.run()
        except BaseException as fault:
            self.fault = fault

    def stops_within(self, seconds: float) -> None:
        begun = time.monotonic()
        self.worker.stop()
        self.join(seconds + SLACK)
        assert not self.is_alive(), f"after {time.monotonic() - begun:.1f} s it still works"
        assert self.fault is None


@pytest.fixture
def never() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def stubborn(worker: Worker, never: threading.Event) -> list[str]:
    """Handlers that do not end. Returns where they note that they have begun."""
    begun: list[str] = []

    @worker.step("thread")
    def thread() -> None:
        begun.append("thread")
        never.wait()

    @worker.step("to_thread")
    async def to_thread() -> None:
        begun.append("to_thread")
        await asyncio.to_thread(never.wait)

    @worker.step("swallow")
    async def swallow() -> None:
        begun.append("swallow")
        while not never.is_set():
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                continue

    return begun


def stubborn_steps() -> Workflow:
    workflow = Workflow("w")
    for name in ("thread", "to_thread", "swallow"):
        workflow.add(name, worker=name)
    return workflow


@CLIENTS
def test_it_ends_while_handlers_do_not(
    one_client: Client, one_server: AnyServer, kind: str, never: threading.Event
) -> None:
    worker = Worker(client_of(kind, one_server), grace=1)
    begun = stubborn(worker, never)
    view = one_client.insert(stubborn_steps())
    running = Thread(worker)
    until(lambda: len(begun) == 3, what="all handlers")
    running.stops_within(1)
    assert {(step.state, step.attempt) for step in one_client.steps(view.id)} == {("available", 0)}


@CLIENTS
@pytest.mark.parametrize("idle", [True, False])
def test_it_ends_while_its_server_hangs(kind: str, idle: bool, never: threading.Event) -> None:
    with Server.start("valkey91") as server, Client.from_url(server.url) as client:
        worker = Worker(client_of(kind, server), grace=3)
        begun = stubborn(worker, never)
        client.list()
        if not idle:
            client.insert(stubborn_steps())
        running = Thread(worker)
        until(lambda: worker.health.running == 0 if idle else len(begun) == 3, what="its steps")
        until(lambda: worker._runner is not None, what="its start")
        with hanging(server):
            time.sleep(1.5)  # into the middle of polls, ticks and heartbeats
            running.stops_within(3)


@CLIENTS
def test_it_ends_while_it_cannot_even_begin(kind: str) -> None:
    with Server.start("valkey91") as server, hanging(server):
        client = client_of(kind, server)
        worker = Worker(client, grace=1)
        running = Thread(worker)
        until(lambda: worker._loop is not None, what="its loop")
        running.stops_within(1)
        if isinstance(client, Client):
            client.close()  # the worker leaves it open, and a call of its is still under way


APP = """
import asyncio, os, pathlib, threading, time
from rwf import Worker

worker = Worker(grace=1, reconcile=False)
folder = pathlib.Path(os.environ["APP_FOLDER"])

@worker.step("block")
async def block():
    (folder / "started").touch()
    time.sleep(600)

@worker.step("thread")
def thread():
    (folder / "started").touch()
    threading.Event().wait()

@worker.step("to_thread")
async def to_thread():
    (folder / "started").touch()
    await asyncio.to_thread(threading.Event().wait)

@worker.step("swallow")
async def swallow():
    (folder / "started").touch()
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            pass
"""


@pytest.mark.parametrize("handler", ["block", "thread", "to_thread", "swallow"])
def test_a_process_ends_whatever_its_handlers_do(
    one_client: Client, one_server: AnyServer, tmp_path: Path, handler: str
) -> None:
    """Its steps go back uncounted, also while one of them blocks the event loop."""
    (tmp_path / "app.py").write_text(APP)
    view = one_client.insert(flow("a", worker=handler))
    with subprocess.Popen(
        [sys.executable, "-m", "rwf", "worker", "app:worker", "--json"],
        cwd=tmp_path,
        env=os.environ | {"RWF_URL": one_server.url, "APP_FOLDER": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            until((tmp_path / "started").exists, timeout=60, what="the step")
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)
            out, log = process.communicate(timeout=1 + 3 + 2 * SLACK)
        finally:
            process.kill()
    assert process.returncode == 0, log
    assert time.monotonic() - begun < 1 + 3 + SLACK
    told: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    assert told[-1]["event"] == "ended"
    assert b"Traceback" not in log
    step = one_client.step(view.id, "a")
    assert (step.state, step.attempt) == ("available", 0)
