"""White-box cases beside those of ``contract/test_insert.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rwf import Client, Workflow
from rwf.model.limits import CHUNK, INLINE_EDGES
from rwf.model.views import WorkflowView
from rwf.ops.insert import insert as insert_op
from rwf.protocol.keys import key_digest
from rwf.protocol.requests import Op
from tests.support.flows import (
    drive,
    fan_in,
    fan_out,
    flow,
    one_call,
    own_key,
    raw,
    refused,
)
from tests.support.insert_cases import WEEK


@pytest.mark.parametrize("size", [1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1, 1700])
def test_many_roots_are_all_available(one_client: Client, size: int) -> None:
    view = one_client.insert(flow(" ".join(f"s{n}" for n in range(size))))
    assert view.runnable_step_count == view.step_count == size
    assert {step.state for step in one_client.steps(view.id)} == {"available"}


AT_LIMITS = [limit + more for limit in (INLINE_EDGES, CHUNK) for more in (-1, 0, 1)]


@pytest.mark.parametrize("width", [*AT_LIMITS, 750])
def test_edges_at_the_limits_of_a_chunk(one_client: Client, width: int) -> None:
    out, in_ = one_client.insert(fan_out(width)), one_client.insert(fan_in(width))
    assert len(one_client.graph(out.id).edges) == width
    assert len(one_client.graph(in_.id).edges) == width
    assert one_client.complete_step(out.id, "root").released_count == width
    assert one_client.complete_step(in_.id, "p0", "failed").cancelled == ("last",)


def _reserve_only(client: Client, wf: Workflow, key: str, calls: int = 1) -> None:
    assert drive(client, insert_op(client._ctx, wf, key, WEEK), calls) is None


def _age_reservations(client: Client) -> None:
    """Makes every reservation look as if it were made an hour ago."""
    for key in raw(client).scan_iter("rwf:{*}:keys"):
        for field, held in raw(client).hgetall(key).items():
            id_, digest, made = held.split(b" ")
            aged = b"%b %b %d" % (id_, digest, int(made) - 3_600_000)
            raw(client).hset(key, field, aged)


def test_a_crash_after_the_reservation_leaves_the_key_to_the_same_definition(
    client: Client,
) -> None:
    client.list()
    _reserve_only(client, flow("a b:a"), "k")
    assert client.list().workflows == ()
    view = client.insert(flow("a b:a"), key="k")
    assert (view.step_count, view.duplicate) == (2, False)
    again = client.insert(flow("a b:a"), key="k")
    assert (again.id, again.duplicate) == (view.id, True)


def test_a_crash_after_the_reservation_leaves_the_key_to_another_definition(
    client: Client,
) -> None:
    client.list()
    _reserve_only(client, flow("a b:a"), "k")
    # Its inserter may still be at work: nobody takes the key from it before its time is over.
    with refused("key_conflict"):
        client.insert(flow("other"), key="k")
    _age_reservations(client)
    view = client.insert(flow("other"), key="k")
    assert (view.step_count, view.duplicate) == (1, False)
    with refused("key_conflict"):
        client.insert(flow("a b:a"), key="k")
    assert [found.id for found in client.list().workflows] == [view.id]


def test_a_crash_amid_a_keyed_insert(client: Client) -> None:
    client.list()
    _reserve_only(client, fan_out(1500), "same", calls=3)
    _reserve_only(client, fan_out(1500), "other", calls=3)
    assert client.list().workflows == ()
    assert client.insert(fan_out(1500), key="same").step_count == 1501
    _age_reservations(client)
    assert client.insert(fan_out(1501), key="other").step_count == 1502
    assert len(client.list().workflows) == 2


def test_an_insert_that_lost_its_key_meanwhile_is_refused(client: Client) -> None:
    """Another definition takes the key while the first insert is not visible; then the first goes
    on."""
    client.list()
    pause, goes_on = _parts(client, insert_op(client._ctx, fan_out(1500), "k", WEEK))
    pause()
    _age_reservations(client)
    winner = client.insert(flow("a"), key="k")
    with refused("key_conflict"):
        goes_on()
    assert [view.id for view in client.list().workflows] == [winner.id]


def test_an_insert_that_another_finished_is_a_duplicate(client: Client) -> None:
    client.list()
    pause, goes_on = _parts(client, insert_op(client._ctx, fan_out(1500), "k", WEEK))
    pause()
    winner = client.insert(fan_out(1500), key="k")
    assert not winner.duplicate
    late = goes_on()
    assert (late.id, late.duplicate) == (winner.id, True)


def _parts(
    client: Client, op: Op[WorkflowView]
) -> tuple[Callable[[], None], Callable[[], WorkflowView]]:
    """An insert cut in two: its first three calls, and all others."""
    replies: list[Any] = [None]

    def step() -> None:
        replies.append(client._run(one_call(op.send(replies[-1]))))

    def begin() -> None:
        for _ in range(3):
            step()

    def finish() -> WorkflowView:
        while True:
            try:
                step()
            except StopIteration as end:
                found: WorkflowView = end.value
                return found

    return begin, finish


def test_the_key_is_kept_as_a_digest(client: Client) -> None:
    view = client.insert(flow("a"), key="secret customer")
    stored = raw(client).hget(own_key(view.id), ":k")
    assert key_digest("secret customer") in stored.decode()
    assert b"secret" not in stored
