"""An operator's commands on the command line."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from rwf import Client
from tests.contract.commandline import Cli
from tests.contract.flows import flow


def test_a_signal(cli: Cli, one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    one_client.await_step(
        view.id, "a", signal="approved", correlation_key="order 5", deadline=timedelta(hours=1)
    )
    assert "waits for approved" in cli.ok("show", view.id)
    shown = cli.ok("show", view.id, "a")
    assert "  wait waiting: approved order 5, since 20" in shown
    assert ", deadline 20" in shown
    assert "waits for signal approved, correlation key 'order 5'" in cli.ok("explain", view.id, "a")
    told = cli.json("signal", "approved", "order 5", "--payload", '{"by": "ann"}')
    assert (told["status"], told["workflow_id"], told["payload"]) == (
        "consumed",
        view.id,
        {"by": "ann"},
    )
    assert cli.ok("signal", "approved", "other").startswith("unmatched")
    assert cli.ok("signal", "approved", "other").startswith("unmatched")
    assert "duplicate_signal" in cli.ok("evidence")
    cli.refused(1, "signal", "no name", "k")


def test_cancel_and_recover(cli: Cli, one_client: Client) -> None:
    view = one_client.insert(flow("a b:a"))
    assert "operator_cancelled" in cli.ok("cancel", view.id, "--reason", "stop", "--actor", "ann")
    assert "cancel requested" in cli.ok("show", view.id)
    assert cli.refused(1, "recover", view.id, "a", "retry").startswith("rwf: cancel_requested: ")
    planned = cli.json("recover", view.id, "a", "retry", "--reopen", "--dry-run")
    done = cli.json("recover", view.id, "a", "retry", "--reopen")
    assert planned["changes"] == done["changes"]
    changes: list[dict[str, Any]] = done["changes"]
    assert [change["after"] for change in changes] == ["available", "pending"]
    for command in ("show", "explain"):
        assert "recovered: retry of a, 2 changes" in cli.ok(command, view.id)
    assert "recover_step" in cli.ok("evidence", view.id)
    text = cli.ok("recover", view.id, "a", "skip")
    assert "a  available -> completed" in text
    cli.refused(2, "recover", view.id, "a", "restart")


def test_a_running_step_that_is_asked_to_end(cli: Cli, one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    one_client.claim(["default"], worker_id="worker 1")
    assert cli.ok("cancel", view.id).startswith("Blocked  cancel_requested  flow")
    shown = cli.ok("show", view.id, "a")
    assert "  worker 1 runs it until 20" in shown
    assert "  cancel requested 20" in shown
    cli.refused(1, "cancel", view.id[:-1] + ("2" if view.id[-1] != "2" else "3"))


def test_queues(cli: Cli, one_client: Client) -> None:
    assert cli.ok("queues") == "no queues\n"
    one_client.insert(flow("a b", queue="slow"))
    one_client.claim(["fast"], worker_id="w")
    found = {one["name"]: one for one in cli.json("queues")}
    assert (found["slow"]["available"], found["slow"]["served"]) == (2, False)
    assert (found["fast"]["available"], found["fast"]["served"]) == (0, True)
    assert cli.ok("queues").splitlines()[1].split()[0] == "fast"
