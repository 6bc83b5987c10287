"""``rwf dispatch``: runs a dispatcher that a module of the user's has made."""

from __future__ import annotations

import sys

import click

from rwf import metrics
from rwf.adapters.dispatcher import Dispatcher
from rwf.cli.common import Output, json_option
from rwf.cli.modules import leave_threads_behind, loader, logging_of_module, serving_beside
from rwf.cli.processes import Address, by_name_option, log_options, metrics_option
from rwf.model.names import escaped


@click.command()
@click.argument("dispatcher", metavar="MODULE:DISPATCHER", callback=loader(Dispatcher))
@metrics_option(f"127.0.0.1:{metrics.PORT}")
@by_name_option
@log_options
@json_option
@click.pass_context
def dispatch(
    context: click.Context,
    dispatcher: Dispatcher,
    address: Address | None,
    by_name: bool,
    log_level: str,
    log_format: str | None,
    out: Output,
) -> None:
    """Run the dispatcher named DISPATCHER in MODULE, until SIGTERM or SIGINT.

    It sends the steps of its queues to the executor that it was made for, and runs a reconciler
    beside. Any number of them may run.
    """
    with logging_of_module(context, log_level, log_format, out):
        _announce(dispatcher, out)
        with serving_beside(context, dispatcher.client, address, dispatcher, by_name=by_name):
            dispatcher.run()
        _tell_end(dispatcher, out)
        leave_threads_behind()


def _announce(dispatcher: Dispatcher, out: Output) -> None:
    if out.as_json:
        out.document(
            {
                "event": "serving",
                "dispatcher": dispatcher.name,
                "executor": dispatcher.executor,
                "queues": dispatcher.queues,
            }
        )
    else:
        queues = ", ".join(dispatcher.queues)
        out.lines(
            [f"dispatcher {escaped(dispatcher.name)} sends {queues} to {dispatcher.executor}"]
        )
    sys.stdout.flush()


def _tell_end(dispatcher: Dispatcher, out: Output) -> None:
    sent = dispatcher.health.sent
    if out.as_json:
        out.document({"event": "ended", "sent": sent})
    else:
        out.lines([f"ended: {sent} tickets sent"])


COMMANDS = (dispatch,)
