"""Who works, and on what (contract §17)."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from rwf import Client, Completion, Worker, Workflow, metrics
from tests.support.commandline import Cli
from tests.support.flows import fan_out, flow, refused
from tests.support.servers import AnyServer
from tests.support.waiting import until
from tests.support.workers import CLIENTS, at_work, client_of

APP = """
from rwf import Worker
worker = Worker(queues=["mail"], worker_id="killed", reconcile=False)
"""


@CLIENTS
def test_a_worker_tells_what_it_serves_and_leaves_when_it_ends(
    one_client: Client, one_server: AnyServer, kind: str
) -> None:
    go = threading.Event()
    worker = Worker(
        client_of(kind, one_server), queues=["mail", "default"], concurrency=3, worker_id="ann: 1"
    )
    worker.step("hold")(go.wait)
    worker.step("a,b |c")(lambda: None)
    assert one_client.workers() == []
    with at_work(worker):
        one_client.insert(flow("a b", worker="hold"))
        until(lambda: [one.running for one in one_client.workers()] == [2], what="both to run")
        [found] = one_client.workers()
        assert (found.id, found.queues, found.handlers) == (
            "ann: 1",
            ("mail", "default"),
            ("a,b |c", "hold"),
        )
        assert (found.queue_count, found.handler_count, found.concurrency) == (2, 2, 3)
        assert (found.alive, found.trouble, found.abandoned) == (True, None, 0)
        assert found.started_at < found.seen_at
        assert datetime.now(UTC) - found.seen_at < timedelta(seconds=10)
        go.set()
        until(lambda: one_client.workers()[0].running == 0, what="both to end")
    assert one_client.workers() == []


def test_a_worker_whose_event_loop_is_blocked_shows_as_such(
    one_client: Client, one_server: AnyServer
) -> None:
    go = threading.Event()
    worker = Worker(client_of("sync", one_server), worker_id="w")

    @worker.step("block")
    async def block() -> None:
        go.wait()

    with at_work(worker):
        one_client.insert(flow("a", worker="block"))
        until(
            lambda: [one for one in one_client.workers() if one.trouble],
            timeout=10,
            what="the trouble to be told",
        )
        [found] = one_client.workers()
        assert "the handler 'block'" in (found.trouble or "")
        assert "blocks the event loop" in (found.trouble or "")
        assert found.alive
        assert worker.health.stuck_seconds > 0
        go.set()
        until(lambda: one_client.workers()[0].trouble is None, what="it to be well again")
        assert worker.health.stuck_seconds == 0


def test_a_worker_that_is_killed_is_gone_in_10_seconds(
    one_client: Client, one_server: AnyServer, cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(APP)
    command = [sys.executable, "-m", "rwf", "worker", "app:worker", "--url", one_server.url]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        until(lambda: len(one_client.workers()) == 1, what="the worker")
        assert [line.split()[:3] for line in cli.ok("workers").splitlines()] == [
            ["WORKER", "STATE", "RUNNING"],
            ["killed", "ok", "0/64"],
        ]
        process.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    until(lambda: not one_client.workers()[0].alive, timeout=15, what="it to be gone")
    assert time.monotonic() - killed < 11
    assert cli.ok("workers").splitlines()[1].split()[:2] == ["killed", "gone"]
    assert [one["alive"] for one in cli.json("workers")] == [False]


def test_more_names_than_there_is_room_for_are_counted(
    one_client: Client, one_server: AnyServer
) -> None:
    queues = [f"{number:0128}" for number in range(200)]
    worker = Worker(client_of("sync", one_server), queues=queues)
    with at_work(worker):
        until(one_client.workers, what="the worker")
        [found] = one_client.workers()
    assert found.queue_count == 200
    assert 10 <= len(found.queues) < 20
    assert list(found.queues) == queues[: len(found.queues)]


def test_running_steps_come_in_the_order_of_their_claims(client: Client) -> None:
    assert client.running().steps == ()
    views = [client.insert(flow("a b", name=f"flow{number}")) for number in range(5)]
    expected = []
    for number in range(10):
        # A longer lease for the first: its end is not what counts.
        claims = client.claim(["default"], worker_id=f"w: {number}", limit=1, lease=600 - number)
        expected += [(claim.workflow_id, claim.step, f"w: {number}") for claim in claims]
    assert len(expected) == 10
    found = client.running()
    steps = {(step.workflow_id, step.step, step.worker_id) for step in found.steps}
    assert (steps, found.count) == (set(expected), 10)
    assert [step.claimed_at for step in found.steps] == sorted(
        step.claimed_at for step in found.steps
    )
    [first] = [step for step in found.steps if step.worker_id == "w: 0"]
    assert first.workflow_name == f"flow{[view.id for view in views].index(first.workflow_id)}"
    assert (first.queue, first.attempt, first.worker) == ("default", 1, "work")
    assert first.lease_expires_at - first.claimed_at == timedelta(seconds=600)
    some = client.running(limit=3)
    assert (some.steps, some.count) == (found.steps[:3], 10)
    client.complete_step(found.steps[0].workflow_id, found.steps[0].step, force=True)
    assert client.running().steps == found.steps[1:]
    for limit in (0, 1001, True, "1"):
        with refused("invalid_argument"):
            client.running(limit=limit)  # type: ignore[arg-type]


def test_running_steps_are_found_behind_other_timers(one_client: Client) -> None:
    """Retries that are due earlier than any lease ends."""
    view = one_client.insert(fan_out(600))
    claims = one_client.claim(["default"], worker_id="w", limit=1000)
    one_client.complete(claims[0])
    claims = one_client.claim(["default"], worker_id="w", limit=1000, lease=600)
    for claim in claims[:-2]:
        one_client.complete(claim, "retryable", retry_in=300)
    found = one_client.running()
    assert [(step.workflow_id, step.step) for step in found.steps] == sorted(
        (view.id, claim.step) for claim in claims[-2:]
    )


def test_the_command_running(cli: Cli, one_client: Client) -> None:
    assert cli.ok("running") == "no step is running\n"
    view = one_client.insert(flow("a b"))
    one_client.claim(["default"], worker_id="worker-7", limit=2)
    lines = cli.ok("running").splitlines()
    assert lines[0].split() == ["FOR", "STEP", "ATTEMPT", "WORKER", "QUEUE", "WORKFLOW", "NAME"]
    assert lines[1].split()[2:] == ["a", "1", "worker-7", "default", view.id, "flow"]
    assert cli.ok("running", "--limit", "1").splitlines()[-1].startswith("1 of 2 steps")
    assert [step["step"] for step in cli.json("running")["steps"]] == ["a", "b"]


def test_a_worker_that_is_stuck_for_a_minute_is_unwell(
    one_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stuck:
        stuck_seconds = 0.0

        @property
        def health(self) -> Stuck:
            return self

        def observe(self, owner: object, observer: object) -> None:
            """Nobody looks on here."""

    stuck = Stuck()
    with metrics.serve(one_client, port=0, worker=stuck) as server:
        place = f"http://{server.host}:{server.port}/healthz"
        with urlopen(place) as answer:
            assert answer.read() == b"ok\n"
        stuck.stuck_seconds = 61.0
        with pytest.raises(HTTPError, match="503"):
            urlopen(place)


def _counts(counts: Mapping[Any, int]) -> dict[str, int]:
    return {str(name): count for name, count in counts.items()}


def test_stats_count_workflows_steps_and_queues(client: Client) -> None:
    empty = client.stats()
    assert (sum(empty.workflows.values()), empty.queues, empty.open) == (
        *(0, ()),
        {"Blocked": 0, "Runnable": 0, "Waiting": 0},
    )
    views = [client.insert(flow("a b c:a", queue="mail")) for _ in range(3)]
    client.insert(flow("x"))
    held = client.claim(["mail"], worker_id="w", limit=4)
    for claim in held[:2]:
        client.complete(claim)
    client.request_cancel(views[2].id)
    found = client.stats()
    assert _counts(found.workflows)["cancel_requested"] + _counts(found.workflows)["cancelled"] == 1
    assert sum(found.open.values()) == 4 - _counts(found.workflows)["cancelled"]
    assert _counts(found.steps)["executing"] == 2
    assert sum(found.steps.values()) == 10
    queues = {queue.name: queue for queue in found.queues}
    assert set(queues) == {"default", "mail"}
    mail = queues["mail"]
    assert (mail.running, mail.ended, mail.served) == (2, 2, True)
    assert mail.available == _counts(found.steps)["available"] - 1
    assert 2 / 6 <= mail.per_minute <= 2 / 5
    default = queues["default"]
    assert (default.available, default.running, default.served, default.ended) == (1, 0, False, 0)
    assert default.oldest_at is not None
    assert found.ready_seconds > 0


def test_no_more_than_200_queues_are_counted_apart(one_client: Client) -> None:
    workflow = Workflow("w")
    for number in range(203):
        workflow.add(f"s{number}", worker="work", queue=f"q{number}")
    view = one_client.insert(workflow)
    one_client.complete_many(
        Completion(workflow_id=view.id, step=f"s{number}") for number in range(203)
    )
    queues = {queue.name: queue.ended for queue in one_client.stats().queues}
    assert sum(queues.values()) == 203
    assert len(queues) == 201
    assert queues["other"] == 3


def test_the_command_stats(cli: Cli, one_client: Client) -> None:
    assert cli.ok("stats").splitlines()[0] == "open: none"
    one_client.insert(flow("a b:a"))
    one_client.complete(one_client.claim(["default"], worker_id="w")[0])
    lines = cli.ok("stats").splitlines()
    assert lines[:4] == [
        "open: 1 Runnable",
        "workflows: 1 available",
        "steps: 1 available, 1 completed",
        "callbacks: none",
    ]
    assert lines[4].split() == [
        "QUEUE",
        "READY",
        "OLDEST",
        "RUNNING",
        "ENDED/MIN",
        "ENDED",
        "SERVED",
    ]
    assert lines[5].split()[:2] == ["default", "1"]
    assert lines[5].split()[-3:] == ["0.2", "1", "yes"]
    assert cli.json("stats")["queues"][0]["ended"] == 1


def test_metrics_by_name_are_bounded_and_asked_for(
    one_client: Client, one_server: AnyServer
) -> None:
    worker = Worker(client_of("sync", one_server))
    worker.step("work")(lambda: None)
    with metrics.serve(one_client, port=0, worker=worker, by_name=True) as server:
        view = one_client.insert(flow("a b:a", name="orders"))
        with at_work(worker):
            until(lambda: one_client.get(view.id).finished_at, what="the end")
        one_client.insert_many(
            Workflow("many").add("s", worker="work", queue=f"q{number:03}") for number in range(205)
        )
        with urlopen(f"http://{server.host}:{server.port}/metrics") as answer:
            lines = answer.read().decode().splitlines()
    assert 'rwf_queue_ended_total{queue="default"} 2.0' in lines
    assert 'rwf_queue_running{queue="default"} 0.0' in lines
    assert 'rwf_queue_served{queue="default"} 1.0' in lines
    assert 'rwf_workflow_ended_total{name="orders",state="completed"} 1.0' in lines
    assert 'rwf_handler_attempts_total{handler="work",outcome="completed"} 2.0' in lines
    assert 'rwf_handler_duration_seconds_count{handler="work"} 2.0' in lines
    available = [line for line in lines if line.startswith("rwf_queue_available{")]
    assert len(available) == 201
    assert 'rwf_queue_available{queue="other"} 6.0' in available
    with (
        metrics.serve(one_client, port=0) as server,
        urlopen(f"http://{server.host}:{server.port}/metrics") as answer,
    ):
        assert "rwf_queue_" not in answer.read().decode()
