"""Lists and single reads: contract §10 and §11."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from rwf import Client, NamespaceMismatch, NotFound, Workflow
from rwf.model.views import WorkflowView
from tests.support.flows import fan_out, flow, own_key, partition_key, raw, refused, stored
from tests.support.servers import AnyServer


def _pages(client: Client, **options: object) -> Iterator[WorkflowView]:
    cursor: str | None = None
    while True:
        page = client.list(cursor=cursor, **options)  # type: ignore[arg-type]
        yield from page.workflows
        cursor = page.cursor
        if cursor is None:
            return


def test_an_empty_namespace(client: Client) -> None:
    page = client.list()
    assert (page.workflows, page.cursor) == ((), None)


def test_newest_first_and_every_one_once(client: Client) -> None:
    ids = {client.insert(flow("a")).id for _ in range(53)}
    found = list(_pages(client, limit=10))
    assert {view.id for view in found} == ids
    assert len(found) == 53
    assert [v.inserted_at for v in found] == sorted((v.inserted_at for v in found), reverse=True)
    assert found == list(_pages(client, limit=500))
    assert len(client.list().workflows) == 50
    assert [view.id for view in _pages(client, limit=1)] == [view.id for view in found]
    assert all(view == client.get(view.id) for view in found[:3])


@pytest.mark.parametrize("limit", [1, 7, 500])
def test_two_inserts_have_a_definite_order(client: Client, limit: int) -> None:
    """However many are inserted in a millisecond, and into whichever partitions."""
    ids = [client.insert(flow("a")).id for _ in range(40)]
    assert [view.id for view in _pages(client, limit=limit)] == ids[::-1]


def test_workflows_of_one_round_trip_are_listed_and_handed_out_in_their_order(
    one_client: Client,
) -> None:
    ids = [view.id for view in one_client.insert_many(flow("a b") for _ in range(100))]
    assert [view.id for view in _pages(one_client, limit=9)] == ids[::-1]
    claimed = one_client.claim(["default"], worker_id="w", limit=200)
    assert [(one.workflow_id, one.step) for one in claimed] == [
        (id_, step) for id_ in ids for step in "ab"
    ]


def test_the_order_is_kept_across_states_and_groups(one_client: Client) -> None:
    ids = [view.id for view in one_client.insert_many(flow("a") for _ in range(60))]
    for number, id_ in enumerate(ids):
        if number % 3:
            one_client.complete_step(id_, "a", "failed" if number % 3 == 1 else "completed")
    assert [view.id for view in _pages(one_client, limit=4)] == ids[::-1]
    assert [view.id for view in _pages(one_client, limit=4, state="failed")] == ids[1::3][::-1]


@pytest.mark.one_face
def test_a_millisecond_with_more_than_one_call_reads(
    one_client: Client, broken_on_purpose: None
) -> None:
    """As happens when the server's clock stands still."""
    ids = [view.id for view in one_client.insert_many(flow("a") for _ in range(300))]
    redis, index = raw(one_client), partition_key(ids[0], "index")
    _, inserted, _ = redis.zrange(index, 0, 0)[0].decode().split("|")
    redis.delete(index)
    redis.zadd(index, {f"o|{inserted}|{id_}": 0 for id_ in ids})
    for number, id_ in enumerate(ids):
        redis.hset(own_key(id_), ":o", f"{number:07}")
    assert [view.id for view in _pages(one_client, limit=3)] == ids[::-1]
    assert [view.id for view in _pages(one_client, limit=500)] == ids[::-1]


def test_workflows_of_an_earlier_release_are_listed_beside_others(one_client: Client) -> None:
    """These have no order within their millisecond."""
    ids = [view.id for view in one_client.insert_many(flow("a") for _ in range(50))]
    for id_ in ids[::2]:
        raw(one_client).hdel(own_key(id_), ":o")
    found = [view.id for view in _pages(one_client, limit=3)]
    assert sorted(found) == sorted(ids)
    assert [id_ for id_ in found if id_ in ids[1::2]] == ids[1::2][::-1]


