"""One command on many workflows: contract §17."""

from __future__ import annotations

from typing import Any

import pytest

from rwf import BulkSession, Client, NotFound
from tests.support.daemons import serving
from tests.support.flows import flow, refused, states
from tests.support.waiting import until

WHO: dict[str, Any] = {"actor": "ann", "reason": "the bank is back"}


def failed(client: Client, count: int, name: str = "sync") -> list[str]:
    """Workflows whose step ship has failed, which has cancelled the next."""
    ids = []
    for number in range(count):
        tags = {"account": str(number % 2)}
        ids.append(client.insert(flow("ship note:ship", name, tags=tags)).id)
        client.complete_step(ids[-1], "ship", "failed")
    return ids


def test_all_failed_workflows_are_retried(client: Client) -> None:
    ids = failed(client, 60)
    other = failed(client, 1, "other")[0]
    told: list[BulkSession] = []
    meant: Any = {"state": "failed", "name": "sync", "failed_step": "ship"}
    planned = client.recover_many(meant, "retry", dry_run=True, **WHO)
    assert (planned.id, planned.dry_run, planned.counts) == (None, True, {"changed": 60})
    assert client.count(state="failed").count == 61
    session = client.recover_many(meant, "retry", progress=told.append, **WHO)
    assert (session.counts, session.selected) == ({"changed": 60}, 60)
    assert (session.action, session.step, session.scope) == ("retry", "ship", "blocked")
    assert (session.actor, session.reason, session.filter) == ("ann", WHO["reason"], meant)
    assert session.finished_at is not None
    assert session.refusals == ()
    assert [one.selected for one in told][:1] == [50]
    for id_ in (ids[0], ids[-1]):
        assert states(client, id_) == "ship=available note=pending"
        accepted = [one for one in client.evidence(id_) if one.action == "recover_step"]
        assert [(one.actor, one.status) for one in accepted] == [("ann", "accepted")]
    assert client.get(other).state == "failed"
    assert client.bulk(session.id or "") == session
    assert client.bulks() == [session]


def test_without_a_step_each_failed_step_is_recovered(client: Client) -> None:
    view = client.insert(flow("a b c:+a,+b d"))
    for step in "ab":
        client.complete_step(view.id, step, "failed")
    client.complete_step(view.id, "c", "failed")
    session = client.recover_many({"status": "Needs Review"}, "retry", **WHO)
    assert session.counts == {"changed": 1}
    assert states(client, view.id) == "a=available b=available c=pending d=available"


def test_refusals_are_counted_and_kept(client: Client) -> None:
    ids = failed(client, 2)
    client.recover_step(ids[0], "ship", "retry")
    client.complete_step(ids[0], "ship")
    tagged: Any = {"name": "sync"}
    session = client.recover_many(tagged, "retry", step="ship", **WHO)
    assert session.counts == {"changed": 1, "illegal_transition": 1}
    [refusal] = session.refusals
    assert (refusal.workflow_id, refusal.step, refusal.reason_code) == (
        ids[0],
        "ship",
        "illegal_transition",
    )
    session = client.recover_many(tagged, "retry", step="nobody", **WHO)
    assert session.counts == {"step_not_found": 2}


def test_many_are_cancelled(client: Client) -> None:
    ids = [client.insert(flow("a", tags={"account": str(n % 2)})).id for n in range(6)]
    client.complete_step(ids[0], "a")
    assert client.cancel_many({"tags": {"account": "0"}}, dry_run=True, **WHO).selected == 3
    session = client.cancel_many({"tags": {"account": "0"}}, **WHO)
    assert session.counts == {"changed": 2, "already_terminal": 1}
    assert [client.get(id_).state for id_ in ids[1:4]] == ["available", "cancelled", "available"]
    assert client.get(ids[2]).cancel_reason == WHO["reason"]


def test_two_operators_at_once(client: Client) -> None:
    """Each workflow is recovered by one of the two, or by both without a change."""
    ids = failed(client, 12)
    first = client.recover_many({"state": "failed"}, "retry", **WHO)
    second = client.recover_many({"name": "sync"}, "retry", step="ship", actor="bob", reason="too")
    assert (first.counts, second.counts) == ({"changed": 12}, {"unchanged": 12})
    assert {client.get(id_).state for id_ in ids} == {"available"}


@pytest.mark.parametrize(
    "given",
    [
        ({}, "retry"),
        ({"state": None}, "retry"),
        ({"nothing": 1}, "retry"),
        ({"state": "gone"}, "retry"),
        ("failed", "retry"),
        ({"state": "failed"}, "retry", {"scope": "world"}),
        ({"state": "failed"}, "retry", {"actor": None}),
        ({"state": "failed"}, "retry", {"reason": ""}),
        ({"state": "failed"}, "retry", {"step": 7}),
    ],
)
@pytest.mark.one_face
def test_bad_commands(one_client: Client, given: Any) -> None:
    filter_, action, *options = given
    with refused("invalid_argument"):
        one_client.recover_many(filter_, action, **{**WHO, **(options[0] if options else {})})
    assert one_client.bulks() == []


@pytest.mark.one_face
def test_what_does_not_exist(one_client: Client) -> None:
    with refused("unsupported_recovery_action"):
        one_client.recover_many({"state": "failed"}, "restart", **WHO)
    for missing in ("a" * 16, "", "b|1", None):
        with pytest.raises(NotFound):
            one_client.bulk(missing)  # type: ignore[arg-type]
        with pytest.raises(NotFound):
            one_client.continue_bulk(missing)  # type: ignore[arg-type]
        with pytest.raises(NotFound):
            one_client.stop_bulk(missing, actor="ann", reason="x")  # type: ignore[arg-type]


def _left(client: Client, count: int, slices: int) -> str:
    """A session whose process has died after so many slices."""

    class Died(Exception):
        pass

    def die(session: BulkSession) -> None:
        told.append(session)
        if len(told) == slices:
            raise Died

    told: list[BulkSession] = []
    failed(client, count)
    with pytest.raises(Died):
        client.recover_many({"state": "failed"}, "retry", progress=die, **WHO)
    assert told[-1].finished_at is None
    return told[-1].id or ""


@pytest.mark.one_face
def test_a_session_that_was_left_is_continued(
    one_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rwf.ops.bulk._PER_SLICE", 5)
    monkeypatch.setattr("rwf.ops.bulk._LEASE_MS", 200)
    session = one_client.continue_bulk(_left(one_client, 23, 2))
    assert (session.counts, session.selected) == ({"changed": 23}, 23)
    assert one_client.count(state="failed").count == 0


@pytest.mark.one_face
def test_a_daemon_goes_on_with_it(one_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rwf.ops.bulk._PER_SLICE", 5)
    monkeypatch.setattr("rwf.ops.bulk._LEASE_MS", 200)
    session_id = _left(one_client, 12, 1)
    with serving(one_client, interval=0.05):
        until(lambda: one_client.bulk(session_id).finished_at is not None, what="its end")
    assert one_client.bulk(session_id).counts == {"changed": 12}


@pytest.mark.one_face
def test_a_session_that_is_stopped_selects_no_more(
    one_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rwf.ops.bulk._PER_SLICE", 5)
    session_id = _left(one_client, 12, 1)
    session = one_client.stop_bulk(session_id, actor="bob", reason="wrong ones")
    assert (session.stopped_by, session.stopped_reason) == ("bob", "wrong ones")
    assert one_client.continue_bulk(session_id).counts == {"changed": 5}
    assert one_client.count(state="failed").count == 7
