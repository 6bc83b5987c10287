"""Listings that are paged while others insert, end, revive and remove workflows.

No workflow that stays is skipped, and none is shown twice.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

import pytest

from rwf import Client, CommandRejected, Workflow
from rwf.model.states import WORKFLOW_CODE, WorkflowState
from rwf.model.views import WorkflowView
from rwf.ops.listing import list_workflows
from tests.support.flows import TICK, flow, own_key, partition_key, raw, stepped
from tests.support.servers import AnyServer

KINDS: Final = ("available", "running", "completed", "failed", "cancelled", "half")
EACH: Final = 12

FILTERS: Final[dict[str, tuple[dict[str, Any], set[str]]]] = {
    "none": ({}, set(KINDS)),
    "state available": ({"state": "available"}, {"available", "half"}),
    "state running": ({"state": "running"}, {"running"}),
    "state completed": ({"state": "completed"}, {"completed"}),
    "state failed": ({"state": "failed"}, {"failed"}),
    "needs review": ({"status": "Needs Review"}, {"failed", "half"}),
    "resolved": ({"status": "Resolved"}, {"completed", "cancelled"}),
    "name": ({"name": "one"}, set(KINDS)),
    "tag": ({"tags": {"name": "one"}}, set(KINDS)),
    "tag and state": ({"tags": {"name": "two"}, "state": "failed"}, {"failed"}),
    "failed step": ({"failed_step": "a"}, {"failed", "half"}),
    "all at once": (
        {"name": "two", "state": "failed", "status": "Needs Review"},
        {"failed"},
    ),
}


def _named(steps: str, name: str) -> Workflow:
    return flow(steps, name, tags={"name": name})


class Crowd:
    """Workflows that stay as they are while a test pages, among others that do not."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._over = threading.Event()
        self.stay: dict[str, tuple[str, str]] = {}
        """The name and the kind of each that stays as it is, by id."""
        self.order: list[str] = []
        """All ids that were inserted before anything else happened, oldest first."""
        self._movers: list[str] = []
        for _ in range(EACH):
            for name in ("one", "two"):
                for kind in KINDS:
                    view = client.insert(_named("a b" if kind == "half" else "a", name))
                    self.stay[view.id] = (name, kind)
                    self.order.append(view.id)
                    self._lead(view.id, kind)
                self._movers.append(client.insert(_named("a", name)).id)
                self.order.append(self._movers[-1])

    def _lead(self, workflow_id: str, kind: str) -> None:
        if kind == "running":
            self._client.complete_step(workflow_id, "a", "retryable", retry_in=3600)
        elif kind == "half":
            self._client.complete_step(workflow_id, "a", "failed")
        elif kind != "available":
            self._client.complete_step(workflow_id, "a", kind)

    def matching(self, name: str | None, kinds: set[str]) -> list[str]:
        """The expected listing, newest first."""
        return [
            id_
            for id_ in reversed(self.order)
            if id_ in self.stay and name in (None, self.stay[id_][0]) and self.stay[id_][1] in kinds
        ]

    @contextmanager
    def moving(self) -> Iterator[None]:
        threads = [
            threading.Thread(target=self._until_over, args=(work,))
            for work in (self._come_and_go, self._end_and_revive)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _until_over(self, work: Any) -> None:
        while not self._over.is_set():
            work()

    def _come_and_go(self) -> None:
        views = self._client.insert_many([_named("a", "one")] * 8, retention=timedelta(0))
        for view, status in zip(views, ("completed", "failed", "cancelled") * 3, strict=False):
            self._client.complete_step(view.id, "a", status)
        self._client.prune()

    def _end_and_revive(self) -> None:
        for id_ in self._movers:
            self._client.complete_step(id_, "a", "failed")
        for id_ in self._movers:
            self._client.recover_step(id_, "a", "retry")


def paged(client: Client, limit: int, options: dict[str, Any]) -> list[WorkflowView]:
    found: list[WorkflowView] = []
    cursor = None
    while True:
        page = client.list(limit=limit, cursor=cursor, **options)
        found += page.workflows
        cursor = page.cursor
        if cursor is None:
            return found


@pytest.fixture(params=[1, 4], ids="{} partitions".format)
def crowd(request: pytest.FixtureRequest, one_server: AnyServer) -> Iterator[tuple[Client, Crowd]]:
    with Client.from_url(one_server.url, partitions=request.param) as client:
        crowd = Crowd(client)
        with crowd.moving():
            yield client, crowd


@pytest.mark.parametrize("asked", FILTERS)
def test_a_filter_shows_what_stays_once_and_in_order(
    crowd: tuple[Client, Crowd], asked: str
) -> None:
    client, those = crowd
    options, kinds = FILTERS[asked]
    name = options.get("name") or options.get("tags", {}).get("name")
    expected = those.matching(name, kinds)
    assert len(expected) >= EACH
    for limit in (3, 7, 40, 500):
        found = [view.id for view in paged(client, limit, options)]
        assert len(set(found)) == len(found), "something is shown twice"
        assert [id_ for id_ in found if id_ in those.stay] == expected, limit
    # Others come in at the end as fast as a page is read.
    until = max(client.get(id_).inserted_at for id_ in expected) + TICK
    found = [view.id for view in paged(client, 7, {**options, "order": "oldest", "until": until})]
    assert len(set(found)) == len(found), "something is shown twice"
    assert [id_ for id_ in found if id_ in those.stay] == expected[::-1]


def test_what_only_changes_its_state_is_shown_once_too(crowd: tuple[Client, Crowd]) -> None:
    client, those = crowd
    for limit in (2, 9, 60):
        found = [view.id for view in paged(client, limit, {})]
        assert len(set(found)) == len(found)
        assert [id_ for id_ in found if id_ in set(those.order)] == those.order[::-1]


@pytest.mark.parametrize("limit", [1, 3])
def test_what_changes_its_group_between_two_calls_is_shown_once(
    one_client: Client, limit: int, broken_on_purpose: None
) -> None:
    """Also where more workflows share a millisecond than a call reads."""
    ids = [view.id for view in one_client.insert_many(flow("a") for _ in range(40))]
    redis, index = raw(one_client), partition_key(ids[0], "index")
    groups = "o", WORKFLOW_CODE[WorkflowState.FAILED]
    group_of = {id_: groups[number % 2] for number, id_ in enumerate(sorted(ids))}

    def all_change() -> None:
        redis.delete(index)
        for id_, group in group_of.items():
            group_of[id_] = groups[group == groups[0]]
        redis.zadd(index, {f"{group}|{1:011x}|{id_}": 0 for id_, group in group_of.items()})

    for number, id_ in enumerate(ids):
        redis.hset(own_key(id_), ":o", f"{number:07}")
    all_change()
    found: list[str] = []
    cursor = None
    while True:
        op = list_workflows(one_client._ctx, {}, "newest", limit, cursor)
        page = stepped(one_client, op, all_change)
        found += [view.id for view in page.workflows]
        cursor = page.cursor
        if cursor is None:
            break
    assert found == ids[::-1]


# --- removal against revival


def test_a_workflow_is_removed_or_revived_never_half_of_each(client: Client) -> None:
    views = client.insert_many([flow("a b:a")] * 120, retention=timedelta(0))
    for view in views:
        client.complete_step(view.id, "a", "failed")
    while client.dispatch_callbacks(lambda _: None, limit=100).delivered:
        pass
    outcomes: dict[str, str] = {}

    def revive(ids: list[str]) -> None:
        for id_ in ids:
            try:
                outcomes[id_] = client.recover_step(id_, "a", "retry").workflow.state
            except CommandRejected as error:
                outcomes[id_] = error.reason_code

    ids = [view.id for view in views]
    # From the end: the removal goes the other way, and they meet.
    threads = [threading.Thread(target=revive, args=(ids[::-1][start::2],)) for start in (0, 1)]
    for thread in threads:
        thread.start()
    removed = client.prune().workflows
    for thread in threads:
        thread.join()
    removed += client.prune().workflows
    revived = [id_ for id_ in ids if outcomes[id_] == "available"]
    assert {outcomes[id_] for id_ in ids} <= {"available", "workflow_not_found"}
    assert removed == len(ids) - len(revived)
    assert {view.id for view in paged(client, 50, {})} == set(revived)
    for id_ in revived:
        client.complete_step(id_, "a")
        client.complete_step(id_, "b")
        assert client.get(id_).state == "completed"