def test_large_contexts_are_read_in_several_calls(one_client: Client) -> None:
    text = "x" * 200_000
    ids = [
        one_client.insert(Workflow("big", context=text).add("a", worker="w")).id for _ in range(12)
    ]
    page = one_client.list()
    assert [view.id for view in page.workflows] == ids[::-1]
    assert all(view.context == text for view in page.workflows)


def test_pages_hold_together_while_others_insert_and_finish(client: Client) -> None:
    ids = [client.insert(flow("a")).id for _ in range(20)]
    first = client.list(limit=7)
    client.insert(flow("a"))
    rest = {view.id for view in first.workflows}
    cursor = first.cursor
    while cursor:
        page = client.list(limit=7, cursor=cursor)
        rest |= {view.id for view in page.workflows}
        cursor = page.cursor
        client.complete_step(ids[0], "a")
    assert set(ids) <= rest


def test_by_state(client: Client) -> None:
    ids = {}
    for status in ("completed", "failed", "cancelled", "retryable"):
        ids[status] = client.insert(flow("a")).id
        client.complete_step(ids[status], "a", status)
    ids["available"] = client.insert(flow("a")).id
    for state, status in (
        ("completed", "completed"),
        ("failed", "failed"),
        ("cancelled", "cancelled"),
        ("running", "retryable"),
        ("available", "available"),
    ):
        assert [view.id for view in client.list(state=state).workflows] == [ids[status]], state
    for state in ("pending", "expired", "cancel_requested"):
        assert client.list(state=state).workflows == ()
    assert {view.id for view in client.list().workflows} == set(ids.values())


def test_by_operator_status(client: Client) -> None:
    ids = {}
    for status in ("completed", "failed", "discarded", "cancelled"):
        ids[status] = client.insert(flow("a")).id
        client.complete_step(ids[status], "a", status)
    ids["open"] = client.insert(flow("a")).id
    ids["half"] = client.insert(flow("a b")).id
    client.complete_step(ids["half"], "a", "failed")
    for status, names in (
        ("Needs Review", {"failed", "discarded", "half"}),
        ("Resolved", {"completed", "cancelled"}),
        ("Runnable", {"open"}),
        ("Blocked", set()),
    ):
        found = {view.id for view in client.list(status=status).workflows}
        assert found == {ids[name] for name in names}, status


def test_by_name_and_by_all_at_once(client: Client) -> None:
    one = client.insert(flow("a", name="one")).id
    two = client.insert(flow("a", name="two")).id
    client.complete_step(client.insert(flow("a", name="one")).id, "a")
    assert {view.name for view in client.list(name="one").workflows} == {"one"}
    assert len(client.list(name="one").workflows) == 2
    found = client.list(name="one", state="available", status="Runnable").workflows
    assert [view.id for view in found] == [one]
    assert [view.id for view in client.list(name="two").workflows] == [two]
    assert client.list(name="o").workflows == ()


def test_a_filter_that_matches_little_finds_it_at_last(client: Client) -> None:
    rare = client.insert(flow("a", name="rare")).id
    for _ in range(60):
        client.insert(flow("a"))
    assert [view.id for view in _pages(client, name="rare", limit=5)] == [rare]


def test_a_listing_from_the_same_millisecond_loses_none(one_client: Client) -> None:
    ids = {one_client.insert(flow("a")).id for _ in range(200)}
    assert {view.id for view in _pages(one_client, limit=3)} == ids


@pytest.mark.parametrize("limit", [0, -1, 501, 1.5, "5", True, None])
def test_a_limit_that_is_none(one_client: Client, limit: object) -> None:
    with refused("invalid_argument"):
        one_client.list(limit=limit)  # type: ignore[arg-type]


ID = "0-" + "a" * 16
PLACE = f"{'0' * 11}|{'0' * 7}"
CURSORS: list[Any] = ["", "x", "|", "||", f"{PLACE}|nobody", 5, b"x", PLACE, f"{PLACE}|{ID}\n"]
CURSORS += [f"{place * 11}|{'0' * 7}|{ID}" for place in ("\ud800", "z", "[", "|")]
CURSORS += [f"{'0' * 11}|{ID}", f"{'0' * 11}|{'x' * 7}|{ID}", f"{PLACE}|{ID}|"]


