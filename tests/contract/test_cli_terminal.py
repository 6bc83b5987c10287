"""The command line on a terminal: colours, columns that fit, drawings, and commands to paste."""

from __future__ import annotations

import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from fcntl import ioctl

from rwf import Client, Workflow
from tests.support.commandline import Cli
from tests.support.flows import flow

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def on_terminal(
    *args: str,
    columns: int = 80,
    then: tuple[str, Callable[[], object]] | None = None,
    **environment: str,
) -> str:
    """The output of a command on a terminal that is so wide; ``then``: what to do once it has
    written something."""
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
    with subprocess.Popen(
        [sys.executable, "-m", "rwf", *args],
        stdout=slave,
        stderr=slave,
        stdin=slave,
        env=env | {"TERM": "xterm", "PYTHONIOENCODING": "utf-8"} | environment,
    ) as process:
        os.close(slave)
        written, ends = b"", time.monotonic() + 60
        while time.monotonic() < ends:
            if not select.select([master], [], [], 0.2)[0]:
                continue
            try:
                some = os.read(master, 65536)
            except OSError:
                break
            if not some:
                break
            written += some
            if then is not None and then[0].encode() in written:
                then[1]()
                then = None
        os.close(master)
        process.wait(60)
    return written.decode().replace("\r\n", "\n")


def test_statuses_and_headings_are_coloured_unless_that_is_not_wanted(
    one_client: Client, cli: Cli
) -> None:
    view = one_client.insert(flow("a"))
    one_client.complete_step(view.id, "a", "failed")
    coloured = on_terminal("ls", "--url", cli.url)
    assert "\x1b[1;31mNeeds Review\x1b[0m  failed" in coloured
    assert coloured.startswith("\x1b[1mSTATUS")
    for plain in (on_terminal("ls", "--url", cli.url, NO_COLOR="1"), cli.ok("ls")):
        assert "\x1b" not in plain
        assert plain.splitlines()[1].startswith("Needs Review  failed")


def test_lines_of_tables_fit_and_ids_are_whole(one_client: Client, cli: Cli) -> None:
    view = one_client.insert(flow("a", name="n" * 128, queue="q" * 128))
    one_client.claim(["q" * 128], worker_id="w" * 300)
    for command, columns in (("ls", 40), ("running", 90), ("queues", 80)):
        text = COLOUR.sub("", on_terminal(command, "--url", cli.url, columns=columns))
        assert max(map(len, text.splitlines())) <= max(columns, 80), text
        if command != "queues":
            assert view.id in text
            assert "…" in text
    assert "n" * 128 in cli.ok("ls")


def test_what_can_be_done_is_told_as_commands_to_paste(one_client: Client, cli: Cli) -> None:
    view = one_client.insert(flow("a b:a w"))
    one_client.complete_step(view.id, "a", "failed", summary="no card")
    one_client.await_step(view.id, "w", signal="paid", correlation_key="order 5")
    text = cli.ok("explain", view.id)
    commands = [line.strip() for line in text.splitlines() if line.startswith("    rwf ")]
    assert commands == [
        f"rwf show {view.id} a",
        f"rwf recover {view.id} a retry --dry-run",
        "rwf signal paid 'order 5'",
        f"rwf recover {view.id} w retry --dry-run",
    ]
    assert "would change 2 steps" in cli.ok(*commands[1].split()[1:])
    told = cli.ok("explain", view.id, "b", "--namespace", "rwf")
    assert f"rwf recover {view.id} a retry --dry-run --namespace rwf" in told
    told = cli.ok("explain", view.id, "b", "--url", cli.url)
    assert f"--url {cli.url}" in told


def test_a_graph_is_drawn_with_its_edges_as_lanes(one_client: Client, cli: Cli) -> None:
    view = one_client.insert(flow("a b:a c:a d:b,c e:+d x"))
    one_client.complete_step(view.id, "a")
    lines = cli.ok("graph", view.id, "--format", "drawing").splitlines()
    assert lines[1:] == [
        "  ✓    a  [Resolved, completed]",
        "  ├─╮",
        "  ◇ │  b  [Runnable, available]",
        "  │ ◇  c  [Runnable, available]",
        "  ├─╯",
        "  ○    d  [Waiting, pending]",
        "  ○    e  [Waiting, pending]  <- d (continue)",
        "  ◇    x  [Runnable, available]",
    ]
    drawn = COLOUR.sub("", on_terminal("graph", view.id, "--url", cli.url)).splitlines()
    assert drawn == lines
    assert "├" not in cli.ok("graph", view.id)


def test_a_graph_of_too_many_lanes_is_told_as_text(one_client: Client, cli: Cli) -> None:
    workflow = Workflow("wide").add("root", worker="w")
    for number in range(40):
        workflow.add(f"s{number}", worker="w", deps=["root"])
    view = one_client.insert(workflow)
    assert cli.ok("graph", view.id, "--format", "drawing") == cli.ok("graph", view.id)


def test_watch_shows_how_it_goes_on_until_it_has_ended(one_client: Client, cli: Cli) -> None:
    view = one_client.insert(flow("a b:a"))
    one_client.claim(["default"], worker_id="worker-7")

    def work() -> None:
        one_client.complete_step(view.id, "a", force=True)
        one_client.complete_step(view.id, "b")

    then = ("worker-7", work)
    text = COLOUR.sub("", on_terminal("watch", view.id, "--url", cli.url, then=then))
    frames = text.split("\x1b[H\x1b[J")[1:]
    assert "Runnable  running" in frames[0]
    assert "0 of 2 steps completed" in frames[0]
    assert "worker-7" in frames[0]
    assert "Resolved  completed" in frames[-1]
    assert f"[{'#' * 40}] 2 of 2 steps completed" in frames[-1]
    told = cli.ok("watch", view.id).splitlines()
    assert len(told) == 1
    assert told[0].startswith("Resolved  completed")
