"""Corrupt records block no other workflow, and are named."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rwf import Client, Completion, Handlers, NotFound, RecordUnreadable, Worker, Workflow
from rwf.testing import run_until_idle
from tests.support.commandline import Cli
from tests.support.flows import flow, own_key, partition_key, raw, refused, states
from tests.support.outbox import stat
from tests.support.servers import AnyServer
from tests.support.workers import CLIENTS, client_of, run_to_end

pytestmark = pytest.mark.usefixtures("broken_on_purpose")


def no_hash(client: Client, workflow_id: str) -> None:
    raw(client).delete(own_key(workflow_id))
    raw(client).set(own_key(workflow_id), "x")


def no_payloads(client: Client, workflow_id: str) -> None:
    raw(client).delete(own_key(workflow_id, "p"))
    raw(client).set(own_key(workflow_id, "p"), "x")


def field(name: str) -> Callable[[Client, str], None]:
    return lambda client, id_: raw(client).hset(own_key(id_), name, "nonsense")


SPOILT = pytest.mark.parametrize(
    "spoil",
    [no_hash, field(":s"), field(":c"), field("a")],
    ids=["no_hash", "fixed", "counts", "step"],
)


@SPOILT
def test_others_are_claimed(
    client: Client, spoil: Callable[[Client, str], None], caplog: pytest.LogCaptureFixture
) -> None:
    ids = [client.insert(flow("a")).id for _ in range(4)]
    spoil(client, ids[0])
    claimed = client.claim(["default"], worker_id="w", limit=4)
    assert {one.workflow_id for one in claimed} == set(ids[1:])
    assert f"step a of {ids[0]} was skipped" in caplog.text


def no_json(client: Client, workflow_id: str) -> None:
    raw(client).hset(own_key(workflow_id, "p"), "i:a", "no json")


@pytest.mark.parametrize("spoil", [no_json, no_payloads])
def test_an_input_that_cannot_be_read_is_its_own_steps_alone(
    client: Client, spoil: Callable[[Client, str], None], caplog: pytest.LogCaptureFixture
) -> None:
    ids = [client.insert(flow("a", input={"x": 1})).id for _ in range(4)]
    spoil(client, ids[0])
    claimed = client.claim(["default"], worker_id="w", limit=4)
    assert {one.workflow_id for one in claimed} == set(ids[1:])
    assert f"step a of {ids[0]} was skipped" in caplog.text


@CLIENTS
def test_a_worker_survives_an_input_that_cannot_be_read(
    one_client: Client, one_server: AnyServer, kind: str
) -> None:
    spoilt = one_client.insert(flow("a", input={"x": 1}))
    others = [one_client.insert(flow("a b:a", input={"x": 1})).id for _ in range(3)]
    no_json(one_client, spoilt.id)
    worker = Worker(client_of(kind, one_server))
    worker.step("work")(lambda: None)
    run_to_end(worker, one_client, *others)


@SPOILT
def test_others_of_a_batch_are_reported(
    client: Client, spoil: Callable[[Client, str], None]
) -> None:
    ids = [client.insert(flow("a")).id for _ in range(4)]
    spoil(client, ids[1])
    with pytest.raises(RecordUnreadable):
        client.complete_many([Completion(workflow_id=one, step="a") for one in ids])
    assert [client.get(ids[number]).state for number in (0, 2, 3)] == ["completed"] * 3


def test_a_batch_that_fails_has_written_nothing_that_counts(client: Client) -> None:
    ids = [client.insert(flow("a b:a")).id for _ in range(4)]
    no_payloads(client, ids[1])
    with pytest.raises(RecordUnreadable):
        client.complete_many([Completion(workflow_id=one, step="a", payload=1) for one in ids])
    assert stat(client, "gs|completed") == 3
    assert {one.workflow_id for one in client.claim(["default"], worker_id="w", limit=9)} == set(
        ids
    )
    assert states(client, ids[3]) == "a=completed b=executing"


def test_others_are_inserted(client: Client) -> None:
    keys = [f"k{number}" for number in range(100)]
    spoilt = client.insert(flow("a"), key=keys[3])
    no_hash(client, spoilt.id)
    for _ in range(2):
        with pytest.raises(RecordUnreadable):
            client.insert_many([flow("a")] * 100, keys=keys)
    assert len(client.list(limit=200).workflows) == 99


@SPOILT
def test_others_keep_their_leases(client: Client, spoil: Callable[[Client, str], None]) -> None:
    ids = [client.insert(flow("a")).id for _ in range(3)]
    held = client.claim(["default"], worker_id="w", limit=3)
    spoil(client, ids[0])
    told = client.heartbeat(held)
    assert {one.workflow_id for one in told.extended} == set(ids[1:])
    assert [one.workflow_id for one in told.lost] == ids[:1]
    assert client.release(held) == 2


@CLIENTS
@SPOILT
def test_a_worker_goes_on_with_others(
    one_client: Client, one_server: AnyServer, kind: str, spoil: Callable[[Client, str], None]
) -> None:
    spoilt = one_client.insert(flow("a"))
    others = [one_client.insert(flow("a b:a")).id for _ in range(3)]
    spoil(one_client, spoilt.id)
    worker = Worker(client_of(kind, one_server))
    worker.step("work")(lambda: None)
    run_to_end(worker, one_client, *others)


@pytest.mark.parametrize("spoil", [no_hash, field(":s"), field(":c")])
def test_it_is_left_out_of_a_listing_and_named(
    client: Client, spoil: Callable[[Client, str], None], caplog: pytest.LogCaptureFixture
) -> None:
    ids = [client.insert(flow("a")).id for _ in range(3)]
    spoil(client, ids[1])
    assert [view.id for view in client.list().workflows] == [ids[2], ids[0]]
    assert f"{ids[1]} was skipped" in caplog.text
    assert [failure.id for failure in client.rebuild().failures] == [ids[1]]


def test_only_a_context_that_cannot_be_read_keeps_a_workflow_out_of_a_listing(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    graphs = [Workflow("some", context=number).add("a", worker="w") for number in range(3)]
    with_context = [client.insert(graph).id for graph in graphs]
    without = client.insert(flow("a")).id
    for workflow_id in (with_context[1], without):
        no_payloads(client, workflow_id)
    page = client.list().workflows
    assert [view.id for view in page] == [without, with_context[2], with_context[0]]
    assert [view.context for view in page] == [None, 2, 0]
    assert f"{with_context[1]} was skipped" in caplog.text


@SPOILT
def test_commands_on_it_fail_by_a_name_of_its_own(
    client: Client, spoil: Callable[[Client, str], None]
) -> None:
    view = client.insert(flow("a"))
    spoil(client, view.id)
    for command in (client.steps, client.graph, client.evidence, client.request_cancel):
        with pytest.raises(RecordUnreadable, match="corrupt record"):
            command(view.id)
    with pytest.raises(RecordUnreadable):
        client.complete_step(view.id, "a")


def spoil_field(client: Client, key: str, name: str, old: str, new: str) -> None:
    text = raw(client).hget(key, name).decode()
    assert old in text
    raw(client).hset(key, name, text.replace(old, new, 1))


def test_a_time_that_is_none_is_unreadable(client: Client) -> None:
    view = client.insert(flow("a"))
    since = raw(client).hget(own_key(view.id), ":s").decode().split(",")[3]
    spoil_field(client, own_key(view.id), ":s", since, "9" * 18)
    for read in (client.get, client.steps, client.graph):
        with pytest.raises(RecordUnreadable):
            read(view.id)


def test_a_number_of_attempts_that_is_none_is_unreadable(client: Client) -> None:
    view = client.insert(flow("a"))
    spoil_field(client, own_key(view.id), "a", ",5,", ",1.5,")
    for read in (client.steps, client.graph):
        with pytest.raises(RecordUnreadable):
            read(view.id)


def test_names_that_are_no_text_are_unreadable(client: Client) -> None:
    view = client.insert(flow("a"))
    raw(client).hset(own_key(view.id), "#0", b"\xff")
    for read in (client.steps, client.graph, client.evidence, client.results):
        with pytest.raises(RecordUnreadable):
            read(view.id)


def test_a_header_with_any_number_of_steps_holds_nobody_up(client: Client) -> None:
    """Each loop over its steps ends where there are no more."""
    spoilt, _ = client.insert(flow("a")), client.insert(flow("a"))
    static = raw(client).hget(own_key(spoilt.id), ":s").decode().split(",")
    static[2] = str(10**17)
    raw(client).hset(own_key(spoilt.id), ":s", ",".join(static))
    for call in (client.steps, client.graph, client.reconcile, client.request_cancel):
        with pytest.raises(RecordUnreadable):
            call(spoilt.id)
    assert [failure.id for failure in client.rebuild().failures] == [spoilt.id]


def test_a_step_that_is_listed_but_not_there_is_unreadable(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    raw(client).hset(own_key(view.id), "#0", "a,nothing")
    with pytest.raises(RecordUnreadable):
        client.request_cancel(view.id)
    with pytest.raises(RecordUnreadable):
        client.reconcile(view.id)


@pytest.mark.parametrize("owner", ["nonsense", "1.5-abcdefghijklmnop", "-1-abcdefghijklmnop"])
def test_a_key_of_no_workflow_s_id_is_unreadable(one_client: Client, owner: str) -> None:
    view = one_client.insert(flow("a"), key="k")
    keys = partition_key(view.id, "keys")
    (digest,) = raw(one_client).hkeys(keys)
    spoil_field(one_client, keys, digest, view.id, owner)
    with pytest.raises(RecordUnreadable):
        one_client.find("k")
    with pytest.raises(RecordUnreadable):
        one_client.insert(flow("a"), key="k")


def test_a_topic_that_has_forgotten_a_wait_is_told_of_it_anew(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    one_client.await_step(view.id, "a", signal="s", correlation_key="k")
    (topic,) = raw(one_client).keys("*:sig:*")
    raw(one_client).hset(topic, f"l{view.id}|a", "nonsense")
    assert one_client.deliver_signal("s", "k").status in ("consumed", "unmatched", "recorded")
    one_client.reconcile(view.id)
    assert one_client.step(view.id, "a").state == "available"


def test_the_field_of_a_wait_is_no_step(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    one_client.await_step(view.id, "a", signal="s", correlation_key="k")
    with pytest.raises(NotFound):
        one_client.step(view.id, "~a")
    with refused("step_not_found"):
        one_client.complete_step(view.id, "~a")


def test_timers_of_another_type_are_named_where_workflows_are_run(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    raw(one_client).set(partition_key(view.id, "timers"), "x")
    with pytest.raises(RecordUnreadable):
        run_until_idle(one_client, Handlers(), skip_time=False, within=0)


def test_the_command_line_says_so(cli: Cli) -> None:
    with Client.from_url(cli.url) as client:
        view = client.insert(flow("a"))
        no_hash(client, view.id)
    assert "record_unreadable" in cli.refused(1, "show", view.id)
