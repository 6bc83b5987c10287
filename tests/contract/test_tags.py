"""Tags of workflows: contract §3, §6, §11 and §17."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from rwf import Client
from tests.support.flows import chain, flow, partition_key, raw, refused

ODD = {"a|b,c=d%": "~\u202e|x", "\N{SNOWMAN}" * 128: "é" * 128, "\n": "{1}"}


def test_views_carry_the_tags(client: Client) -> None:
    view = client.insert(flow("a b:a", tags=ODD))
    assert view.tags == ODD
    assert client.get(view.id).tags == ODD
    assert client.list().workflows[0].tags == ODD
    assert client.graph(view.id).workflow.tags == ODD
    assert client.complete_step(view.id, "a").workflow.tags == ODD
    assert client.recover_step(view.id, "b", "retry").workflow.tags == ODD
    assert client.request_cancel(view.id).tags == ODD
    assert client.insert(flow("a")).tags == {}


def test_callbacks_carry_the_tags(client: Client) -> None:
    told: list[Any] = []
    for tags in ({"account": "42"}, {}):
        view = client.insert(flow("a", tags=tags))
        client.complete_step(view.id, "a")
        client.dispatch_callbacks(told.append)
    assert [callback.tags for callback in told] == [{"account": "42"}, {}]


def test_a_key_with_other_tags_is_a_conflict(client: Client) -> None:
    first = client.insert(flow("a", tags={"account": "42"}), key="k")
    assert client.insert(flow("a", tags={"account": "42"}), key="k").id == first.id
    for other in ({"account": "43"}, {}):
        with refused("key_conflict"):
            client.insert(flow("a", tags=other), key="k")
    assert client.insert(flow("a", tags={"account": "42"}), key="k").tags == {"account": "42"}


def test_many_are_inserted_with_their_tags(client: Client) -> None:
    views = client.insert_many(flow("a", tags={"n": str(n)}) for n in range(70))
    assert [view.tags for view in views] == [{"n": str(n)} for n in range(70)]
    assert [client.get(view.id).tags for view in views[::23]] == [
        {"n": str(n)} for n in range(70)[::23]
    ]


@pytest.mark.one_face
def test_a_large_graph_with_tags(one_client: Client) -> None:
    """Which comes in many calls, and whose steps are audited a few at a time."""
    large = chain(1200)
    form = {**large.to_dict(), "tags": ODD}
    view = one_client.insert(type(large).from_dict(form))
    assert one_client.get(view.id).tags == ODD
    raw(one_client).delete(partition_key(view.id, "tags"))
    assert {repair.kind for repair in one_client.reconcile(view.id).repairs} == {
        "tag_entry_missing"
    }


def test_a_lost_entry_comes_back(client: Client) -> None:
    view = client.insert(flow("a", tags={"account": "42", "region": "eu"}))
    client.complete_step(view.id, "a")
    key = partition_key(view.id, "tags")
    before = raw(client).zrange(key, 0, -1)
    assert len(before) == 2
    raw(client).zrem(key, before[0])
    [repair] = client.reconcile(view.id).repairs
    assert repair.kind == "tag_entry_missing"
    assert client.reconcile(view.id).repairs == ()
    assert raw(client).zrange(key, 0, -1) == before


def test_entries_leave_with_their_workflow(client: Client) -> None:
    view = client.insert(flow("a", tags=ODD), retention=timedelta(0))
    client.complete_step(view.id, "a")
    assert client.prune().workflows == 1
    assert raw(client).exists(partition_key(view.id, "tags")) == 0
