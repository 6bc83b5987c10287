"""``rwf demo`` as a user runs it: it ends as its input implies, and leaves no process behind."""

from __future__ import annotations

import copy
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from rwf import Client, RwfError, Workflow
from rwf.demo import expected, source
from rwf.demo.ledger import Ledger
from rwf.demo.work import WORKERS
from rwf.embedded import EmbeddedServer
from tests.support.waiting import until

FORMS: list[dict[str, Any]] = json.loads(source.SHIPPED.read_bytes())


def form(account_id: int, *, like: int = 0, **customer: Any) -> dict[str, Any]:
    """A workflow like one of the shipped ones, of a customer, with changes."""
    made = copy.deepcopy(FORMS[like])
    made["context"]["account_id"] = account_id
    made["context"]["customer"] |= customer
    for step in made["steps"]:
        step["input"]["account_id"] = account_id
    return made


MAP = 2
"""The place of a shipped workflow that maps: its customer has orders in two regions."""
SMALL = [
    form(1),
    form(2, balance=1),
    form(3, orders_unreachable=1),
    form(4, status="closed"),
    form(5, orders_unreachable=9),
    form(6, like=MAP),
    form(7, like=MAP, orders_unreachable=9),
]
ENDS = {"completed": 3, "failed": 3, "cancelled": 1}


