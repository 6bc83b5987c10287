"""Contract §3: a graph is read back as it was inserted, all at once, once for each key."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rwf import Backoff, Client, CommandRejected, NotFound, Workflow, result
from rwf.model.states import EdgePolicy
from rwf.model.views import WorkflowView
from tests.conftest import connect
from tests.support import invariants
from tests.support.flows import (
    chain,
    fan_out,
    flow,
    noted,
    own_key,
    raw,
    refused,
    states,
)
from tests.support.insert_cases import WEEK
from tests.support.servers import AnyServer


def example() -> Workflow:
    """The graph of contract §3."""
    wf = Workflow("sync_customer", context={"account_id": 42, "label": "Customer sync"})
    wf.add("fetch_customer", worker="fetch_customer", input={"account_id": 42})
    wf.add(
        "sync_billing",
        worker="sync_billing",
        queue="billing",
        input={"account_id": 42, "customer": result("fetch_customer")},
        deps=["fetch_customer"],
    )
    wf.add(
        "notify", worker="notify", input={"billing": result("sync_billing")}, deps=["sync_billing"]
    )
    wf.add("cleanup", worker="cleanup")
    wf.connect("sync_billing", "cleanup", policy="continue")
    return wf


# --- reading it back


def test_the_example_of_the_contract(client: Client) -> None:
    before = datetime.now(UTC)
    view = client.insert(example())
    assert view == client.get(view.id)
    assert (view.name, view.state, view.terminal_cause) == ("sync_customer", "available", None)
    assert view.context == {"account_id": 42, "label": "Customer sync"}
    assert (view.semantics_version, view.definition_version, view.duplicate) == (2, 1, False)
    assert (view.step_count, view.runnable_step_count) == (4, 1)
    assert view.completed_step_count == view.cancelled_step_count == view.failed_step_count == 0
    assert view.started_at is view.finished_at is view.cancel_requested_at is None
    assert view.cancel_reason is None
    assert view.inserted_at.tzinfo == UTC
    assert abs(view.inserted_at - before) < timedelta(seconds=60)
    assert view.last_transition_at == view.inserted_at
    fetch, billing, notify, cleanup = client.steps(view.id)
    assert fetch.state == "available"
    assert {billing.state, notify.state, cleanup.state} == {"pending"}
    assert (billing.worker, billing.queue) == ("sync_billing", "billing")
    assert billing.input == {"account_id": 42, "customer": {"$result": "fetch_customer"}}
    assert [step.position for step in (fetch, billing, notify, cleanup)] == [0, 1, 2, 3]
    assert [step.dependency_count for step in (fetch, billing, notify, cleanup)] == [0, 1, 1, 1]
    assert {(edge.parent, edge.child, edge.policy) for edge in client.graph(view.id).edges} == {
        ("fetch_customer", "sync_billing", EdgePolicy.CANCEL),
        ("sync_billing", "notify", EdgePolicy.CANCEL),
        ("sync_billing", "cleanup", EdgePolicy.CONTINUE),
    }


def test_every_field_of_a_step(client: Client) -> None:
    wf = Workflow("w", definition_version=77)
    wf.add(
        "a",
        worker="some.worker/with spaces, commas|bars:colons {braces} ünï",
        input={"x": [1, {"y": None}]},
        queue="Q.u-e_1",
        context={"note": "why"},
        priority=999,
        max_attempts=1000,
        backoff=Backoff(base=0.5, factor=3, cap=9, jitter="none"),
        timeout=12.5,
    )
    wf.add("b", worker="b", priority=-999, input=0, context=False)
    view = client.insert(wf)
    assert view.definition_version == 77
    step = client.step(view.id, "a")
    assert step.worker == "some.worker/with spaces, commas|bars:colons {braces} ünï"
    assert step.input == {"x": [1, {"y": None}]}
    assert step.context == {"note": "why"}
    assert (step.queue, step.priority, step.max_attempts) == ("Q.u-e_1", 999, 1000)
    assert (step.attempt, step.state) == (0, "available")
    unset = ("started_at", "finished_at", "retry_at", "lease_expires_at", "leased_by")
    for field in (*unset, "awaiting", "cancel_requested_at", "terminal_cause"):
        assert getattr(step, field) is None
    assert step.last_transition_at == view.inserted_at
    other = client.step(view.id, "b")
    assert (other.priority, other.queue, other.max_attempts) == (-999, "default", 5)
    assert (other.input, other.context) == (0, False)
    assert client.steps(view.id) == [step, other]


def test_names_at_their_limits(client: Client) -> None:
    names = ["a" * 128, ".", "-", "_", "0", "..", "s", "c", "k", "A.b-c_9"]
    wf = Workflow("w" * 128)
    for name, queue in zip(names, [*names[1:], "x" * 128], strict=True):
        wf.add(name, worker="w" * 256, queue=queue)
    view = client.insert(wf)
    assert [step.name for step in client.steps(view.id)] == names
    for name in names:
        client.complete_step(view.id, name, payload=name)
    assert [row.payload for row in client.results(view.id)] == names


DEEP: Any = None
for _ in range(199):
    DEEP = [DEEP]

PAYLOADS = [
    [],
    {},
    [[]],
    {"a": []},
    "",
    0,
    False,
    True,
    -1,
    2**53 + 1,
    -(2**63),
    2**64 - 1,
    0.1,
    1e308,
    5e-324,
    -0.0,
    1.0,
    123456789.123456789,
    'ünï ☃ 𝄞 \u2028 \x00 " \\ /',
    {"": "", "ключ": ["☃"], "a.b": 1, " ": None},
    {"b": 1, "a": 2},
    [None],
    DEEP,
    "x" * 200_000,
    list(range(20_000)),
]


def test_payloads_come_back_as_they_went_in(client: Client) -> None:
    wf = Workflow("w", context=PAYLOADS[:20])
    for number, value in enumerate(PAYLOADS):
        wf.add(f"s{number}", worker="w", input=value, context=value)
    view = client.insert(wf)
    assert _same(client.get(view.id).context, PAYLOADS[:20])
    for step, value in zip(client.steps(view.id), PAYLOADS, strict=True):
        assert _same(step.input, value)
        assert _same(step.context, value)
        done = client.complete_step(view.id, step.name, payload=value)
        assert _same(done.step.input, value)
        row = client.result(view.id, step.name)
        assert row is not None
        assert _same(row.payload, value)
    for row, value in zip(client.results(view.id), PAYLOADS, strict=True):
        assert _same(row.payload, value)
        stored = raw(client).hget(own_key(view.id, "p"), f"o:{row.step}:1")
        assert row.payload_bytes == stored


def _same(left: Any, right: Any) -> bool:
    """Equal in type too: 1 is not 1.0, and 0.0 is not -0.0; the order of keys counts."""
    while isinstance(left, list) and isinstance(right, list) and len(left) == len(right) == 1:
        left, right = left[0], right[0]  # deep values must not overflow the stack
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return bool(repr(left) == repr(right))


def test_compact_json_is_stored(client: Client) -> None:
    view = client.insert(flow("a"))
    client.complete_step(view.id, "a", payload={"b": [1, 2.0], "ü": "☃"})
    row = client.result(view.id, "a")
    assert row is not None
    assert row.payload_bytes == '{"b":[1,2.0],"ü":"☃"}'.encode()


def test_references_come_back_as_they_are_stored(client: Client) -> None:
    wf = Workflow("w").add("a", worker="w").add("b", worker="w")
    wf.add("c", worker="w", input=[result("a", "x.y"), {"deep": result("b")}], deps=["a"])
    view = client.insert(wf)
    assert client.step(view.id, "c").input == [
        {"$result": "a", "path": "x.y"},
        {"deep": {"$result": "b"}},
    ]
    # The reference to b, which was not an ancestor, has added an edge.
    assert client.step(view.id, "c").dependency_count == 2
    client.complete_step(view.id, "a")
    assert states(client, view.id) == "a=completed b=available c=pending"
    assert client.complete_step(view.id, "b", "failed").cancelled == ("c",)


def test_an_explicit_edge_wins_over_a_references(client: Client) -> None:
    wf = Workflow("w").add("a", worker="w").add("c", worker="w", input=result("a"))
    wf.connect("a", "c", policy="continue")
    view = client.insert(wf)
    assert client.complete_step(view.id, "a", "failed").released == ("c",)


def test_steps_are_in_topological_order_and_pages_fit_together(client: Client) -> None:
    wf = Workflow("w")
    names = [f"s{n}" for n in range(600)]
    for number, name in reversed(list(enumerate(names))):
        wf.add(name, worker="w", deps=[names[number - 1]] if number else [])
    view = client.insert(wf)
    found = client.steps(view.id)
    assert [step.name for step in found] == names
    assert [step.position for step in found] == list(range(600))
    pages = [client.steps(view.id, limit=170, offset=offset) for offset in range(0, 700, 170)]
    assert [len(page) for page in pages] == [170, 170, 170, 90, 0]
    assert list(itertools.chain(*pages)) == found
    assert client.steps(view.id, limit=0) == []
    assert client.steps(view.id, offset=599) == found[-1:]


def test_a_large_graph_comes_back_whole(client: Client) -> None:
    wf = fan_out(1500)
    wf.add("last", worker="w", deps=[f"c{n}" for n in range(1500)])
    view = client.insert(wf)
    graph = client.graph(view.id)
    assert graph.workflow == view
    assert len(graph.steps) == 1502
    assert {(edge.parent, edge.child) for edge in graph.edges} == {
        edge for n in range(1500) for edge in (("root", f"c{n}"), (f"c{n}", "last"))
    }
    assert client.step(view.id, "last").dependency_count == 1500


def test_large_payloads_make_an_insert_of_many_calls(client: Client) -> None:
    wf = Workflow("w")
    for number in range(12):
        wf.add(f"s{number}", worker="w", input="x" * 250_000, context=number)
    view = client.insert(wf)
    assert [step.context for step in client.steps(view.id)] == list(range(12))
    assert {len(step.input) for step in client.steps(view.id)} == {250_000}


def test_ids_differ_and_carry_their_partition(client: Client, server: AnyServer) -> None:
    ids = [client.insert(flow("a")).id for _ in range(100)]
    assert len(set(ids)) == 100
    partitions = {int(id_.partition("-")[0]) for id_ in ids}
    if server.kind == "cluster":
        assert partitions <= set(range(16))
        assert len(partitions) > 8
    else:
        assert partitions == {0}


def test_two_namespaces_share_nothing(server: AnyServer) -> None:
    a = Client.from_url(server.url, namespace="one")
    b = Client.from_url(server.url, namespace="one.two")
    with a, b:
        view = a.insert(flow("a"), key="k")
        assert b.list().workflows == ()
        with pytest.raises(NotFound):
            b.get(view.id)
        assert not b.insert(flow("a"), key="k").duplicate
        assert invariants.check(a, "one") == []
        assert invariants.check(b, "one.two") == []


# --- insert keys


def test_the_same_key_again_returns_the_first_workflow(client: Client) -> None:
    first = client.insert(example(), key="customer 42 {ü}:|\n\x00")
    again = client.insert(example(), key="customer 42 {ü}:|\n\x00")
    assert not first.duplicate
    assert again.duplicate
    assert again.model_copy(update={"duplicate": False}) == first
    assert noted(client, first.id) == [("insert", None, "duplicate", "duplicate_insert")]
    (entry,) = client.evidence(first.id)
    assert (entry.source, entry.message) == ("client", "")
    assert [view.id for view in client.list().workflows] == [first.id]


def test_a_duplicate_insert_shows_the_workflow_as_it_is_now(client: Client) -> None:
    first = client.insert(flow("a"), key="k")
    client.complete_step(first.id, "a")
    again = client.insert(flow("a"), key="k")
    assert (again.id, again.state, again.duplicate) == (first.id, "completed", True)
    assert not client.get(first.id).duplicate


def test_an_equal_definition_may_be_written_differently(client: Client) -> None:
    one = Workflow("w", context={"a": 1, "b": 2})
    one.add("x", worker="w", input={"p": 1, "q": 2}).add("y", worker="w", deps=["x"])
    other = Workflow("w", context={"b": 2, "a": 1})
    other.add("x", worker="w", input={"q": 2, "p": 1}).add("y", worker="w").connect("x", "y")
    first = client.insert(one, key="k")
    assert client.insert(other, key="k").id == first.id
    assert client.insert(Workflow.from_dict(one.to_dict()), key="k").duplicate


CHANGES: list[Workflow] = [
    flow("a b:a", name="other"),
    flow("a b"),
    flow("a b:+a"),
    flow("a b:a c"),
    flow("a b:a", worker="other"),
    flow("a b:a", queue="q"),
    flow("a b:a", priority=1),
    flow("a b:a", max_attempts=4),
    flow("a b:a", backoff=3),
    flow("a b:a", timeout=3),
    flow("a b:a", input=0),
    flow("a b:a", context=0),
    Workflow.from_dict({**flow("a b:a").to_dict(), "definition_version": 2}),
    Workflow.from_dict({**flow("a b:a").to_dict(), "context": []}),
]


def test_the_key_of_another_definition_is_refused(client: Client) -> None:
    first = client.insert(flow("a b:a"), key="k")
    for other in CHANGES:
        with refused("key_conflict") as caught:
            client.insert(other, key="k")
    error = caught.value
    assert (error.action, error.scope) == ("insert", "workflow")
    assert first.id in error.message
    assert error.requested_at is not None
    assert error.legal_next_steps == ("insert_with_new_key", "inspect_workflow")
    assert len(client.list().workflows) == 1
    assert noted(client, first.id) == [("insert", None, "rejected", "key_conflict")] * len(CHANGES)
    assert client.evidence(first.id)[-1].requested_at == error.requested_at
    assert client.insert(flow("a b:a"), key="k").duplicate


def test_without_a_key_every_insert_is_another_workflow(client: Client) -> None:
    assert client.insert(flow("a")).id != client.insert(flow("a")).id
    assert client.insert(flow("a"), key="a").id != client.insert(flow("a"), key="b").id


def test_the_same_key_from_many_threads(client: Client, server: AnyServer) -> None:
    start = threading.Barrier(8)

    def run(number: int) -> WorkflowView:
        with connect(server) as own:
            own.list()
            start.wait()
            return own.insert(fan_out(900), key="k")

    with ThreadPoolExecutor(8) as threads:
        views = list(threads.map(run, range(8)))
    assert len({view.id for view in views}) == 1
    assert [view.id for view in client.list().workflows] == [views[0].id]
    assert [view.duplicate for view in views].count(False) == 1
    assert client.get(views[0].id).step_count == 901


def test_the_same_key_with_two_definitions_from_many_threads(
    client: Client, server: AnyServer
) -> None:
    start = threading.Barrier(8)

    def run(number: int) -> str:
        with connect(server) as own:
            own.list()
            start.wait()
            try:
                return own.insert(fan_out(900 + number % 2), key="k").id
            except CommandRejected as error:
                return "" if error.reason_code == "key_conflict" else str(error)

    with ThreadPoolExecutor(8) as threads:
        ids = list(threads.map(run, range(8)))
    assert len(set(ids) - {""}) == 1
    winner = (set(ids) - {""}).pop()
    assert [view.id for view in client.list().workflows] == [winner]
    right = {number % 2 for number, id_ in enumerate(ids) if id_}
    assert right == {client.get(winner).step_count - 901}


def test_retention_is_taken(client: Client) -> None:
    for number, kept in enumerate([None, timedelta(0), WEEK, timedelta(days=365_000)]):
        assert client.insert(flow("a"), key=str(number), retention=kept).step_count == 1
    # It is no part of the definition.
    assert client.insert(flow("a"), key="0", retention=WEEK).duplicate


def test_inserting_changes_no_workflow_object(client: Client) -> None:
    wf = example()
    before = wf.to_dict()
    client.insert(wf)
    wf.add("more", worker="w")
    assert client.insert(wf).step_count == 5
    assert {**before, "steps": [*before["steps"], {"name": "more", "worker": "w"}]} == wf.to_dict()


@pytest.mark.one_face
def test_a_chain_of_ten_thousand_steps(one_client: Client) -> None:
    view = one_client.insert(chain(10_000))
    assert view.runnable_step_count == 1
    result_ = one_client.complete_step(view.id, "s0", "failed")
    assert result_.cancelled_count == 9_999
    assert result_.workflow.state == "failed"
