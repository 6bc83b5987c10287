"""``rwf worker``: runs a worker that a module of the user's has made."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Final

import click

from rwf import AsyncClient, Worker
from rwf.cli.common import DEFAULT_URL, Output, json_option, namespace_option
from rwf.cli.text import escaped

_HEALTH_SECONDS: Final = 10.0
_LOG_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def _loaded(_context: click.Context, _parameter: click.Parameter, place: str) -> Worker:
    """The worker that MODULE:WORKER names; the working directory is searched first."""
    module_name, _, name = place.partition(":")
    if not module_name or not name:
        raise click.BadParameter("give MODULE:WORKER, such as app.jobs:worker")
    sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise click.BadParameter(f"cannot import {module_name}: {error}") from None
    found = getattr(module, name, None)
    if not isinstance(found, Worker):
        raise click.BadParameter(f"{module_name} has no Worker named {name}")
    return found


def _given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


@click.command()
@click.argument("worker", metavar="MODULE:WORKER", callback=_loaded)
@click.option(
    "--url",
    envvar="RWF_URL",
    default=DEFAULT_URL,
    metavar="URL",
    help="Work on this server, not on that of the worker's own client.",
)
@namespace_option
@json_option
@click.pass_context
def worker(context: click.Context, worker: Worker, url: str, namespace: str, out: Output) -> None:
    """Run the worker that MODULE has made, until SIGTERM or SIGINT.

    It then stops claiming, lets running steps end for its grace time, and gives the rest back; the
    second signal gives back at once. It works with the client that it was made with, unless --url
    or --namespace are given here.
    """
    if _given(context, "url") or _given(context, "namespace"):
        worker.use(AsyncClient.from_url(url, namespace=namespace))
    logging.basicConfig(level=logging.INFO, format=_LOG_FORMAT)
    _announce(worker, out)
    with _telling(worker, out):
        worker.run()


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


@contextmanager
def _telling(worker: Worker, out: Output) -> Iterator[None]:
    """Tells the worker's health now and then, as long as it changes; and at the end."""
    ended = threading.Event()

    def tell() -> None:
        last: Any = None
        while True:
            over = ended.wait(_HEALTH_SECONDS)
            health = asdict(worker.health)
            if over or health != last:
                _tell(health, over, out)
            if over:
                return
            last = health

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


def _tell(health: dict[str, Any], over: bool, out: Output) -> None:
    if out.as_json:
        out.document({"event": "ended" if over else "health", **health})
    else:
        state = "ended" if over else "ok" if health["error"] is None else "server away"
        out.lines(
            [
                f"{state}: {health['running']} running, {health['unreported']} to report, "
                f"{health['ended']} attempts done"
            ]
        )
    sys.stdout.flush()


COMMANDS = (worker,)
