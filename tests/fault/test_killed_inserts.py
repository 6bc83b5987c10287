"""A process that dies amid an insert or a release leaves nothing visible half done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest

from rwf import Client, Completion, NotFound, Workflow
from rwf.model.views import WorkflowView
from rwf.ops.complete import complete_step
from rwf.ops.insert import insert
from rwf.protocol.functions.inserts import Insert, StageInsert
from rwf.protocol.requests import Call, Op
from tests.conftest import connect
from tests.support import invariants
from tests.support.flows import drive, flow, one_call, outdate_reservations, own_key, raw
from tests.support.servers import AnyServer
from tests.support.waiting import until

WEEK = timedelta(days=7)


def graph() -> Workflow:
    """About 2,000 steps, in slices: many roots, a wide fan-out, a wide fan-in, payloads."""
    words = [*(f"r{n}" for n in range(600)), "root", *(f"c{n}:root" for n in range(1300))]
    words.append("last:" + ",".join(f"c{n}" for n in range(1300)))
    return flow(" ".join(words), input={"n": 1})


def calls_of(client: Client, wf: Workflow, key: str | None = None) -> list[Call]:
    """The calls that a whole insert makes."""
    made: list[Call] = []
    op: Op[WorkflowView] = insert(client._ctx, wf, key, WEEK)
    reply: Any = None
    while True:
        try:
            call = op.send(reply)
        except StopIteration:
            return made
        assert isinstance(call, Call)
        made.append(call)
        reply = client._run(one_call(call))


def test_an_insert_stopped_after_each_of_its_calls(client: Client) -> None:
    _stopped(client, None)


def test_a_keyed_insert_stopped_after_each_of_its_calls(one_client: Client) -> None:
    _stopped(one_client, "k")


def _stopped(client: Client, key: str | None) -> None:
    client.list()
    count = len(calls_of(client, graph(), None if key is None else "other"))
    assert count > 8
    [whole] = client.list().workflows
    seen_absent = seen_present = 0
    for calls in range(count):
        own_key_ = None if key is None else f"{key}{calls}"
        before = {view.id for view in client.list().workflows}
        assert drive(client, insert(client._ctx, graph(), own_key_, WEEK), calls) is None
        new = {view.id for view in client.list().workflows} - before
        if not new:
            seen_absent += 1
        for workflow_id in new:
            seen_present += 1
            client.reconcile(workflow_id)
            view = client.get(workflow_id)
            assert (view.step_count, view.runnable_step_count) == (1902, 601)
            assert len(client.graph(workflow_id).edges) == 2600
        # The next client with this key gets a whole workflow.
        if own_key_ is not None:
            again = client.insert(graph(), key=own_key_)
            assert (again.runnable_step_count, again.duplicate) == (601, bool(new))
    assert seen_absent > 3
    assert seen_present > 0
    assert client.get(whole.id) == whole


def test_a_staged_graph_cannot_be_read_or_touched(client: Client) -> None:
    client.list()
    op = insert(client._ctx, graph(), None, WEEK)
    reply: Any = None
    found = ""
    for _ in range(4):
        call = op.send(reply)
        assert isinstance(call, Call)
        reply = client._run(one_call(call))
        if call.function == StageInsert.name:
            found = call.keys[-1].rpartition(":")[2]
    op.close()
    assert raw(client).exists(own_key(found))
    for read in (client.get, client.steps, client.results, client.graph, client.explain):
        with pytest.raises(NotFound):
            read(found)
    for read_step in (client.step, client.result, client.explain_step):
        with pytest.raises(NotFound):
            read_step(found, "root")
    with pytest.raises(NotFound):
        client.reconcile(found)
    [refusal] = client.complete_many([Completion(workflow_id=found, step="root")])
    assert getattr(refusal, "reason_code", None) == "workflow_not_found"
    assert client.list().workflows == ()


def test_what_a_dead_inserter_left_is_removed_by_a_later_one(one_client: Client) -> None:
    client = one_client
    client.list()
    for _ in range(12):
        drive(client, insert(client._ctx, graph(), None, WEEK), 4)
    left = [key for key in raw(client).scan_iter() if b":w:" in key]
    assert len(left) == 12
    for key in raw(client).scan_iter(match="*:staged"):
        for member, _ in raw(client).zrange(key, 0, -1, withscores=True):
            raw(client).zadd(key, {member: 1})  # long ago
    for _ in range(20):  # each cleans up in its own partition, and a few at a time
        client.insert(graph())
        ids = {view.id for view in client.list(limit=100).workflows}
        kept = {key.decode().rpartition(":")[2] for key in raw(client).scan_iter(match="*:w:*")}
        if kept == ids:
            return
    pytest.fail(f"{len(kept - ids)} dead inserts are left")


def test_an_insert_that_took_too_long_begins_again(one_client: Client) -> None:
    """Its parts were given up while it slept; the workflow that it makes visible is whole all the
    same."""
    client = one_client
    client.list()
    op = insert(client._ctx, graph(), None, WEEK)
    reply: Any = None
    number = 0
    while True:
        try:
            call = op.send(reply)
        except StopIteration as end:
            view: WorkflowView = end.value
            break
        assert isinstance(call, Call)
        reply = client._run(one_call(call))
        number += 1
        if number == 5:
            workflow_id = call.keys[-1].rpartition(":")[2]
            raw(client).delete(own_key(workflow_id), own_key(workflow_id, "p"))
    assert view.step_count == 1902
    assert len(client.graph(view.id).edges) == 2600


def test_an_insert_that_lost_its_payloads_alone_leaves_nothing_and_begins_again(
    one_client: Client,
) -> None:
    client = one_client
    client.list()
    op = insert(client._ctx, graph(), None, WEEK)
    reply: Any = None
    while True:
        call = op.send(reply)
        assert isinstance(call, Call)
        keys = [own_key(call.keys[-1].rpartition(":")[2], kind) for kind in "wp"]
        last = call.function == Insert.name
        if last:
            raw(client).delete(keys[1])
        reply = client._run(one_call(call))
        if last:
            break
    assert [each.outcome for each in Insert.decoded(reply)] == ["incomplete"]
    assert raw(client).exists(*keys) == 0
    op.close()


def test_what_was_staged_under_a_key_goes_when_its_id_is_made_unusable(one_client: Client) -> None:
    client = one_client
    client.list()
    drive(client, insert(client._ctx, graph(), "k", WEEK), 6)
    (staged,) = raw(client).scan_iter("rwf:*:p:*")
    outdate_reservations(client)
    assert client.insert(flow("a"), key="k").step_count == 1
    assert not raw(client).exists(staged)


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_a_release_cut_after_each_of_its_slices(
    one_client: Client, one_server: AnyServer, status: str
) -> None:
    client = one_client
    view = client.insert(graph())
    item = Completion(workflow_id=view.id, step="root", status=status, command_id="one")
    assert client.complete_step(**_arguments(item)).released_count in (1300, 0)
    slices = 0
    while True:
        slices += 1
        one_server.flush()  # the check of all that is there is soon most of the work
        view = client.insert(graph())
        done = drive(client, complete_step(client._ctx, item_of(item, view.id)), slices)
        if done is not None:
            break
        assert client.get(view.id).terminal_cause is None
        assert invariants.check(client) == []
        if slices % 2:
            client.reconcile(view.id)
        else:
            client.complete_step(view.id, "root", status, command_id="one")
        now = client.get(view.id)
        if status == "completed":
            assert now.runnable_step_count == 600 + 1300
        else:
            assert now.cancelled_step_count == 1301
        assert client.step(view.id, "last").state == (
            "pending" if status == "completed" else "cancelled"
        )
    assert slices > 2


def test_another_completing_client_finishes_what_stands_before_it(client: Client) -> None:
    words = ["a", "b", *(f"x{n}:a" for n in range(1500)), *(f"y{n}:b" for n in range(1500))]
    view = client.insert(flow(" ".join(words)))
    item = Completion(workflow_id=view.id, step="a")
    assert drive(client, complete_step(client._ctx, item), 1) is None
    result = client.complete_step(view.id, "b")
    assert result.released_count == 1500
    assert client.get(view.id).runnable_step_count == 3000


def item_of(item: Completion, workflow_id: str) -> Completion:
    return Completion(**{**_arguments(item), "workflow_id": workflow_id})


def _arguments(item: Completion) -> dict[str, Any]:
    return {name: getattr(item, name) for name in ("workflow_id", "step", "status", "command_id")}


# --- a real process, really killed

CHILD = """
import sys
from rwf import (Client, Workflow)

