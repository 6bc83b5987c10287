"""Asking a workflow to end (SPEC section 6)."""

from __future__ import annotations

from typing import Final

import orjson

from rwf.model.views import WorkflowView
from rwf.store.catalog import Op
from rwf.store.headers import Header
from rwf.store.ops.advance import advance_all
from rwf.store.ops.base import (
    Scope,
    checked_id,
    checked_text,
    is_partition,
    new_call_id,
    rejection,
    unknown_workflow,
    wire_text,
)
from rwf.store.ops.waits import settle_waits

_ACTION: Final = "request_cancel"


def request_cancel(
    scope: Scope, workflow_id: str, actor: str | None, reason: str | None
) -> Op[WorkflowView]:
    """Records the request, and cancels all that does not run; raises CommandRejected."""
    workflow_id = checked_id(workflow_id, _ACTION)
    actor = checked_text(actor, "actor", _ACTION)
    reason = checked_text(reason, "reason", _ACTION)
    if not (yield from is_partition(scope, int(workflow_id.partition("-")[0]))):
        raise unknown_workflow(_ACTION, workflow_id)
    told = {"actor": actor, "reason": reason}
    note = orjson.dumps({name: text for name, text in told.items() if text is not None})
    reply = yield scope.on_workflow(
        "cancel", workflow_id, [new_call_id(), wire_text(reason or ""), note]
    )
    if reply[0] == b"rejected":
        raise rejection(_ACTION, "workflow", reply)
    _, static, counts, context, flag = reply
    header = Header.parse(static, counts)
    if header.unwalked:
        header, context = yield from advance_all(scope, workflow_id)
    elif flag:
        yield from settle_waits(scope, workflow_id)
    return header.view(workflow_id, context)
