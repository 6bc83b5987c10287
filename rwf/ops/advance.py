"""Driving an unfinished release to its end, slice by slice."""

from __future__ import annotations

from rwf.errors import NotFound
from rwf.ops.base import OpContext
from rwf.ops.waits import settle_waits
from rwf.protocol.functions.workflows import Advance, HeaderReply
from rwf.protocol.headers import Header
from rwf.protocol.records import Row
from rwf.protocol.requests import Op, ask


def advance_all(ctx: OpContext, workflow_id: str) -> Op[tuple[Header, bytes | None]]:
    """Walks all that is left of a workflow; returns its header and context then."""
    while True:
        more, _, header = yield from _advance(ctx, workflow_id, None)
        if not more:
            if header.has_notices:
                yield from settle_waits(ctx, workflow_id)
            return Header.parse(header.static, header.counts), header.context


def advance_origin(
    ctx: OpContext, workflow_id: str, origin: str
) -> Op[tuple[Row, Header, bytes | None]]:
    """Walks until all of one completion (``step:attempt``) is done; returns its row, now final.

    Where a call was cut off between the row and the steps, the row may tell of more than is left.
    """
    while True:
        more, text, header = yield from _advance(ctx, workflow_id, origin)
        if text is None:
            raise NotFound(f"workflow {workflow_id} is gone")
        row = Row.parse(text)
        if not row.open or not more:
            return row, Header.parse(header.static, header.counts), header.context


def _advance(
    ctx: OpContext, workflow_id: str, origin: str | None
) -> Op[tuple[bool, bytes | None, HeaderReply]]:
    found = yield from ask(ctx.workflow_keys(workflow_id), Advance(origin))
    if found.header is None:
        raise NotFound(f"workflow {workflow_id} is gone")
    return found.more, found.row, found.header
