"""Contract §2 and §4: which completions are refused, and which are duplicates."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from rwf import Client
from rwf.model.views import CommandResult
from tests.support.flows import (
    effect,
    fan_out,
    first_call_only,
    flow,
    noted,
    other_semantics,
    own_key,
    raw,
    refused,
    states,
)

ENDS = ("completed", "failed", "discarded", "cancelled")


# --- refusals


def test_a_pending_step_cannot_be_completed(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    for status in ("completed", "retryable", "failed", "discarded", "cancelled"):
        before = client.steps(view.id), client.get(view.id)
        with refused("dependencies_unresolved") as caught:
            client.complete_step(view.id, "b", status)
        assert (client.steps(view.id), client.get(view.id)) == before
    error = caught.value
    assert (error.action, error.scope) == ("complete_step", "step")
    assert error.reason_code == "dependencies_unresolved"
    assert error.message
    assert error.legal_next_steps == ("explain_step",)
    assert isinstance(error.requested_at, datetime)
    assert error.requested_at.tzinfo == UTC
    entry = client.evidence(view.id)[-1]
    assert (entry.status, entry.reason_code) == ("rejected", "dependencies_unresolved")
    assert entry.requested_at == error.requested_at
    assert len(client.evidence(view.id)) == 5


def test_a_step_that_does_not_exist(client: Client) -> None:
    view = client.insert(flow("a"))
    with refused("step_not_found"):
        client.complete_step(view.id, "b")
    assert noted(client, view.id) == [("complete_step", "b", "rejected", "step_not_found")]


def test_a_workflow_that_does_not_exist(client: Client) -> None:
    view = client.insert(flow("a"))
    stranger = view.id[:-1] + ("a" if view.id[-1] != "a" else "b")
    with refused("workflow_not_found") as caught:
        client.complete_step(stranger, "a")
    assert caught.value.requested_at is not None
    assert caught.value.legal_next_steps == ("list_workflows", "insert")


@pytest.mark.parametrize("first", ENDS)
def test_a_late_report_on_a_step_that_has_ended(client: Client, first: str) -> None:
    view = client.insert(flow("a b:+a"))
    client.complete_step(view.id, "a", first, payload={"n": 1})
    before = client.steps(view.id), client.get(view.id), client.results(view.id)
    for status in (*ENDS, "retryable"):
        with refused("already_terminal"):
            client.complete_step(view.id, "a", status, payload={"n": 2})
    for status in {*ENDS, "retryable"} - {first}:
        with refused("already_terminal"):
            client.complete_step(view.id, "a", status, payload={"n": 1})
    with refused("already_terminal"):
        client.complete_step(view.id, "a", first)  # no payload is another payload
    assert (client.steps(view.id), client.get(view.id), client.results(view.id)) == before


def test_a_step_that_a_cascade_cancelled_takes_no_report(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    client.complete_step(view.id, "a", "failed")
    for status in ("completed", "cancelled"):
        with refused("already_terminal") as caught:
            client.complete_step(view.id, "b", status)
    assert caught.value.legal_next_steps == ("inspect_step_result", "recover_step")
    assert client.result(view.id, "b") is None


# --- duplicates


@pytest.mark.parametrize("status", ENDS)
def test_the_same_end_again_is_a_duplicate(client: Client, status: str) -> None:
    view = client.insert(flow("a b:a c:+a"))
    first = client.complete_step(view.id, "a", status, payload={"n": [1]})
    before = client.steps(view.id), client.get(view.id), client.results(view.id)
    again = client.complete_step(view.id, "a", status, payload={"n": [1]})
    assert again.outcome == "duplicate"
    assert effect(again) == effect(first)
    assert (again.step, again.workflow) == (first.step, first.workflow)
    assert (client.steps(view.id), client.get(view.id), client.results(view.id)) == before
    assert noted(client, view.id) == [
        ("complete_step", "a", "accepted", None),
        ("complete_step", "a", "duplicate", "duplicate_completion"),
    ]


def test_a_duplicate_shows_the_step_and_the_workflow_as_they_are_now(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    client.complete_step(view.id, "a")
    client.complete_step(view.id, "b")
    again = client.complete_step(view.id, "a")
    assert effect(again) == (("b",), 1, (), 0)
    assert again.workflow.state == "completed"


def test_payloads_are_compared_as_bytes(client: Client) -> None:
    view = client.insert(flow("a"))
    client.complete_step(view.id, "a", payload={"a": 1, "b": 2})
    with refused("already_terminal"):
        client.complete_step(view.id, "a", payload={"b": 2, "a": 1})
    with refused("already_terminal"):
        client.complete_step(view.id, "a", payload={"a": 1.0, "b": 2})
    assert client.complete_step(view.id, "a", payload={"a": 1, "b": 2}).outcome == "duplicate"


def test_falsy_payloads_are_told_apart(client: Client) -> None:
    values: list[Any] = [None, [], {}, 0, False, "", 0.0]
    for number, value in enumerate(values):
        view = client.insert(flow("a"), key=str(number))
        client.complete_step(view.id, "a", payload=value)
        for other in values:
            if type(other) is type(value):
                assert client.complete_step(view.id, "a", payload=other).outcome == "duplicate"
            else:
                with refused("already_terminal"):
                    client.complete_step(view.id, "a", payload=other)


def test_an_exhausted_step_takes_the_same_retry_as_a_duplicate(client: Client) -> None:
    view = client.insert(flow("a", max_attempts=1))
    client.complete_step(view.id, "a", "retryable", retry_in=5)
    # The requested status counts, not the state that followed.
    assert client.complete_step(view.id, "a", "retryable", retry_in=5).outcome == "duplicate"
    with refused("already_terminal"):
        client.complete_step(view.id, "a", "discarded")


def test_the_latest_result_is_what_a_late_report_is_compared_with(client: Client) -> None:
    view = client.insert(flow("a", max_attempts=2))
    client.complete_step(view.id, "a", "retryable", payload=1, retry_in=5)
    client.complete_step(view.id, "a", "completed", payload=2)
    with refused("already_terminal"):
        client.complete_step(view.id, "a", "retryable", payload=1, retry_in=5)


def test_without_an_id_another_retry_is_another_attempt(client: Client) -> None:
    view = client.insert(flow("a"))
    for attempt in (1, 2):
        result = client.complete_step(view.id, "a", "retryable", payload=1, retry_in=5)
        assert (result.outcome, result.step.attempt) == ("accepted", attempt)


def test_a_command_id_is_a_duplicate_in_every_state(client: Client) -> None:
    view = client.insert(flow("a b:a"))

    def send(**changed: object) -> CommandResult:
        options = {"payload": [1], "retry_in": 0, "command_id": "one", **changed}
        return client.complete_step(view.id, "a", "retryable", **options)  # type: ignore[arg-type]

    first = send()
    assert (first.outcome, first.step.state) == ("accepted", "retryable")
    assert send().outcome == "duplicate"  # retryable
    client.reconcile(view.id)
    waiting = send()  # available
    assert (waiting.outcome, waiting.step.state) == ("duplicate", "available")
    # Another request under the same id gets the first one's answer too.
    assert send(payload=[2]).outcome == "duplicate"
    other = client.complete_step(view.id, "a", "completed", payload=[3], command_id="one")
    assert (other.outcome, other.step.state) == ("duplicate", "available")
    second = client.complete_step(view.id, "a", "completed", payload=[3], command_id="two")
    assert second.outcome == "accepted"
    late = send()  # terminal
    assert (late.outcome, late.step.state) == ("duplicate", "completed")
    assert effect(late) == effect(first) == ((), 0, (), 0)
    third = client.complete_step(view.id, "a", "completed", payload=[3], command_id="two")
    assert effect(third) == (("b",), 1, (), 0)
    assert len(client.results(view.id)) == 2


def test_a_command_id_is_on_record_however_many_attempts_followed(client: Client) -> None:
    view = client.insert(flow("a", max_attempts=100))
    for number in range(20):
        client.complete_step(view.id, "a", "retryable", retry_in=9, command_id=str(number))
    for number in (0, 10, 19):
        again = client.complete_step(view.id, "a", command_id=str(number))
        assert (again.outcome, again.step.attempt) == ("duplicate", 20)
    assert len(client.results(view.id)) == 20


def test_a_new_command_id_on_an_ended_step_is_refused_though_all_else_is_equal(
    client: Client,
) -> None:
    view = client.insert(flow("a"))
    client.complete_step(view.id, "a", payload=1, command_id="one")
    with refused("already_terminal"):
        client.complete_step(view.id, "a", payload=1, command_id="two")
    # Without any id, status and payload decide.
    assert client.complete_step(view.id, "a", payload=1).outcome == "duplicate"


def test_a_command_id_says_nothing_about_other_steps(client: Client) -> None:
    view = client.insert(flow("a b"))
    assert client.complete_step(view.id, "a", command_id="same").outcome == "accepted"
    assert client.complete_step(view.id, "b", command_id="same").outcome == "accepted"


def test_a_refused_command_id_is_not_on_record(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    with refused("dependencies_unresolved"):
        client.complete_step(view.id, "b", command_id="one")
    client.complete_step(view.id, "a")
    assert client.complete_step(view.id, "b", command_id="one").outcome == "accepted"


@pytest.mark.parametrize(
    "command_id", ["a,b|c", "{}:\n\x00", "ключ", "%2C", "x" * 512, "r:a:1", " ", '"'], ids=repr
)
def test_command_ids_of_any_text(client: Client, command_id: str) -> None:
    view = client.insert(flow("a", max_attempts=9))
    for outcome in ("accepted", "duplicate", "duplicate"):
        result = client.complete_step(
            view.id, "a", "retryable", retry_in=5, command_id=command_id, summary="s"
        )
        assert (result.outcome, result.step.attempt) == (outcome, 1)
    assert client.results(view.id)[0].summary == "s"


# --- leases


@pytest.mark.parametrize("status", ["completed", "retryable", "failed"])
def test_a_token_that_is_not_the_current_one_is_stale_in_every_state(
    client: Client, status: str
) -> None:
    view = client.insert(flow("a b:a c"))
    client.complete_step(view.id, "c")
    for step in ("a", "b", "c"):  # available, pending, completed
        with refused("stale_lease") as caught:
            client.complete_step(view.id, step, status, lease="mine")
    assert caught.value.legal_next_steps == ("drop_claim", "inspect_step")
    client.complete_step(view.id, "a", "retryable", retry_in=60)
    with refused("stale_lease"):
        client.complete_step(view.id, "a", status, lease="mine")
    with refused("stale_lease"):
        client.complete_step(view.id, "a", status, lease="mine", force=True)
    assert states(client, view.id) == "a=retryable b=pending c=completed"


def test_a_command_id_on_record_goes_before_a_stale_lease(client: Client) -> None:
    view = client.insert(flow("a"))
    client.complete_step(view.id, "a", command_id="one")
    assert client.complete_step(view.id, "a", command_id="one", lease="x").outcome == "duplicate"
    with refused("stale_lease"):
        client.complete_step(view.id, "a", command_id="two", lease="x")


def test_a_lease_on_record_is_compared_with_its_request(client: Client) -> None:
    """A lease is written into the row of a completion, as if a claim had given it."""
    view = client.insert(flow("a b:a"))
    first = client.complete_step(view.id, "a", payload=[1])
    key = own_key(view.id, "p")
    head, rest = raw(client).hget(key, "r:a:1").split(b"|", 1)
    parts = head.split(b",")
    assert parts[5] == b""
    raw(client).hset(key, "r:a:1", b",".join([*parts[:5], b"1-mine", *parts[6:]]) + b"|" + rest)
    again = client.complete_step(view.id, "a", payload=[1], lease="1-mine")
    assert (again.outcome, effect(again)) == ("duplicate", effect(first))
    for status, payload in (("completed", [2]), ("failed", [1]), ("completed", None)):
        with refused("already_terminal"):
            client.complete_step(view.id, "a", status, payload=payload, lease="1-mine")
    for other in ("1-other", "2-mine", "01-mine", "mine", "1", "-1-mine", "1-", f"{2**64}-mine"):
        with refused("stale_lease"):
            client.complete_step(view.id, "a", payload=[1], lease=other)


def test_force_changes_nothing_for_a_step_that_nobody_holds(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    with refused("dependencies_unresolved"):
        client.complete_step(view.id, "b", force=True)
    assert client.complete_step(view.id, "a", force=True).outcome == "accepted"
    with refused("already_terminal"):
        client.complete_step(view.id, "a", "failed", force=True)


# --- semantics of another version


def test_another_semantics_version_refuses_commands_and_allows_reads(
    client: Client, broken_on_purpose: None
) -> None:
    view = client.insert(flow("a b:a"))
    client.complete_step(view.id, "a", command_id="one")
    before = client.steps(view.id)
    other_semantics(client, view.id)
    for step, command in (("b", None), ("a", "one"), ("nobody", None)):
        with refused("unsupported_semantics") as caught:
            client.complete_step(view.id, step, command_id=command)
    assert caught.value.legal_next_steps == ("upgrade_library",)
    assert client.get(view.id).semantics_version == 9
    assert client.steps(view.id) == before
    assert client.result(view.id, "a") is not None
    assert client.explain_step(view.id, "b").state == "available"
    assert client.explain(view.id).state == "available"
    assert [entry[2:] for entry in noted(client, view.id)[1:]] == [
        ("rejected", "unsupported_semantics")
    ] * 3


def test_reconciling_another_semantics_version_is_refused(
    client: Client, broken_on_purpose: None
) -> None:
    view = client.insert(fan_out(600))
    first_call_only(client, view.id, "root", "completed")
    other_semantics(client, view.id)
    before = raw(client).hgetall(own_key(view.id))
    with refused("unsupported_semantics"):
        client.reconcile(view.id)
    assert raw(client).hgetall(own_key(view.id)) == before
    assert [entry[2:] for entry in noted(client, view.id)][1:] == [
        ("rejected", "unsupported_semantics")
    ]
