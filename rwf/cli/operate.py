"""An operator's commands on workflows and queues, and ``prune``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

import click

from rwf import Client
from rwf.cli.bulk import carry_out
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
from rwf.cli.filters import OnOneOrMany, all_option, filters_of
from rwf.cli.text import table
from rwf.model.states import RecoveryAction, RecoveryScope
from rwf.model.views import PruneReport, RecoveryResult

_CHANGES_SHOWN: Final = 50


@click.command(cls=OnOneOrMany)
@on_workflow
@all_option
@click.option("--dry-run", is_flag=True, help="With --all: only count what would be asked to end.")
@click.option("--force", is_flag=True, help="Cancel running steps too: they lose their leases.")
@click.option("--reason", help="Why, for the evidence.")
@click.option("--actor", help="Who does this, for the evidence.")
@on_client
def cancel(
    client: Client, out: Output, *, workflow_id: str, many: bool, dry_run: bool, **given: Any
) -> int:
    """Ask a workflow to end: steps that are not running are cancelled.

    Running steps learn of it at their next heartbeat, and may still report. With --all, and filters
    as ls takes them, every workflow that they hold of is asked.
    """
    filters = filters_of(given)
    if many:
        if given.pop("force"):
            raise click.UsageError("--force is for one workflow")
        return _cancel_many(client, out, filters, dry_run, given)
    if filters or dry_run:
        raise click.UsageError("filters and --dry-run go with --all")
    view = client.request_cancel(workflow_id, **given)
    if out.as_json:
        out.document(dumped(view))
    else:
        out.lines([headline(view), f"  {progress(view)}"])
    return 0


def _cancel_many(
    client: Client, out: Output, filters: Any, dry_run: bool, who: dict[str, Any]
) -> int:
    who = _named(who)
    expected = None if dry_run else client.count(**filters).count
    return carry_out(
        out,
        lambda told: client.cancel_many(filters, dry_run=dry_run, progress=told, **who),
        expected,
    )


def _named(who: dict[str, Any]) -> dict[str, Any]:
    if who["actor"] is None or who["reason"] is None:
        raise click.UsageError("--all takes --actor and --reason")
    return who


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


@click.command(cls=OnOneOrMany)
@on_workflow
@click.argument("what", nargs=-1, required=True, metavar="STEP ACTION")
@all_option
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
    client: Client,
    out: Output,
    *,
    workflow_id: str,
    what: tuple[str, ...],
    many: bool,
    **given: Any,
) -> int:
    """Retry, skip or cancel a STEP, and decide again about what depends on it: the ACTION is retry,
    skip or cancel.

    With --all, and filters as ls takes them, that of every workflow that they hold of: the STEP or,
    where it is left out, the --failed-step or else each failed step.
    """
    filters = filters_of(given)
    *steps, action = what
    step = steps[0] if steps else None
    if len(steps) > 1 or action not in set(RecoveryAction):
        raise click.UsageError(f"after the STEP comes one of {', '.join(RecoveryAction)}")
    if many:
        if given.pop("force") or given.pop("reopen") or given.pop("command_id") is not None:
            raise click.UsageError("--force, --reopen and --command-id are for one workflow")
        who = _named({"actor": given.pop("actor"), "reason": given.pop("reason")})
        expected = None if given["dry_run"] else client.count(**filters).count
        return carry_out(
            out,
            lambda told: client.recover_many(
                filters, action, step=step, progress=told, **who, **given
            ),
            expected,
        )
    if filters or step is None:
        raise click.UsageError("name a step; filters go with --all")
    result = client.recover_step(workflow_id, step, action, **given)
    if out.as_json:
        out.document(dumped(result) | {"workflow": dumped(result.workflow)})
    else:
        out.lines(_recovery_lines(result))
    return 0


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
