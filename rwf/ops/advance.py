"""Driving an unfinished release to its end, slice by slice."""

from __future__ import annotations

from rwf.errors import NotFound
from rwf.ops.base import OpContext, warn_of
from rwf.ops.waits import settle_waits
from rwf.protocol.functions.workflows import Advance, Advanced, HeaderReply
from rwf.protocol.headers import Header
from rwf.protocol.records import Row
from rwf.protocol.requests import Op, ask


def advance_all(ctx: OpContext, workflow_id: str) -> Op[tuple[Header, bytes | None]]:
    """Walks all that is left of a workflow; returns its header and context then."""
    while True:
        advanced = yield from ask(ctx.workflow_keys(workflow_id), Advance(None))
        header = _of(workflow_id, advanced)
        if not advanced.more:
            if header.has_notices:
                yield from settle_waits(ctx, workflow_id)
            return Header.of(header), header.context


def advance_origin(
    ctx: OpContext, workflow_id: str, origin: str
) -> Op[tuple[Row, Header, bytes | None]]:
    """Walks until all of one completion (``step:attempt``) is done; returns its row, now final.

    Where a call was cut off between the row and the steps, the row may tell of more than is left.
    """
    while True:
        advanced = yield from ask(ctx.workflow_keys(workflow_id), Advance(origin))
        header = _of(workflow_id, advanced)
        if advanced.row is None:
            raise NotFound(f"workflow {workflow_id} is gone")
        row = Row.parse(advanced.row)
        if not row.open or not advanced.more:
            if header.has_notices:
                yield from settle_waits(ctx, workflow_id)
            return row, Header.of(header), header.context


def try_to_advance(ctx: OpContext, workflow_id: str, origin: str) -> Op[None]:
    """Walks until all of one completion (``step:attempt``) is done, or logs what prevents it.

    A daemon carries the rest on, and what the caller holds from the same round trip, claims above
    all, must not be lost with it.
    """
    try:
        yield from advance_origin(ctx, workflow_id, origin)
    except Exception as error:
        step, _, _ = origin.rpartition(":")
        warn_of(f"the release of {step} of {workflow_id}", error)


def _of(workflow_id: str, advanced: Advanced) -> HeaderReply:
    """The header in a reply; raises NotFound."""
    if advanced.header is None:
        raise NotFound(f"workflow {workflow_id} is gone")
    return advanced.header
