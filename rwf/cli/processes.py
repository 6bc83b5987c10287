"""Logging and metrics of the commands that run until they are stopped (workers, daemons)."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TextIO

import click
from click.core import ParameterSource

from rwf import Client, metrics
from rwf.metrics import Daemon, Working
from rwf.model.names import escaped

Command = Callable[..., Any]
Address = tuple[str, int]

LEVELS: Final = ("debug", "info", "warning", "error")
FORMATS: Final = ("text", "json")
_LAST_PORT: Final = 65535
# Characters of a message, or of a traceback, that are shown: an exception's text may be huge.
_SHOWN: Final = 20_000


class LogFormatter(logging.Formatter):
    """One log format for all processes: a line for each record, for people or as JSON.

    What is not printable is escaped, and the lines of a traceback are marked, so that no text of a
    user's can steer a terminal or pass for a record of its own.
    """

    def __init__(self, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        moment = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}Z"
        level, message = record.levelname.lower(), _cut(_message(record))
        trace = _cut(self.formatException(record.exc_info)) if record.exc_info else ""
        if self._as_json:
            found = {"time": moment, "level": level, "logger": record.name, "message": message}
            return json.dumps(found | {"exception": trace} if trace else found)
        # Our own messages speak for themselves; others are told apart by who logged them.
        who = "" if record.name.partition(".")[0] == "rwf" else f"{escaped(record.name)}: "
        lines = [f"{moment}  {level:<7}  {who}{escaped(message)}"]
        lines += [f"    | {escaped(line)}" for line in trace.split("\n") if trace]
        return "\n".join(lines)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # of an argument's own text
        return f"{record.msg} ({type(error).__name__} while this was put into words)"


def _cut(text: str) -> str:
    """The text, without its middle when it is long: a traceback ends with what matters most."""
    half = _SHOWN // 2
    left = len(text) - 2 * half
    return text if left <= 0 else f"{text[:half]}... ({left} characters) ...{text[-half:]}"


def log_options(command: Command) -> Command:
    """Adds ``--log-level`` and ``--log-format``."""
    level = click.option(
        "--log-level",
        type=click.Choice(LEVELS),
        default="info",
        show_default=True,
        help="The lowest level that is logged.",
    )
    form = click.option(
        "--log-format",
        type=click.Choice(FORMATS),
        default=None,
        help="Format of log lines.  [text, or json with --json]",
    )
    return level(form(command))


@contextmanager
def logging_to(
    stream: TextIO, logger: logging.Logger, level: str, form: str | None, as_json: bool
) -> Iterator[None]:
    """Shows on a stream what this logger and those below it log, as long as this is open."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LogFormatter(as_json if form is None else form == "json"))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def metrics_option(default: str) -> Callable[[Command], Command]:
    """Adds ``--metrics``, passed as ``address``: host and port, or None for "off"."""
    return click.option(
        "--metrics",
        "address",
        default=default,
        show_default=True,
        metavar="HOST:PORT",
        callback=_address,
        help="Address of /metrics and /healthz; port 0: any free one; off: none.",
    )


def by_name_option(command: Command) -> Command:
    """Adds ``--metrics-by-name``, passed as ``by_name``."""
    return click.option(
        "--metrics-by-name",
        "by_name",
        is_flag=True,
        help="Metrics by queue, workflow name and handler too: 200 of each at most.",
    )(command)


def _address(context: click.Context, parameter: click.Parameter, value: str) -> Address | None:
    return None if value == "off" else address_value(context, parameter, value)


def address_value(_context: click.Context, _parameter: click.Parameter, value: str) -> Address:
    """A host and a port, as ``HOST:PORT``."""
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or int(port) > _LAST_PORT:
        raise click.BadParameter("give HOST:PORT, such as 127.0.0.1:9464")
    return host.strip("[]"), int(port)


@contextmanager
def serving_metrics(
    context: click.Context,
    client: Client,
    address: Address | None,
    daemon: Daemon | None = None,
    worker: Working | None = None,
    by_name: bool = False,
) -> Iterator[None]:
    """Serves metrics; where nobody has asked for the address, another process may have it."""
    log = logging.getLogger("rwf")
    try:
        server = (
            None if address is None else metrics.serve(client, *address, daemon, worker, by_name)
        )
    except OSError as error:
        if context.get_parameter_source("address") is not ParameterSource.DEFAULT:
            raise
        log.warning("metrics are not served: %s", error.strerror)
        server = None
    if server is None:
        yield
        return
    with server:
        log.info("metrics on http://%s:%d/metrics", server.host, server.port)
        yield
