"""Workflows named by their insert key on the command line; waiting, and keeping."""

from __future__ import annotations

import json
import threading
from datetime import timedelta

import pytest

from rwf import Client, NotFound
from tests.support.commandline import FORM, NO_ID, Cli
from tests.support.flows import flow, states

KEY = "order 5"
TEXT = json.dumps(FORM)


def test_a_key_stands_in_place_of_an_id_everywhere(cli: Cli, one_client: Client) -> None:
    view = one_client.insert(flow("a b:a c:b"), key=KEY)
    for command in (
        ("show",), ("graph",), ("explain",), ("evidence",), ("callbacks",),
        ("show", "a"), ("explain", "a"),
    ):  # fmt: skip
        name, *rest = command
        assert cli.ok(name, "--key", KEY, *rest) == cli.ok(name, view.id, *rest), command
    assert cli.json("show", f"--key={KEY}")["id"] == view.id
    assert cli.json("complete", "a", "--key", KEY, "--payload", "5")["step"]["state"] == "completed"
    assert cli.json("complete", "--key", KEY, "b", "failed")["step"]["state"] == "failed"
    cli.ok("recover", "b", "retry", "--key", KEY, "--actor", "ann")
    assert states(one_client, view.id) == "a=completed b=available c=pending"
    assert cli.json("cancel", "--key", KEY, "--reason", "why")["state"] == "cancelled"
    assert cli.json("wait", "--key", KEY)["id"] == view.id


def test_an_id_and_a_key_are_one_too_many(cli: Cli, one_client: Client) -> None:
    view = one_client.insert(flow("a"), key=KEY)
    cli.refused(2, "cancel", view.id, "--key", KEY)
    cli.refused(2, "cancel")
    assert one_client.get(view.id).state == "available"


@pytest.mark.parametrize(
    "args", [("show",), ("cancel",), ("complete", "a"), ("wait",), ("retention", "1")]
)
def test_a_key_that_nobody_has(cli: Cli, args: tuple[str, ...]) -> None:
    assert cli.refused(1, *args, "--key", "nobody").startswith("rwf: not_found: ")
    cli.refused(1, *args, "--key", "")


def test_a_conflict_tells_whose_the_key_is(cli: Cli, one_client: Client) -> None:
    view = one_client.insert(flow("a"), key=KEY)
    assert view.id in cli.refused(1, "insert", "-", "--key", KEY, stdin=TEXT)
    told = json.loads(cli.refused(1, "insert", "-", "--key", KEY, "--json", stdin=TEXT))
    assert (told["error"], told["workflow_id"]) == ("key_conflict", view.id)


def test_a_key_goes_over(cli: Cli, one_client: Client) -> None:
    first = cli.json("insert", "-", "--key", KEY, "--actor", "ann", stdin=TEXT)
    assert one_client.evidence(first["id"])[0].actor == "ann"
    cli.ok("cancel", first["id"])
    again = cli.json("insert", "-", "--key", KEY, stdin=TEXT)
    assert (again["id"], again["duplicate"]) == (first["id"], True)
    new = cli.json("insert", "-", "--key", KEY, "--replace", "ended_badly", stdin=TEXT)
    assert new["id"] != first["id"]
    assert one_client.find(KEY).id == new["id"]
    cli.refused(2, "insert", "-", "--key", KEY, "--replace", "always", stdin=TEXT)


def test_a_forced_cancel(cli: Cli, one_client: Client) -> None:
    view = one_client.insert(flow("a b:a"))
    one_client.claim(["default"], worker_id="w")
    assert cli.json("cancel", view.id)["state"] == "cancel_requested"
    assert cli.json("cancel", view.id, "--force")["state"] == "cancelled"
    assert "lease_taken" in cli.ok("evidence", view.id)


def test_waiting(cli: Cli, one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    assert view.id in cli.refused(1, "wait", view.id, "--timeout", "0.1")
    told = json.loads(cli.refused(1, "wait", view.id, "--timeout", "0", "--json"))
    assert told["error"] == "timeout"
    thread = threading.Timer(0.3, lambda: one_client.complete_step(view.id, "a", "failed"))
    thread.start()
    assert cli.ok("wait", view.id).startswith("Needs Review  failed")
    thread.join()
    assert cli.json("wait", view.id)["state"] == "failed"
    cli.refused(1, "wait", NO_ID)
    cli.refused(2, "wait", view.id, "--timeout", "-1")


def test_keeping(cli: Cli, one_client: Client) -> None:
    view = one_client.insert(flow("a"), key=KEY)
    one_client.complete_step(view.id, "a")
    while one_client.dispatch_callbacks(lambda _: None).delivered:
        pass
    cli.ok("prune")
    assert cli.json("retention", view.id, "none", "--actor", "ann")["id"] == view.id
    assert cli.ok("retention", "0", "--key", KEY).startswith("Resolved  completed")
    kept = [one for one in one_client.evidence(view.id) if one.action == "set_retention"]
    assert [entry.actor for entry in kept] == ["ann", None]
    assert "removed 1 workflows" in cli.ok("prune")
    with pytest.raises(NotFound):
        one_client.get(view.id)
    cli.refused(1, "retention", view.id, "1")
    cli.refused(2, "retention", view.id, "-1")
    cli.refused(2, "retention", view.id, "soon")
    later = one_client.insert(flow("a"), retention=timedelta(0))
    assert cli.json("retention", later.id, "0.5")["state"] == "available"
