"""Leaving a workflow at its bad end (SPEC-2 section 12)."""

from __future__ import annotations

from typing import Any, Final

import orjson

from rwf.model.views import WorkflowView
from rwf.ops.base import (
    OpContext,
    checked_id,
    checked_text,
    invalid,
    is_partition,
    new_call_id,
    rejection,
    unknown_workflow,
    wire_text,
)
from rwf.protocol.headers import Header
from rwf.protocol.requests import Op

_ACTION: Final = "acknowledge"


def acknowledge(ctx: OpContext, workflow_id: str, actor: str, reason: str) -> Op[WorkflowView]:
    """Records who leaves the workflow at that, and why; raises CommandRejected."""
    workflow_id = checked_id(workflow_id, _ACTION)
    who, why = _given(actor, "actor"), _given(reason, "reason")
    if not (yield from is_partition(ctx, int(workflow_id.partition("-")[0]))):
        raise unknown_workflow(_ACTION, workflow_id)
    note = orjson.dumps({"actor": who, "reason": why})
    reply = yield ctx.on_workflow(
        "acknowledge", workflow_id, [new_call_id(), wire_text(who), wire_text(why), note]
    )
    if reply[0] == b"rejected":
        raise rejection(_ACTION, "workflow", reply)
    _, static, counts, context, _ = reply
    return Header.parse(static, counts).view(workflow_id, context)


def _given(value: Any, name: str) -> str:
    text = checked_text(value, name, _ACTION)
    if text is None:
        raise invalid(_ACTION, f"{name} must be given")
    return text
