"""Driving an unfinished release to its end, slice by slice."""

from __future__ import annotations

from typing import Any, Final

from rwf.errors import NotFound
from rwf.ops.base import OpContext
from rwf.ops.waits import settle_waits
from rwf.protocol.headers import Header
from rwf.protocol.records import Row
from rwf.protocol.requests import Op

_FULL_REPLY: Final = 6


def advance_all(ctx: OpContext, workflow_id: str) -> Op[tuple[Header, bytes | None]]:
    """Walks all that is left of a workflow; returns its header and context then."""
    while True:
        more, _, static, counts, context, flag = yield from _advance(ctx, workflow_id, "")
        if not more:
            if flag:
                yield from settle_waits(ctx, workflow_id)
            return Header.parse(static, counts), context


def advance_origin(
    ctx: OpContext, workflow_id: str, origin: str
) -> Op[tuple[Row, Header, bytes | None]]:
    """Walks until all of one completion (``step:attempt``) is done; returns its row, now final.

    Where a call was cut off between the row and the steps, the row may tell of more than is left.
    """
    while True:
        more, text, static, counts, context, _ = yield from _advance(ctx, workflow_id, origin)
        row = Row.parse(text)
        if not row.open or not more:
            return row, Header.parse(static, counts), context


def _advance(ctx: OpContext, workflow_id: str, origin: str) -> Op[list[Any]]:
    reply: list[Any] = yield ctx.on_workflow("advance", workflow_id, [origin])
    if len(reply) < _FULL_REPLY or reply[1] is None:
        raise NotFound(f"workflow {workflow_id} is gone")
    return reply
