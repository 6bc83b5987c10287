"""A bad end that an operator accepts, and workflows that need review (contract §6)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from rwf import Client
from tests.support.acknowledge_cases import accept, failed, status
from tests.support.commandline import Cli
from tests.support.flows import (
    flow,
    noted,
    other_semantics,
    own_key,
    raw,
    refused,
    stored,
)
from tests.support.outbox import ignore

# --- acknowledging


def test_a_bad_end_that_is_acknowledged_is_resolved(client: Client) -> None:
    workflow_id = failed(client)
    assert status(client, workflow_id) == "Needs Review"
    view = client.acknowledge(workflow_id, actor="ann, |of~", reason="known: see 'X'")
    assert (view.state, view.acknowledged_by) == ("failed", "ann, |of~")
    assert view.acknowledged_reason == "known: see 'X'"
    assert view.finished_at is not None
    assert view.acknowledged_at is not None
    assert view.acknowledged_at >= view.finished_at
    assert client.get(workflow_id) == client.list().workflows[0] == view
    assert client.graph(workflow_id).workflow == view
    assert status(client, workflow_id) == "Resolved"
    assert client.list(status="Needs Review").workflows == ()
    entry = client.evidence(workflow_id)[-1]
    assert (entry.action, entry.scope, entry.status) == ("acknowledge", "workflow", "accepted")
    assert (entry.actor, entry.metadata) == ("ann, |of~", {"reason": "known: see 'X'"})


@pytest.mark.parametrize("end", ["failed", "discarded", "expired"])
def test_each_bad_end_may_be_acknowledged(one_client: Client, end: str) -> None:
    view = one_client.insert(flow("a"))
    if end == "expired":
        past = timedelta(0)
        one_client.await_step(view.id, "a", signal="go", correlation_key="k", deadline=past)
    else:
        one_client.complete_step(view.id, "a", end)
    accept(one_client, view.id)
    assert status(one_client, view.id) == "Resolved"


def test_replies_to_what_is_repeated_tell_of_it(one_client: Client) -> None:
    workflow_id = failed(one_client)
    accept(one_client, workflow_id)
    again = one_client.complete_step(workflow_id, "a", "failed")
    assert (again.outcome, again.workflow.acknowledged_by) == ("duplicate", "ann")


def test_the_first_acknowledgement_stands(client: Client) -> None:
    workflow_id = failed(client)
    first = accept(client, workflow_id, "ann")
    assert accept(client, workflow_id, "bob", "other") == first
    assert noted(client, workflow_id)[-1] == (
        "acknowledge",
        None,
        "duplicate",
        "duplicate_acknowledgement",
    )


def test_a_recovery_undoes_it(client: Client) -> None:
    workflow_id = failed(client, "a b:a")
    accept(client, workflow_id)
    client.recover_step(workflow_id, "a", "retry")
    assert client.get(workflow_id).acknowledged_at is None
    assert status(client, workflow_id) == "Runnable"
    client.complete_step(workflow_id, "a", "failed")
    assert client.get(workflow_id).acknowledged_at is None
    assert status(client, workflow_id) == "Needs Review"
    assert accept(client, workflow_id, "bob").acknowledged_by == "bob"
    assert status(client, workflow_id) == "Resolved"


def test_a_recovery_of_another_step_undoes_it_too(one_client: Client) -> None:
    """The acknowledgement goes, as a failed step is left, which needs a new look."""
    view = one_client.insert(flow("a b"))
    one_client.complete_step(view.id, "a", "failed")
    one_client.complete_step(view.id, "b", "failed")
    accept(one_client, view.id)
    one_client.recover_step(view.id, "b", "skip")
    assert one_client.get(view.id).state == "failed"
    assert status(one_client, view.id) == "Needs Review"


def test_an_open_workflow_is_not_acknowledged(client: Client) -> None:
    view = client.insert(flow("a b"))
    client.complete_step(view.id, "a", "failed")
    with refused("illegal_transition") as caught:
        accept(client, view.id)
    assert caught.value.legal_next_steps[0] == "explain_workflow"
    assert (caught.value.action, caught.value.scope) == ("acknowledge", "workflow")
    last = noted(client, view.id)[-1]
    assert last == ("acknowledge", None, "rejected", "illegal_transition")
    assert client.get(view.id).acknowledged_at is None


@pytest.mark.parametrize("end", ["completed", "cancelled"])
def test_where_nothing_has_failed_nothing_is_acknowledged(one_client: Client, end: str) -> None:
    view = one_client.insert(flow("a"))
    one_client.complete_step(view.id, "a", end)
    with refused("illegal_transition") as caught:
        accept(one_client, view.id)
    assert caught.value.legal_next_steps[0] == "inspect_workflow"
    assert status(one_client, view.id) == "Resolved"


def test_workflows_that_are_not_there_or_of_other_semantics(
    one_client: Client, broken_on_purpose: None
) -> None:
    with refused("workflow_not_found"):
        accept(one_client, "0-" + "a" * 16)
    with refused("workflow_not_found"):
        accept(one_client, "nonsense")
    workflow_id = failed(one_client)
    other_semantics(one_client, workflow_id)
    with refused("unsupported_semantics"):
        accept(one_client, workflow_id)


@pytest.mark.parametrize("text", ["", None, 5, "x" * 513, "\ud800"])
@pytest.mark.parametrize("name", ["actor", "reason"])
def test_who_and_why_must_be_given(one_client: Client, name: str, text: Any) -> None:
    workflow_id = failed(one_client)
    before = stored(one_client)
    given: Any = {"actor": "ann", "reason": "why", name: text}
    with refused("invalid_argument"):
        one_client.acknowledge(workflow_id, **given)
    assert stored(one_client) == before


def test_it_goes_with_its_workflow(one_client: Client) -> None:
    view = one_client.insert(flow("a"), retention=timedelta(0))
    one_client.complete_step(view.id, "a", "failed")
    accept(one_client, view.id)
    one_client.dispatch_callbacks(ignore)
    one_client.reconcile(view.id)
    assert one_client.rebuild().repairs == {}
    assert one_client.get(view.id).acknowledged_by == "ann"
    assert one_client.prune().workflows == 1
    assert not raw(one_client).exists(own_key(view.id))


def test_the_command_line_acknowledges(cli: Cli, one_client: Client) -> None:
    workflow_id = failed(one_client)
    cli.refused(2, "acknowledge", workflow_id)
    cli.refused(2, "acknowledge", workflow_id, "--actor", "ann")
    text = cli.ok("acknowledge", workflow_id, "--actor", "ann", "--reason", "known")
    assert text.startswith("Resolved  failed (step_failed)  flow  ")
    assert " by ann: known" in text
    shown = cli.ok("show", workflow_id)
    assert shown.startswith("Resolved  failed")
    assert " by ann: known" in shown
    assert cli.ok("ls", "--status", "Resolved").count(workflow_id) == 1
    found = cli.json("acknowledge", workflow_id, "--actor", "bob", "--reason", "x")
    assert (found["operator_status"], found["acknowledged_by"]) == ("Resolved", "ann")
    open_ = one_client.insert(flow("a"))
    line = cli.refused(1, "acknowledge", open_.id, "--actor", "ann", "--reason", "x")
    assert line.startswith("rwf: illegal_transition: ")


# --- a refused command needs review


def test_a_refusal_needs_review_only_while_the_workflow_is_open(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    with refused("step_not_found"):
        client.recover_step(view.id, "nobody", "retry")
    assert status(client, view.id) == "Needs Review"
    for step in "ab":
        (claimed,) = client.claim(["default"], worker_id="w")
        assert claimed.step == step
        assert status(client, view.id) == "Needs Review"  # a worker's reports do not answer it
        client.complete(claimed)
    assert status(client, view.id) == "Resolved"
    with refused("already_terminal"):
        client.request_cancel(view.id)
    assert status(client, view.id) == "Resolved"


@pytest.mark.parametrize("how", ["complete", "force", "recover", "cancel"])
def test_the_next_accepted_command_ends_the_review(one_client: Client, how: str) -> None:
    view = one_client.insert(flow("a b:a c"))
    with refused("step_not_found"):
        one_client.recover_step(view.id, "nobody", "retry")
    if how == "force":
        one_client.claim(["default"], worker_id="w", limit=2)
    if how in ("complete", "force"):
        one_client.complete_step(view.id, "a", force=how == "force")
    elif how == "recover":
        one_client.recover_step(view.id, "a", "skip")
    else:
        one_client.request_cancel(view.id)
    assert status(one_client, view.id) != "Needs Review"


def test_a_refusal_newer_than_the_accepted_command_needs_review(one_client: Client) -> None:
    view = one_client.insert(flow("a b"))
    one_client.complete_step(view.id, "a")
    with refused("illegal_transition"):
        one_client.recover_step(view.id, "a", "skip")
    assert status(one_client, view.id) == "Needs Review"
