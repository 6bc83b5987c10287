"""Commands about the server: ``migrate``, ``doctor``, ``rebuild`` and ``server`` (embedded)."""

from __future__ import annotations

import shlex
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Final
from urllib.parse import quote

import click

from rwf import Client
from rwf.cli.common import (
    Output,
    dumped,
    embedded_url,
    folder_value,
    json_option,
    namespace_option,
    on_client,
)
from rwf.cli.faults import NO_STORE, REFUSED
from rwf.embedded import EmbeddedServer, folder_of
from rwf.model.names import escaped
from rwf.model.views import RebuildProgress, RebuildReport

_LOOK_SECONDS: Final = 1.0
"""How often ``rwf server`` looks whether the server still runs, and a rebuild is told of."""


@click.command()
@on_client
def migrate(client: Client, out: Output) -> None:
    """Load the library of this release, and create the namespace if it does not exist.

    Run it as a user who may load functions, such as rwf-migrate of deploy/users.acl. Libraries of
    other releases stay.
    """
    report = client.migrate()
    if out.as_json:
        out.document(dumped(report))
        return
    what = "loaded" if report.loaded else "was loaded already"
    out.lines(
        [
            f"library {report.library} {what}",
            f"namespace {report.namespace}, partitions: {report.partitions}",
        ]
    )


@click.command()
@on_client
def doctor(client: Client, out: Output) -> int:
    """Check the server and its configuration; changes nothing. Exit code 3 when a check fails."""
    report = client.doctor()
    if out.as_json:
        out.document(dumped(report))
    else:
        width = max(len(check.name) for check in report.checks)
        for check in report.checks:
            advice = f"; {escaped(check.advice)}" if check.advice else ""
            found = escaped(check.found)
            out.lines([f"{check.status:<7}  {check.name:<{width}}  {found}{advice}"])
    return 0 if report.healthy else NO_STORE


@click.command()
@on_client
def rebuild(client: Client, out: Output) -> int:
    """Restore every derived key from the records alone, while others work. Can be stopped and run
    again. Exit code 1 when something could not be restored."""
    report = client.rebuild(progress=_Teller())
    if out.as_json:
        out.document(dumped(report))
    else:
        out.lines(_rebuild_lines(report))
    return REFUSED if report.failure_count else 0


class _Teller:
    """Tells on stderr how far a rebuild is, at most once a second."""

    def __init__(self) -> None:
        self._told_at = time.monotonic()

    def __call__(self, progress: RebuildProgress) -> None:
        if time.monotonic() - self._told_at >= _LOOK_SECONDS:
            self._told_at = time.monotonic()
            counts = f"{progress.workflows} workflows, {progress.topics} topics"
            click.echo(f"{progress.stage}: {counts}, {progress.repairs} repairs", err=True)


def _rebuild_lines(report: RebuildReport) -> Iterator[str]:
    yield f"went through {report.workflows} workflows and {report.topics} topics"
    for kind, count in report.repairs.items():
        yield f"  repaired {count}  {kind}"
    for gauge in report.gauges:
        yield (
            f"  partition {gauge.partition}: {gauge.gauge} was {gauge.stored}, "
            f"the workflows say {gauge.expected}"
        )
    for failure in report.failures:
        yield f"  failed  {failure.id}  {escaped(failure.message)}"
    if report.failure_count > len(report.failures):
        yield f"  and {report.failure_count - len(report.failures)} more"


@click.command()
@click.argument("folder", required=False, callback=folder_value)
@click.option("--url", metavar="URL", help="embedded:///FOLDER, in place of FOLDER.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="Listen on 127.0.0.1:PORT too, with the password in FOLDER/server.password.",
)
@click.option("--show-password", is_flag=True, help="Print the port's URL with its password.")
@namespace_option
@json_option
def server(
    folder: Path | None,
    url: str | None,
    port: int | None,
    show_password: bool,
    namespace: str,
    out: Output,
) -> None:
    """Run the embedded server of FOLDER until SIGINT or SIGTERM; it is restarted if it dies."""
    if (folder is None) == (url is None):
        raise click.UsageError("give either FOLDER or --url embedded:///FOLDER")
    folder = folder_of(url) if url is not None else folder
    assert folder is not None
    ended = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    with EmbeddedServer(folder, port=port) as running:
        address = embedded_url(folder)
        plain = _plain_url(running, show_password)
        password_file = str(running.password_path) if running.password else None
        if out.as_json:
            out.document(
                {
                    "url": address,
                    "redis_url": plain,
                    "password_file": password_file,
                    "pid": running.pid,
                    "namespace": namespace,
                }
            )
        else:
            out.lines([f"{address} runs, as {plain}, process {running.pid}"])
            if password_file:
                out.lines([f"password of the port: in {password_file}"])
            exports = f"RWF_URL={shlex.quote(address)} RWF_NAMESPACE={namespace}"
            out.lines([f"use it: export {exports}"])
        while not ended.wait(_LOOK_SECONDS):
            running.ensure_running()


def _plain_url(running: EmbeddedServer, show_password: bool) -> str:
    """Where other software than rwf finds the server."""
    if not running.port:
        return running.url
    password = running.password if show_password else None
    login = f":{quote(password, safe='')}@" if password else ""
    return f"redis://{login}127.0.0.1:{running.port}/0"


COMMANDS = (migrate, doctor, rebuild, server)
