"""Messages that an executor delivers again by its own means, when the worker that had taken them is
killed: the copy runs nothing under the old lease, and the step's next attempt comes by a ticket of
its own (contract §15)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import pytest
from rq.registry import FailedJobRegistry, StartedJobRegistry

from rwf import Client, EvidenceView, Workflow
from tests.support import invariants
from tests.support.executors import EXECUTORS, Fleet, dispatching, fleet
from tests.support.servers import Server
from tests.support.waiting import until

# A dead worker's step is available again once its lease of 30 s has passed.
PATIENCE: Final = 120.0
WORKERS: Final = EXECUTORS | {"celery": EXECUTORS["celery"].replace("-c 1", "-c 2")}
AT_ONCE: Final = {
    "celery": """
app.conf.broker_transport_options = {
    "visibility_timeout": 1, "unacked_restore_interval": 1, "unacked_restore_throttle": 1,
}
""",
    "taskiq": "\nbroker.idle_timeout = 1_000\n",
    "dramatiq": "\nbroker.heartbeat_timeout, broker.maintenance_chance = 1_000, 1_000_000\n",
}
"""Has each executor deliver again what it takes to be lost, after a second instead of minutes."""


def starts(client: Client, workflow_id: str) -> list[EvidenceView]:
    """Evidence of deliveries that were not to run the step."""
    return [entry for entry in client.evidence(workflow_id) if entry.action == "start"]


def goes_on(at_work: Fleet, view_id: str) -> None:
    """The step completes by its second attempt, once."""
    client = at_work.client
    until(
        lambda: client.get(view_id).finished_at is not None,
        what=f"the end: {client.explain(view_id)}",
        timeout=PATIENCE,
    )
    (row,) = client.results(view_id)
    assert (row.attempt, row.status, row.payload) == (2, "completed", 2)
    codes = [entry.reason_code for entry in client.evidence(view_id)]
    assert codes.count("lease_expired") == 1
    assert invariants.check(client) == []


def killed_amid_a_step(at_work: Fleet) -> str:
    """A workflow whose only step was running when its worker was killed."""
    client = at_work.client
    view = client.insert(Workflow("w").add("a", worker="sleeps", input={"seconds": 2}))
    until(lambda: client.step(view.id, "a").attempt == 1, what="the step's start")
    at_work.kill_worker()
    return view.id


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        name if name == "dramatiq" else pytest.param(name, marks=pytest.mark.whole)
        for name in AT_ONCE
    ],
)
def test_the_broker_delivers_again_what_a_killed_worker_had(name: str, tmp_path: Path) -> None:
    with (
        Server.start("redis70") as server,
        fleet(name, server, tmp_path, worker=WORKERS[name], more=AT_ONCE[name]) as at_work,
        dispatching(at_work.dispatcher()),
    ):
        view_id = killed_amid_a_step(at_work)
        at_work.start_worker()
        found = until(
            lambda: starts(at_work.client, view_id), what="the copy's start", timeout=PATIENCE
        )
        assert found[0].reason_code in ("already_started", "stale_ticket")
        goes_on(at_work, view_id)


@pytest.mark.long
@pytest.mark.whole
def test_a_job_that_rq_has_given_up(tmp_path: Path) -> None:
    """RQ moves it to the failed ones, and runs it no more; the graph does."""
    with (
        Server.start("redis70") as server,
        fleet("rq", server, tmp_path) as at_work,
        dispatching(at_work.dispatcher()),
    ):
        view_id = killed_amid_a_step(at_work)
        started = StartedJobRegistry("default", connection=at_work.broker)
        (job,) = started.get_job_ids(cleanup=False)
        executions: Any = at_work.broker.zrange(started.key, 0, -1)
        (execution,) = executions
        # As if it had sent no heartbeat for long.
        assert at_work.broker.zadd(started.key, {execution: time.time() - 1}, xx=True, ch=True)
        at_work.start_worker()
        failed = FailedJobRegistry("default", connection=at_work.broker)
        until(lambda: job in failed.get_job_ids(), what="the job's end", timeout=PATIENCE)
        goes_on(at_work, view_id)
