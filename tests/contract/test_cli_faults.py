"""The command line when something is wrong: one line on stderr and an exit code, always."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from rwf import Client
from rwf.cli import program
from rwf.model.names import escaped
from tests.support.commandline import FORM, NO_ID, Cli, one_line, run
from tests.support.servers import AnyServer

NOBODY = "redis://127.0.0.1:1/0"
READING = ("show", "graph", "explain", "evidence")
WRITING = ("insert", "complete", "signal", "cancel", "recover")
NAMES = (
    *READING,
    *WRITING,
    "acknowledge",
    "append",
    "bulk",
    "callbacks",
    "queues",
    "retention",
    "running",
    "signals",
    "stats",
    "wait",
    "watch",
    "withdraw",
    "console",
    "demo",
    "ls",
    "migrate",
    "doctor",
    "server",
    "worker",
    "workers",
    "prune",
    "rebuild",
    "reconciler",
)


@pytest.mark.parametrize("command", READING)
def test_what_does_not_exist(cli: Cli, command: str) -> None:
    assert cli.refused(1, command, NO_ID).startswith("rwf: not_found: ")
    told = json.loads(cli.refused(1, command, NO_ID, "--json"))
    assert told["error"] == "not_found"


@pytest.mark.parametrize(
    "text", ["", "x", "a\0b", "\x1b[31m", "\ud800", "ä" * 10_000, "{0}", "0-../../etc", "a\nb"]
)
def test_ids_and_steps_that_nobody_has(cli: Cli, text: str) -> None:
    for command in READING:
        cli.refused(1, command, text)
    cli.refused(1, "complete", text, "fetch")
    workflow_id = cli.inserted()
    for command in ("show", "explain"):
        cli.refused(1, command, workflow_id, text)
    cli.refused(1, "complete", workflow_id, text)


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("nope",),
        ("a\0b",),
        ("ls", "--nope"),
        ("ls", "extra"),
        ("ls", "--limit", "0"),
        ("ls", "--limit", "501"),
        ("ls", "--limit", "x"),
        ("ls", "--state", "x\ny"),
        ("ls", "--status"),
        ("ls", "--namespace", "{a}"),
        ("ls", "--namespace", "a b"),
        ("ls", "--url", "nope"),
        ("ls", "--url", "http://a:secret@b"),
        ("ls", "--url", "redis://:secret@host:port"),
        ("ls", "--url", "redis://:se/cret@host"),
        ("ls", "--url", "redis+sentinel://:secret@host"),
        ("ls", "redis://:not encoded secret@host"),
        ("show",),
        ("insert",),
        ("complete", NO_ID),
        ("complete", NO_ID, "a", "done"),
        ("graph", NO_ID, "--format", "png"),
        ("demo", "--input", "/no/such/file"),
        ("demo", "--input", "."),
        ("demo", "--folder", "x", "--url", "embedded:///x"),
    ],
)
def test_usage(cli: Cli, args: Sequence[str]) -> None:
    line = cli.refused(2, *args)
    assert line.startswith("rwf: usage: ")
    assert "cret" not in line
    told = json.loads(cli.refused(2, *(args or ("nope",)), "--json"))
    assert told["error"] == "usage"


@pytest.mark.parametrize(
    "args",
    [
        ("ls",),
        ("show", NO_ID),
        ("graph", NO_ID),
        ("explain", NO_ID, "a"),
        ("evidence", NO_ID),
        ("complete", NO_ID, "a"),
        ("migrate",),
        ("doctor",),
    ],
)
def test_nobody_answers(tmp_path: Path, args: Sequence[str]) -> None:
    cli = Cli(NOBODY.replace("://", "://user:hunter2@"), tmp_path)
    line = cli.refused(3, *args)
    assert line.startswith("rwf: store_unavailable: ")
    assert "hunter2" not in line


def test_a_namespace_with_other_partitions(cli: Cli) -> None:
    with Client.from_url(cli.url, namespace="other", partitions=4) as client:
        client.list()
    assert cli.json("migrate", "--namespace", "other")["partitions"] == 4
    assert cli.json("migrate")["partitions"] == 1


def test_the_environment_and_the_options(one_server: AnyServer) -> None:
    named = run("insert", "-", "--json", stdin=json.dumps(FORM).encode(), env={
        "RWF_URL": one_server.url, "RWF_NAMESPACE": "mine",
    })  # fmt: skip
    assert named.returncode == 0, named.stderr
    found = run("ls", "--json", "--namespace", "mine", "--url", one_server.url)
    assert len(json.loads(found.stdout)["workflows"]) == 1
    assert json.loads(run("ls", "--json", "--url", one_server.url).stdout)["workflows"] == []


def test_a_reader_that_goes_away(cli: Cli) -> None:
    steps = [{"name": f"step-{number:05}", "worker": "w"} for number in range(5_000)]
    form = json.dumps({"name": "wide", "steps": steps})
    workflow_id = cli.json("insert", "-", stdin=form)["id"]
    command = [sys.executable, "-m", "rwf", "show", workflow_id, "--all", "--url", cli.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_disk_that_is_full(cli: Cli) -> None:
    with open("/dev/full", "wb") as full:
        found = subprocess.run(
            [sys.executable, "-m", "rwf", "migrate", "--url", cli.url],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert found.returncode == 1
    assert one_line(found.stderr).startswith("rwf: io_error: ")


def test_control_c() -> None:
    """While it waits for the answer of a server that hangs."""
    with socket.create_server(("127.0.0.1", 0)) as hung:
        url = f"redis://127.0.0.1:{hung.getsockname()[1]}/0"
        with subprocess.Popen(
            [sys.executable, "-m", "rwf", "ls", "--url", url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # A shell that runs the tests in the background has this signal ignored, here too.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as process:
            connection, _ = hung.accept()
            with connection:
                assert connection.recv(1)
                process.send_signal(signal.SIGINT)
                _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr == b"rwf: interrupted\n"


def test_a_terminal_that_cannot_show_everything(cli: Cli) -> None:
    form = json.dumps(FORM | {"context": "ä€😀"})
    workflow_id = cli.json("insert", "-", stdin=form)["id"]
    found = run("show", workflow_id, "--url", cli.url, env={"PYTHONIOENCODING": "latin-1"})
    assert found.returncode == 0
    assert b"\xe4\\u20ac\\U0001f600" in found.stdout


def test_bytes_that_are_no_text(cli: Cli) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "rwf", "show", b"\xff\xfe", "--url", cli.url],
        capture_output=True,
        check=False,
    )
    assert found.returncode == 1
    one_line(found.stderr.decode())


def test_an_error_that_nobody_foresaw(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_more: object) -> None:
        raise ZeroDivisionError("with hunter2 in it")

    monkeypatch.setattr(Client, "list", fail)
    assert cli.refused(1, "ls") == "rwf: internal_error: unexpected ZeroDivisionError\n"


def test_every_command_explains_itself_and_has_the_options() -> None:
    # A dispatcher's client is the module's own.
    assert sorted(program.commands) == sorted((*NAMES, "dispatch"))
    for name in NAMES:
        found = CliRunner().invoke(program, [name, "--help"])
        assert found.exit_code == 0
        for option in ("--url", "--namespace", "--json"):
            assert option in found.stdout, name
    assert CliRunner().invoke(program, ["--version"]).stdout.startswith("rwf ")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ä€", "plain ä€"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb\tc\x00\x7f", r"a\nb\tc\x00\x7f"),
        ("\u202eabc", r"\u202eabc"),
        ("\ud800", r"\ud800"),
    ],
)
def test_escaping(text: str, shown: str) -> None:
    assert escaped(text) == shown
