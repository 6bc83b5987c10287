"""Driving an unfinished release to its end, slice by slice."""

from __future__ import annotations

from rwf.store.ops.base import Op, Scope
from rwf.store.records import Header, Row


def advance_all(scope: Scope, workflow_id: str) -> Op[tuple[Header, bytes | None]]:
    """Walks all that is left of a workflow; returns its header and context then."""
    while True:
        more, _, static, counts, context = yield scope.on_workflow("advance", workflow_id, [""])
        if not more:
            return Header.parse(static, counts), context


def advance_origin(
    scope: Scope, workflow_id: str, origin: str
) -> Op[tuple[Row, Header, bytes | None]]:
    """Walks until all of one completion (``step:attempt``) is done; returns its row, now final."""
    while True:
        _, text, static, counts, context = yield scope.on_workflow("advance", workflow_id, [origin])
        row = Row.parse(text)
        if not row.open:
            return row, Header.parse(static, counts), context
