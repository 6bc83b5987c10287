"""A worker whose claims come without their inputs, which are read beside its round trips (contract
§8): meanwhile their leases hold, and an input that cannot be read counts no attempt."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any

import pytest

from rwf import Client, StepContext, StoreUnavailable, Worker
from rwf.model.views import ClaimedStep
from rwf.ops import claims
from rwf.ops.base import OpContext
from rwf.ops.complete import exchange
from rwf.protocol.handed import Handed
from rwf.protocol.requests import Op
from rwf.worker import completer
from tests.internals.test_large_inputs import completed, joined
from tests.support.servers import AnyServer
from tests.support.waiting import until
from tests.support.workers import CLIENTS, at_work, client_of, until_ended

LEASE = 1.5
REFERENCES = 70
"""More than travel with a claim."""


def worker_of(kind: str, server: AnyServer, ran: list[int], lease: float = LEASE) -> Worker:
    worker = Worker(client_of(kind, server), queues=["late"], lease=lease, reconcile=False)

    @worker.step("work")
    def work(ctx: StepContext, whole: Any) -> int:
        ran.append(ctx.attempt)
        assert not ctx.lost
        return len(ctx.input)

    return worker


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes reading inputs take three leases."""

    def fill_in(ctx: OpContext, some: Iterable[Handed]) -> Op[list[ClaimedStep]]:
        until_ = time.monotonic() + 3 * LEASE
        while time.monotonic() < until_:
            found = yield from claims.fill_in(ctx, list(some))
        return found

    monkeypatch.setattr(completer, "fill_in", fill_in)


@CLIENTS
@pytest.mark.usefixtures("slow")
def test_a_lease_holds_while_its_input_is_read(
    one_client: Client, one_server: AnyServer, kind: str
) -> None:
    view_id = completed(one_client, joined(REFERENCES), "r")
    ran: list[int] = []
    with at_work(worker_of(kind, one_server, ran)):
        until(lambda: one_client.step(view_id, "last").state == "executing", what="the claim")
        while not ran:
            assert one_client.reconcile(view_id).repairs == ()
            assert one_client.step(view_id, "last").attempt == 1
            time.sleep(0.05)
        until_ended(one_client, view_id)
    assert ran == [1]
    found = one_client.result(view_id, "last")
    assert found is not None
    assert found.payload == REFERENCES


@pytest.mark.usefixtures("slow")
def test_a_step_whose_lease_is_taken_while_its_input_is_read_never_begins(
    one_client: Client, one_server: AnyServer
) -> None:
    view_id = completed(one_client, joined(REFERENCES), "r")
    ran: list[int] = []
    with at_work(worker_of("sync", one_server, ran)):
        until(lambda: one_client.step(view_id, "last").state == "executing", what="the claim")
        one_client.recover_step(view_id, "last", "skip", force=True, actor="me", reason="test")
        time.sleep(4 * LEASE)
    assert ran == []


@pytest.mark.usefixtures("slow")
def test_a_step_whose_input_is_being_read_is_given_back_by_a_worker_that_ends(
    one_client: Client, one_server: AnyServer
) -> None:
    view_id = completed(one_client, joined(REFERENCES), "r")
    ran: list[int] = []
    worker = worker_of("sync", one_server, ran, lease=30)
    with at_work(worker, told=True):
        until(lambda: one_client.step(view_id, "last").state == "executing", what="the claim")
        worker.stop()
    step = one_client.step(view_id, "last")
    assert (step.state, step.attempt, ran) == ("available", 0, [])


@pytest.mark.usefixtures("slow")
def test_so_is_one_whose_claim_arrives_when_the_worker_ends_already(
    one_client: Client, one_server: AnyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    view_id = completed(one_client, joined(REFERENCES), "r")
    ran: list[int] = []
    worker = worker_of("sync", one_server, ran, lease=30)
    given_up = threading.Event()

    def late(*args: Any) -> Op[Any]:
        done = yield from exchange(*args)
        if done.lacking:
            worker.stop()
            assert given_up.wait(60)
        return done

    def give_up(self: completer.Completer, lacking: Any = None) -> None:
        own_give_up(self, lacking)
        given_up.set()

    own_give_up = completer.Completer.give_up
    monkeypatch.setattr(completer.Completer, "give_up", give_up)
    monkeypatch.setattr(completer, "exchange", late)
    with at_work(worker, told=True):
        assert given_up.wait(60)
    step = one_client.step(view_id, "last")
    assert (step.state, step.attempt, ran) == ("available", 0, [])


@CLIENTS
@pytest.mark.parametrize("fault", ["none filled", "an error"])
def test_an_input_that_is_not_read_counts_no_attempt(
    one_client: Client,
    one_server: AnyServer,
    kind: str,
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    view_id = completed(one_client, joined(REFERENCES), "r")
    failed = threading.Event()

    def fill_in(ctx: OpContext, some: Iterable[Handed]) -> Op[list[ClaimedStep]]:
        if failed.is_set():
            return (yield from claims.fill_in(ctx, list(some)))
        failed.set()
        if fault == "an error":
            raise StoreUnavailable("it is away")
        return []

    monkeypatch.setattr(completer, "fill_in", fill_in)
    ran: list[int] = []
    # Its lease would pass long after the end of the test.
    with at_work(worker_of(kind, one_server, ran, lease=60)):
        until_ended(one_client, view_id)
    assert (failed.is_set(), ran) == (True, [1])
