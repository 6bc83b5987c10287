"""Contract §4 and §11: nothing is dropped silently, and the evidence kept is bounded."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import pytest

from rwf import Client, Completion
from tests.support.evidence_cases import CAP
from tests.support.flows import flow, noted, own_key, partition_key, raw, refused, stored


def test_accepted_refused_and_repeated_in_one_order(client: Client) -> None:
    view = client.insert(flow("a b:a", max_attempts=2), key="k")
    with refused("dependencies_unresolved"):
        client.complete_step(view.id, "b")
    client.complete_step(view.id, "a", "retryable", retry_in=9)
    client.insert(flow("a b:a", max_attempts=2), key="k")
    with refused("stale_lease"):
        client.complete_step(view.id, "a", lease="x")
    client.complete_step(view.id, "a")
    client.complete_step(view.id, "a")
    client.complete_step(view.id, "b")
    assert noted(client, view.id) == [
        ("complete_step", "b", "rejected", "dependencies_unresolved"),
        ("complete_step", "a", "accepted", None),
        ("insert", None, "duplicate", "duplicate_insert"),
        ("complete_step", "a", "rejected", "stale_lease"),
        ("complete_step", "a", "accepted", None),
        ("complete_step", "a", "duplicate", "duplicate_completion"),
        ("complete_step", "b", "accepted", None),
    ]
    entries = client.evidence(view.id)
    assert len({entry.id for entry in entries}) == len(entries)
    assert all(entry.requested_at.tzinfo == UTC for entry in entries)
    assert [e.requested_at for e in entries] == sorted(e.requested_at for e in entries)
    assert {entry.scope for entry in entries} == {"step", "workflow"}
    assert {entry.source for entry in entries} == {"client"}
    assert client.evidence(view.id) == entries
    assert client.evidence(view.id, step="b") == [entries[0], entries[-1]]
    assert client.evidence(view.id, step="nobody") == []


def test_what_an_entry_tells(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    with refused("dependencies_unresolved"):
        client.complete_step(
            view.id,
            "b",
            "failed",
            actor="ann|,\n ünï",
            summary="why|",
            command_id="c|1",
            force=True,
            payload={"secret": 1},
        )
    [entry] = client.evidence(view.id)
    assert (entry.action, entry.scope, entry.step) == ("complete_step", "step", "b")
    assert (entry.status, entry.reason_code) == ("rejected", "dependencies_unresolved")
    assert entry.actor == "ann|,\n ünï"
    assert entry.message
    assert entry.metadata["status"] == "failed"
    assert entry.metadata["command_id"] == "c|1"
    assert entry.metadata["force"] is True
    assert entry.metadata["summary"] == "why|"
    assert "secret" not in str(entry)
    assert entry.id.startswith(view.id)


def test_an_accepted_completion_is_its_result_row(client: Client) -> None:
    view = client.insert(flow("a"))
    client.complete_step(view.id, "a", "failed", actor="ann")
    [entry] = client.evidence(view.id)
    row = client.result(view.id, "a")
    assert row is not None
    assert (entry.status, entry.reason_code, entry.actor) == ("accepted", None, "ann")
    assert entry.requested_at == row.recorded_at
    assert entry.after == "failed"
    assert entry.metadata["attempt"] == 1


@pytest.mark.parametrize(
    "step", ["x" * 129, "", "a|b", "a,b", "a\nb", "a\x00b", "{a}", "ü☃", "%7C", ":s"], ids=repr
)
def test_a_strange_step_is_kept_readable(one_client: Client, step: str) -> None:
    view = one_client.insert(flow("a"))
    with refused("step_not_found"):
        one_client.complete_step(view.id, step)
    [entry] = one_client.evidence(view.id)
    assert entry.step == (step or None)
    assert one_client.evidence(view.id, step="a") == []


def test_a_huge_name_leaves_a_small_entry(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    for step in ("x" * 10_000_000, "☃" * 100_000):
        with refused("step_not_found") as caught:
            one_client.complete_step(view.id, step)
        assert len(str(caught.value)) < 1000
    lengths = [len(entry) for entry in raw(one_client).lrange(own_key(view.id, "n"), 0, -1)]
    assert max(lengths) < 3000


def test_what_the_client_refuses_leaves_no_trace(client: Client) -> None:
    view = client.insert(flow("a"))
    before = stored(client)
    with refused("invalid_argument"):
        client.complete_step(view.id, "a", "nonsense")
    with refused("non_serializable_payload") as caught:
        client.complete_step(view.id, "a", payload=object())
    assert caught.value.requested_at is None
    assert caught.value.legal_next_steps
    assert stored(client) == before


# --- bounds


def _fill(client: Client, workflow_id: str, kind: str, count: int) -> None:
    """Puts this many old entries into one of the workflow's lists."""
    entries = [
        f"{n:020}|complete_step|step|a|rejected|stale_lease|x{n}||{{}}" for n in range(count)
    ]
    for start in range(0, count, 1000):
        raw(client).rpush(own_key(workflow_id, kind), *entries[start : start + 1000])


