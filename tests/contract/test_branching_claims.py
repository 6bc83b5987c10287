"""Conditions, outcomes and waits that go on: the input of a claimed step, and whether it runs at
all (contract §13)."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from rwf import (
    AsyncClient,
    Await,
    Client,
    Fail,
    Skip,
    StepContext,
    Worker,
    Workflow,
    outcome,
    result,
)
from tests.contract.test_branching import causes
from tests.support.commandline import Cli
from tests.support.flows import flow, noted, raw, refused, states, until_past
from tests.support.servers import AnyServer
from tests.support.workers import run_to_end


def claim_all(client: Client) -> list[str]:
    """The steps that a claim hands out, in order."""
    return [claimed.step for claimed in client.claim(["default"], worker_id="w", limit=10)]


# --- conditions


def approval(**options: Any) -> Workflow:
    workflow = Workflow("approval").add("check", worker="w")
    workflow.add("ship", worker="w", when=result("check", "status") == "approved", **options)
    return workflow.add("note", worker="w", deps=["ship"]).add("log", worker="w", deps=["check"])


def test_a_condition_that_holds_lets_the_step_run(client: Client) -> None:
    view = client.insert(approval(input={"of": result("check", "status")}))
    client.complete_step(view.id, "check", payload={"status": "approved"})
    claims = client.claim(["default"], worker_id="w", limit=10)
    assert {claimed.step: claimed.input for claimed in claims} == {
        "ship": {"of": "approved"},
        "log": None,
    }


def test_a_condition_that_does_not_hold_skips_the_branch(client: Client) -> None:
    view = client.insert(approval())
    client.complete_step(view.id, "check", payload={"status": "declined"})
    assert claim_all(client) == ["log"]
    assert causes(client, view.id) == "check=completed ship=skipped note=skipped log=executing"
    row = client.result(view.id, "ship")
    assert row is not None
    assert (row.worker_id, row.payload) == ("w", None)
    why = 'not so: the result of check at status == "approved"'
    assert row.summary == why
    assert client.explain_step(view.id, "note").diagnosis == (
        f"note was skipped: ship skipped its branch: {why}"
    )


def test_a_missing_path_compares_as_false(client: Client) -> None:
    view = client.insert(approval())
    client.complete_step(view.id, "check", payload={})
    assert claim_all(client) == ["log"]
    assert client.step(view.id, "ship").terminal_cause == "skipped"


def test_a_condition_makes_its_step_depend_on_what_it_asks_for(client: Client) -> None:
    view = client.insert(approval())
    assert states(client, view.id) == "check=available ship=pending note=pending log=pending"
    client.complete_step(view.id, "check", "failed")
    assert client.step(view.id, "ship").terminal_cause == "cancelled_by_dependency"


def test_conditions_on_many_large_results_are_read_apart(client: Client) -> None:
    workflow = Workflow("wide")
    condition = result("s0", "n") == 0
    for number in range(100):
        workflow.add(f"s{number}", worker="w")
        condition = condition & (result(f"s{number}", "n") == number)
    workflow.add("all", worker="w", when=condition).add("none", worker="w", when=~condition)
    view = client.insert(workflow)
    for number in range(100):
        client.complete_step(view.id, f"s{number}", payload={"n": number, "pad": "x" * 5_000})
    assert claim_all(client) == ["all"]
    assert client.step(view.id, "none").terminal_cause == "skipped"


def test_a_condition_whose_result_is_lost_waits_for_it(
    client: Client, broken_on_purpose: None
) -> None:
    view = client.insert(approval())
    client.complete_step(view.id, "check", payload={"status": "approved"})
    partition = view.id.partition("-")[0]
    key = f"rwf:{{{partition}}}:p:{view.id}"
    raw(client).hdel(key, "r:check:1", "o:check:1")
    assert claim_all(client) == ["log"]
    found = client.explain_step(view.id, "ship")
    assert found.blockers[0].code == "missing_dependency_result"
    assert client.step(view.id, "ship").attempt == 0


def test_claims_while_completing_see_no_unmet_step(client: Client) -> None:
    from rwf import Completion

    view = client.insert(approval())
    (claimed,) = client.claim(["default"], worker_id="w")
    done = client.complete_many(
        [Completion(workflow_id=view.id, step="check", payload={"status": 1}, lease=claimed.lease)],
        claim_next=5,
        worker_id="w",
    )
    assert [one.step for one in done.claimed] == ["log"]
    assert client.step(view.id, "ship").terminal_cause == "skipped"


def test_a_handler_never_sees_a_step_whose_condition_is_false(one_server: AnyServer) -> None:
    seen: list[str] = []
    with Client.from_url(one_server.url) as client:
        worker = Worker(AsyncClient.from_url(one_server.url), worker_id="w")

        @worker.step("w")
        def work(ctx: StepContext) -> dict[str, str]:
            seen.append(ctx.step)
            return {"status": "declined"}

        ids = [client.insert(approval()).id for _ in range(20)]
        run_to_end(worker, client, *ids)
        assert sorted(seen) == sorted(["check", "log"] * 20)
        for one in ids:
            assert client.get(one).skipped_step_count == 2


# --- skips by handlers


def test_a_handler_skips_its_step_or_its_branch(one_server: AnyServer) -> None:
    with Client.from_url(one_server.url) as client:
        worker = Worker(AsyncClient.from_url(one_server.url), worker_id="w")

        @worker.step("plain")
        def plain() -> None:
            raise Skip("not needed")

        @worker.step("branch")
        async def branch() -> None:
            raise Skip("nothing to do", branch=True)

        @worker.step("w")
        def work() -> None: ...

        workflow = Workflow("skips").add("a", worker="plain").add("b", worker="branch")
        workflow.add("c", worker="w", deps=["a"]).add("d", worker="w", deps=["b"])
        view = client.insert(workflow)
        run_to_end(worker, client, view.id)
        assert causes(client, view.id) == "a=skipped b=skipped c=completed d=skipped"
        summaries = [client.result(view.id, step) for step in "ab"]
        assert [row and row.summary for row in summaries] == ["not needed", "nothing to do"]


# --- outcomes


def test_an_outcome_tells_how_a_step_has_ended(client: Client) -> None:
    workflow = Workflow("report").add("a", worker="w").add("b", worker="w")
    workflow.add("c", worker="w").add("d", worker="w", deps=["b"])
    told = {name: outcome(name) for name in "abcd"}
    workflow.add("report", worker="w", input=told)
    view = client.insert(workflow)
    assert [step for step in client.graph(view.id).edges if step.policy == "continue"] != []
    client.complete_step(view.id, "a", payload={"n": 2**53 + 1}, summary="fine")
    client.complete_step(view.id, "b", "failed", summary="no money", payload=[1])
    client.complete_step(view.id, "c", "skipped", summary="not today")
    (claimed,) = client.claim(["default"], worker_id="w")
    assert claimed.input == {
        "a": {
            "state": "completed",
            "cause": "completed",
            "summary": "fine",
            "payload": {"n": 2**53 + 1},
        },
        "b": {
            "state": "failed",
            "cause": "step_failed",
            "summary": "no money",
            "payload": [1],
        },
        "c": {"state": "completed", "cause": "skipped", "summary": "not today", "payload": None},
        "d": {
            "state": "cancelled",
            "cause": "cancelled_by_dependency",
            "summary": None,
            "payload": None,
        },
    }


def test_outcomes_beyond_one_reply_are_read_apart(client: Client) -> None:
    workflow = Workflow("wide")
    for number in range(90):
        workflow.add(f"s{number}", worker="w")
    workflow.add("all", worker="w", input=[outcome(f"s{number}") for number in range(90)])
    view = client.insert(workflow)
    for number in range(90):
        client.complete_step(view.id, f"s{number}", payload="x" * 6_000)
    (claimed,) = client.claim(["default"], worker_id="w")
    assert [len(one["payload"]) for one in claimed.input] == [6_000] * 90


def test_the_key_is_reserved_in_data(one_client: Client) -> None:
    from rwf import WorkflowInvalid

    with pytest.raises(WorkflowInvalid, match="reserved_key"):
        Workflow("w").add("a", worker="w", input={"x": {"$outcome": "b"}})
    form = {"name": "w", "steps": [{"name": "a", "worker": "w"}]}
    form["steps"] += [{"name": "b", "worker": "w", "input": {"$outcome": "a"}}]  # type: ignore[operator]
    workflow = Workflow.from_dict(form)
    assert workflow.to_dict() == form
    again = Workflow("w").add("a", worker="w").add("b", worker="w", input=outcome("a"))
    assert again == workflow
    assert one_client.insert(workflow, key="k").id == one_client.insert(again, key="k").id


def test_a_handler_reads_how_its_parents_have_ended(one_server: AnyServer) -> None:
    found: dict[str, Any] = {}
    with Client.from_url(one_server.url) as client:
        worker = Worker(AsyncClient.from_url(one_server.url), worker_id="w")

        @worker.step("fail")
        def fail() -> None:
            raise Fail("no money", payload=7)

        @worker.step("plain")
        def plain(ctx: StepContext) -> None:
            found["plain"] = ctx.parents

        @worker.step("coroutine")
        async def coroutine(ctx: StepContext) -> None:
            found["coroutine"] = await ctx.parents

        workflow = Workflow("w").add("a", worker="fail")
        for name in ("plain", "coroutine"):
            workflow.add(name, worker=name).connect("a", name, policy="on_failure")
        run_to_end(worker, client, client.insert(workflow).id)
    failed = {"state": "failed", "cause": "step_failed", "summary": "no money", "payload": 7}
    assert found == {"plain": {"a": failed}, "coroutine": {"a": failed}}


# --- waits that go on


def test_a_wait_that_goes_on_makes_the_step_available_again(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    wait = client.await_step(
        view.id,
        "a",
        signal="go",
        correlation_key="k",
        deadline=timedelta(milliseconds=50),
        on_timeout="continue",
    )
    assert (wait.status, wait.on_timeout) == ("waiting", "continue")
    assert wait.deadline is not None
    until_past(client, wait.deadline)
    client.reconcile(view.id)
    assert states(client, view.id) == "a=available b=pending"
    (claimed,) = client.claim(["default"], worker_id="w")
    assert (claimed.timed_out, claimed.signal, claimed.attempt) == (True, None, 0)
    assert client.complete(claimed).step.attempt == 1
    assert noted(client, view.id)[:3] == [
        ("await_step", "a", "accepted", "semantics_raised"),
        ("await_step", "a", "accepted", None),
        ("await_step", "a", "expired", "timed_out_wait"),
    ]


def test_a_signal_that_comes_in_time_is_no_timeout(client: Client) -> None:
    view = client.insert(flow("a"))
    client.await_step(
        view.id,
        "a",
        signal="go",
        correlation_key="k",
        deadline=timedelta(hours=1),
        on_timeout="continue",
    )
    client.deliver_signal("go", "k", payload=1)
    (claimed,) = client.claim(["default"], worker_id="w")
    assert claimed.signal is not None
    assert (claimed.timed_out, claimed.signal.payload) == (False, 1)


def test_a_signal_that_comes_too_late_is_kept(client: Client) -> None:
    view = client.insert(flow("a"))
    client.await_step(
        view.id,
        "a",
        signal="go",
        correlation_key="k",
        deadline=timedelta(0),
        on_timeout="continue",
    )
    assert client.step(view.id, "a").state == "available"
    assert client.deliver_signal("go", "k").status == "unmatched"


def test_the_default_stays_to_expire(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    one_client.await_step(view.id, "a", signal="go", correlation_key="k", deadline=timedelta(0))
    assert states(one_client, view.id) == "a=expired"
    with refused("invalid_argument"):
        one_client.await_step(view.id, "a", signal="go", correlation_key="k", on_timeout="perhaps")


def test_a_handler_polls_by_waiting_and_going_on(one_server: AnyServer) -> None:
    seen: list[bool] = []
    with Client.from_url(one_server.url) as client:
        worker = Worker(AsyncClient.from_url(one_server.url), worker_id="w")

        @worker.step("w")
        def work(ctx: StepContext) -> str:
            seen.append(ctx.timed_out)
            if ctx.timed_out:
                return "gave up"
            raise Await(
                signal="go",
                correlation_key="k",
                deadline=timedelta(milliseconds=20),
                on_timeout="continue",
            )

        view = client.insert(Workflow("w").add("a", worker="w"))
        run_to_end(worker, client, view.id)
        row = client.result(view.id, "a")
        assert seen == [False, True]
        assert row is not None
        assert row.payload == "gave up"


# --- the command line


def test_the_command_line_carries_all_of_it(cli: Cli) -> None:
    form = {
        "name": "order",
        "deadline": 3600.0,
        "steps": [
            {"name": "check", "worker": "w"},
            {
                "name": "ship",
                "worker": "w",
                "when": ["==", {"$result": "check", "path": "status"}, "approved"],
            },
            {"name": "undo", "worker": "w", "input": {"$outcome": "ship"}},
            {"name": "close", "worker": "w", "deps": ["check", "ship"], "always": True},
        ],
        "edges": [{"parent": "ship", "child": "undo", "policy": "on_failure"}],
    }
    assert Workflow.from_dict(form).to_dict() == form
    workflow_id = cli.json("insert", "-", stdin=json.dumps(form))["id"]
    drawn = cli.ok("graph", workflow_id)
    assert 'when the result of check at status == "approved"' in drawn
    assert "undo" in drawn
    assert "<- ship (on failure)" in drawn
    assert "always runs" in drawn
    assert "-. on failure .->" in cli.ok("graph", workflow_id, "--format", "mermaid")
    assert 'label="on failure"' in cli.ok("graph", workflow_id, "--format", "dot")
    shown = cli.ok("show", workflow_id, "ship")
    assert 'when the result of check at status == "approved"' in shown
    cli.ok("complete", workflow_id, "check", "skipped", "--summary", "nothing", "--branch")
    assert "of them skipped" in cli.ok("show", workflow_id)
    assert "skipped by check: nothing" in cli.ok("show", workflow_id, "ship")
    later = cli.json("insert", "-", "--start-at", "+3600", stdin=json.dumps(form))
    assert later["starts_at"] is not None
    cli.refused(2, "insert", "-", "--start-at", "2030-01-01T00:00:00")
