"""Handlers that run child workflows, in workers and in users' tests (contract §14)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rwf import (
    AsyncClient,
    Client,
    Fail,
    Handlers,
    RunWorkflow,
    Worker,
    Workflow,
    result,
)
from rwf.testing import run_until_idle
from tests.support.flows import flow
from tests.support.servers import AnyServer
from tests.support.workers import CLIENTS, at_work, blocking, client_of


def doubled(number: int) -> Workflow:
    return Workflow("double").add("twice", worker="twice", input={"number": number})


def summing(client: Client, *numbers: int) -> str:
    """A workflow of steps that each run a child, and one that sums their results up."""
    workflow = Workflow("sum")
    for n in numbers:
        workflow.add(f"n{n}", worker="double", input={"number": n})
    workflow.add(
        "sum", worker="sum", input={"of": [result(f"n{n}", "results.twice") for n in numbers]}
    )
    return client.insert(workflow).id


def serve(worker: Worker | Handlers) -> None:
    @worker.step("double")
    async def double(number: int) -> None:
        raise RunWorkflow(doubled(number))

    @worker.step("twice")
    def twice(number: int) -> int:
        return 2 * number

    @worker.step("sum")
    def total(of: list[int]) -> int:
        return sum(of)


@CLIENTS
def test_a_worker_runs_children(server: AnyServer, kind: str) -> None:
    """Without a daemon it tells parents of their ends at once."""
    with blocking("sync", server) as client:
        worker = Worker(client_of(kind, server), reconcile=False)
        serve(worker)
        workflow_id = summing(client, *range(10))
        with at_work(worker):
            assert client.wait(workflow_id, timeout=30).state == "completed"
        last = client.result(workflow_id, "sum")
        assert last is not None
        assert last.payload == 90
        assert len(client.list(name="double").workflows) == 10


def test_the_calling_thread_runs_children() -> None:
    handlers = Handlers()
    serve(handlers)
    with Client.fake() as client:
        workflow_id = summing(client, 1, 2)
        ran = run_until_idle(client, handlers)
        assert [(run.step, run.outcome) for run in ran] == [
            ("n1", "awaiting_signal"),
            ("n2", "awaiting_signal"),
            ("twice", "completed"),
            ("twice", "completed"),
            ("sum", "completed"),
        ]
        last = client.result(workflow_id, "sum")
        assert last is not None
        assert last.payload == 6


def test_the_calling_loop_runs_children() -> None:
    handlers = Handlers()
    serve(handlers)

    async def main() -> Any:
        async with AsyncClient.fake() as client:
            workflow = Workflow("one").add("n", worker="double", input={"number": 4})
            view = await client.insert(workflow)
            await run_until_idle(client, handlers)
            return await client.result(view.id, "n")

    assert asyncio.run(main()).payload["results"] == {"twice": 8}


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        (RunWorkflow(Workflow("empty")), "the child workflow is not valid: no_steps: "),
        (RunWorkflow(flow("a"), key=""), "the wait was refused: invalid_argument: "),
        (RunWorkflow("a"), "the wait was refused: invalid_argument: "),  # type: ignore[arg-type]
        (RunWorkflow(flow("a"), key="taken"), "the wait was refused: key_conflict: "),
    ],
    ids=["invalid", "bad key", "no workflow", "key taken"],
)
def test_a_child_that_cannot_run_fails_the_step(outcome: RunWorkflow, why: str) -> None:
    handlers = Handlers()

    @handlers.step("call")
    def call() -> None:
        raise outcome

    with Client.fake() as client:
        client.insert(flow("a"), key="taken")
        view = client.insert(Workflow("parent").add("call", worker="call"))
        run_until_idle(client, handlers, within=0)
        row = client.result(view.id, "call")
        assert row is not None
        assert (row.status, (row.summary or "")[: len(why)]) == ("failed", why)


def test_a_child_is_run_again_by_a_retry() -> None:
    handlers, outcomes = Handlers(), [Fail("no paper"), None]

    @handlers.step("call")
    def call() -> None:
        raise RunWorkflow(Workflow("child").add("print", worker="print"))

    @handlers.step("print")
    def print_() -> str:
        if outcome := outcomes.pop(0):
            raise outcome
        return "printed"

    with Client.fake() as client:
        view = client.insert(Workflow("parent").add("call", worker="call"))
        run_until_idle(client, handlers)
        row = client.result(view.id, "call")
        assert row is not None
        assert (row.summary or "").endswith("ended failed: print failed: no paper")
        client.recover_step(view.id, "call", "retry")
        run_until_idle(client, handlers)
        row = client.result(view.id, "call")
        assert row is not None
        assert row.payload["results"] == {"print": "printed"}
        assert len(client.list(name="child").workflows) == 2
