"""The daemon: ``reconciler``."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import click
from click.core import ParameterSource

from rwf import Client, Reconciler, Webhook, metrics
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


def _webhook(url: str | None, secret: str | None, timeout: float) -> Webhook | None:
    if url is None:
        return None
    if not secret:
        raise click.UsageError("--webhook needs a secret to sign with: set RWF_WEBHOOK_SECRET")
    try:
        return Webhook(url, secret, timeout=timeout)
    except ValueError as error:
        raise click.UsageError(f"--webhook: {error}") from None


def _address(
    _context: click.Context, _parameter: click.Parameter, value: str
) -> tuple[str, int] | None:
    """HOST:PORT, or None for "off"."""
    if value == "off":
        return None
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or int(port) > _LAST_PORT:
        raise click.BadParameter("give HOST:PORT, such as 127.0.0.1:9464, or off")
    return host.strip("[]"), int(port)


@contextmanager
def _serving(
    client: Client, daemon: Reconciler, address: tuple[str, int] | None, asked: bool
) -> Iterator[None]:
    """Serves metrics; where nobody has asked for the address, another daemon may have it."""
    log = logging.getLogger("rwf")
    try:
        server = None if address is None else metrics.serve(client, *address, daemon)
    except OSError as error:
        if asked:
            raise
        log.warning("metrics are not served: %s", error.strerror)
        server = None
    if server is None:
        yield
        return
    with server:
        log.info("metrics on http://%s:%d/metrics", server.host, server.port)
        yield


_LAST_PORT: Final = 65535


class _Seconds(click.FloatRange):
    """More than none; a range alone lets ``nan`` pass."""

    def __init__(self) -> None:
        super().__init__(min=0, min_open=True, max=1e9)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is no number of seconds.", param, ctx)
        return seconds


@click.command()
@click.option(
    "--interval",
    type=_Seconds(),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How long at most what is due waits.",
)
@click.option(
    "--sweep-interval",
    type=_Seconds(),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="In which time all open workflows are looked at.",
)
@click.option(
    "--webhook",
    envvar="RWF_WEBHOOK_URL",
    metavar="URL",
    help="POST callbacks to URL.  [$RWF_WEBHOOK_URL]",
)
@click.option(
    "--webhook-secret", envvar="RWF_WEBHOOK_SECRET", metavar="TEXT", help="[$RWF_WEBHOOK_SECRET]"
)
@click.option(
    "--webhook-timeout",
    type=_Seconds(),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the receiver may take over a callback.",
)
@click.option(
    "--webhook-concurrency",
    "concurrency",
    type=click.IntRange(1, 1000),
    default=64,
    show_default=True,
    help="How many callbacks are POSTed at the same time.",
)
@click.option(
    "--metrics",
    "address",
    default=f"127.0.0.1:{metrics.PORT}",
    show_default=True,
    metavar="HOST:PORT",
    callback=_address,
    help="Where /metrics and /healthz are served; port 0 takes any, off none.",
)
@on_client
@click.pass_context
def reconciler(
    context: click.Context,
    /,
    client: Client,
    out: Output,
    *,
    webhook: str | None,
    webhook_secret: str | None,
    webhook_timeout: float,
    address: tuple[str, int] | None,
    **given: Any,
) -> None:
    """Carry out what is due, and restore what is lost, until SIGTERM or SIGINT.

    Any number of them may run. Prints which partitions it looks after, and what it mends.
    """
    daemon = Reconciler(
        client, callbacks=_webhook(webhook, webhook_secret, webhook_timeout), **given
    )
    log = logging.getLogger("rwf")
    lines, level = _Lines(out), log.level
    log.addHandler(lines)
    log.setLevel(logging.INFO)
    try:
        asked = context.get_parameter_source("address") is not ParameterSource.DEFAULT
        with _serving(client, daemon, address, asked):
            daemon.run()
    finally:
        log.removeHandler(lines)
        log.setLevel(level)


COMMANDS = (reconciler,)
