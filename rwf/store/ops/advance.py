"""Driving an unfinished release to its end, slice by slice."""

from __future__ import annotations

from typing import Any, Final

from rwf.errors import NotFound
from rwf.store.catalog import Op
from rwf.store.headers import Header
from rwf.store.ops.base import Scope
from rwf.store.ops.waits import settle_waits
from rwf.store.records import Row

_FULL_REPLY: Final = 6


def advance_all(scope: Scope, workflow_id: str) -> Op[tuple[Header, bytes | None]]:
    """Walks all that is left of a workflow; returns its header and context then."""
    while True:
        more, _, static, counts, context, flag = yield from _advance(scope, workflow_id, "")
        if not more:
            if flag:
                yield from settle_waits(scope, workflow_id)
            return Header.parse(static, counts), context


def advance_origin(
    scope: Scope, workflow_id: str, origin: str
) -> Op[tuple[Row, Header, bytes | None]]:
    """Walks until all of one completion (``step:attempt``) is done; returns its row, now final.

    Where a call was cut off between the row and the steps, the row may tell of more than is left.
    """
    while True:
        more, text, static, counts, context, _ = yield from _advance(scope, workflow_id, origin)
        row = Row.parse(text)
        if not row.open or not more:
            return row, Header.parse(static, counts), context


def _advance(scope: Scope, workflow_id: str, origin: str) -> Op[list[Any]]:
    reply: list[Any] = yield scope.on_workflow("advance", workflow_id, [origin])
    if len(reply) < _FULL_REPLY or reply[1] is None:
        raise NotFound(f"workflow {workflow_id} is gone")
    return reply
