"""Tickets: steps that a dispatcher hands to an executor of the user's own (contract §15)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from datetime import timedelta
from typing import Final

import orjson

from rwf.errors import CommandRejected
from rwf.model.states import PauseReason, Reason
from rwf.model.views import ClaimedStep, PartialList, Ticket
from rwf.ops.base import (
    OpContext,
    checked_id,
    checked_text,
    invalid,
    is_partition,
    new_call_id,
    passing_over,
    rejected,
    unknown_workflow,
    wire_name,
    wire_text,
)
from rwf.ops.claims import (
    Claimer,
    checked_queues,
    checked_worker,
    claim_for,
    give_up,
    lease_ms,
    length_ms,
    read_claims,
)
from rwf.ops.inputs import Judged, read_inputs
from rwf.ops.waits import settle_waits
from rwf.protocol.functions.claims import DispatchSteps, StartTicket
from rwf.protocol.keys import home_of
from rwf.protocol.requests import Op, ask

_DISPATCH, _START = "dispatch", "start"
_LONGEST_HOLD: Final = 7 * 86_400.0
_RUN_BYTES: Final = 12
_WHY_PAUSED: Final = {
    PauseReason.INPUT_TOO_LARGE: "its input is larger than max_input",
    PauseReason.INPUT_UNREADABLE: "what is stored of its input cannot be read",
}


def dispatch(
    ctx: OpContext,
    queues: Iterable[str],
    dispatcher: str,
    limit: int,
    hold: float | timedelta,
) -> Op[PartialList[Ticket]]:
    """Takes up to ``limit`` steps out of their queues for a dispatcher; raises CommandRejected."""
    names = checked_queues(queues, _DISPATCH)
    name = checked_worker(dispatcher, "dispatcher", _DISPATCH)
    length = hold_ms(hold)
    claimer = Claimer(names, name, length, DispatchSteps)
    claims = yield from claim_for(ctx, claimer, limit, _DISPATCH)
    tickets = PartialList(map(_ticket, claims))
    tickets.unreachable = claims.unreachable
    return tickets


def hold_ms(hold: float | timedelta) -> int:
    """A hold in milliseconds; raises CommandRejected, ``invalid_argument``."""
    return length_ms(hold, "hold", _LONGEST_HOLD, _DISPATCH)


def _ticket(held: ClaimedStep) -> Ticket:
    return Ticket(
        workflow_id=held.workflow_id,
        step=held.step,
        worker=held.worker,
        queue=held.queue,
        priority=held.priority,
        lease=held.lease,
        expires_at=held.lease_expires_at,
    )


def start_ticket(
    ctx: OpContext, ticket: Ticket | str, run_id: str, worker_id: str, lease: float | timedelta
) -> Op[ClaimedStep]:
    """Turns a ticket into a lease; raises CommandRejected when that is refused.

    StoreUnavailable is raised, and the same run may start again, also where the input of a step
    that has been started could not be read.
    """
    workflow_id, step, token = _parts(ticket)
    run = checked_text(run_id, "run_id", _START)
    if run is None:
        raise invalid(_START, "start needs a run_id")
    worker = checked_worker(worker_id, "worker_id", _START)
    length = lease_ms(lease, _START)
    if not (yield from is_partition(ctx, home_of(workflow_id))):
        raise unknown_workflow(_START, workflow_id)
    note = orjson.dumps({"run_id": run, "worker_id": worker_id})
    command = StartTicket(step, token, _digest(run), new_call_id(), worker, length, note)
    reply = yield from ask(ctx.workflow_keys(workflow_id), command)
    if reply.has_notices:
        yield from passing_over(settle_waits(ctx, workflow_id), f"workflow {workflow_id}")
    if reply.refusal is not None:
        raise rejected(_START, "step", reply.refusal)
    entry = f"||{workflow_id}|{step}".encode()
    whole, left = yield from read_claims(ctx, [entry], [reply.claim])
    judged = Judged(ctx.max_input)
    yield from read_inputs(ctx, left, judged)
    yield from give_up(ctx, judged)
    for claimed in (*whole, *judged.whole.values()):
        return claimed
    why = f"{step} was not started: {_why_given_up(judged)}"
    raise CommandRejected(_START, "step", Reason.STALE_TICKET, why)


def _why_given_up(judged: Judged) -> str:
    if judged.missing:
        return "a result that its input refers to is missing"
    for _, why in judged.unmet:
        return f"its branch was skipped, as its condition does not hold: {why}"
    return next((_WHY_PAUSED[reason] for reason in judged.paused), "it has been given up")


def _parts(ticket: Ticket | str) -> tuple[str, str, str]:
    """The workflow's id, the step and the token that a ticket names; raises CommandRejected,
    ``invalid_argument``."""
    if not isinstance(ticket, Ticket | str):
        raise invalid(_START, "ticket must be a Ticket, or its text")
    parts = str(ticket).split("/")
    token = parts[-1].partition("-")[2]
    if len(parts) != 3 or not token:
        raise invalid(_START, "the text is none of a ticket")
    return checked_id(parts[0], _START), wire_name(parts[1], _START), wire_text(token)


def _digest(run_id: str) -> str:
    """A run id as its lease holds it: short, and without characters that separate fields."""
    digest = hashlib.blake2b(run_id.encode(), digest_size=_RUN_BYTES).digest()
    return base64.urlsafe_b64encode(digest).decode()
