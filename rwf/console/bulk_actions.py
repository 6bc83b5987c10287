"""The commands on many workflows at once, which are bulk sessions (contract §17)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any, Final

from rwf.aio import AsyncClient
from rwf.console.filters import FILTERS, filter_of, given_of
from rwf.console.previews import Command, Field, Given, Order, Place, Preview, member, needed, some
from rwf.console.words import moment, plain, plural
from rwf.model.states import RecoveryAction
from rwf.model.views import BulkSession

log = logging.getLogger("rwf.console")

_EFFECTS: Final = {
    RecoveryAction.RETRY: "runs again",
    RecoveryAction.SKIP: "counts as completed, without a result",
    RecoveryAction.CANCEL: "ends as cancelled",
}
_under_way: set[asyncio.Task[BulkSession]] = set()
"""Sessions that this process carries out; the event loop keeps no task by itself."""

Run = Callable[[Callable[[BulkSession], None]], Coroutine[Any, Any, BulkSession]]


def bulk_page(session_id: str) -> Place:
    """The page of a session."""
    return f"/bulk/{session_id}", {}


def _session_page(given: Given) -> Place:
    return bulk_page(needed(given, "session"))


def _list_page(given: Given) -> Place:
    return "/workflows", given_of(given)


def meant(filter: dict[str, Any]) -> str:
    """A filter in words: ``name sync, state failed``."""
    words = []
    for name, value in filter.items():
        if name == "tags":
            words += [f"tag {key}={text}" for key, text in value.items()]
        else:
            words.append(f"{plain(name)} {moment(value) if isinstance(value, datetime) else value}")
    return ", ".join(words)


async def _preview_recovery(client: AsyncClient, given: Given) -> Preview:
    action = member(RecoveryAction, needed(given, "do"))
    wanted = filter_of(given)
    planned = await client.recover_many(
        wanted, action, step=given.get("on"), dry_run=True, actor="-", reason="-"
    )
    step = given.get("on") or wanted.get("failed_step")
    which = f"Step {step}" if step else "Each failed step"
    effect = f"{which} of each workflow {_EFFECTS[action]}."
    return Preview(
        title=f"{action.capitalize()} in many workflows",
        sentences=(*await _sentences(client, wanted, planned), effect),
        button=f"{action.capitalize()} in all of them",
        fixed=some(given, "do", *FILTERS),
        options=(Field("on", "Step, else each that has failed", value=given.get("on", "")),),
        danger=action is RecoveryAction.CANCEL,
    )


async def _preview_cancel(client: AsyncClient, given: Given) -> Preview:
    wanted = filter_of(given)
    planned = await client.cancel_many(wanted, dry_run=True, actor="-", reason="-")
    return Preview(
        title="Cancel many workflows",
        sentences=(
            *await _sentences(client, wanted, planned),
            "Steps that nobody runs are cancelled at once; those in hand may still report.",
        ),
        button="Cancel all of them",
        fixed=some(given, *FILTERS),
        danger=True,
    )


async def _sentences(
    client: AsyncClient, wanted: dict[str, Any], planned: BulkSession
) -> tuple[str, ...]:
    counted = await client.count(**wanted)
    number = plural(counted.count, "workflow")
    outcomes = [f"{count:,} {plain(name)}" for name, count in sorted(planned.counts.items())]
    return (
        f"{number if counted.exact else f'{number} or more'}: {meant(wanted)}.",
        f"Dry run of the oldest {planned.selected}: {', '.join(outcomes) or 'nothing'}.",
    )


async def _run_recovery(client: AsyncClient, order: Order) -> Place:
    given = order.given
    return await _begun(
        lambda progress: client.recover_many(
            filter_of(given),
            needed(given, "do"),
            step=given.get("on"),
            actor=order.actor,
            reason=order.reason,
            progress=progress,
        )
    )


async def _run_cancel(client: AsyncClient, order: Order) -> Place:
    return await _begun(
        lambda progress: client.cancel_many(
            filter_of(order.given), actor=order.actor, reason=order.reason, progress=progress
        )
    )


async def _begun(run: Run) -> Place:
    """The page of a session once its first slice is done; it goes on without its visitor."""
    first: asyncio.Future[BulkSession] = asyncio.get_running_loop().create_future()

    def progress(session: BulkSession) -> None:
        if not first.done():
            first.set_result(session)

    task = asyncio.create_task(run(progress))
    _under_way.add(task)
    task.add_done_callback(_ended)
    await asyncio.wait({task, first}, return_when=asyncio.FIRST_COMPLETED)
    session = first.result() if first.done() else task.result()
    return bulk_page(str(session.id))


def _ended(task: asyncio.Task[BulkSession]) -> None:
    _under_way.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("a bulk session is left to a daemon: %s", error)


async def _preview_stop(client: AsyncClient, given: Given) -> Preview:
    session = await client.bulk(needed(given, "session"))
    sentences = ["No more workflows are selected. Nothing that was done is taken back."]
    if session.finished_at is not None:
        sentences = ["It has ended already."]
    return Preview(
        title=f"Stop {plain(session.action)} of many workflows",
        sentences=(f"{plural(session.selected, 'workflow')} selected so far.", *sentences),
        button="Stop it",
        fixed=some(given, "session"),
        danger=True,
    )


async def _run_stop(client: AsyncClient, order: Order) -> None:
    await client.stop_bulk(needed(order.given, "session"), actor=order.actor, reason=order.reason)


BULK_COMMANDS: Final = (
    Command("recover_many", _preview_recovery, _run_recovery, _list_page),
    Command("cancel_many", _preview_cancel, _run_cancel, _list_page),
    Command("stop_bulk", _preview_stop, _run_stop, _session_page),
)
