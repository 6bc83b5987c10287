"""Setting a workflow's retention (contract §10)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from rwf import Client, NotFound
from tests.support.commandline import NO_ID
from tests.support.flows import (
    flow,
    other_semantics,
    own_key,
    partition_key,
    raw,
    refused,
)
from tests.support.retention_cases import NOW

WEEK = timedelta(days=7)


def delivered(client: Client) -> None:
    """Delivers all callbacks."""
    while client.dispatch_callbacks(lambda _: None).delivered:
        pass


def removal(client: Client, workflow_id: str) -> float | None:
    """When the workflow is to be removed, as a server's time in milliseconds."""
    found: float | None = raw(client).zscore(
        partition_key(workflow_id, "timers"), f"x|{workflow_id}"
    )
    return found


def test_a_finished_workflow_leaves_with_the_next_prune(client: Client) -> None:
    kept, gone = client.insert(flow("a")), client.insert(flow("a"))
    for view in (kept, gone):
        client.complete_step(view.id, "a")
    delivered(client)
    assert client.prune().workflows == 0
    view = client.set_retention(gone.id, NOW)
    assert (view.id, view.state) == (gone.id, "completed")
    assert client.prune().workflows == 1
    with pytest.raises(NotFound):
        client.get(gone.id)
    assert client.get(kept.id).state == "completed"


def test_so_does_one_that_was_inserted_with_none(client: Client) -> None:
    view = client.insert(flow("a"), retention=NOW)
    assert client.prune().workflows == 0
    client.complete_step(view.id, "a")
    delivered(client)
    assert client.prune().workflows == 1


def test_one_that_has_not_finished_keeps_it_in_mind(client: Client) -> None:
    view = client.insert(flow("a b:a"), retention=None)
    client.set_retention(view.id, NOW)
    client.complete_step(view.id, "a")
    assert client.prune().workflows == 0
    client.complete_step(view.id, "b")
    delivered(client)
    assert client.prune().workflows == 1


def test_it_counts_from_the_end(client: Client) -> None:
    view = client.insert(flow("a"), retention=NOW)
    client.complete_step(view.id, "a")
    delivered(client)
    ended = removal(client, view.id)
    assert ended is not None
    for retention in (WEEK, timedelta(seconds=1.5), timedelta(days=365_000)):
        client.set_retention(view.id, retention)
        assert removal(client, view.id) == ended + retention / timedelta(milliseconds=1)
    client.set_retention(view.id, None)
    assert removal(client, view.id) is None
    assert client.prune().workflows == 0


def test_nothing_else_changes(client: Client) -> None:
    view = client.insert(flow("a b:a", name="with.dots"), retention=WEEK)
    before = client.get(view.id)
    assert client.set_retention(view.id, None) == before == client.get(view.id)
    assert raw(client).hget(own_key(view.id), ":s").endswith(b",,,with.dots")


def test_it_is_evidence(client: Client) -> None:
    view = client.insert(flow("a"), retention=WEEK)
    client.set_retention(view.id, NOW, actor="ann")
    client.set_retention(view.id, None)
    entries = client.evidence(view.id)
    assert [(one.action, one.status, one.actor) for one in entries] == [
        ("set_retention", "accepted", "ann"),
        ("set_retention", "accepted", None),
    ]
    assert entries[0].message == "kept for 0 ms once it has finished, not for 604800000 ms"
    assert entries[1].message == "kept for ever once it has finished, not for 0 ms"


@pytest.mark.parametrize("retention", [timedelta(-1), 5, "7", 0, True])
def test_what_is_no_retention(one_client: Client, retention: Any) -> None:
    view = one_client.insert(flow("a"))
    with refused("invalid_argument"):
        one_client.set_retention(view.id, retention)


@pytest.mark.parametrize("workflow_id", [NO_ID, "9999-aaaaaaaaaaaaaaaa", "nobody", "", None])
def test_of_no_workflow(one_client: Client, workflow_id: Any) -> None:
    with refused("workflow_not_found"):
        one_client.set_retention(workflow_id, NOW)


def test_of_other_semantics(one_client: Client, broken_on_purpose: None) -> None:
    view = one_client.insert(flow("a"))
    other_semantics(one_client, view.id)
    with refused("unsupported_semantics"):
        one_client.set_retention(view.id, NOW)
