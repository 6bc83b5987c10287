"""Executors, dispatchers and brokers that are killed again and again: every workflow completes, and
each step's effect on the graph is once (contract §15)."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from rwf import Workflow, result
from tests.conftest import SCALE
from tests.support import invariants
from tests.support.executors import EXECUTORS, Fleet, fleet
from tests.support.servers import Server
from tests.support.waiting import until

WORKFLOWS, KILLS = (500, 30) if SCALE == "long" else (60, 3)
AT_ONCE: Final = {
    "celery": "-c 4 -l warning",
    "rq": "",
    "taskiq": "--workers 1",
    "dramatiq": "-p 1 -t 8",
}
"""The options of each executor's worker."""
# Messages must not wait for longer than their tickets are held, on a busy machine either.
DISPATCHER: Final = "hold=20, backlog=20, "
# A killed worker's steps run again once their leases of 30 s have passed, perhaps several times.
PATIENCE: Final = 240.0


def diamond(number: int) -> Workflow:
    flow = Workflow("diamond").add("a", worker="echo", input={"n": number}, max_attempts=1_000)
    for name in ("b", "c"):
        queue = "billing" if name == "c" else "default"
        flow.add(name, worker="echo", input={"n": result("a")}, queue=queue, max_attempts=1_000)
    return flow.add("d", worker="echo", input={"n": result("b")}, deps=["c"], max_attempts=1_000)


class Daemon:
    """``rwf dispatch``."""

    def __init__(self, at_work: Fleet) -> None:
        self._fleet = at_work
        self._process = at_work.dispatch_command()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def replace(self) -> None:
        self.kill()
        self._process = self._fleet.dispatch_command()


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        name if name == "celery" else pytest.param(name, marks=pytest.mark.whole)
        for name in EXECUTORS
    ],
)
def test_kills_change_no_outcome(name: str, tmp_path: Path) -> None:
    chance = random.Random(name)
    with (
        Server.start("redis70", aof=True) as server,
        Server.start("redis70") as broker,
        fleet(
            name, server, tmp_path, broker=broker, worker=AT_ONCE[name], dispatcher=DISPATCHER
        ) as at_work,
    ):
        daemon = Daemon(at_work)
        try:
            client = at_work.client
            ids: list[str] = []

            def new_worker() -> None:
                at_work.kill_worker()
                at_work.start_worker()

            def empty_broker() -> None:
                broker.kill()
                broker.restart()

            kinds: list[Callable[[], None]] = [new_worker, daemon.replace, empty_broker]
            for number in range(KILLS):
                more = range(len(ids), len(ids) + WORKFLOWS // KILLS)
                ids += [view.id for view in client.insert_many(map(diamond, more))]
                what = "a step of the latest workflows that completes"
                until(partial(_has_begun, at_work, ids[-1]), what=what, timeout=PATIENCE)
                time.sleep(chance.uniform(0, 0.1))
                kinds[number % len(kinds)]()
            for number, workflow_id in enumerate(ids):
                ended = partial(_has_ended, at_work, workflow_id)
                until(ended, what=f"the end of {workflow_id}", timeout=PATIENCE)
                view = client.get(workflow_id)
                assert view.state == "completed", client.explain(workflow_id)
                rows = client.results(workflow_id)
                assert Counter(row.step for row in rows) == Counter("abcd")
                assert {row.payload for row in rows} == {number}
            assert invariants.check(client) == []
        finally:
            daemon.kill()


def _has_begun(at_work: Fleet, workflow_id: str) -> bool:
    at_work.keep_worker()
    return at_work.client.get(workflow_id).completed_step_count > 0


def _has_ended(at_work: Fleet, workflow_id: str) -> bool:
    at_work.keep_worker()
    return at_work.client.get(workflow_id).finished_at is not None
