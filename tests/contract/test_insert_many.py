"""Inserting many workflows at once (contract §3, for each)."""

from __future__ import annotations

import pytest

from rwf import Client, Workflow, WorkflowInvalid
from tests.support.flows import chain, flow, noted, refused, states


def test_each_is_inserted_as_by_itself(client: Client) -> None:
    graphs = [flow(f"s{number} t:s{number}") for number in range(70)]
    graphs[3], graphs[66] = chain(1_500), flow("x", context={"big": "y" * 100_000})
    views = client.insert_many(graphs)
    assert len({view.id for view in views}) == 70
    assert [view.step_count for view in views] == [len(graph.steps) for graph in graphs]
    assert [view.runnable_step_count for view in views] == [1] * 70
    assert {view.duplicate for view in views} == {False}
    assert client.graph(views[69].id).edges[0].child == "t"
    assert client.get(views[66].id) == views[66]
    assert client.insert_many([]) == []


def test_keys_make_a_repetition_harmless(client: Client) -> None:
    graphs = [flow("a"), flow("b"), flow("a")]
    first = client.insert_many(graphs[:2], keys=["k1", "k2"])
    again = client.insert_many(graphs, keys=["k1", "k2", "k3"])
    assert [view.duplicate for view in again] == [True, True, False]
    assert [view.id for view in again[:2]] == [view.id for view in first]


def test_the_same_key_twice(client: Client) -> None:
    one, other = client.insert_many([flow("a"), flow("a")], keys=["k", "k"])
    assert one.id == other.id
    assert [view.id for view in client.list().workflows] == [one.id]


def test_one_that_is_refused_keeps_no_other_out(client: Client) -> None:
    taken = client.insert(flow("a"), key="taken")
    with refused("key_conflict"):
        client.insert_many([flow("x"), flow("y"), flow("z")], keys=["k1", "taken", "k3"])
    found = [states(client, view.id) for view in client.list().workflows]
    assert sorted(found) == ["a=available", "x=available", "z=available"]
    assert noted(client, taken.id) == [("insert", None, "rejected", "key_conflict")]


def test_nothing_is_written_when_one_is_wrong(one_client: Client) -> None:
    with pytest.raises(WorkflowInvalid, match="no_steps"):
        one_client.insert_many([flow("a"), Workflow("empty")])
    for keys in (["k"], ["k", "l", "m"], ["k", ""]):
        with refused("invalid_argument") as caught:
            one_client.insert_many([flow("a"), flow("b")], keys=keys)
        assert caught.value.action == "insert"
    for wrong in (
        {"workflows": flow("a")},
        {"workflows": None},
        {"workflows": [], "keys": 5},
        {"workflows": [flow("a")], "keys": "k"},
    ):
        with refused("invalid_argument"):
            one_client.insert_many(**wrong)
    assert one_client.list().workflows == ()
