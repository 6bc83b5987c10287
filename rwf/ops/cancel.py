"""Asking a workflow to end (contract §6)."""

from __future__ import annotations

from typing import Final

import orjson

from rwf.model.states import SEMANTICS_VERSION, StepState
from rwf.model.views import WorkflowView
from rwf.ops.advance import advance_all
from rwf.ops.base import (
    OpContext,
    checked_id,
    checked_text,
    invalid,
    is_partition,
    new_call_id,
    rejected,
    unknown_workflow,
    wire_text,
)
from rwf.ops.waits import settle_waits
from rwf.protocol.declare import Refusal
from rwf.protocol.functions.commands import Cancel
from rwf.protocol.headers import Header
from rwf.protocol.keys import home_of
from rwf.protocol.requests import Op, ask

_ACTION: Final = "request_cancel"


def request_cancel(
    ctx: OpContext, workflow_id: str, actor: str | None, reason: str | None, force: bool = False
) -> Op[WorkflowView]:
    """Records the request, and cancels all that does not run, or all that has not ended when it is
    forced; raises CommandRejected."""
    workflow_id = checked_id(workflow_id, _ACTION)
    actor = checked_text(actor, "actor", _ACTION)
    reason = checked_text(reason, "reason", _ACTION)
    if not isinstance(force, bool):
        raise invalid(_ACTION, "force must be True or False")
    if not (yield from is_partition(ctx, home_of(workflow_id))):
        raise unknown_workflow(_ACTION, workflow_id)
    fields = {"actor": actor, "reason": reason}
    note = orjson.dumps({name: text for name, text in fields.items() if text is not None})
    while True:
        asked = Cancel(new_call_id(), wire_text(reason or ""), note, force)
        reply = yield from ask(ctx.workflow_keys(workflow_id), asked)
        if isinstance(reply, Refusal):
            raise rejected(_ACTION, "workflow", reply)
        header, context = Header.of(reply.header), reply.header.context
        if header.unwalked:
            header, context = yield from advance_all(ctx, workflow_id)
        elif reply.header.has_notices:
            yield from settle_waits(ctx, workflow_id)
        # A client of an earlier release has gone on with it, and takes no lease away. Of later
        # semantics it knows nothing; there steps that always run keep their leases.
        left = force and header.cancel is not None and header.counts[StepState.EXECUTING] > 0
        if not left or header.semantics_version != SEMANTICS_VERSION:
            return header.view(workflow_id, context)
