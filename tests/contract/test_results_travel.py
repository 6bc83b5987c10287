"""Results in the inputs of later steps, and missing ones (contract §3)."""

from __future__ import annotations

from typing import Any

import pytest

from rwf import Client, Workflow, result
from rwf.model.views import ClaimedStep
from tests.internals.test_claim_next import report
from tests.support.flows import flow, own_key, raw, refused, states


def claim(client: Client, limit: int = 1) -> list[ClaimedStep]:
    return client.claim(["default"], worker_id="w", limit=limit)


def reading(input_: Any, text: str = "a b:a", **options: Any) -> Workflow:
    """``flow(text)`` and a step ``last`` with this input."""
    return flow(text).add("last", worker="work", input=input_, **options)


def filled(client: Client, input_: Any, payload: Any) -> Any:
    """``input_`` with its references filled in when step ``a`` has this result."""
    view = client.insert(reading(input_, "a"))
    client.complete_step(view.id, "a", payload=payload)
    (claimed,) = claim(client)
    assert claimed.step == "last"
    return claimed.input


# --- verbatim

VALUES = [
    [],
    {},
    "",
    0,
    None,
    False,
    2**53 + 1,
    -(2**63),
    1e-7,
    "é\U0001f600\x00",
    {"list": [], "deep": [[[{"": []}]]]},
    {"$result": "b", "path": "x"},
    [{"$result": "a"}],
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: str(value)[:20])
def test_a_result_arrives_as_it_was_reported(one_client: Client, value: Any) -> None:
    assert filled(one_client, {"in": [result("a")], "own": []}, value) == {"in": [value], "own": []}


def test_the_largest_result_arrives_whole(client: Client) -> None:
    text = "x" * (262_144 - 2)
    assert filled(client, result("a"), text) == text


def test_fields_of_results(client: Client) -> None:
    payload = {"x": {"y": [1, {"z": 2}]}, "n": None}
    wanted = {"whole": result("a"), "y": result("a", "x.y"), "n": result("a", "n"), "own": "x.y"}
    assert filled(client, wanted, payload) == {
        "whole": payload, "y": [1, {"z": 2}], "n": None, "own": "x.y",
    }  # fmt: skip


def test_places_in_lists_and_names_with_dots(client: Client) -> None:
    payload = {"items": [{"first.name": "Ann"}, {"first.name": "Bob"}]}
    wanted = [result("a", ["items", 1, "first.name"]), result("a", "items.0")]
    assert filled(client, wanted, payload) == ["Bob", {"first.name": "Ann"}]


def test_a_place_in_a_list_that_is_missing_is_told(one_client: Client) -> None:
    view = one_client.insert(reading(result("a", ["items", 3]), "a"))
    one_client.complete_step(view.id, "a", payload={"items": [1]})
    assert claim(one_client) == []
    (blocker,) = one_client.explain_step(view.id, "last").blockers
    assert blocker.code == "missing_dependency_result"
    assert blocker.details == {"step": "a", "path": ["items", 3]}
    assert Workflow.from_dict(reading(result("a", ["items", 3]), "a").to_dict()).to_dict() == (
        reading(result("a", ["items", 3]), "a").to_dict()
    )


def test_results_of_several_ancestors(client: Client) -> None:
    far = {"a": result("a", "of"), "c": result("c"), "twice": result("a")}
    view = client.insert(reading(far, "a b:a c:b", deps=["c"]))
    for step in ("a", "b", "c"):
        client.complete_step(view.id, step, payload={"of": step})
    (claimed,) = claim(client)
    assert claimed.input == {"a": "a", "c": {"of": "c"}, "twice": {"of": "a"}}


def test_a_later_result_takes_the_place_of_an_earlier_one(one_client: Client) -> None:
    view = one_client.insert(reading(result("a"), "a"))
    one_client.complete_step(view.id, "a", "retryable", payload="half", retry_in=60)
    one_client.complete_step(view.id, "a", payload="whole")
    (claimed,) = claim(one_client)
    assert claimed.input == "whole"
    one_client.recover_step(view.id, "a", "retry", scope="downstream", force=True)
    one_client.complete_step(view.id, "a", payload="again")
    assert claim(one_client)[0].input == "again"


@pytest.mark.parametrize("end", ["skip", "cancel", "failed", "discarded", "cancelled"])
def test_what_did_not_complete_is_null(one_client: Client, end: str) -> None:
    workflow = reading([result("a"), result("a", "x.y")], "a")
    view = one_client.insert(workflow.connect("a", "last", policy="continue"))
    if end in ("skip", "cancel"):
        one_client.recover_step(view.id, "a", end)
    else:
        one_client.complete_step(view.id, "a", end, payload={"x": {"y": 1}})
    assert claim(one_client)[0].input == [None, None]


# --- missing


def blocked(client: Client, payload: Any = None) -> str:
    """A workflow whose step ``last`` lacks a result, with ``after`` behind and ``b`` beside it."""
    workflow = reading({"deep": [result("a", "x.y")]}, "a b:a")
    workflow.add("after", worker="work", deps=["last"])
    view = client.insert(workflow)
    client.complete_step(view.id, "a", payload=payload)
    assert [one.step for one in claim(client, 5)] == ["b"]
    assert states(client, view.id) == "a=completed b=executing last=pending after=pending"
    return view.id