@pytest.mark.parametrize("cursor", CURSORS, ids=repr)
def test_a_cursor_of_no_page(one_client: Client, cursor: object) -> None:
    with refused("invalid_argument"):
        one_client.list(cursor=cursor)  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["state", "status"])
@pytest.mark.parametrize("value", ["", "nonsense", 5, [], "AVAILABLE", "x" * 10_000])
def test_a_filter_of_no_kind(one_client: Client, option: str, value: object) -> None:
    with refused("invalid_argument") as caught:
        one_client.list(**{option: value})  # type: ignore[arg-type]
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("value", [5, [], b"flow"])
def test_a_name_that_is_no_text(one_client: Client, value: object) -> None:
    with refused("invalid_argument"):
        one_client.list(name=value)  # type: ignore[arg-type]


# --- missing workflows and steps

BAD_IDS: list[Any] = [ID, "", "x", "0-", None, 5, b"0-aaaaaaaaaaaaaaaa", "0-" + "a" * 10_000]
BAD_IDS += [
    "0-{aaaaaaaaaaaaaa}",
    "0-aaaaaaaaaaaaaaa\n",
    "0-aaaaaaaaaaaaaaaa\n",
    "00-aaaaaaaaaaaaaaaa",
]
BAD_IDS += ["-1-aaaaaaaaaaaaaaaa", "٣-aaaaaaaaaaaaaaaa", "\ud800", "0-aaaaaaaaaaaaaaaa\x00"]


@pytest.mark.parametrize("workflow_id", BAD_IDS, ids=lambda value: repr(value)[:30])
def test_reads_of_a_workflow_that_does_not_exist(one_client: Client, workflow_id: str) -> None:
    client = one_client
    for read in (
        lambda: client.get(workflow_id),
        lambda: client.steps(workflow_id),
        lambda: client.step(workflow_id, "a"),
        lambda: client.result(workflow_id, "a"),
        lambda: client.results(workflow_id),
        lambda: client.results(workflow_id, step="a"),
        # Without an id it is the evidence that belongs to no workflow.
        lambda: client.evidence(workflow_id if workflow_id is not None else ""),
        lambda: client.graph(workflow_id),
        lambda: client.explain(workflow_id),
        lambda: client.explain_step(workflow_id, "a"),
        lambda: client.reconcile(workflow_id),
    ):
        with pytest.raises(NotFound) as caught:
            read()
        assert len(str(caught.value)) < 200


STRANGE_STEPS = ["b", "", "^", ":s", ":c", "#0", ">0", "a:1", "a\n", "a\x00", "{a}", "ü", "\ud800"]
STRANGE_STEPS += ["a" * 10_000, "a,a", "a|", "%61", "A", " a", "i:a", "a#0"]


def test_a_step_that_does_not_exist(client: Client) -> None:
    view = client.insert(fan_out(1).add("a", worker="w"))
    for step in STRANGE_STEPS:
        for read in (client.step, client.result, client.explain_step):
            with pytest.raises(NotFound):
                read(view.id, step)
        with pytest.raises(NotFound):
            client.results(view.id, step=step)
        assert client.evidence(view.id, step=step) == []
        with refused("step_not_found"):
            client.complete_step(view.id, step)
    assert client.get(view.id).completed_step_count == 0


def test_a_long_name_is_not_cut_to_one_that_exists(client: Client) -> None:
    view = client.insert(flow("a" * 128))
    with refused("step_not_found"):
        client.complete_step(view.id, "a" * 129)
    with pytest.raises(NotFound):
        client.step(view.id, "a" * 200)
    assert client.get(view.id).state == "available"


@pytest.mark.parametrize("step", [None, 5, b"a", [], True])
def test_a_step_that_is_no_text(one_client: Client, step: str) -> None:
    view = one_client.insert(flow("a"))
    for call in (
        lambda: one_client.step(view.id, step),
        lambda: one_client.result(view.id, step),
        lambda: one_client.explain_step(view.id, step),
        lambda: one_client.complete_step(view.id, step),
    ):
        with refused("invalid_argument"):
            call()


