"""The daemon: ``reconciler``."""

from __future__ import annotations

import logging
import math
import sys
from typing import Any

import click

from rwf import Client, Reconciler, Webhook, metrics
from rwf.cli.common import Output, on_client
from rwf.cli.processes import (
    Address,
    by_name_option,
    log_options,
    logging_to,
    metrics_option,
    serving_metrics,
)


def _webhook(url: str | None, secret: str | None, timeout: float) -> Webhook | None:
    if url is None:
        return None
    if not secret:
        raise click.UsageError("--webhook needs a secret to sign with: set RWF_WEBHOOK_SECRET")
    try:
        return Webhook(url, secret, timeout=timeout)
    except ValueError as error:
        raise click.UsageError(f"--webhook: {error}") from None


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
    help="How often due work (retries, deadlines, leases) is carried out.",
)
@click.option(
    "--sweep-interval",
    type=_Seconds(),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How often all open workflows are checked; less often when there are very many.",
)
@click.option(
    "--webhook",
    envvar="RWF_WEBHOOK_URL",
    metavar="URL",
    help="POST callbacks to URL.  [$RWF_WEBHOOK_URL]",
)
@click.option(
    "--webhook-secret",
    envvar="RWF_WEBHOOK_SECRET",
    metavar="TEXT",
    help="Key that callbacks are signed with; required with --webhook.  [$RWF_WEBHOOK_SECRET]",
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
    type=click.IntRange(1, 500),
    default=100,
    show_default=True,
    help="How many callbacks are POSTed at the same time.",
)
@metrics_option(f"127.0.0.1:{metrics.PORT}")
@by_name_option
@log_options
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
    address: Address | None,
    by_name: bool,
    log_level: str,
    log_format: str | None,
    **given: Any,
) -> None:
    """Run a daemon: carry out what is due, and repair what a crash left, until SIGTERM or SIGINT.

    Any number of them may run. Logs which partitions it looks after, and what it repairs.
    """
    daemon = Reconciler(
        client, callbacks=_webhook(webhook, webhook_secret, webhook_timeout), **given
    )
    log = logging.getLogger("rwf")
    with (
        logging_to(sys.stdout, log, log_level, log_format, out.as_json),
        serving_metrics(context, client, address, daemon, by_name=by_name),
    ):
        daemon.run()


COMMANDS = (reconciler,)
