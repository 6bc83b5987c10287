"""``rwf worker`` as real processes: told to end, killed, and paused past its leases."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rwf import Client, Worker, Workflow
from tests.support.flows import flow
from tests.support.servers import AnyServer
from tests.support.waiting import until
from tests.support.workers import at_work, client_of, until_ended

APP = """
import os, pathlib, time
from rwf import (AsyncClient, Worker)

worker = Worker(
    AsyncClient.from_url(os.environ["APP_URL"]),
    lease=float(os.environ["APP_LEASE"]),
    grace=float(os.environ["APP_GRACE"]),
    reconcile=False,
)
folder = pathlib.Path(os.environ["APP_FOLDER"])

@worker.step("work")
def work():
    (folder / "started").touch()
    while not (folder / "go").exists():
        time.sleep(0.01)
    return "done"

@worker.step("die")
def die():
    os.kill(os.getpid(), 9)

not_a_worker = 1
"""


class Process:
    """``rwf worker app:worker`` in a folder of its own."""

    def __init__(self, server: AnyServer, folder: Path, *, lease: float, grace: float) -> None:
        self.folder = folder
        (folder / "app.py").write_text(APP)
        environment = {
            "APP_URL": server.url,
            "APP_LEASE": str(lease),
            "APP_GRACE": str(grace),
            "APP_FOLDER": str(folder),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rwf", "worker", "app:worker", "--json"],
            cwd=folder,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def has_started(self) -> bool:
        return (self.folder / "started").exists()

    def go(self) -> None:
        (self.folder / "go").touch()

    def tell(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> tuple[int, list[dict[str, Any]], str]:
        """Its exit code, its events, and its log, once it has ended."""
        out, log = self.process.communicate(timeout=60)
        return (
            self.process.returncode,
            [json.loads(line) for line in out.splitlines()],
            log.decode(),
        )


@contextmanager
def process(
    server: AnyServer, folder: Path, *, lease: float = 30, grace: float = 20
) -> Iterator[Process]:
    running = Process(server, folder, lease=lease, grace=grace)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


def test_sigterm_ends_it_gracefully(
    one_client: Client, one_server: AnyServer, tmp_path: Path
) -> None:
    view = one_client.insert(flow("a b:a"))
    with process(one_server, tmp_path) as worker:
        until(worker.has_started, timeout=60, what="the step")
        worker.tell(signal.SIGTERM)
        worker.go()
        code, told, log = worker.ended()
    assert (code, log.count("Traceback")) == (0, 0)
    assert told[0]["event"] == "serving"
    assert (told[0]["queues"], told[0]["handlers"]) == (["default"], ["work", "die"])
    assert told[-1] == {
        "event": "ended",
        "running": 0,
        "unreported": 0,
        "ended": 1,
        "error": None,
        "abandoned": 0,
    }
    assert [step.state for step in one_client.steps(view.id)] == ["completed", "available"]


def test_a_second_sigterm_gives_back_at_once(
    one_client: Client, one_server: AnyServer, tmp_path: Path
) -> None:
    view = one_client.insert(flow("a"))
    with process(one_server, tmp_path, grace=3600) as worker:
        until(worker.has_started, timeout=60, what="the step")
        worker.tell(signal.SIGTERM)
        worker.tell(signal.SIGINT)
        code, _, _ = worker.ended()
    assert code == 0
    step = one_client.step(view.id, "a")
    assert (step.state, step.attempt) == ("available", 0)


def test_a_worker_paused_past_its_lease_writes_nothing(
    one_client: Client, one_server: AnyServer, tmp_path: Path
) -> None:
    view = one_client.insert(flow("a"))
    with process(one_server, tmp_path, lease=0.5) as worker:
        until(worker.has_started, timeout=60, what="the step")
        worker.tell(signal.SIGSTOP)
        until(lambda: one_client.reconcile(view.id).repairs, what="the end of the lease")
        other = Worker(client_of("async", one_server))
        other.step("work")(lambda: "of another")
        with at_work(other):
            until_ended(one_client, view.id)
        worker.go()
        worker.tell(signal.SIGCONT)
        worker.tell(signal.SIGTERM)
        worker.ended()
    [row] = one_client.results(view.id)
    assert (row.attempt, row.payload) == (2, "of another")
    reasons = [entry.reason_code for entry in one_client.evidence(view.id)]
    assert "lease_expired" in reasons
    # It either learned of the loss in time, or was refused.
    assert set(reasons) <= {None, "lease_expired", "stale_lease"}


def test_a_step_that_kills_its_workers_is_discarded(
    one_client: Client, one_server: AnyServer, tmp_path: Path
) -> None:
    view = one_client.insert(Workflow("w").add("a", worker="die", max_attempts=2))
    for attempt in (1, 2):
        with process(one_server, tmp_path, lease=0.2) as worker:
            assert worker.ended()[0] == -signal.SIGKILL
        until(lambda: one_client.reconcile(view.id).repairs, what="the end of the lease")
        assert one_client.step(view.id, "a").attempt == attempt
    assert one_client.step(view.id, "a").state == "discarded"
    reasons = [entry.reason_code for entry in one_client.evidence(view.id)]
    assert reasons == ["lease_expired", "lease_expired", "attempts_exhausted"]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("app", "MODULE:WORKER"),
        ("nowhere:worker", "cannot import nowhere"),
        ("app:not_a_worker", "no Worker named not_a_worker"),
        ("app:nothing", "no Worker named nothing"),
    ],
)
def test_a_place_without_a_worker(
    one_server: AnyServer, tmp_path: Path, place: str, message: str
) -> None:
    (tmp_path / "app.py").write_text(APP)
    environment = {"APP_URL": one_server.url, "APP_LEASE": "1", "APP_GRACE": "1"}
    found = subprocess.run(
        [sys.executable, "-m", "rwf", "worker", place],
        cwd=tmp_path,
        env=os.environ | environment | {"APP_FOLDER": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (found.returncode, found.stderr.count("\n")) == (2, 1)
    assert message in found.stderr


def test_a_server_of_the_command_lines_own(
    one_client: Client, one_server: AnyServer, tmp_path: Path
) -> None:
    """``--url`` replaces the client that the module has made."""
    (tmp_path / "app.py").write_text(APP)
    environment = {"APP_URL": "redis://127.0.0.1:1", "APP_LEASE": "1", "APP_GRACE": "1"}
    view = one_client.insert(flow("a"))
    (tmp_path / "go").touch()
    with subprocess.Popen(
        [sys.executable, "-m", "rwf", "worker", "app:worker", "--url", one_server.url],
        cwd=tmp_path,
        env=os.environ | environment | {"APP_FOLDER": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as worker:
        until_ended(one_client, view.id)
        worker.terminate()
        out, _ = worker.communicate(timeout=60)
    assert worker.returncode == 0
    assert b"serves default, 64 steps at once\nhandlers: work, die\n" in out
    assert out.endswith(b"ended: 0 running, 0 to report, 1 attempts done\n")
