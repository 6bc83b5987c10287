"""Bulk sessions whose runner dies between any two calls, or has its session taken over."""

from __future__ import annotations

from typing import Any

import pytest

from rwf import Client
from rwf.ops import bulk
from rwf.ops.bulk import BulkRun
from tests.contract.test_bulk import WHO, failed
from tests.support.flows import drive, raw, stepped


def begun(client: Client, **filters: Any) -> str:
    """A session that nobody has carried out yet."""
    command = bulk.checked_command(filters, "retry", None, "blocked", *WHO.values())
    return client._run(bulk.begin(client._ctx, command))


def test_a_runner_that_dies_after_any_call(
    one_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each workflow is recovered once, and counted once."""
    monkeypatch.setattr("rwf.ops.bulk._PER_SLICE", 4)
    monkeypatch.setattr("rwf.ops.bulk._LEASE_MS", 0)
    for calls in range(1, 12):
        name = f"round{calls}"
        ids = failed(one_client, 6, name)
        session_id = begun(one_client, name=name, status="Needs Review")
        drive(one_client, BulkRun(one_client._ctx, session_id).slice(), calls)
        session = one_client.continue_bulk(session_id)
        assert (session.counts, session.selected) == ({"changed": 6}, 6), calls
        for id_ in ids:
            found = [one for one in one_client.evidence(id_) if one.action == "recover_step"]
            assert [one.status for one in found].count("accepted") == 1


def test_two_runners_at_the_same_slice(one_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rwf.ops.bulk._PER_SLICE", 4)
    monkeypatch.setattr("rwf.ops.bulk._LEASE_MS", 0)
    failed(one_client, 10)
    session_id = begun(one_client, state="failed")
    first, second = (BulkRun(one_client._ctx, session_id) for _ in range(2))
    while not first.done:
        stepped(one_client, first.slice(), lambda: second.done or one_client._run(second.slice()))
    assert one_client.bulk(session_id).counts == {"changed": 10}


def test_a_lost_listing_is_rebuilt(one_client: Client) -> None:
    session_id = begun(one_client, state="failed")
    done = one_client.continue_bulk(begun(one_client, state="failed"))
    raw(one_client).delete("rwf:{0}:bulks")
    assert one_client.bulks() == []
    one_client.rebuild()
    assert [one.id for one in one_client.bulks()] == [session_id, done.id]
    raw(one_client).set("rwf:{0}:bulks", "x")
    assert one_client.continue_bulk(session_id).finished_at is not None
    assert [one.id for one in one_client.bulks()] == [session_id]
    one_client.rebuild()
    assert {one.id for one in one_client.bulks()} == {session_id, done.id}