@pytest.mark.parametrize("payload", [None, [], {"x": None}, {"x": {"Y": 1}}, {"x.y": 1}], ids=str)
def test_a_missing_field_holds_its_step_and_nothing_else(client: Client, payload: Any) -> None:
    workflow_id = blocked(client, payload)
    assert client.step(workflow_id, "last").attempt == 0
    why = client.explain_step(workflow_id, "last")
    assert (why.operator_status, [blocker.code for blocker in why.blockers]) == (
        "Blocked", ["missing_dependency_result"],
    )  # fmt: skip
    assert why.blockers[0].details == {"step": "a", "path": "x.y"}
    cause = client.explain_step(workflow_id, "after").root_causes[0]
    assert (cause.step, cause.code, cause.path) == (
        "last", "missing_dependency_result", ("last", "after"),
    )  # fmt: skip
    assert cause.legal_next_steps == ("recover_step",)
    assert "missing_dependency_result" in client.explain(workflow_id).diagnosis
    assert client.reconcile(workflow_id).repairs == ()
    assert claim(client) == []
    with refused("dependencies_unresolved"):
        client.complete_step(workflow_id, "last")


def test_a_claim_goes_on_behind_a_step_that_lacks_a_result(one_client: Client) -> None:
    for _ in range(3):
        view = one_client.insert(reading(result("a", "x"), "a"))
        one_client.complete_step(view.id, "a")
    one_client.insert(flow("other"))
    (claimed,) = claim(one_client)
    assert claimed.step == "other"


def test_a_retry_of_the_step_looks_again(client: Client) -> None:
    workflow_id = blocked(client)
    wanted = client.recover_step(workflow_id, "last", "retry", dry_run=True)
    done = client.recover_step(workflow_id, "last", "retry")
    assert wanted.changes == done.changes
    assert [(change.step, change.before, change.after) for change in done.changes] == [
        ("last", "pending", "available")
    ]
    assert claim(client) == []
    assert client.step(workflow_id, "last").state == "pending"
    assert client.step(workflow_id, "last").attempt == 0


def test_a_recovery_of_the_other_brings_the_result(client: Client) -> None:
    workflow_id = blocked(client)
    client.recover_step(workflow_id, "a", "retry", scope="downstream", force=True)
    assert states(client, workflow_id) == "a=available b=pending last=pending after=pending"
    client.complete_step(workflow_id, "a", payload={"x": {"y": 9}})
    found = {one.step: one for one in claim(client, 5)}
    assert (found["last"].input, found["last"].attempt) == ({"deep": [9]}, 1)
    assert client.complete(found["last"]).released == ("after",)


def test_a_skip_or_cancel_ends_it(one_client: Client) -> None:
    workflow_id = blocked(one_client)
    one_client.recover_step(workflow_id, "last", "cancel")
    assert one_client.step(workflow_id, "after").terminal_cause == "cancelled_by_dependency"
    workflow_id = blocked(one_client)
    one_client.recover_step(workflow_id, "last", "skip")
    assert one_client.step(workflow_id, "after").state == "available"


def test_a_cancel_request_ends_it(one_client: Client) -> None:
    workflow_id = blocked(one_client)
    one_client.request_cancel(workflow_id)
    assert one_client.step(workflow_id, "last").terminal_cause == "operator_cancelled"


def test_a_reopening_looks_again(one_client: Client) -> None:
    workflow_id = blocked(one_client)
    one_client.request_cancel(workflow_id)
    one_client.recover_step(workflow_id, "last", "retry", reopen=True)
    assert one_client.step(workflow_id, "last").state == "available"
    assert claim(one_client) == []
    assert one_client.explain_step(workflow_id, "last").operator_status == "Blocked"


def test_a_step_woken_by_a_signal_lacks_a_result(one_client: Client) -> None:
    view = one_client.insert(reading(result("a", "x"), "a"))
    one_client.complete_step(view.id, "a")
    one_client.await_step(view.id, "last", signal="go", correlation_key="k")
    one_client.deliver_signal("go", "k")
    assert claim(one_client) == []
    one_client.recover_step(view.id, "last", "retry")
    assert claim(one_client) == []
    one_client.recover_step(view.id, "a", "retry", scope="downstream")
    one_client.complete_step(view.id, "a", payload={"x": 5})
    assert claim(one_client)[0].input == 5


@pytest.mark.usefixtures("broken_on_purpose")
def test_a_result_row_that_is_gone(one_client: Client) -> None:
    view = one_client.insert(reading([result("b"), result("a")], "a b"))
    for step in ("a", "b"):
        one_client.complete_step(view.id, step, payload=step)
    raw(one_client).hdel(own_key(view.id, "p"), "r:a:1", "o:a:1")
    assert claim(one_client) == []
    details = one_client.explain_step(view.id, "last").blockers[0].details
    assert details == {"step": "a", "path": None}


def test_the_next_claims_of_a_batch_skip_it_too(one_client: Client) -> None:
    view = one_client.insert(reading(result("a", "x"), "a b:a"))
    (first,) = claim(one_client)
    batch = one_client.complete_many([report(first)], claim_next=5, worker_id="w")
    assert [one.step for one in batch.claimed] == ["b"]
    assert one_client.step(view.id, "last").state == "pending"