wf = Workflow("large")
wf.add("root", worker="w")
for number in range(int(sys.argv[2])):
    wf.add(f"s{number}", worker="w", deps=["root"], input={"n": number})
client = Client.from_url(sys.argv[1], partitions=int(sys.argv[3]))
client.list()
print("ready", flush=True)
client.insert(wf, key="large")
print("done", flush=True)
"""


def _kill_amid(server: AnyServer, size: int, staged: int) -> None:
    """A child process inserts, and is killed once this many fields are stored."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    partitions = "16" if server.kind == "cluster" else "1"
    command = [sys.executable, "-c", CHILD, server.url, str(size), partitions]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        redis: Any = server.client()

        def enough() -> bool:
            keys = [key for key in redis.scan_iter(count=1000) if b":w:" in key]
            return bool(keys) and redis.hlen(keys[0]) >= staged

        until(enough, timeout=60, what="a part of the insert")
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        assert child.stdout.read() == b""


@pytest.mark.parametrize(("size", "staged"), [(8_000, 1), (8_000, 3_000)])
def test_a_killed_process(one_server: AnyServer, size: int, staged: int) -> None:
    _killed(one_server, size, staged)


@pytest.mark.long
@pytest.mark.parametrize("staged", [1, 20_000, 45_000])
def test_a_killed_process_amid_fifty_thousand_steps(server: AnyServer, staged: int) -> None:
    _killed(server, 50_000, staged)


def _killed(server: AnyServer, size: int, staged: int) -> None:
    _kill_amid(server, size, staged)
    with connect(server) as client:
        assert client.list().workflows == ()
        assert invariants.check(client) == []
        wf = Workflow("large").add("root", worker="w")
        for number in range(size):
            wf.add(f"s{number}", worker="w", deps=["root"], input={"n": number})
        view = client.insert(wf, key="large")
        assert (view.step_count, view.duplicate) == (size + 1, False)
        assert client.complete_step(view.id, "root").released_count == size
        assert invariants.check(client) == []
