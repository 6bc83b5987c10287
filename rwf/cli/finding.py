"""``ls``: finding workflows."""

from __future__ import annotations

import shlex
from typing import Any

import click

from rwf import Client
from rwf.cli.common import Output, dumped, on_client
from rwf.cli.filters import filter_options, filters_of
from rwf.cli.text import table
from rwf.model.states import OperatorStatus
from rwf.model.views import WorkflowView


@click.command()
@filter_options
@click.option(
    "--order",
    type=click.Choice(["newest", "oldest"]),
    default="newest",
    show_default=True,
    help="By when they were inserted.",
)
@click.option("--count", "counting", is_flag=True, help="Only how many there are.")
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True)
@click.option("--cursor", help="Continue after an earlier page, with the cursor that it printed.")
@on_client
def ls(
    client: Client,
    out: Output,
    *,
    order: str,
    counting: bool,
    limit: int,
    cursor: str | None,
    **given: Any,
) -> None:
    """List workflows, newest first: those that all the filters hold of."""
    filters = filters_of(given)
    if counting:
        _print_count(client, out, filters)
        return
    page = client.list(order=order, limit=limit, cursor=cursor, **filters)
    found = list(zip(page.workflows, page.operator_statuses, strict=True))
    unreachable = set(page.unreachable)
    while len(found) < limit and page.cursor is not None:  # a page that has ended early
        page = client.list(order=order, limit=limit - len(found), cursor=page.cursor, **filters)
        found += zip(page.workflows, page.operator_statuses, strict=True)
        unreachable.update(page.unreachable)
    missing = sorted(unreachable)
    out.without(missing)
    if out.as_json:
        workflows = [dumped(*pair) for pair in found]
        out.document({"workflows": workflows, "cursor": page.cursor, "unreachable": missing})
        return
    head = ("STATUS", "STATE", "ID", "NAME", "STEPS", "INSERTED", "TAGS")
    columns = len(head) if any(view.tags for view, _ in found) else len(head) - 1
    rows = [_listed(*pair)[:columns] for pair in found]
    shown = table(head[:columns], rows, whole=("STATUS", "ID"))
    out.lines(shown or ["no workflows here"])
    if page.cursor is not None:
        out.lines([f"there may be more: --cursor {shlex.quote(page.cursor)}"])


def _print_count(client: Client, out: Output, filters: dict[str, Any]) -> None:
    counted = client.count(**filters)
    out.without(counted.unreachable)
    if out.as_json:
        out.document(dumped(counted))
    else:
        out.lines([f"{'' if counted.exact else 'at least '}{counted.count}"])


def _listed(view: WorkflowView, status: OperatorStatus) -> tuple[object, ...]:
    steps = f"{view.completed_step_count}/{view.step_count}"
    if view.failed_step_count:
        steps += f", {view.failed_step_count} failed"
    inserted = view.inserted_at
    tags = " ".join(f"{key}={value}" for key, value in view.tags.items())
    return status, view.state, view.id, view.name, steps, inserted, tags


COMMANDS = (ls,)
