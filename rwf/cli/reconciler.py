"""The daemon: ``reconciler``."""

from __future__ import annotations

import logging
import time
from typing import Any, Final

import click

from rwf import Client, Reconciler, Webhook
from rwf.cli.common import Output, on_client
from rwf.cli.text import escaped


class _Lines(logging.Handler):
    """Shows what is logged: a line each, for people or as JSON."""

    def __init__(self, out: Output) -> None:
        super().__init__(logging.INFO)
        self._out = out

    def emit(self, record: logging.LogRecord) -> None:
        moment = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}Z"
        level, message = record.levelname.lower(), record.getMessage()
        if self._out.as_json:
            self._out.document({"time": moment, "level": level, "message": message})
        else:
            self._out.lines([f"{moment}  {level:<7}  {escaped(message)}"])


def _webhook(url: str | None, secret: str | None) -> Webhook | None:
    if url is None:
        return None
    if not secret:
        raise click.UsageError("--webhook needs a secret to sign with: set RWF_WEBHOOK_SECRET")
    try:
        return Webhook(url, secret)
    except ValueError as error:
        raise click.UsageError(f"--webhook: {error}") from None


_SECONDS: Final = click.FloatRange(min=0, min_open=True, max=1e9)


@click.command()
@click.option(
    "--interval",
    type=_SECONDS,
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How long at most what is due waits.",
)
@click.option(
    "--sweep-interval",
    type=_SECONDS,
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="In which time all open workflows are looked at.",
)
@click.option("--webhook", metavar="URL", help="POST callbacks to URL.")
@click.option(
    "--webhook-secret", envvar="RWF_WEBHOOK_SECRET", metavar="TEXT", help="[$RWF_WEBHOOK_SECRET]"
)
@on_client
def reconciler(
    client: Client, out: Output, *, webhook: str | None, webhook_secret: str | None, **given: Any
) -> None:
    """Carry out what is due, and restore what is lost, until SIGTERM or SIGINT.

    Any number of them may run. Prints which partitions it looks after, and what it mends.
    """
    daemon = Reconciler(client, callbacks=_webhook(webhook, webhook_secret), **given)
    log = logging.getLogger("rwf")
    lines, level = _Lines(out), log.level
    log.addHandler(lines)
    log.setLevel(logging.INFO)
    try:
        daemon.run()
    finally:
        log.removeHandler(lines)
        log.setLevel(level)


COMMANDS = (reconciler,)
