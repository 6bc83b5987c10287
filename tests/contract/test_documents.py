"""Everything that ``docs/`` shows is run as it is: Python, shell commands, and their output.

A document's Python blocks are run in order, in one namespace; in ``recipes.md`` each section has
its own. A ``text`` block holds the output of the block before it. ``sh`` blocks are run; commands
of ``console`` blocks, which run for long or change the machine, need only exist with their options.
A worker that a block defines runs from there on.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
import pytest

from rwf import Client, Worker
from rwf.cli import program
from tests.support.servers import AnyServer
from tests.support.waiting import until
from tests.support.workers import at_work

ROOT: Final = Path(__file__).parents[2]
DOCUMENTS: Final = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
SERVER_URL: Final = "redis://127.0.0.1:6379/0"


class Block(NamedTuple):
    language: str
    text: str


def blocks(text: str) -> list[Block]:
    return [Block(*found) for found in re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S)]


class Session:
    """One document, or section of one, that is being run."""

    def __init__(self, client: Client, url: str, stack: contextlib.ExitStack) -> None:
        self.client = client
        self.url = url
        self.names: dict[str, Any] = {}
        self._stack = stack
        self._working = False

    def run(self, block: Block) -> str:
        """Runs a block. Returns its output, once all work that it has started is done."""
        if block.language == "sh":
            return self._shell(block.text)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            # Run like a file of the reader's: without this file's imports from __future__.
            exec(compile(block.text, "recipe", "exec", dont_inherit=True), self.names)
        worker = self.names.get("worker")
        if isinstance(worker, Worker):
            if not self._working:
                self._working = True
                self._stack.enter_context(at_work(worker))
            until(lambda: self._rests(worker), timeout=60, what="the worker has nothing to do")
        return printed.getvalue()

    def _rests(self, worker: Worker) -> bool:
        return not any(
            step.state in ("available", "executing", "retryable") and step.worker in worker.handlers
            for view in self.client.list().workflows
            for step in self.client.steps(view.id)
        )

    def _shell(self, text: str) -> str:
        run = subprocess.run(
            ["bash", "-euc", text],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "RWF_URL": self.url},
        )
        assert run.returncode == 0, f"{text}\n{run.stdout}{run.stderr}"
        return run.stdout


def run_all(found: list[Block], session: Session) -> None:
    printed = ""
    for block in found:
        if block.language in ("python", "sh"):
            printed = session.run(block)
        elif block.language == "text":
            assert printed == block.text


@pytest.fixture
def session(one_client: Client, one_server: AnyServer) -> Iterator[Session]:
    with contextlib.ExitStack() as stack:
        yield Session(one_client, one_server.url, stack)


def test_the_guide_works_from_top_to_bottom(tmp_path: Path) -> None:
    text = (ROOT / "docs/guide.md").read_text()
    url = f"embedded://{tmp_path / 'server'}"
    text = text.replace("embedded:///var/lib/rwf-guide", url)
    assert url in text
    with Client.from_url(url) as client, contextlib.ExitStack() as stack:
        session = Session(client, url, stack)
        run_all(blocks(text), session)
        stack.close()
        session.names["client"].close()


RECIPES: Final = re.split(r"^## ", (ROOT / "docs/recipes.md").read_text(), flags=re.M)[1:]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda text: text.partition("\n")[0])
def test_each_recipe_works_by_itself(
    recipe: str,
    session: Session,
    one_server: AnyServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    found = blocks(recipe.replace(SERVER_URL, one_server.url))
    run_all(found, session)
    tests = [name for name in session.names if name.startswith("test_")]
    if tests:
        (tmp_path / "test_recipe.py").write_text(
            "\n".join(block.text for block in found if block.language == "python")
        )
        assert f"{len(tests)} passed" in session._shell(f"cd {tmp_path} && python -m pytest -q")
    close = getattr(session.names.get("client"), "close", None)
    if close:
        session._stack.callback(close)


def test_what_the_recipes_workflows_come_to(
    session: Session,
    one_server: AnyServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    named = {text.partition("\n")[0]: text for text in RECIPES}
    for name, step, payload in (
        ("Approvals", "approve", "ann"),
        ("Compensation", "undo", ["hotel"]),
        ("Clean-up that always runs", "delete_vm", "deleted vm-7"),
        ("Optional steps", "ship", "shipped"),
        ("Polling", "wait", "e-1"),
        ("Logs that carry the step", "greet", "hello ann"),
        ("A database session for each step", "charge", 1200),
    ):
        with contextlib.ExitStack() as stack:
            own = Session(session.client, session.url, stack)
            run_all(blocks(named[name].replace(SERVER_URL, one_server.url)), own)
            view, client = own.names["view"], own.names["client"]
            assert client.wait(view.id, timeout=30).finished_at is not None
            assert client.result(view.id, step).payload == payload
            stack.callback(client.close)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "greeting" in line]
    assert {"attempt=1", "step=greet", "name=ann"} <= set(line.split())
    with sqlite3.connect(tmp_path / "payments.db") as database:
        assert database.execute("select cents from payments").fetchall() == [(1200,)]


def test_log_records_have_a_step_outside_of_handlers_too() -> None:
    (recipe,) = [text for text in RECIPES if text.startswith("Logs that carry the step")]
    names: dict[str, Any] = {}
    exec([block.text for block in blocks(recipe)][-1], names)
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "m", (), None)
    assert names["with_step"](record)
    assert names["log_handler"].format(record) == "INFO - m"


def test_the_receiver_of_callbacks_checks_the_signature() -> None:
    (block,) = [b for b in blocks((ROOT / "docs/operations.md").read_text()) if b[0] == "python"]
    names: dict[str, Any] = {}
    exec(block.text, names)
    assert names["receive"](b"{}", {}, "secret") == "401"


def shown_commands() -> list[Any]:
    """Every ``rwf`` command in a shell block, with the document that shows it."""
    return [
        pytest.param(line, id=f"{document.stem}: {line}")
        for document in DOCUMENTS
        for block in blocks(document.read_text())
        if block.language in ("console", "sh", "")
        for line in block.text.splitlines()
        if line.startswith("rwf ")
    ]


def test_documents_show_commands() -> None:
    assert len(shown_commands()) >= 10


@pytest.mark.parametrize("line", shown_commands())
def test_a_command_that_is_shown_exists_with_its_options(line: str) -> None:
    _, name, *rest = shlex.split(line, comments=True)
    command = program.commands[name]
    assert isinstance(command, click.Command)
    known = {option for each in command.params for option in each.opts}
    assert {word for word in rest if word.startswith("--")} <= known


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_within_the_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("tool", ["functions", "states"])
def test_what_is_made_by_a_tool_is_up_to_date(tool: str) -> None:
    script = ROOT / "tools" / f"{tool}.py"
    run = subprocess.run(
        [sys.executable, script, "--check"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, f"run `python {script.relative_to(ROOT)}`: {run.stdout}{run.stderr}"
