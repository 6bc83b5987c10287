"""Workers that run child workflows, and are killed again and again: every parent completes, with
the results of the one child that has run.

The workers run reconcilers beside their steps, so nothing else finishes what a kill has left.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from rwf import Client, Workflow, WorkflowView, result
from tests.conftest import SCALE
from tests.support import invariants
from tests.support.servers import AnyServer

PARENTS, KILLS = (2_400, 120) if SCALE == "long" else (240, 12)
WORKERS: Final = 2

APP = """
import os, time
from rwf import AsyncClient, RunWorkflow, Worker, Workflow

worker = Worker(AsyncClient.from_url(os.environ["APP_URL"]), lease=1.0, grace=0.1, concurrency=16)

@worker.step("call")
async def call(number: int) -> None:
    child = Workflow("child", context={"of": number})
    child.add("a", worker="work", input={"number": number})
    raise RunWorkflow(child.add("b", worker="work", input={"number": number + 1}, deps=["a"]))

@worker.step("work")
def work(number: int) -> int:
    time.sleep(0.005)
    return number

@worker.step("add")
def add(one: int, other: int) -> int:
    return one + other
"""


def parent(number: int) -> Workflow:
    workflow = Workflow("parent")
    for name, of in (("one", number), ("other", 2 * number)):
        workflow.add(name, worker="call", input={"number": of}, max_attempts=1_000)
    results = {name: result(name, "results.b") for name in ("one", "other")}
    return workflow.add("add", worker="add", input=results, max_attempts=1_000)


@pytest.mark.long
@pytest.mark.whole
def test_killed_workers_lose_no_child(server: AnyServer, client: Client, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    environment = os.environ | {"APP_URL": server.url}

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "rwf", "worker", "app:worker", "--log-level", "error"],
            cwd=tmp_path,
            env=environment,
        )

    chance = random.Random(PARENTS)
    views: list[WorkflowView] = []
    workers = [start() for _ in range(WORKERS)]
    try:
        for _ in range(KILLS):
            # Something is under way at each kill, also on a slow machine.
            some = range(len(views), len(views) + PARENTS // KILLS)
            views += client.insert_many(parent(number) for number in some)
            time.sleep(chance.uniform(0.5, 2.5))  # it takes some of that to start
            place = chance.randrange(WORKERS)
            workers[place].kill()
            workers[place].wait()
            workers[place] = start()
        for view in views:
            client.wait(view.id, timeout=300)
    finally:
        for one in workers:
            one.kill()
            one.wait()
    for number, view in enumerate(views):
        last = client.result(view.id, "add")
        assert last is not None, client.explain(view.id).diagnosis
        assert last.payload == 3 * number + 2
    ended: Counter[tuple[str | None, str | None]] = Counter()
    cursor = None
    while True:
        page = client.list(name="child", limit=500, cursor=cursor)
        for kid in page.workflows:
            assert kid.state in ("completed", "cancelled")
            assert kid.completed_step_count == 2 or kid.started_at is None
            ended[kid.parent, kid.parent_step] += kid.state == "completed"
        cursor = page.cursor
        if cursor is None:
            break
    assert len(ended) == 2 * len(views)
    assert set(ended.values()) == {1}
    assert invariants.check(client) == []