@pytest.mark.parametrize("attempt", [0, -1, True, "1", 1.0])
def test_an_attempt_that_is_no_number(one_client: Client, attempt: int) -> None:
    view = one_client.insert(flow("a"))
    one_client.complete_step(view.id, "a")
    with refused("invalid_argument"):
        one_client.result(view.id, "a", attempt=attempt)


def test_a_result_of_each_attempt(client: Client) -> None:
    view = client.insert(flow("a b"))
    assert client.result(view.id, "a") is None
    assert client.results(view.id) == []
    for number in (1, 2, 3):
        client.complete_step(
            view.id, "a", "retryable", payload=[number], summary=f"try {number}", retry_in=9
        )
    client.complete_step(view.id, "a", payload={"done": True}, summary="ünï |,\n\x00")
    client.complete_step(view.id, "b")
    rows = client.results(view.id)
    assert [(row.step, row.attempt, row.status) for row in rows] == [
        ("a", 1, "retryable"),
        ("a", 2, "retryable"),
        ("a", 3, "retryable"),
        ("a", 4, "completed"),
        ("b", 1, "completed"),
    ]
    assert client.results(view.id, step="a") == rows[:4]
    assert client.result(view.id, "a") == rows[3]
    assert client.result(view.id, "a", attempt=2) == rows[1]
    assert client.result(view.id, "a", attempt=9) is None
    assert (rows[1].payload, rows[1].payload_bytes, rows[1].summary) == ([2], b"[2]", "try 2")
    assert rows[3].summary == "ünï |,\n\x00"
    assert (rows[4].payload, rows[4].payload_bytes, rows[4].summary) == (None, b"", None)
    assert rows[0].recorded_at.utcoffset() is not None
    assert [row.recorded_at for row in rows] == sorted(row.recorded_at for row in rows)


# --- namespaces and partitions


def test_the_number_of_partitions_is_the_namespaces_own(one_server: AnyServer) -> None:
    with Client.from_url(one_server.url, partitions=4) as first:
        ids = {first.insert(flow("a")).id for _ in range(40)}
        assert {int(id_[0]) for id_ in ids} == {0, 1, 2, 3}
        assert {view.id for view in _pages(first, limit=7)} == ids
        with Client.from_url(one_server.url) as second:
            assert {view.id for view in _pages(second)} == ids
        with (
            Client.from_url(one_server.url, partitions=8) as other,
            pytest.raises(NamespaceMismatch),
        ):
            other.list()
        assert raw(first).hget("rwf:{0}:meta", "partitions") == b"4"


def test_the_default_number_of_partitions(server: AnyServer) -> None:
    with Client.from_url(server.url) as client:
        client.list()
        expected = 64 if server.kind == "cluster" else 1
        assert int(raw(client).hget("rwf:{0}:meta", "partitions")) == expected


def test_a_raised_number_of_partitions(one_client: Client, one_server: AnyServer) -> None:
    """An operator raises the number: old workflows and keys stay where they are."""
    old = one_client.insert(flow("a"), key="k")
    raw(one_client).hset("rwf:{0}:meta", "partitions", 5)
    with Client.from_url(one_server.url) as later:
        assert later.insert(flow("a"), key="k").id == old.id
        ids = {later.insert(flow("a"), key=f"k{n}").id for n in range(40)}
        assert {int(id_[0]) for id_ in ids} == {0, 1, 2, 3, 4}
        assert all(later.insert(flow("a"), key=f"k{n}").duplicate for n in range(40))
        assert later.complete_step(old.id, "a").outcome == "accepted"


def test_a_command_on_a_partition_that_does_not_exist_writes_nothing(
    one_client: Client, broken_on_purpose: None
) -> None:
    one_client.insert(flow("a"))
    before = stored(one_client)
    with refused("workflow_not_found"):
        one_client.complete_step("777-aaaaaaaaaaaaaaaa", "a")
    assert stored(one_client) == before
