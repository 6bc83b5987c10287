"""White-box cases beside those of ``contract/test_claims.py``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from rwf import Client, StoreUnavailable
from rwf.ops.claims import Claimer, claim_in, start
from rwf.protocol.functions.claims import ReserveSteps
from rwf.protocol.functions.commands import Cancel
from rwf.protocol.requests import Call, ask
from rwf.transport.session import Session
from tests.support.claims_cases import claim, report, woken
from tests.support.flows import drive, flow, one_call, partition_key, raw
from tests.support.servers import AnyServer

ANYBODY = Claimer(("default",), "anybody", 30_000)


@pytest.fixture
def reserved(one_client: Client) -> Iterator[bytes]:
    """An entry reserved for a claimer; one without a step is never handed out."""
    one_client.insert(flow("a b:a", name="reserved"))
    reserve = ReserveSteps(1, ANYBODY.queues)
    (entry,) = one_client._run(ask(one_client._ctx.keys.partition(0), reserve))
    yield entry
    assert one_client.queues()[0].available == 0


def _workflow_of(entry: bytes) -> str:
    return entry.decode().split("|")[2]


def _pass_reservation(client: Client, entry: bytes) -> None:
    key = partition_key(_workflow_of(entry), "reserved")
    assert raw(client).zadd(key, {entry: 1}, xx=True, ch=True) == 1


def test_a_reserved_step_is_nobody_elses_and_still_waits(
    one_client: Client, reserved: bytes
) -> None:
    assert one_client.claim(["default"], worker_id="w") == []
    (queue,) = one_client.queues()
    assert (queue.name, queue.available, queue.oldest_at is not None) == ("default", 1, True)
    assert one_client.get(_workflow_of(reserved)).state == "available"
    assert len(one_client._run(start(one_client._ctx, 0, ANYBODY, [reserved]))) == 1


def test_a_claimer_that_died_in_between_has_counted_nothing(
    one_client: Client, reserved: bytes
) -> None:
    _pass_reservation(one_client, reserved)
    assert claim(one_client).attempt == 1


def test_a_start_that_comes_late_gets_the_step_only_while_nobody_has_it(
    one_client: Client, reserved: bytes
) -> None:
    ctx = one_client._ctx
    _pass_reservation(one_client, reserved)
    assert drive(one_client, claim_in(ctx, 0, ANYBODY, 1), 1) is None  # another took, and died
    (late,) = one_client._run(start(ctx, 0, ANYBODY, [reserved]))
    assert one_client._run(start(ctx, 0, ANYBODY, [reserved])) == []
    assert one_client.complete(late).released == ("b",)
    claim(one_client)


MOVES = {
    "completed": lambda client, id_: client.complete_step(id_, "a", "failed"),
    "cancelled": lambda client, id_: client.recover_step(id_, "a", "cancel"),
    "request": lambda client, id_: client.request_cancel(id_),
    "awaited": lambda client, id_: client.await_step(id_, "a", signal="s", correlation_key="k"),
    "retried": lambda client, id_: client.complete_step(id_, "a", "retryable", retry_in=60),
}


@pytest.mark.parametrize("move", MOVES)
def test_a_step_that_moves_meanwhile_is_not_started(
    one_client: Client, reserved: bytes, move: str
) -> None:
    MOVES[move](one_client, _workflow_of(reserved))
    assert one_client._run(start(one_client._ctx, 0, ANYBODY, [reserved])) == []
    assert one_client.claim(["default"], worker_id="w") == []


def test_a_step_that_came_back_meanwhile_has_another_entry(
    one_client: Client, reserved: bytes
) -> None:
    workflow_id = _workflow_of(reserved)
    woken(one_client, workflow_id)
    assert one_client._run(start(one_client._ctx, 0, ANYBODY, [reserved])) == []
    assert claim(one_client).signal is not None


def test_entries_that_may_not_be_started_hide_none_behind_them(one_client: Client) -> None:
    """A cancel request whose sweep was cut off leaves entries in the queue."""
    wide = one_client.insert(flow(" ".join(f"s{n}" for n in range(450))))
    claimed = one_client.claim(["default"], worker_id="w", limit=5)
    other = one_client.insert(flow("late", priority=-1))
    cancel = Cancel("call", "", b"{}", False)
    one_client._run(ask(one_client._ctx.workflow_keys(wide.id), cancel))
    found = []
    for one in claimed:
        batch = one_client.complete_many([report(one)], claim_next=64, worker_id="w")
        found += batch.claimed
    assert [one.workflow_id for one in found] == [other.id]
    one_client.reconcile(wide.id)
    assert one_client.get(wide.id).state == "cancelled"


def test_what_was_claimed_before_a_partition_is_away_is_told(
    one_server: AnyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    away: set[str] = set()
    judged = Session._judged

    def partly(self: Session, call: Call, *rest: Any) -> Any:
        if any(part in call.keys[0] for part in away):
            raise StoreUnavailable("no answer from the server")
        return (yield from judged(self, call, *rest))

    monkeypatch.setattr(Session, "_judged", partly)
    with Client.from_url(one_server.url, partitions=3) as client:
        while client.queues() == [] or sum(q.available for q in client.queues()) < 20:
            client.insert(flow("a"))
        away.add("{2}")
        claims = client.claim(["default"], worker_id="w", limit=100)
        assert claims != []
        assert claims.unreachable == (2,)
        away.update(("{0}", "{1}"))
        with pytest.raises(StoreUnavailable):
            client.claim(["default"], worker_id="w", limit=100)


def test_a_start_sent_again_gets_no_step_that_has_gone_to_another(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    claimer = Claimer.checked(["default"], "first", 30.0)
    entries = one_client._run(
        ask(one_client._session.keys.partition(0), ReserveSteps(1, ["default"]))
    )
    call = next(start(one_client._ctx, 0, claimer, entries))
    assert isinstance(call, Call)
    raw(one_client).zadd(partition_key(view.id, "reserved"), {entries[0]: 1})
    (held,) = one_client.claim(["default"], worker_id="second")
    assert one_client._run(one_call(call.repeated()))[0] == [None]
    assert one_client.complete(held).outcome == "accepted"
