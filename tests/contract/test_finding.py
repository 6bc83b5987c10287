"""Finding workflows by filters, in both orders, and counting them: contract §17."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rwf import Client
from tests.support.children_cases import started
from tests.support.flows import TICK, flow, refused


def paged(client: Client, limit: int = 50, **filters: Any) -> Iterator[str]:
    """The ids of all pages."""
    cursor: str | None = None
    while True:
        page = client.list(limit=limit, cursor=cursor, **filters)
        yield from [view.id for view in page.workflows]
        cursor = page.cursor
        if cursor is None:
            return


def spread(client: Client) -> list[str]:
    """Thirty workflows, oldest first: named one and two in turn, every third of account 1, every
    fifth failed in ship, and the last of them cancelled."""
    ids = []
    for number in range(30):
        tags = {"account": str(number % 3), "all": "x"}
        ids.append(client.insert(flow("pack ship", "two" if number % 2 else "one", tags=tags)).id)
        if number % 5 == 0:
            client.complete_step(ids[-1], "pack")
            client.complete_step(ids[-1], "ship", "failed")
    client.request_cancel(ids[-1])
    return ids


FILTERS: list[tuple[dict[str, Any], Any]] = [
    ({}, lambda n: True),
    ({"tags": {"account": "1"}}, lambda n: n % 3 == 1),
    ({"tags": {"account": "1", "all": "x"}}, lambda n: n % 3 == 1),
    ({"tags": {"account": "1", "other": "x"}}, lambda n: False),
    ({"tags": {"account": "11"}}, lambda n: False),
    ({"name": "two"}, lambda n: n % 2 == 1),
    ({"name": "wo"}, lambda n: False),
    ({"name": ",two"}, lambda n: False),
    ({"state": "failed"}, lambda n: n % 5 == 0),
    ({"state": "available"}, lambda n: n % 5 and n != 29),
    ({"status": "Needs Review"}, lambda n: n % 5 == 0),
    ({"status": "Resolved"}, lambda n: n == 29),
    ({"status": "Runnable"}, lambda n: n % 5 and n != 29),
    ({"state": "available", "status": "Resolved"}, lambda n: False),
    ({"state": "failed", "status": "Runnable"}, lambda n: False),
    ({"failed_step": "ship"}, lambda n: n % 5 == 0),
    ({"failed_step": "pack"}, lambda n: False),
    (
        {"tags": {"all": "x"}, "name": "one", "state": "failed", "failed_step": "ship"},
        lambda n: n % 10 == 0,
    ),
]


def test_every_filter_in_both_orders_and_counted(client: Client) -> None:
    ids = spread(client)
    for filters, holds in FILTERS:
        expected = [id_ for number, id_ in enumerate(ids) if holds(number)]
        assert list(paged(client, **filters)) == expected[::-1], filters
        assert list(paged(client, 4, order="oldest", **filters)) == expected, filters
        counted = client.count(**filters)
        assert (counted.count, counted.exact) == (len(expected), True), filters


def test_children_of_a_workflow(client: Client) -> None:
    client.insert(flow("a*"))  # of the same semantics, and nobody's child
    (parent, kid), (other, _) = started(client), started(client)
    assert list(paged(client, parent=parent.id)) == [kid.id]
    assert list(paged(client, parent=parent.id, state="failed")) == []
    assert list(paged(client, parent=kid.id)) == []
    assert client.count(parent=other.id).count == 1


def test_by_time(client: Client) -> None:
    ids = spread(client)
    times = [client.get(id_).inserted_at for id_ in ids]
    for first, last in ((0, 30), (7, 20), (29, 30), (12, 12)):
        bounds: dict[str, Any] = {"since": times[first], "until": times[last - 1] + TICK}
        if first == last:
            bounds["until"] = bounds["since"]
        for filters in ({}, {"tags": {"all": "x"}}, {"name": "one"}):
            expected = [
                id_
                for id_, at in zip(ids, times, strict=True)
                if bounds["since"] <= at < bounds["until"]
                and ("name" not in filters or ids.index(id_) % 2 == 0)
            ]
            assert list(paged(client, 3, **bounds, **filters)) == expected[::-1]
            assert list(paged(client, 3, order="oldest", **bounds, **filters)) == expected
            assert client.count(**bounds, **filters).count == len(expected)
    epoch = datetime(1, 1, 1, tzinfo=UTC)
    assert list(paged(client, until=epoch)) == []
    assert list(paged(client, since=datetime(9999, 1, 1, tzinfo=UTC))) == []
    assert len(list(paged(client, since=epoch))) == 30
    # Stored times are in milliseconds: one that began a little later is not since then.
    assert client.count(since=times[-1] + timedelta(microseconds=1)).count == 0


def test_a_workflow_that_is_gone_is_found_no_more(client: Client) -> None:
    view = client.insert(flow("a", tags={"account": "1"}), retention=timedelta(0))
    kept = client.insert(flow("a", tags={"account": "1"}))
    client.complete_step(view.id, "a")
    client.prune()
    assert list(paged(client, tags={"account": "1"})) == [kept.id]
    assert client.count(tags={"account": "1"}).count == 1


@pytest.mark.one_face
def test_a_rare_filter_ends_a_page_early(
    one_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rwf.ops.listing._SCANNED_PER_PAGE", 10)
    monkeypatch.setattr("rwf.ops.listing._LOOKED_AT_ONCE", 5)
    ids = [view.id for view in one_client.insert_many(flow("a") for _ in range(60))]
    rare = one_client.insert(flow("a", "rare")).id
    ids += [view.id for view in one_client.insert_many(flow("a") for _ in range(60))]
    for order in ("newest", "oldest"):
        page = one_client.list(name="rare", order=order, limit=5)
        assert (page.workflows, page.cursor is None) == ((), False)
        assert list(paged(one_client, 5, name="rare", order=order)) == [rare]
        assert len(list(paged(one_client, 500, order=order))) == 121


@pytest.mark.one_face
def test_a_count_of_very_many_is_a_lower_bound(
    one_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rwf.ops.listing._SCANNED_PER_COUNT", 20)
    monkeypatch.setattr("rwf.ops.listing.MAX_PAGE", 10)
    monkeypatch.setattr("rwf.ops.listing._LOOKED_AT_ONCE", 5)
    for _ in range(60):
        one_client.insert(flow("a", "one"))
    counted = one_client.count(name="one")
    assert not counted.exact
    assert 0 < counted.count < 60
    assert one_client.count().exact


@pytest.mark.one_face
@pytest.mark.parametrize(
    "filters",
    [
        {"tags": ["account"]},
        {"tags": {"account": 1}},
        {"tags": {"": "x"}},
        {"name": 1},
        {"state": "gone"},
        {"status": "Fine"},
        {"since": datetime(2026, 1, 1)},
        {"until": timedelta(hours=1)},
        {"failed_step": 7},
        {"parent": 7},
        {"parent": "none"},
    ],
)
def test_bad_filters(one_client: Client, filters: Any) -> None:
    with refused("invalid_argument"):
        one_client.list(**filters)
    with refused("invalid_argument"):
        one_client.count(**filters)


@pytest.mark.one_face
def test_bad_orders(one_client: Client) -> None:
    for order in ("", "name", None, 1):
        with refused("invalid_argument"):
            one_client.list(order=order)  # type: ignore[arg-type]


@pytest.mark.one_face
def test_pages_go_on_with_what_comes_in_at_the_end(one_client: Client) -> None:
    ids = [one_client.insert(flow("a")).id for _ in range(3)]
    page = one_client.list(order="oldest", limit=3)
    assert [view.id for view in page.workflows] == ids
    later = [view.id for view in one_client.insert_many(flow("a") for _ in range(70))]
    found: list[str] = []
    while page.cursor is not None:
        page = one_client.list(order="oldest", limit=9, cursor=page.cursor)
        found += [view.id for view in page.workflows]
    assert found == later