def _lengths(client: Client, workflow_id: str) -> tuple[int, int]:
    accepted, noise = (raw(client).llen(own_key(workflow_id, kind)) for kind in "en")
    return accepted, noise


def _dropped(client: Client, workflow_id: str) -> int:
    return int(raw(client).hget(own_key(workflow_id), ":d") or 0)


def test_old_refusals_make_room(client: Client) -> None:
    view = client.insert(flow("a b:a", max_attempts=1))
    _fill(client, view.id, "n", CAP - 1)
    with refused("dependencies_unresolved"):
        client.complete_step(view.id, "b")
    assert (_lengths(client, view.id), _dropped(client, view.id)) == ((0, CAP), 0)
    with refused("stale_lease"):
        client.complete_step(view.id, "b", lease="x")
    assert (_lengths(client, view.id), _dropped(client, view.id)) == ((0, CAP), 1)
    # Decisions are kept, and a refusal is dropped for them.
    client.complete_step(view.id, "a", "retryable")
    assert (_lengths(client, view.id), _dropped(client, view.id)) == ((1, CAP - 1), 2)
    client.complete_step(view.id, "a", "retryable")
    assert (_lengths(client, view.id), _dropped(client, view.id)) == ((1, CAP - 1), 3)
    entries = client.evidence(view.id)
    assert len(entries) == CAP + 1  # and the result row
    last = [(entry.step, entry.status, entry.reason_code) for entry in entries[-5:]]
    assert last == [
        ("b", "rejected", "dependencies_unresolved"),
        ("b", "rejected", "stale_lease"),
        ("a", "accepted", "attempts_exhausted"),
        ("a", "accepted", None),
        ("a", "duplicate", "duplicate_completion"),
    ]
    assert entries[0].id.endswith(f"{3:020}")  # the oldest three are gone


def test_a_batch_of_refusals_keeps_to_the_bound(one_client: Client) -> None:
    view = one_client.insert(flow("a b:a"))
    _fill(one_client, view.id, "n", CAP - 10)
    one_client.complete_many([Completion(workflow_id=view.id, step=f"x{n}") for n in range(64)])
    assert (_lengths(one_client, view.id), _dropped(one_client, view.id)) == ((0, CAP), 54)


def test_accepted_evidence_goes_last(one_client: Client) -> None:
    view = one_client.insert(flow("a b:a", max_attempts=1))
    _fill(one_client, view.id, "e", CAP - 1)
    _fill(one_client, view.id, "n", 1)
    one_client.complete_step(view.id, "a", "retryable")
    assert _lengths(one_client, view.id) == (CAP, 0)
    with refused("already_terminal"):
        one_client.complete_step(view.id, "a")
    assert (_lengths(one_client, view.id), _dropped(one_client, view.id)) == ((CAP, 0), 2)
    one_client.recover_step(view.id, "a", "retry")
    assert (_lengths(one_client, view.id), _dropped(one_client, view.id)) == ((CAP, 0), 3)


# --- workflows that do not exist


def test_an_id_that_no_workflow_can_have_leaves_nothing(one_client: Client) -> None:
    one_client.insert(flow("a"))
    before = stored(one_client)
    ids: list[Any] = [
        "",
        "nobody",
        None,
        5,
        "0-" + "a" * 15,
        "0-" + "A" * 16,
        "{0}-aaaaaaaaaaaaaaaa",
    ]
    for workflow_id in ids:
        with refused("workflow_not_found"):
            one_client.complete_step(workflow_id, "a")
    assert stored(one_client) == before


# --- refusals are counted


def test_the_fleets_counters(client: Client) -> None:
    view = client.insert(flow("a b:a c:b x:+a"))
    with refused("dependencies_unresolved"):
        client.complete_step(view.id, "b")
    client.complete_step(view.id, "a", "failed")
    client.complete_step(view.id, "a", "failed")
    client.complete_step(view.id, "x")
    stats = {
        name.decode(): int(value)
        for name, value in raw(client).hgetall(partition_key(view.id, "stats")).items()
        if name[:3] not in (b"gs|", b"gw|", b"gc|", b"qm|")
    }
    assert stats == {
        "cr|complete_step|dependencies_unresolved": 1,
        "sc|failed|step_failed|2": 1,
        "sc|completed|completed|2": 1,
        # The roots are released by the start, x by its parent.
        "su|dependency|available|2": 2,
        "cc|dependency|cancelled|cancelled_by_dependency|2": 2,
        "wt|failed|failed|step_failed|2": 1,
        # By name of queue and workflow; and how many names of each there are.
        "qe|default": 2,
        "qn": 1,
        "we|flow|failed": 1,
        "wn": 1,
        # Has the hash kept as a table.
        "#": 0,
    }


def test_without_noise_the_oldest_accepted_evidence_goes(one_client: Client) -> None:
    view = one_client.insert(flow("a b:a", max_attempts=1))
    _fill(one_client, view.id, "e", CAP)
    one_client.complete_step(view.id, "a", "retryable")
    assert (_lengths(one_client, view.id), _dropped(one_client, view.id)) == ((CAP, 0), 1)
    assert raw(one_client).lindex(own_key(view.id, "e"), 0).startswith(f"{1:020}|".encode())
