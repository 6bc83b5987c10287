"""``bulk``, and how ``recover --all`` and ``cancel --all`` show their progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import click

from rwf import Client
from rwf.cli.common import Output, dumped, on_client
from rwf.cli.text import moment, table
from rwf.model.names import escaped
from rwf.model.views import BulkSession

_REFUSALS_SHOWN: Final = 20

Carrying = Callable[[Callable[[BulkSession], None]], BulkSession]


def carry_out(out: Output, carrying: Carrying, expected: int | None) -> int:
    """Carries a session out, with a progress bar where so many workflows are expected; returns the
    exit code: 1 when any has refused."""
    if out.as_json or expected is None:
        session = carrying(lambda _: None)
    else:
        with click.progressbar(length=max(expected, 1), label="workflows") as bar:

            def progress(session: BulkSession) -> None:
                bar.update(min(sum(session.counts.values()), max(expected, 1)) - bar.pos)

            session = carrying(progress)
    show(out, session)
    return 1 if session.refusals else 0


def show(out: Output, session: BulkSession) -> None:
    """Prints a session."""
    if out.as_json:
        out.document(dumped(session))
    else:
        out.lines(_lines(session))


def _lines(session: BulkSession) -> Iterator[str]:
    if session.dry_run:
        yield f"dry run of {session.action} on the oldest {session.selected} of these workflows"
    else:
        yield f"{_standing(session)}  {session.action}  {session.id}"
        who, why = escaped(session.actor), escaped(session.reason)
        yield f"  by {who}, begun {moment(session.created_at)}: {why}"
    if session.stopped_by is not None:
        why = escaped(str(session.stopped_reason))
        yield f"  stopped by {escaped(session.stopped_by)}: {why}"
    for outcome, count in sorted(session.counts.items()):
        yield f"  {outcome}: {count}"
    if not session.counts:
        yield "  no workflows"
    for refusal in session.refusals[:_REFUSALS_SHOWN]:
        where = f"{refusal.workflow_id} {escaped(refusal.step or '')}".rstrip()
        yield f"  {where}: {refusal.reason_code}: {escaped(refusal.message)}"
    if len(session.refusals) > _REFUSALS_SHOWN:
        yield f"  and {len(session.refusals) - _REFUSALS_SHOWN} more; --json has them"


def _standing(session: BulkSession) -> str:
    if session.finished_at is None:
        return "Running"
    return "Done" if session.stopped_by is None else "Stopped"


@click.command()
@click.argument("session_id", metavar="[ID]", required=False)
@click.option("--continue", "go_on", is_flag=True, help="Go on with it until it is done.")
@click.option("--stop", is_flag=True, help="End it: nothing more is selected.")
@click.option("--reason", help="Why it is stopped, for the record.")
@click.option("--actor", help="Who stops it, for the record.")
@on_client
def bulk(
    client: Client,
    out: Output,
    *,
    session_id: str | None,
    go_on: bool,
    stop: bool,
    **who: Any,
) -> int:
    """Show a bulk session of recover --all or cancel --all; without an ID, list the latest.

    A daemon goes on with a session whose process has died, and so does --continue.
    """
    if session_id is None:
        if go_on or stop:
            raise click.UsageError("name the session")
        _list(client, out)
        return 0
    if stop:
        if None in who.values():
            raise click.UsageError("--stop takes --actor and --reason")
        show(out, client.stop_bulk(session_id, **who))
        return 0
    if go_on:
        return carry_out(out, lambda told: client.continue_bulk(session_id, progress=told), None)
    show(out, client.bulk(session_id))
    return 0


def _list(client: Client, out: Output) -> None:
    sessions = client.bulks()
    if out.as_json:
        out.document([dumped(session) for session in sessions])
        return
    head = ("SESSION", "ID", "ACTION", "WORKFLOWS", "REFUSED", "BY", "BEGUN")
    rows = [
        (
            _standing(one),
            one.id,
            one.action,
            one.selected,
            len(one.refusals),
            one.actor,
            moment(one.created_at),
        )
        for one in sessions
    ]
    out.lines(table(head, rows) or ["no bulk sessions"])


COMMANDS = (bulk,)
