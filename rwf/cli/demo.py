"""The command ``demo``; what it does is in ``rwf.demo``."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import click

from rwf.cli.common import Output, embedded_url, folder_value, json_option, namespace_option
from rwf.cli.console import check_extra
from rwf.cli.faults import Refused, file_errors
from rwf.cli.inspect import step_explanation
from rwf.cli.text import table
from rwf.demo import source
from rwf.demo.screen import Screen
from rwf.demo.show import Demo, Summary
from rwf.demo.source import DemoFailed
from rwf.demo.work import WORKERS
from rwf.embedded import folder_of
from rwf.model.names import escaped

_TERMINATED = 128 + signal.SIGTERM


@click.command()
@click.option("--folder", callback=folder_value, metavar="FOLDER", help="[default: ./demo-data]")
@click.option("--url", metavar="URL", help="embedded:///FOLDER, in place of --folder.")
@click.option("--input", "file", metavar="FILE", help="Workflows to run in place of its own.")
@click.option("--console", is_flag=True, help="Serve the console meanwhile, and on until Ctrl-C.")
@namespace_option
@json_option
def demo(
    folder: Path | None,
    url: str | None,
    file: str | None,
    console: bool,
    namespace: str,
    out: Output,
) -> int:
    """Run customer syncs on an embedded server, and kill a worker, the daemon and the server.

    Needs no server. Ends with exit code 1 unless every step ends as it should.
    """
    if console:
        check_extra()
    if folder is not None and url is not None:
        raise click.UsageError("give either --folder or --url embedded:///FOLDER")
    if url is not None:
        folder = folder_of(url)
    folder = (folder or Path("demo-data")).absolute()
    path = source.SHIPPED if file is None else Path(file)
    # SIGTERM takes the same way out as Ctrl-C, past the `finally` that ends the workers.
    signal.signal(signal.SIGTERM, _terminate)
    try:
        with file_errors(str(path)):
            syncs = source.read(path, frozenset(WORKERS))
        Demo(
            syncs=syncs,
            folder=folder,
            url=embedded_url(folder),
            namespace=namespace,
            screen=Screen(None if out.as_json else sys.stdout),
            describe=step_explanation,
            console=console,
        ).run(lambda summary: _ended(summary, out, folder, namespace, console))
    except DemoFailed as error:
        raise Refused("demo_failed", str(error)) from None
    return 0


def _ended(summary: Summary, out: Output, folder: Path, namespace: str, console: bool) -> None:
    """Says how it ended, and stays while somebody looks at the console."""
    if out.as_json:
        out.document(summary.model_dump(mode="json"))
    else:
        out.lines(_closing(summary))
    if summary.differences:
        first = summary.differences[0]
        raise DemoFailed(f"{len(summary.differences)} differences, first: {first}")
    if console:
        if not out.as_json:
            out.lines(["the console stays until Ctrl-C"])
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
    elif not out.as_json:
        out.lines(_hints(folder, namespace))


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(_TERMINATED)


def _closing(summary: Summary) -> Iterator[str]:
    rows = [
        ("workflows", _counted(summary.workflows)),
        ("steps", _counted(summary.steps)),
        ("grown", f"by {summary.appended} steps that others appended"),
        ("undone", f"{summary.undone} syncs that had failed"),
        ("ledger", f"{summary.ledger_lines} lines, one for each completed step"),
        ("retries", summary.retries),
        ("leases", f"{summary.leases_expired} taken away"),
        ("repairs", _counted(summary.repairs) or "none"),
        ("reports", f"{summary.duplicates} duplicates and {summary.refused} others refused"),
        (
            "kills",
            f"{summary.workers_killed} worker, {summary.daemons_killed} daemon, "
            f"{summary.servers_killed} server",
        ),
        ("seconds", summary.seconds),
    ]
    if summary.differences:
        rows[4] = ("ledger", f"{summary.ledger_lines} lines")
    else:
        rows.append(("verdict", "every workflow and step ended as the input implies"))
    yield from table(("", ""), rows)


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))


def _hints(folder: Path, namespace: str) -> Iterator[str]:
    name = sys.argv[0]
    program = "python -m rwf" if name.endswith("__main__.py") else shlex.quote(name)
    yield f"Look around in {escaped(str(folder))}; each command starts its server and ends it:"
    exports = f"RWF_URL={shlex.quote(embedded_url(folder))}"
    if namespace != "rwf":
        exports += f" RWF_NAMESPACE={namespace}"
    yield f"  export {exports}"
    yield f"  {program} ls --status 'Needs Review'"
    yield f"  {program} show ID    # also: explain, graph, evidence"
    yield f"  {program} reconciler    # and look at http://127.0.0.1:9464/metrics"
    yield f"  {program} console    # and look at http://127.0.0.1:9465"


COMMANDS = (demo,)
