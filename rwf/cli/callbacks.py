"""The outbox: ``callbacks``."""

from __future__ import annotations

from collections.abc import Iterator

import click

from rwf import Client
from rwf.cli.common import OnWorkflow, Output, dumped, on_client, on_workflow
from rwf.cli.text import compact, moment, table
from rwf.model.states import CallbackStatus
from rwf.model.views import CallbackView


@click.command(cls=OnWorkflow)
@on_workflow
@click.option("--resend", is_flag=True, help="Send the dead ones again, with 20 new attempts each.")
@click.option("--actor", help="Who does this, for the evidence.")
@on_client
def callbacks(
    client: Client, out: Output, *, workflow_id: str, resend: bool, actor: str | None
) -> None:
    """List a workflow's callbacks: delivered, pending or dead."""
    views = client.callbacks(workflow_id)
    if resend:
        views = list(_resent(client, views, actor))
    if out.as_json:
        out.document([dumped(view) for view in views])
        return
    head = ("STATUS", "CALLBACK", "EVENT", "OCCURRED", "ATTEMPTS", "DUE", "DATA")
    rows = [
        (
            view.status,
            view.callback_id,
            view.event,
            moment(view.occurred_at),
            view.attempts,
            moment(view.due_at),
            compact(view.data),
        )
        for view in views
    ]
    out.lines(table(head, rows) or ["no callbacks"])


def _resent(client: Client, views: list[CallbackView], actor: str | None) -> Iterator[CallbackView]:
    for view in views:
        dead = view.status is CallbackStatus.DEAD
        yield client.resend_callback(view.callback_id, actor=actor) if dead else view


COMMANDS = (callbacks,)
