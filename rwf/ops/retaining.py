"""How long a workflow is kept once it has finished (SPEC section 10)."""

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
    rejection,
    unknown_workflow,
)
from rwf.ops.insert import milliseconds
from rwf.protocol.declare import Arg
from rwf.protocol.headers import Header
from rwf.protocol.requests import Op

_ACTION: Final = "set_retention"


def set_retention(
    ctx: OpContext, workflow_id: str, retention: timedelta | None, actor: str | None
) -> Op[WorkflowView]:
    """Sets it, whether the workflow has finished or not; raises CommandRejected."""
    workflow_id = checked_id(workflow_id, _ACTION)
    kept_ms = milliseconds(retention, _ACTION)
    actor = checked_text(actor, "actor", _ACTION)
    if not (yield from is_partition(ctx, int(workflow_id.partition("-")[0]))):
        raise unknown_workflow(_ACTION, workflow_id)
    note = orjson.dumps({} if actor is None else {"actor": actor})
    args: list[Arg] = [new_call_id(), "" if kept_ms is None else kept_ms, note]
    reply = yield ctx.on_workflow("retain", workflow_id, args)
    if reply[0] == b"rejected":
        raise rejection(_ACTION, "workflow", reply)
    _, static, counts, context, _ = reply
    return Header.parse(static, counts).view(workflow_id, context)
