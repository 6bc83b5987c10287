"""An operator's commands on the command line."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from rwf import Client
from tests.support.commandline import Cli
from tests.support.flows import flow, states
from tests.support.outbox import ignore


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
    first = cli.ok("signal", "approved", "other", "--actor", "ann")
    assert first.startswith("unmatched")
    assert "duplicate" not in first
    again = cli.ok("signal", "approved", "other")
    assert again.startswith("unmatched")
    assert "  a duplicate, so nothing has changed" in again
    assert "pass another --dedupe-key" in again
    assert cli.json("signal", "approved", "other")["duplicate"] is True
    assert "duplicate_signal" in cli.ok("evidence")
    cli.refused(1, "signal", "no name", "k")


def test_kept_signals_are_listed_and_withdrawn(cli: Cli, one_client: Client) -> None:
    assert cli.ok("signals").strip() == "no signals here"
    first = cli.json("signal", "approved", "order 5", "--actor", "ann")
    one_client.deliver_signal("stop", "k")
    text = cli.ok("signals")
    assert "unmatched  approved  order 5" in text
    assert first["id"] in text
    assert "stop" not in cli.ok("signals", "approved")
    page = cli.json("signals", "approved", "order 5", "--status", "unmatched")
    assert [one["actor"] for one in page["signals"]] == ["ann"]
    assert page["cursor"] is None
    assert cli.ok("withdraw", first["id"], "--reason", "why", "--actor", "bob").startswith(
        "withdrawn  approved  order 5"
    )
    assert cli.refused(1, "withdraw", first["id"]).startswith("rwf: signal_not_found: ")
    other = cli.json("signals")["signals"][0]
    assert cli.json("withdraw", other["id"])["status"] == "withdrawn"
    cli.refused(2, "signals", "--status", "consumed")
    cli.refused(1, "signals", "--cursor", "x")


def test_a_further_page_of_signals_is_told_of(cli: Cli, one_client: Client) -> None:
    for number in range(101):
        one_client.deliver_signal("go", "k", dedupe_key=str(number))
    *_, told = cli.ok("signals").strip().splitlines()
    assert told.startswith("there may be more: --cursor ")
    rest = cli.json("signals", "--cursor", told.split()[-1])
    assert [one["dedupe_key"] for one in rest["signals"]] == ["100"]


def test_what_a_failed_step_reported_stands_beside_its_state(cli: Cli, one_client: Client) -> None:
    view = one_client.insert(flow("a b:a ok again"))
    one_client.complete_step(view.id, "a", "failed", summary="card \x1b[31mdeclined")
    one_client.complete_step(view.id, "ok", summary="fine")
    one_client.complete_step(view.id, "again", "retryable", retry_in=600, summary="timed out")
    table = [re.split("  +", line) for line in cli.ok("show", view.id).splitlines()]
    lines = {cells[2]: cells[-1] for cells in table if len(cells) == 5}
    assert lines["a"].endswith("step_failed: card \\x1b[31mdeclined")
    assert lines["again"].endswith(": timed out")
    steps = {step["name"]: step for step in cli.json("show", view.id)["steps"]}
    assert (steps["a"]["summary"], steps["b"]["summary"]) == ("card \x1b[31mdeclined", None)
    first = cli.ok("show", view.id, "a").splitlines()[0]
    assert first.startswith("Needs Review  failed (step_failed)  a  of ")
    assert first.endswith(": card \\x1b[31mdeclined")
    for explained in (cli.ok("explain", view.id), cli.ok("explain", view.id, "b")):
        assert "root cause a: failed (step_failed)" in explained
        assert "    attempt 1: card \\x1b[31mdeclined" in explained


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


def test_prune(cli: Cli, one_client: Client) -> None:
    assert cli.ok("prune") == "removed 0 workflows and 0 signals\n"
    for _ in range(2):
        view = one_client.insert(flow("a"), retention=timedelta(0))
        one_client.complete_step(view.id, "a")
        one_client.dispatch_callbacks(ignore, limit=1)
        one_client.insert(flow("a"), retention=timedelta(0))
    assert cli.ok("prune").splitlines() == [
        "  2 workflows and 0 signals so far",
        "removed 2 workflows and 0 signals",
    ]
    assert cli.json("prune") == {"workflows": 0, "signals": 0, "unreachable": []}
    cli.refused(1, "show", view.id)


def test_appending_steps(cli: Cli, one_client: Client) -> None:
    view = one_client.insert(flow("split join:split"))
    steps = '{"steps": [{"name": "a", "worker": "work"}]}'
    assert "  appended 1 steps" in cli.ok(
        "complete", view.id, "split", "--append", "-", stdin=steps
    )
    more = '{"steps": [{"name": "b", "worker": "work", "deps": ["a"]}]}'
    assert "accepted, 1 steps appended" in cli.ok("append", view.id, "-", stdin=more)
    assert "  appended by split, attempt 1" in cli.ok("show", view.id, "a")
    told = cli.refused(1, "append", view.id, "-", stdin=more)
    assert "duplicate_step_name" in told
    assert states(one_client, view.id) == ("split=completed join=pending a=available b=pending")
