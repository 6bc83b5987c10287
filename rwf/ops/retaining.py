"""How long a workflow is kept once it has finished (contract §10)."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import orjson

from rwf.model.views import WorkflowView
from rwf.ops.base import (
    OpContext,
    checked_id,
    checked_text,
    is_partition,
    new_call_id,
    rejected,
    unknown_workflow,
)
from rwf.ops.insert import milliseconds
from rwf.protocol.declare import Refusal
from rwf.protocol.functions.commands import SetRetention
from rwf.protocol.headers import Header
from rwf.protocol.keys import home_of
from rwf.protocol.requests import Op, ask

_ACTION: Final = "set_retention"


def set_retention(
    ctx: OpContext, workflow_id: str, retention: timedelta | None, actor: str | None
) -> Op[WorkflowView]:
    """Sets it, whether the workflow has finished or not; raises CommandRejected."""
    workflow_id = checked_id(workflow_id, _ACTION)
    kept_ms = milliseconds(retention, _ACTION)
    actor = checked_text(actor, "actor", _ACTION)
    if not (yield from is_partition(ctx, home_of(workflow_id))):
        raise unknown_workflow(_ACTION, workflow_id)
    note = orjson.dumps({} if actor is None else {"actor": actor})
    command = SetRetention(new_call_id(), "" if kept_ms is None else str(kept_ms), note)
    reply = yield from ask(ctx.workflow_keys(workflow_id), command)
    if isinstance(reply, Refusal):
        raise rejected(_ACTION, "workflow", reply)
    return Header.of(reply.header).view(workflow_id, reply.header.context)
