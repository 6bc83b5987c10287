"""Steps that a step appends when it completes (contract §14)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from rwf import (
    Append,
    Client,
    CommandResult,
    Completion,
    Fragment,
    Handlers,
    Worker,
    Workflow,
    WorkflowInvalid,
    result,
    results,
)
from tests.support.flows import flow, refused, states
from tests.support.workers import run_to_end


def fragment(text: str) -> Fragment:
    """A fragment of ``name:dependency,dependency`` words; ``+`` and ``!`` as in :func:`flow`."""
    made = Fragment()
    for word in text.split():
        name, _, above = word.partition(":")
        made.add(name, worker=name)
        for parent in filter(None, above.split(",")):
            policy = {"+": "continue", "!": "on_failure"}.get(parent[0], "cancel")
            made.connect(parent.lstrip("+!"), name, policy)
    return made


def edges(client: Client, workflow_id: str) -> list[str]:
    found = client.graph(workflow_id).edges
    mark = {"cancel": "", "continue": "+", "on_failure": "!"}
    return sorted(f"{mark[edge.policy]}{edge.parent}>{edge.child}" for edge in found)


def test_what_a_step_appends_runs_before_what_waited_for_it(client: Client) -> None:
    view = client.insert(flow("split join:split"))
    done = client.complete_step(view.id, "split", append=fragment("a b"))
    assert (done.outcome, done.appended_count) == ("accepted", 2)
    assert sorted(done.released) == ["a", "b"]
    assert states(client, view.id) == "split=completed join=pending a=available b=available"
    assert edges(client, view.id) == ["a>join", "b>join", "split>a", "split>b", "split>join"]
    client.complete_step(view.id, "a")
    assert client.step(view.id, "join").state == "pending"
    client.complete_step(view.id, "b")
    assert client.step(view.id, "join").state == "available"
    client.complete_step(view.id, "join")
    assert client.get(view.id).state == "completed"


def test_an_appended_step_tells_who_has_appended_it(client: Client) -> None:
    view = client.insert(flow("split join:split"))
    client.complete_step(view.id, "split", "retryable", retry_in=0)
    client.complete_step(view.id, "split", append=fragment("a"))
    by = client.step(view.id, "a").appended_by
    assert by is not None
    assert (by.step, by.attempt) == ("split", 2)
    assert client.step(view.id, "join").appended_by is None


def test_the_workflow_is_raised_to_version_3_with_evidence(client: Client) -> None:
    view = client.insert(flow("split join:split"))
    assert view.semantics_version == 2
    done = client.complete_step(view.id, "split", append=fragment("a"))
    assert done.workflow.semantics_version == 3
    assert [entry.reason_code for entry in client.evidence(view.id)] == [None, "semantics_raised"]


def test_a_workflow_of_one_step_goes_on_with_what_that_appends(client: Client) -> None:
    view = client.insert(flow("split"))
    done = client.complete_step(view.id, "split", append=fragment("a b:a"))
    assert (done.workflow.state, done.workflow.step_count) == ("available", 3)
    client.complete_step(view.id, "a")
    assert client.complete_step(view.id, "b").workflow.state == "completed"


def test_appended_steps_append_in_turn(client: Client) -> None:
    view = client.insert(flow("a0 join:a0"))
    for number in range(20):
        client.complete_step(view.id, f"a{number}", append=fragment(f"a{number + 1}"))
        assert client.step(view.id, "join").state == "pending"
    client.complete_step(view.id, "a20")
    assert client.step(view.id, "join").state == "available"


def test_without_join_what_waited_for_the_step_goes_on(client: Client) -> None:
    view = client.insert(flow("split join:split"))
    client.complete_step(view.id, "split", append=fragment("a"), join=False)
    assert states(client, view.id) == "split=completed join=available a=available"
    client.complete_step(view.id, "join")
    assert client.complete_step(view.id, "a").workflow.state == "completed"


@pytest.mark.parametrize(
    ("policy", "after"), [("", "cancelled"), ("+", "available"), ("!", "available")]
)
def test_the_policy_is_that_of_the_edge_from_the_step(
    client: Client, policy: str, after: str
) -> None:
    view = client.insert(flow(f"split join:{policy}split"))
    client.complete_step(view.id, "split", append=fragment("a"))
    assert f"{policy}a>join" in edges(client, view.id)
    client.complete_step(view.id, "a", "failed")
    assert client.step(view.id, "join").state == after


def test_dependencies_may_be_steps_of_the_workflow(client: Client) -> None:
    view = client.insert(flow("split other failed join:split"))
    client.complete_step(view.id, "failed", "failed")
    client.complete_step(view.id, "split", append=fragment("a:other b:+failed c:failed d:!failed"))
    # They do not depend on the step that has appended them.
    assert states(client, view.id) == (
        "split=completed other=available failed=failed join=cancelled"
        " a=pending b=available c=cancelled d=available"
    )
    client.complete_step(view.id, "other")
    assert client.step(view.id, "a").state == "available"


def test_a_fragment_without_steps_lets_the_join_run(client: Client) -> None:
    view = client.insert(flow("split join:split"))
    done = client.complete_step(view.id, "split", append=Fragment())
    assert (done.appended_count, states(client, view.id)) == (0, "split=completed join=available")


def test_a_duplicate_is_answered_with_the_same_count(client: Client) -> None:
    view = client.insert(flow("split join:split"))
    client.complete_step(view.id, "split", append=fragment("a b"), command_id="once")
    again = client.complete_step(view.id, "split", append=fragment("a b"), command_id="once")
    assert (again.outcome, again.appended_count) == ("duplicate", 2)
    assert client.get(view.id).step_count == 4


def test_a_report_that_is_refused_appends_nothing(client: Client) -> None:
    view = client.insert(flow("split join:split"))
    client.complete_step(view.id, "split")
    with refused("already_terminal"):
        client.complete_step(view.id, "split", append=fragment("a"), command_id="late")
    other = client.insert(flow("split join:split"))
    with refused("dependencies_unresolved"):
        client.complete_step(other.id, "join", append=fragment("a"))
    with refused("step_not_found"):
        client.complete_step(other.id, "nothing", append=fragment("a"))
    assert states(client, other.id) == "split=available join=pending"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("split", "duplicate_step_name"),
        ("a:nothing", "missing_dependency"),
        ("a:b b:a", "cycle_detected"),
        ("a:join", "cycle_detected"),
        ("a:after b", "cycle_detected"),
    ],
)
def test_a_fragment_that_does_not_fit_leaves_everything_as_it_was(
    client: Client, text: str, code: str
) -> None:
    view = client.insert(flow("split join:split after:join"))
    before = client.graph(view.id)
    with pytest.raises(WorkflowInvalid) as error:
        client.complete_step(view.id, "split", append=fragment(text))
    assert error.value.code == code
    assert client.graph(view.id) == before


def test_the_results_of_appended_steps_come_in_their_order(client: Client) -> None:
    wf = Workflow("reduce").add("split", worker="s")
    wf.add("join", worker="j", input={"all": results("split")}, deps=["split"])
    view = client.insert(wf)
    client.complete_step(view.id, "split", append=fragment("c a b d"))
    for name, payload in (("a", 1), ("b", None), ("c", [{"$results": "x"}])):
        client.complete_step(view.id, name, payload=payload)
    client.complete_step(view.id, "d", "skipped")
    (claim,) = client.claim(["default"], worker_id="w", limit=9)
    assert claim.input == {"all": [[{"$results": "x"}], 1, None, None]}


def test_the_results_of_no_steps_are_an_empty_list(client: Client) -> None:
    wf = Workflow("reduce").add("split", worker="s")
    wf.add("join", worker="j", input=results("split"))
    view = client.insert(wf)
    client.complete_step(view.id, "split", append=Fragment())
    (claim,) = client.claim(["default"], worker_id="w")
    assert claim.input == []


def test_references_to_steps_of_the_workflow_are_filled_in(client: Client) -> None:
    view = client.insert(flow("first split:first join:split"))
    client.complete_step(view.id, "first", payload={"n": 7})
    made = Fragment().add("a", worker="a", input=result("first", "n"))
    client.complete_step(view.id, "split", append=made)
    assert edges(client, view.id) == ["a>join", "first>split", "split>a", "split>join"]
    (claim,) = client.claim(["default"], worker_id="w")
    assert (claim.step, claim.input) == ("a", 7)


# --- from outside


def test_steps_are_brought_in_from_outside(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    client.complete_step(view.id, "a")
    done = client.append(view.id, fragment("x y:x,a z:b"), actor="ops")
    assert (done.outcome, done.appended_count, done.workflow.step_count) == ("accepted", 3, 5)
    assert states(client, view.id) == "a=completed b=available x=available y=pending z=pending"
    assert client.step(view.id, "x").appended_by is None
    entries = [entry for entry in client.evidence(view.id) if entry.action == "append"]
    assert [(entry.status, entry.actor) for entry in entries] == [("accepted", "ops")] * 2
    for name in ("b", "x", "y", "z"):
        client.complete_step(view.id, name)
    assert client.get(view.id).state == "completed"


def test_a_repetition_from_outside_is_a_duplicate(client: Client) -> None:
    view = client.insert(flow("a"))
    client.append(view.id, fragment("x"), command_id="once")
    with pytest.raises(WorkflowInvalid, match="duplicate_step_name"):
        client.append(view.id, fragment("x"), command_id="other")
    again = client.append(view.id, fragment("x"), command_id="once")
    assert (again.outcome, again.appended_count) == ("duplicate", 1)
    assert client.get(view.id).step_count == 2


def test_nothing_is_brought_into_a_workflow_that_ends(client: Client) -> None:
    view = client.insert(flow("a b"))
    client.claim(["default"], worker_id="w")
    client.request_cancel(view.id)
    with refused("cancel_requested"):
        client.append(view.id, fragment("x"))
    client.complete_step(view.id, "a", force=True)
    with refused("already_terminal"):
        client.append(view.id, fragment("x"))
    with refused("workflow_not_found"):
        client.append("0-aaaaaaaaaaaaaaaa", fragment("x"))


def test_a_workflow_that_has_not_started_starts_with_what_was_brought_in(client: Client) -> None:
    view = client.insert(flow("a"), start_at=timedelta(hours=1))
    client.append(view.id, fragment("x"))
    assert states(client, view.id) == "a=pending x=pending"


# --- while a cancel request stands


def test_what_is_appended_under_a_cancel_request_is_cancelled(client: Client) -> None:
    view = client.insert(flow("split join:split"))
    (claim,) = client.claim(["default"], worker_id="w")
    client.request_cancel(view.id)
    client.complete(claim, append=fragment("a b:a c:+a"))
    assert states(client, view.id) == (
        "split=completed join=cancelled a=cancelled b=cancelled c=cancelled"
    )
    assert client.get(view.id).state == "cancelled"


# --- in a worker, and in batches


def test_a_handler_returns_what_is_to_be_appended(client: Client) -> None:
    handlers = Handlers()

    @handlers.step("split")
    def split(numbers: list[int]) -> Append:
        made = Fragment()
        for number in numbers:
            made.add(f"square-{number}", worker="square", input={"number": number})
        return Append(made, result=len(numbers))

    @handlers.step("square")
    def square(number: int) -> int:
        return number * number

    @handlers.step("sum")
    def add(squares: list[int], count: int) -> list[int]:
        return [sum(squares), count]

    wf = Workflow("squares")
    wf.add("split", worker="split", input={"numbers": [1, 2, 3]})
    wf.add("sum", worker="sum", input={"squares": results("split"), "count": result("split")})
    view = client.insert(wf)
    run_to_end(Worker(client, handlers=handlers), client, view.id)
    assert client.get(view.id).state == "completed"
    ended = client.result(view.id, "sum")
    assert ended is not None
    assert ended.payload == [14, 3]


def test_a_handler_whose_steps_do_not_fit_fails(client: Client) -> None:
    handlers = Handlers()

    @handlers.step("split")
    def split() -> Append:
        return Append(Fragment().add("split", worker="work"))

    view = client.insert(Workflow("again").add("split", worker="split"))
    run_to_end(Worker(client, handlers=handlers), client, view.id)
    assert client.get(view.id).state == "failed"
    ended = client.result(view.id, "split")
    assert ended is not None
    assert "duplicate_step_name" in (ended.summary or "")


def test_a_batch_appends_as_well(client: Client) -> None:
    view = client.insert(flow("a b join:a,b"))
    done = client.complete_many(
        [
            Completion(workflow_id=view.id, step="a", append=fragment("x")),
            Completion(workflow_id=view.id, step="b", append=fragment("y")),
        ]
    )
    assert [isinstance(one, CommandResult) and one.appended_count for one in done] == [1, 1]
    assert edges(client, view.id) == [*("a>join", "a>x", "b>join", "b>y", "x>join", "y>join")]


# --- many at once


def test_many_steps_appear_at_once(client: Client) -> None:
    count = 700
    wf = Workflow("many").add("split", worker="s")
    wf.add("join", worker="j", input={"all": results("split")}, deps=["split"])
    view = client.insert(wf)
    done = client.complete_step(
        view.id, "split", append=fragment(" ".join(f"m{n}" for n in range(count)))
    )
    assert (done.appended_count, done.released_count) == (count, count)
    assert done.workflow.step_count == count + 2
    claims = client.claim(["default"], worker_id="w", limit=1000)
    assert len(claims) == count
    client.complete_many(
        [
            Completion(workflow_id=c.workflow_id, step=c.step, lease=c.lease, payload=c.step)
            for c in claims
        ]
    )
    (join,) = client.claim(["default"], worker_id="w")
    assert join.input == {"all": [f"m{n}" for n in range(count)]}
    client.complete(join)
    assert client.get(view.id).state == "completed"


def test_many_wait_for_many(client: Client) -> None:
    view = client.insert(flow("split " + " ".join(f"j{n}:split" for n in range(250))))
    client.complete_step(view.id, "split", append=fragment("a b c"))
    assert client.step(view.id, "j249").dependency_count == 4
    for name in "abc":
        assert client.step(view.id, "j249").state == "pending"
        client.complete_step(view.id, name)
    assert client.get(view.id).runnable_step_count == 250


def test_the_json_form_comes_back_as_it_went_in() -> None:
    made = Fragment().add("a", worker="a", input=results("b"), deps=["c"], always=True)
    made.connect("d", "a", "continue")
    assert Fragment.from_dict(made.to_dict()) == made
    assert made.to_dict()["steps"][0]["input"] == {"$results": "b"}
