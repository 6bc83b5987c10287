"""``rwf worker``: runs a worker that a module of the user's has made."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Final

import click

from rwf import CommandRejected, Worker
from rwf.cli.common import DEFAULT_URL, Output, json_option
from rwf.cli.modules import (
    end_now,
    leave_threads_behind,
    loader,
    logging_of_module,
    serving_beside,
)
from rwf.cli.processes import Address, by_name_option, log_options, metrics_option
from rwf.internals import client_elsewhere
from rwf.model.names import escaped

_HEALTH_SECONDS: Final = 10.0


def _queues(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> list[str] | None:
    return None if value is None else [name.strip() for name in value.split(",")]


@click.command()
@click.argument("worker", metavar="MODULE:WORKER", callback=loader(Worker))
@click.option(
    "--url",
    metavar="URL",
    help="Work on this server, not on that of the worker's own client.  "
    f"[without either $RWF_URL, else {DEFAULT_URL}]",
)
@click.option(
    "--namespace",
    metavar="NAME",
    help="The namespace of all keys, not that of the worker's own client.  "
    "[without either $RWF_NAMESPACE, else rwf]",
)
@click.option(
    "--queues",
    metavar="NAMES",
    callback=_queues,
    help="Claim from these queues, separated by commas, instead of the worker's own.",
)
@click.option("--concurrency", type=int, metavar="NUMBER", help="How many steps to run at once.")
@metrics_option("off")
@by_name_option
@log_options
@json_option
@click.pass_context
def worker(
    context: click.Context,
    worker: Worker,
    url: str | None,
    namespace: str | None,
    queues: list[str] | None,
    concurrency: int | None,
    address: Address | None,
    by_name: bool,
    log_level: str,
    log_format: str | None,
    out: Output,
) -> None:
    """Run the worker named WORKER in MODULE, until SIGTERM or SIGINT.

    After the first signal it claims nothing more, waits for running steps up to its grace time, and
    gives the rest back; a second signal gives them back at once. --url and --namespace replace
    those of the worker's client; a worker without a client uses $RWF_URL and $RWF_NAMESPACE.
    """
    try:
        worker.use(queues=queues, concurrency=concurrency)
    except ValueError as error:
        raise click.UsageError(f"--concurrency: {error}") from None
    except CommandRejected as refusal:
        raise click.UsageError(f"--queues: {refusal.message}") from None
    if url is not None or namespace is not None:
        worker.use(client_elsewhere(worker.client, url, namespace))
    with logging_of_module(context, log_level, log_format, out):
        _announce(worker, out)
        with (
            serving_beside(context, worker.client, address, worker=worker, by_name=by_name),
            _telling(worker, out) as telling,
            _ended_by_force(worker, telling),
        ):
            worker.run()
        leave_threads_behind()


@contextmanager
def _ended_by_force(worker: Worker, telling: _Telling) -> Iterator[None]:
    """Ends the process when a handler blocks the event loop past the grace time: its steps have
    been given back by then."""
    over = threading.Event()

    def watch() -> None:
        worker.overdue.wait()
        if not over.is_set():
            telling.end()
            end_now()

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _announce(worker: Worker, out: Output) -> None:
    if out.as_json:
        out.document(
            {
                "event": "serving",
                "worker_id": worker.worker_id,
                "queues": worker.queues,
                "handlers": worker.handlers,
                "concurrency": worker.concurrency,
            }
        )
    else:
        handlers = ", ".join(map(escaped, worker.handlers)) or "none"
        out.lines(
            [
                f"worker {escaped(worker.worker_id)} serves {', '.join(worker.queues)}, "
                f"{worker.concurrency} steps at once",
                f"handlers: {handlers}",
            ]
        )
    sys.stdout.flush()


class _Telling:
    """Tells a worker's health now and then, as long as it changes; and at the end."""

    def __init__(self, worker: Worker, out: Output) -> None:
        self._worker = worker
        self._out = out
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tell, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Tells how it ended; harmless when repeated."""
        self._ended.set()
        self._thread.join()

    def _tell(self) -> None:
        last: Any = None
        while True:
            over = self._ended.wait(_HEALTH_SECONDS)
            health = asdict(self._worker.health)
            del health["stuck_seconds"]  # it would change each time
            if over or health != last:
                _tell(health, over, self._out)
            if over:
                return
            last = health


@contextmanager
def _telling(worker: Worker, out: Output) -> Iterator[_Telling]:
    telling = _Telling(worker, out)
    try:
        yield telling
    finally:
        telling.end()


def _tell(health: dict[str, Any], over: bool, out: Output) -> None:
    if out.as_json:
        out.document({"event": "ended" if over else "health", **health})
    else:
        error = health["error"]
        state = "ended" if over else "ok" if error is None else f"not well ({escaped(error)})"
        left = f", {health['abandoned']} handlers left behind" if health["abandoned"] else ""
        out.lines(
            [
                f"{state}: {health['running']} running, {health['unreported']} to report, "
                f"{health['ended']} attempts done{left}"
            ]
        )
    sys.stdout.flush()


COMMANDS = (worker,)
