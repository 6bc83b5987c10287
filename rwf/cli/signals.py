"""An operator's commands on signals: ``signal``, ``signals`` and ``withdraw``."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any, Final

import click

from rwf import Client, SignalView
from rwf.cli.commands import payload_value
from rwf.cli.common import Output, dumped, on_client
from rwf.cli.text import moment, table
from rwf.model.names import escaped

_STATUSES: Final = ("unmatched", "ambiguous", "late", "recorded")


@click.command()
@click.argument("name")
@click.argument("correlation_key")
@click.option("--payload", callback=payload_value, metavar="JSON|@FILE", help="The signal's data.")
@click.option(
    "--dedupe-key",
    help="A second signal with the same key is a duplicate.  [default: CORRELATION_KEY]",
)
@click.option("--actor", help="Who does this, for the evidence.")
@on_client
def signal(client: Client, out: Output, *, name: str, correlation_key: str, **given: Any) -> None:
    """Deliver the signal NAME to the workflow that waits for it under CORRELATION_KEY."""
    view = client.deliver_signal(name, correlation_key, **given)
    if out.as_json:
        out.document(dumped(view))
    else:
        out.lines(_signal_lines(view))


def _signal_lines(view: SignalView) -> Iterator[str]:
    yield f"{view.status}  {escaped(view.signal)}  {escaped(view.correlation_key)}  {view.id}"
    if view.workflow_id is not None:
        yield f"  consumed by {view.step} of {view.workflow_id}"
    if view.duplicate:
        yield (
            "  a duplicate, so nothing has changed: it came before under this dedupe key; "
            "to deliver another one, pass another --dedupe-key"
        )


@click.command()
@click.argument("name", required=False)
@click.argument("correlation_key", required=False)
@click.option("--status", type=click.Choice(_STATUSES), help="Only those of this status.")
@click.option("--cursor", help="Continue after an earlier page, with the cursor that it printed.")
@on_client
def signals(
    client: Client,
    out: Output,
    *,
    name: str | None,
    correlation_key: str | None,
    status: str | None,
    cursor: str | None,
) -> None:
    """List signals that no workflow has consumed: all, or those of a NAME or a key."""
    page = client.signals(name, correlation_key, status=status, cursor=cursor)
    out.without(page.unreachable)
    if out.as_json:
        kept = [dumped(view) for view in page.signals]
        out.document({"signals": kept, "cursor": page.cursor, "unreachable": page.unreachable})
        return
    head = ("STATUS", "SIGNAL", "KEY", "DEDUPE KEY", "RECEIVED", "ACTOR", "ID")
    rows = [
        (
            view.status,
            view.signal,
            view.correlation_key,
            view.dedupe_key,
            moment(view.received_at),
            view.actor or "-",
            view.id,
        )
        for view in page.signals
    ]
    out.lines(table(head, rows) or ["no signals here"])
    if page.cursor is not None:
        out.lines([f"there may be more: --cursor {shlex.quote(page.cursor)}"])


@click.command()
@click.argument("signal_id", metavar="ID")
@click.option("--reason", help="Why, for the evidence.")
@click.option("--actor", help="Who does this, for the evidence.")
@on_client
def withdraw(
    client: Client, out: Output, *, signal_id: str, reason: str | None, actor: str | None
) -> None:
    """Take back a signal that no workflow has consumed; `rwf signals` shows its ID."""
    view = client.withdraw_signal(signal_id, actor=actor, reason=reason)
    if out.as_json:
        out.document(dumped(view))
    else:
        out.lines(_signal_lines(view))


COMMANDS = (signal, signals, withdraw)