def demo(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rwf", "demo", "--folder", str(folder), *args],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def write(path: Path, forms: Any) -> str:
    path.write_text(json.dumps(forms))
    return str(path)


def heed_ctrl_c() -> None:
    """Has processes that are started heed Ctrl-C; where the tests run in the background, they and
    all that they start ignore it otherwise."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def nothing_runs(folder: Path) -> bool:
    """Whether no process has this folder among its arguments, and its server has ended."""
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            commands.append(path.read_bytes())
        except OSError:
            continue
    name = str(folder).encode()
    return EmbeddedServer(folder).pid is None and not any(name in command for command in commands)


def test_a_small_input_with_every_kind_of_end(tmp_path: Path) -> None:
    folder = tmp_path / "demo data"
    file = write(tmp_path / "small.json", SMALL)
    found = demo(folder, "--input", file, "--json")
    assert found.returncode == 0, found.stderr
    assert found.stderr == ""
    summary = json.loads(found.stdout)
    assert summary["differences"] == []
    assert summary["workflows"] == ENDS
    assert (summary["appended"], summary["undone"], summary["steps"]["skipped"]) == (4, 3, 3)
    until(lambda: nothing_runs(folder), what="the end of its processes")
    with Client.from_url(f"embedded://{str(folder).replace(' ', '%20')}") as client:
        page = client.list()
        assert Counter(view.state.value for view in page.workflows) == ENDS
        done = [
            (view.id, step.name)
            for view in page.workflows
            for step in client.steps(view.id)
            if step.state == "completed" and step.terminal_cause != "skipped"
        ]
    assert sorted(Ledger(folder / "ledger.jsonl").steps()) == sorted(done)
    again = demo(folder, "--input", file)
    assert again.returncode == 0, again.stderr
    assert "7 were there from an earlier run" in again.stdout
    assert len(Ledger(folder / "ledger.jsonl").steps()) == len(done)


def test_the_whole_demo(tmp_path: Path) -> None:
    found = demo(tmp_path)
    assert found.returncode == 0, found.stderr + found.stdout
    text = found.stdout
    assert "inserted 40 workflows with 248 steps" in text
    # The check may come before a step that it waits for has failed for the first time.
    assert re.search("  (Blocked|Waiting)  pending  ", text)
    assert re.search(
        r"\nsplit_orders of demo:sync_customer:\d+ has appended sync_orders.eu and sync_orders.us; "
        "who waited for it waits for them, too: build_report and cleanup\n",
        text,
    )
    assert re.search(r"\nundo_sync of demo:sync_customer:\d+ has run, as sync_\w+ \(", text)
    assert "killed with SIGKILL, holding " in text
    assert "the daemon (process " in text
    assert "metrics on http://127.0.0.1:" in text
    assert "the server (process " in text
    assert "\nworkflows  2 cancelled, 34 completed, 4 failed\n" in text
    assert "\ngrown      by 16 steps that others appended\n" in text
    assert "\nundone     4 syncs that had failed\n" in text
    assert "\nkills      1 worker, 1 daemon, 1 server\n" in text
    assert "\nverdict    every workflow and step ended as the input implies\n" in text
    assert "\x1b" not in text
    assert f"RWF_URL=embedded://{tmp_path}" in text
    assert text.endswith(" console    # and look at http://127.0.0.1:9465\n")
    until(lambda: nothing_runs(tmp_path), what="the end of its processes")


def test_its_console_shows_it_while_it_runs_and_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    file = write(tmp_path / "small.json", SMALL)
    command = [sys.executable, "-m", "rwf", "demo", "--folder", str(folder), "--input", file]
    heed_ctrl_c()
    with subprocess.Popen([*command, "--console"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            lines = iter(process.stdout)
            place = next(line for line in lines if line.startswith("console on ")).split()[-1]
            assert "sync_customer" in httpx.get(f"{place}/workflows", timeout=30).text
            assert any(line == "the console stays until Ctrl-C\n" for line in lines)
            assert "3 workflows need review" in httpx.get(place, timeout=30).text
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        finally:
            process.kill()
    until(lambda: nothing_runs(folder), timeout=30, what="the end of its processes")


@pytest.mark.parametrize(
    "how", [signal.SIGINT, signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.long)]
)
def test_ended_in_the_middle_it_leaves_nothing_running_and_can_go_on(
    tmp_path: Path, how: signal.Signals
) -> None:
    file = write(tmp_path / "small.json", SMALL)
    folder = tmp_path / "demo"
    command = [sys.executable, "-m", "rwf", "demo", "--folder", str(folder), "--input", file]
    heed_ctrl_c()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        ledger = Ledger(folder / "ledger.jsonl")
        until(ledger.steps, timeout=60, what="the first lines of the ledger")
        os.kill(process.pid, how)
        _, stderr = process.communicate(timeout=60)
    assert b"Traceback" not in stderr
    until(lambda: nothing_runs(folder), timeout=60, what="the end of its processes")
    found = demo(folder, "--input", file, "--json")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["workflows"] == ENDS


def test_the_shipped_input_is_what_it_says() -> None:
    syncs = source.read(source.SHIPPED, frozenset(WORKERS))
    assert len(syncs) == 40
    ends = [expected.workflow(expected.steps(sync)) for sync in syncs]
    assert {end: ends.count(end) for end in set(ends)} == {
        "completed": 34,
        "failed": 4,
        "cancelled": 2,
    }


def expected_of(form: dict[str, Any]) -> dict[str, str]:
    context = source.Context.model_validate(form["context"])
    return expected.steps(source.Sync(form, Workflow.from_dict(form), context))


def test_what_is_expected_of_a_failed_bill() -> None:
    assert expected_of(SMALL[1]) == {
        "fetch_customer": "completed",
        "sync_billing": "failed",
        "sync_orders": "completed",
        "notify": "cancelled",
        "undo_sync": "completed",
        "cleanup": "completed",
    }


def test_what_is_expected_of_a_closed_account() -> None:
    assert expected_of(SMALL[3]) == {
        "fetch_customer": "cancelled",
        "sync_billing": "cancelled",
        "sync_orders": "cancelled",
        "notify": "cancelled",
        "undo_sync": "cancelled",
        "cleanup": "completed",
    }


def test_what_is_expected_of_a_map() -> None:
    completed = {
        "fetch_customer": "completed",
        "sync_billing": "completed",
        "split_orders": "completed",
        "sync_orders.eu": "completed",
        "sync_orders.us": "completed",
        "build_report": "completed",
        "notify": "completed",
        "undo_sync": "skipped",
        "cleanup": "completed",
    }
    assert expected_of(SMALL[5]) == completed
    assert expected_of(SMALL[6]) == completed | {
        "sync_orders.eu": "discarded",
        "sync_orders.us": "discarded",
        "build_report": "cancelled",
        "notify": "cancelled",
        "undo_sync": "completed",
    }


@pytest.mark.parametrize(
    ("forms", "message"),
    [
        ([], "must hold a list"),
        ({}, "must hold a list"),
        ([1], "workflow 1"),
        ([{"name": "w"}], "workflow 1: no_steps"),
        ([{"name": "w", "steps": [{"name": "a", "worker": "cleanup"}]}], "workflow 1: context"),
        ([form(1), form(1)], "an account_id twice"),
        ([form(1, status="odd")], "context.customer.status"),
        ([form(1), form(2) | {"steps": [{"name": "a", "worker": "b"}], "edges": []}], "workflow 2"),
    ],
)
def test_inputs_that_are_none(tmp_path: Path, forms: Any, message: str) -> None:
    path = Path(write(tmp_path / "input.json", forms))
    with pytest.raises(RwfError, match=message):
        source.read(path, frozenset(WORKERS))
    found = demo(tmp_path / "demo", "--input", str(path))
    assert found.returncode == 1
    assert found.stderr.startswith("rwf: demo_failed: ")
    assert found.stderr.count("\n") == 1
    assert not (tmp_path / "demo").exists()


def test_a_ledger_line_is_written_once_and_a_torn_one_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    assert ledger.steps() == []
    assert ledger.write("w", "a", "done")
    assert not ledger.write("w", "a", "done")
    with path.open("ab") as file:
        file.write(b'{"workflow_id": "w", "st')
    assert ledger.write("w", "b", "done")
    assert ledger.steps() == [("w", "a"), ("w", "b")]
