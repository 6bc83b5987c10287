"""An operator's commands on workflows and queues, and ``prune``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

import click

from rwf import Client
from rwf.cli.commands import days_value
from rwf.cli.common import (
    OnWorkflow,
    Output,
    acknowledgement_lines,
    dumped,
    headline,
    on_client,
    on_workflow,
    progress,
)
from rwf.cli.faults import Refused
from rwf.cli.text import table
from rwf.model.states import RecoveryAction, RecoveryScope
from rwf.model.views import PruneReport, RecoveryResult

_CHANGES_SHOWN: Final = 50


@click.command(cls=OnWorkflow)
@on_workflow
@click.option("--force", is_flag=True, help="Cancel running steps too: they lose their leases.")
@click.option("--reason", help="Why, for the evidence.")
@click.option("--actor", help="Who does this, for the evidence.")
@on_client
def cancel(client: Client, out: Output, *, workflow_id: str, **given: Any) -> None:
    """Ask a workflow to end: steps that are not running are cancelled.

    Running steps learn of it at their next heartbeat, and may still report.
    """
    view = client.request_cancel(workflow_id, **given)
    if out.as_json:
        out.document(dumped(view))
    else:
        out.lines([headline(view), f"  {progress(view)}"])


@click.command(cls=OnWorkflow)
@on_workflow
@click.option("--reason", required=True, help="Why, for the record.")
@click.option("--actor", required=True, help="Who does this, for the record.")
@on_client
def acknowledge(client: Client, out: Output, *, workflow_id: str, reason: str, actor: str) -> None:
    """Mark a bad end as dealt with: the workflow shows as Resolved until something fails again."""
    view = client.acknowledge(workflow_id, actor=actor, reason=reason)
    if out.as_json:
        out.document(dumped(view))
    else:
        out.lines([headline(view), *acknowledgement_lines(view)])


@click.command(cls=OnWorkflow)
@on_workflow
@click.argument("step")
@click.argument("action", type=click.Choice([action.value for action in RecoveryAction]))
@click.option(
    "--scope",
    type=click.Choice([scope.value for scope in RecoveryScope]),
    default=RecoveryScope.BLOCKED.value,
    show_default=True,
    help="step: it alone; blocked: also what its end cancelled; downstream: all that depend on it.",
)
@click.option("--dry-run", is_flag=True, help="Show the changes without making them.")
@click.option("--force", is_flag=True, help="Take an executing step's lease away.")
@click.option(
    "--reopen",
    is_flag=True,
    help="Close the workflow's cancel request, which forbids retry and skip.",
)
@click.option("--reason", help="Why, for the evidence.")
@click.option("--actor", help="Who does this, for the evidence.")
@click.option(
    "--command-id", help="An id of your choice; a second command with it changes nothing."
)
@on_client
def recover(
    client: Client, out: Output, *, workflow_id: str, step: str, action: str, **given: Any
) -> None:
    """Retry, skip or cancel a STEP, and decide again about what depends on it."""
    result = client.recover_step(workflow_id, step, action, **given)
    if out.as_json:
        out.document(dumped(result) | {"workflow": dumped(result.workflow)})
    else:
        out.lines(_recovery_lines(result))


def _recovery_lines(result: RecoveryResult) -> Iterator[str]:
    what = "would change" if result.dry_run else "changed"
    session = "" if result.session_id is None else f"  {result.session_id}"
    before = ", done before with this id" if result.duplicate else ""
    yield f"{what} {result.change_count} steps{session}{before}"
    for change in result.changes[:_CHANGES_SHOWN]:
        yield f"  {change.step}  {change.before} -> {change.after}"
    if result.change_count > _CHANGES_SHOWN:
        yield f"  and {result.change_count - _CHANGES_SHOWN} more"
    yield headline(result.workflow)


@click.command(cls=OnWorkflow)
@on_workflow
@click.option(
    "--timeout",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="Give up after this time.  [default: never]",
)
@on_client
def wait(client: Client, out: Output, *, workflow_id: str, timeout: float | None) -> None:
    """Wait until a workflow has ended, however it did.

    Exit code 0 when it has ended, 1 when the timeout passes first.
    """
    try:
        view = client.wait(workflow_id, timeout=timeout)
    except TimeoutError as error:
        raise Refused("timeout", str(error)) from None
    if out.as_json:
        out.document(dumped(view))
    else:
        out.lines([headline(view), f"  {progress(view)}"])


@click.command(cls=OnWorkflow)
@on_workflow
@click.argument("kept", metavar="DAYS|none", callback=days_value)
@click.option("--actor", help="Who does this, for the evidence.")
@on_client
def retention(
    client: Client, out: Output, *, workflow_id: str, kept: timedelta | None, actor: str | None
) -> None:
    """Set for how many DAYS a workflow is kept once it has finished; none means for ever.

    With 0 a finished workflow leaves with the next prune.
    """
    view = client.set_retention(workflow_id, kept, actor=actor)
    if out.as_json:
        out.document(dumped(view))
    else:
        out.lines([headline(view)])


@click.command()
@on_client
def queues(client: Client, out: Output) -> None:
    """List the queues: how many steps wait in each, and whether any worker serves it."""
    views = client.queues()
    out.without(views.unreachable)
    if out.as_json:
        out.document([dumped(view) for view in views])
        return
    head = ("QUEUE", "AVAILABLE", "OLDEST", "LAST ASKED", "SERVED")
    rows = [
        (
            view.name,
            view.available,
            view.oldest_at,
            view.asked_at,
            "yes" if view.served else "no",
        )
        for view in views
    ]
    out.lines(table(head, rows) or ["no queues"])


@click.command()
@on_client
def prune(client: Client, out: Output) -> None:
    """Remove finished workflows and old signals, as a daemon does by itself.

    A workflow is removed when its retention has ended and, where anybody dispatches callbacks, each
    of its callbacks is delivered or dead; a signal when no workflow has taken it within 7 days.
    """
    told = PruneReport(workflows=0, signals=0)

    def progress(report: PruneReport) -> None:
        nonlocal told
        if report != told and not out.as_json:
            out.lines([f"  {_removed(report)} so far"])
        told = report

    report = client.prune(progress=progress)
    out.without(report.unreachable)
    if out.as_json:
        out.document(dumped(report))
    else:
        out.lines([f"removed {_removed(report)}"])


def _removed(report: PruneReport) -> str:
    return f"{report.workflows} workflows and {report.signals} signals"


COMMANDS = (cancel, acknowledge, recover, wait, retention, queues, prune)
