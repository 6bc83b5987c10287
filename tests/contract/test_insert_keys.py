"""Insert keys: finding their workflows, and handing them over from one that ended badly."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from rwf import Client, CommandRejected, NotFound, Workflow
from tests.support.flows import flow, refused
from tests.support.insert_keys_cases import BADLY, NOW, ended


def pruned(client: Client) -> int:
    """Prunes once all callbacks are delivered. Returns the workflows removed."""
    while client.dispatch_callbacks(lambda _: None).delivered:
        pass
    return client.prune().workflows


# --- finding


def test_a_key_finds_its_workflow(client: Client) -> None:
    views = {key: client.insert(flow("a"), key=key) for key in ("k", "k|2", "{k}", "ü " * 200)}
    for key, view in views.items():
        assert client.find(key) == client.get(view.id)
    client.complete_step(views["k"].id, "a")
    assert client.find("k").state == "completed"


@pytest.mark.parametrize("key", ["nobody", "K", "k ", "x" * 512, "\x00"])
def test_a_key_that_no_workflow_has(client: Client, key: str) -> None:
    client.insert(flow("a"), key="k")
    with pytest.raises(NotFound) as caught:
        client.find(key)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("key", ["", "x" * 513, None, 5, b"k", "\ud800"])
def test_what_can_be_no_key(one_client: Client, key: Any) -> None:
    with refused("invalid_argument"):
        one_client.find(key)


def test_a_key_goes_with_its_workflow(client: Client) -> None:
    ended(client, "k", "completed", retention=NOW)
    assert pruned(client) == 1
    with pytest.raises(NotFound):
        client.find("k")


# --- conflicts


def test_a_conflict_names_the_workflow_that_has_the_key(client: Client) -> None:
    view = client.insert(flow("a"), key="k")
    for insert in (
        lambda: client.insert(flow("b"), key="k"),
        lambda: client.insert_many([flow("x"), flow("b")], keys=["other", "k"]),
    ):
        with refused("key_conflict") as caught:
            insert()
        assert caught.value.workflow_id == view.id
        assert pickle.loads(pickle.dumps(caught.value)).workflow_id == view.id
    with refused("already_terminal") as caught:
        client.complete_step(view.id, "a")
        client.complete_step(view.id, "a", "failed")
    assert caught.value.workflow_id is None


# --- replacing


@pytest.mark.parametrize("status", ["failed", "discarded", "cancelled"])
@pytest.mark.parametrize("text", ["a", "b c:b"], ids=["the same", "another"])
def test_a_key_goes_over_from_a_workflow_that_ended_badly(
    client: Client, status: str, text: str
) -> None:
    old = ended(client, "k", status)
    new = client.insert(flow(text), key="k", replace=BADLY, actor="ann")
    assert new.id != old.id
    assert (new.duplicate, new.state) == (False, "available")
    assert client.find("k").id == new.id
    assert client.get(old.id) == old.model_copy(
        update={"last_transition_at": client.get(old.id).last_transition_at}
    )
    (entry,) = [one for one in client.evidence(old.id) if one.action == "insert"]
    assert (entry.status, entry.reason_code, entry.actor) == ("accepted", "key_replaced", "ann")
    assert new.id in entry.message
    again = client.insert(flow(text), key="k", replace=BADLY)
    assert (again.id, again.duplicate) == (new.id, True)


def test_so_does_that_of_an_expired_wait_and_of_a_cancel_request(client: Client) -> None:
    expired = client.insert(flow("a"), key="expired")
    client.await_step(expired.id, "a", signal="go", correlation_key="k", deadline=NOW)
    cancelled = client.insert(flow("a"), key="cancelled")
    client.request_cancel(cancelled.id)
    for key, old in (("expired", expired), ("cancelled", cancelled)):
        assert client.insert(flow("a"), key=key, replace=BADLY).id != old.id


def test_a_workflow_that_is_open_or_has_completed_keeps_its_key(client: Client) -> None:
    for key, status in (("done", "completed"), ("open", "retryable")):
        first = ended(client, key, status)
        again = client.insert(flow("a"), key=key, replace=BADLY)
        assert (again.id, again.duplicate) == (first.id, True)
        with refused("key_conflict"):
            client.insert(flow("b"), key=key, replace=BADLY)


def test_without_being_told_to_nothing_is_replaced(client: Client) -> None:
    old = ended(client, "k")
    assert client.insert(flow("a"), key="k").id == old.id
    with refused("key_conflict"):
        client.insert(flow("b"), key="k")


def test_a_key_that_nobody_has_is_taken_as_ever(client: Client) -> None:
    assert not client.insert(flow("a"), key="k", replace=BADLY).duplicate
    assert not client.insert(flow("a"), replace=BADLY).duplicate


def test_neither_takes_the_key_of_the_other_when_it_leaves(client: Client) -> None:
    ended(client, "one", retention=NOW)
    one = client.insert(flow("a"), key="one", replace=BADLY)
    assert pruned(client) == 1
    assert client.find("one").id == one.id
    two = ended(client, "two")
    new = client.insert(flow("a"), key="two", replace=BADLY, retention=NOW)
    client.complete_step(new.id, "a")
    assert pruned(client) == 1
    assert client.get(two.id).state == "failed"
    with pytest.raises(NotFound):
        client.find("two")
    assert not client.insert(flow("a"), key="two").duplicate


def test_a_replaced_workflow_can_be_recovered_beside_the_new_one(client: Client) -> None:
    old = ended(client, "k")
    new = client.insert(flow("a"), key="k", replace=BADLY)
    client.recover_step(old.id, "a", "retry")
    client.complete_step(old.id, "a")
    assert client.get(old.id).state == "completed"
    assert client.find("k").id == new.id


@pytest.mark.parametrize("same", [True, False])
def test_of_many_replacements_at_once_one_wins(client: Client, same: bool) -> None:
    old = ended(client, "k")

    def replace(number: int) -> str:
        graph = flow("b") if same else flow(f"s{number}")
        try:
            return client.insert(graph, key="k", replace=BADLY).id
        except CommandRejected as error:
            return error.reason_code

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(replace, range(16)))
    winner = client.find("k").id
    assert set(found) - {"key_conflict"} == {winner}
    assert found.count(winner) == (16 if same else 1)
    assert {view.id for view in client.list().workflows} == {old.id, winner}
    entries = [one for one in client.evidence(old.id) if one.reason_code == "key_replaced"]
    assert len([one for one in entries if winner in one.message]) == 1


def test_many_are_replaced_at_once(client: Client) -> None:
    keys = [f"k{number}" for number in range(80)]
    old = client.insert_many([flow("a")] * 80, keys=keys)
    for view in old[::2]:
        client.complete_step(view.id, "a", "failed")
    new = client.insert_many([flow("a")] * 80, keys=keys, replace=BADLY, actor="ann")
    assert [view.duplicate for view in new] == [False, True] * 40
    assert [one.id == other.id for one, other in zip(new, old, strict=True)] == [False, True] * 40
    assert [client.find(key).id for key in keys] == [view.id for view in new]


@pytest.mark.parametrize("replace", ["", "always", "failed", True, 5])
def test_what_can_not_be_replaced(one_client: Client, replace: Any) -> None:
    with refused("invalid_argument"):
        one_client.insert(flow("a"), key="k", replace=replace)
    with refused("invalid_argument"):
        one_client.insert_many([flow("a")], keys=["k"], replace=replace)


# --- who has inserted it


def test_the_actor_of_an_insert_is_evidence(client: Client) -> None:
    large = flow(" ".join(f"s{number}" for number in range(1_200)))
    for graph in (flow("a"), large):
        view = client.insert(graph, actor="ann|1")
        (entry,) = client.evidence(view.id)
        assert (entry.action, entry.status, entry.actor) == ("insert", "accepted", "ann|1")
        assert entry.reason_code is None
    many = client.insert_many([flow("a"), flow("b")], actor="bob")
    assert [client.evidence(view.id)[0].actor for view in many] == ["bob", "bob"]
    assert client.evidence(client.insert(flow("a")).id) == []


def test_so_is_that_of_a_repetition_and_of_a_conflict(client: Client) -> None:
    view = client.insert(flow("a"), key="k", actor="ann")
    client.insert(flow("a"), key="k", actor="bob")
    with refused("key_conflict"):
        client.insert(flow("b"), key="k", actor="cid")
    assert [(entry.status, entry.actor) for entry in client.evidence(view.id)] == [
        ("accepted", "ann"),
        ("duplicate", "bob"),
        ("rejected", "cid"),
    ]


@pytest.mark.parametrize("actor", ["", "x" * 513, 5, b"x", "\ud800"])
def test_what_can_be_no_actor(one_client: Client, actor: Any) -> None:
    with refused("invalid_argument"):
        one_client.insert(flow("a"), actor=actor)
    assert one_client.list().workflows == ()


def test_a_workflow_of_no_use_is_told_before_anything_is_sent(one_client: Client) -> None:
    with refused("invalid_argument"):
        one_client.insert(Workflow("w").add("a", worker="w"), retention=5)  # type: ignore[arg-type]
