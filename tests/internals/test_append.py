"""Appending in slices: atomic to readers, and whole or nothing after a kill (contract §14)."""

from __future__ import annotations

import pytest

from rwf import Client, Fragment, NotFound, Workflow, results
from rwf.ops.appending import append
from rwf.ops.complete import Completion, complete_step
from rwf.ops.insert import tidy
from tests.contract.test_append import fragment
from tests.support import invariants
from tests.support.flows import drive, flow, partition_key, raw, states, stepped
from tests.support.servers import AnyServer

WIDE = 450
"""More than two pieces hold, and more than a call walks."""


def wide(count: int = WIDE, deps: str = "") -> Fragment:
    return fragment(" ".join(f"m{n}:{deps}" for n in range(count)))


def split(client: Client) -> str:
    wf = Workflow("wide").add("split", worker="s").add("other", worker="o")
    wf.add("join", worker="j", input=results("split"), deps=["split"])
    return client.insert(wf).id


def finish(client: Client, workflow_id: str) -> None:
    """Runs all that can run."""
    while claims := client.claim(["default"], worker_id="w", limit=1000):
        client.complete_many(
            Completion(workflow_id=workflow_id, step=claim.step, lease=claim.lease)
            for claim in claims
        )


def test_nobody_sees_a_part_of_a_fragment(one_client: Client) -> None:
    client, workflow_id = one_client, split(one_client)
    seen = set()

    def look() -> None:
        view = client.get(workflow_id)
        steps = client.steps(workflow_id)
        assert view.step_count == len(steps)
        assert view.state not in ("completed", "failed", "cancelled")
        assert client.step(workflow_id, "join").state == "pending"
        assert {"m0", "m449"} <= {step.name for step in steps} or len(steps) == 3
        if len(steps) == 3:
            for name in ("m0", f"m{WIDE - 1}"):
                with pytest.raises(NotFound):
                    client.step(workflow_id, name)
        split_state = next(step.state for step in steps if step.name == "split")
        if split_state == "completed" and len(steps) == 3:
            codes = [one.code for one in client.explain_step(workflow_id, "join").blockers]
            assert codes == ["release_in_progress"]
        seen.add((split_state, len(steps)))

    item = Completion(workflow_id=workflow_id, step="split", append=wide())
    done = stepped(client, complete_step(client._ctx, item), look)
    assert (done.appended_count, done.released_count) == (WIDE, WIDE)
    assert seen == {("available", 3), ("completed", 3), ("completed", WIDE + 3)}
    finish(client, workflow_id)
    assert client.get(workflow_id).state == "completed"


@pytest.mark.parametrize("count", [2, WIDE])
def test_a_kill_at_any_call_leaves_the_whole_or_nothing(
    one_client: Client, one_server: AnyServer, count: int
) -> None:
    client, calls = one_client, 0
    while True:
        one_server.flush()  # the check of all that is there is soon most of the work
        workflow_id = split(client)
        item = Completion(workflow_id=workflow_id, step="split", append=wide(count))
        done = drive(client, complete_step(client._ctx, item), calls)
        assert invariants.check(client) == []
        client.reconcile(workflow_id)
        assert invariants.check(client) == []
        completed = client.step(workflow_id, "split").state == "completed"
        assert client.get(workflow_id).step_count == (count + 3 if completed else 3)
        if not completed:
            again = client.complete_step(workflow_id, "split", append=wide(count))
            assert again.appended_count == count
        finish(client, workflow_id)
        assert client.get(workflow_id).state == "completed"
        if done is not None:
            break
        calls += 1
    assert calls >= 3


def test_a_kill_at_any_call_from_outside(one_client: Client, one_server: AnyServer) -> None:
    client, calls = one_client, 0
    while True:
        one_server.flush()
        workflow_id = split(client)
        op = append(client._ctx, workflow_id, wide(deps="other"), None, "once")
        done = drive(client, op, calls)
        client.reconcile(workflow_id)
        assert invariants.check(client) == []
        assert client.get(workflow_id).step_count in (3, WIDE + 3)
        client.append(workflow_id, wide(deps="other"), command_id="once")
        assert client.get(workflow_id).step_count == WIDE + 3
        finish(client, workflow_id)
        assert client.get(workflow_id).state == "completed"
        if done is not None:
            break
        calls += 1


def test_what_a_killed_append_has_staged_is_given_up(one_client: Client) -> None:
    client, workflow_id = one_client, split(one_client)
    item = Completion(workflow_id=workflow_id, step="split", append=wide())
    assert drive(client, complete_step(client._ctx, item), 5) is None
    staged = partition_key(workflow_id, "staged")
    (member,) = raw(client).zrange(staged, 0, -1)
    assert member.startswith(f"{workflow_id}|".encode())
    raw(client).zadd(staged, {member: 1})
    client._run(tidy(client._ctx, int(workflow_id.partition("-")[0])))
    assert raw(client).zrange(staged, 0, -1) == []
    assert states(client, workflow_id) == "split=available other=available join=pending"


def test_two_appends_at_once_both_come_in(one_client: Client) -> None:
    client, view = one_client, one_client.insert(flow("a b join:a,b"))
    begun = False

    def other() -> None:
        nonlocal begun
        if not begun:
            begun = True
            client.complete_step(view.id, "b", append=fragment("y"))

    item = Completion(workflow_id=view.id, step="a", append=fragment("x"))
    assert stepped(client, complete_step(client._ctx, item), other).appended_count == 1
    assert states(client, view.id) == (
        "a=completed b=completed join=pending y=available x=available"
    )
    assert client.step(view.id, "join").dependency_count == 4


def levels(client: Client, depth: int) -> None:
    view = client.insert(flow("a0 join:a0"))
    for number in range(depth):
        client.complete_step(view.id, f"a{number}", append=fragment(f"a{number + 1}"))
    assert client.step(view.id, "join").state == "pending"
    client.complete_step(view.id, f"a{depth}")
    assert client.step(view.id, "join").state == "available"
    assert client.complete_step(view.id, "join").workflow.state == "completed"


def test_a_graph_grows_by_itself_100_levels(one_client: Client) -> None:
    levels(one_client, 100)


@pytest.mark.long
@pytest.mark.whole
def test_a_graph_grows_by_itself_1000_levels(client: Client) -> None:
    levels(client, 1000)


@pytest.mark.long
@pytest.mark.whole
def test_100000_appended_steps_and_a_reduce_over_their_results(one_client: Client) -> None:
    client, count = one_client, 100_000
    workflow_id = split(client)
    done = client.complete_step(workflow_id, "split", append=wide(count))
    assert (done.appended_count, done.released_count) == (count, count)
    left = count + 1
    while left:
        claims = client.claim(["default"], worker_id="w", limit=1000)
        client.complete_many(
            Completion(workflow_id=workflow_id, step=one.step, lease=one.lease, payload=one.step)
            for one in claims
        )
        left -= len(claims)
    (join,) = client.claim(["default"], worker_id="w")
    assert join.input == [f"m{n}" for n in range(count)]
    assert client.complete(join).workflow.state == "completed"
