"""Leaving a workflow at its bad end (contract §6)."""

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
    rejected,
    unknown_workflow,
    wire_text,
)
from rwf.protocol.declare import Refusal
from rwf.protocol.functions.commands import Acknowledge
from rwf.protocol.headers import Header
from rwf.protocol.keys import home_of
from rwf.protocol.requests import Op, ask

_ACTION: Final = "acknowledge"


def acknowledge(ctx: OpContext, workflow_id: str, actor: str, reason: str) -> Op[WorkflowView]:
    """Records who leaves the workflow at that, and why; raises CommandRejected."""
    workflow_id = checked_id(workflow_id, _ACTION)
    who, why = _given(actor, "actor"), _given(reason, "reason")
    if not (yield from is_partition(ctx, home_of(workflow_id))):
        raise unknown_workflow(_ACTION, workflow_id)
    note = orjson.dumps({"actor": who, "reason": why})
    command = Acknowledge(new_call_id(), wire_text(who), wire_text(why), note)
    reply = yield from ask(ctx.workflow_keys(workflow_id), command)
    if isinstance(reply, Refusal):
        raise rejected(_ACTION, "workflow", reply)
    return Header.of(reply.header).view(workflow_id, reply.header.context)


def _given(value: Any, name: str) -> str:
    text = checked_text(value, name, _ACTION)
    if text is None:
        raise invalid(_ACTION, f"{name} must be given")
    return text
