"""A worker finds all work without hints, however few its places and many the partitions are; and
runs each step that it is handed once (contract §8)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from rwf import Client, StepContext, Worker
from rwf.ops.claims import Claimer, reserve_each
from rwf.protocol.requests import Op
from tests.support.flows import fan_out, flow
from tests.support.servers import AnyServer
from tests.support.waiting import until
from tests.support.workers import at_work, client_of, until_ended

PARTITIONS = 64


@pytest.fixture
def many(one_server: AnyServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A client of a namespace with 64 partitions, without hints."""
    monkeypatch.setattr("rwf.transport.events.hint_in", lambda message: None)
    with Client.from_url(one_server.url, partitions=PARTITIONS) as client:
        client.list()
        yield client


@pytest.fixture
def polls(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[int]]:
    """The partitions that each poll asks."""
    asked: list[Sequence[int]] = []

    def told(scope: Any, partitions: Sequence[int], claimer: Claimer, limit: int) -> Op[Any]:
        asked.append(partitions)
        assert limit >= 1
        return reserve_each(scope, partitions, claimer, limit)

    monkeypatch.setattr("rwf.worker.poller.reserve_each", told)
    return asked


@pytest.mark.parametrize("concurrency", [1, 8, 200])
def test_polls_reach_every_partition(
    many: Client, one_server: AnyServer, polls: list[Sequence[int]], concurrency: int
) -> None:
    """In as few polls as the places allow: each asks as many partitions as places are free."""
    worker = Worker(client_of("async", one_server), concurrency=concurrency, reconcile=False)
    bound = -(-PARTITIONS // min(concurrency, PARTITIONS))
    with at_work(worker):
        until(lambda: len(polls) >= bound, what="the first round of polls")
        assert {number for some in polls[:bound] for number in some} == set(range(PARTITIONS))
        del polls[:]
        # From then on a round takes five polls of a second each, or more where places are few.
        share = -(-PARTITIONS // 5)
        bound = 5 * -(-share // min(concurrency, share))
        until(lambda: len(polls) >= bound, timeout=60, what="another round")
    assert {number for some in polls[:bound] for number in some} == set(range(PARTITIONS))


@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_worker_with_few_places_finds_work_in_every_partition(
    many: Client, one_server: AnyServer, concurrency: int
) -> None:
    worker = Worker(client_of("async", one_server), concurrency=concurrency, reconcile=False)
    worker.step("work")(lambda: None)
    ids = [many.insert(flow("a")).id for _ in range(100)]
    with at_work(worker):
        for one in ids:
            until_ended(many, one)


def test_a_worker_whose_places_are_mostly_taken_finds_work(
    many: Client, one_server: AnyServer
) -> None:
    worker = Worker(client_of("async", one_server), concurrency=64, reconcile=False)
    gate = threading.Event()
    entered: list[int] = []

    @worker.step("hold")
    def hold() -> None:
        entered.append(1)
        gate.wait(60)

    worker.step("work")(lambda: None)
    held = [many.insert(flow("a", worker="hold")).id for _ in range(55)]
    with at_work(worker):
        until(lambda: len(entered) == 55, timeout=60, what="55 steps that hold their places")
        ids = [many.insert(flow("a")).id for _ in range(30)]
        for one in ids:
            until_ended(many, one)
        gate.set()
        for one in held:
            until_ended(many, one)


def test_a_backlog_in_one_partition_keeps_a_worker_from_no_other(
    many: Client, one_server: AnyServer
) -> None:
    """With one place, which the backlog would always take, and no hint."""
    worker = Worker(client_of("async", one_server), concurrency=1, reconcile=False)
    open_ = threading.Event()
    worker.step("work")(lambda: open_.wait(0.005))
    backlog = many.insert(fan_out(4000))
    with at_work(worker):
        until(lambda: many.get(backlog.id).completed_step_count > 5, what="the backlog's turn")
        others = [many.insert(flow("a")).id for _ in range(5)]
        for one in others:
            until_ended(many, one)
        assert many.get(backlog.id).state not in ("completed", "failed")


def test_a_step_that_is_handed_over_twice_runs_once(
    one_client: Client,
    one_server: AnyServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As a call may that was repeated after a lost reply: at once, while the step runs, or after
    it."""
    from rwf.worker.runner import Runner

    worker = Worker(client_of("async", one_server))
    begin: Callable[[Runner, Any], None] = Runner._begin
    claims: list[Any] = []

    def twice(runner: Runner, claim: Any) -> None:
        claims.append(claim)
        begin(runner, claim)
        begin(runner, claim)

    monkeypatch.setattr(Runner, "_begin", twice)
    calls: list[str] = []
    gate = threading.Event()

    @worker.step("work")
    def work(ctx: StepContext) -> None:
        calls.append(ctx.step)
        gate.wait(10)

    view = one_client.insert(flow("a b"))
    with caplog.at_level(logging.WARNING, logger="rwf.worker"), at_work(worker):
        until(lambda: len(calls) == 2, what="both steps")
        runner = worker._runner
        assert runner is not None
        for claim in claims:
            worker._loop.call_soon_threadsafe(begin, runner, claim)  # type: ignore[union-attr]
        gate.set()
        until_ended(one_client, view.id)
        for claim in claims:
            worker._loop.call_soon_threadsafe(begin, runner, claim)  # type: ignore[union-attr]
        again = one_client.insert(flow("c"))
        until_ended(one_client, again.id)
    assert sorted(calls) == ["a", "b", "c"]
    told = [one for one in caplog.records if "was received twice" in one.getMessage()]
    assert len(told) == 7
    assert one_client.get(view.id).state == "completed"
