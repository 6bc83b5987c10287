"""Reconciling one workflow by hand: what a daemon's sweep does for each."""

from __future__ import annotations

from typing import Any

from rwf.errors import NotFound
from rwf.model.limits import CHUNK
from rwf.model.views import ReconcileReport, Repair
from rwf.store.catalog import Arg
from rwf.store.ops.advance import advance_all
from rwf.store.ops.base import Op, Scope
from rwf.store.ops.reads import load
from rwf.store.records import STATES


def reconcile(scope: Scope, workflow_id: str) -> Op[ReconcileReport]:
    """Finishes an unfinished release, then mends what derived keys lack, chunk by chunk."""
    header = (yield from load(scope, workflow_id)).header
    repairs: list[Repair] = []
    if header.unwalked:
        yield from advance_all(scope, workflow_id)
        repairs.append(Repair(kind="release_unfinished", step=None, details={}))
    sums = [0] * len(STATES)
    before: bytes | None = None
    for chunk in range(-(-header.steps // CHUNK)):
        reply = yield scope.on_workflow("check", workflow_id, [chunk])
        if not reply:
            raise NotFound(f"no workflow {workflow_id}")
        found, counts, states, _ = reply
        repairs += _repairs(found)
        before = counts if chunk == 0 or found else before
        sums = [count + more for count, more in zip(sums, states, strict=True)]
    stored = [int(count) for count in (before or b"").split(b",")[: len(STATES)]]
    if stored != sums:
        args: list[Arg] = ["", before or b"", *sums]
        found, _, _, _ = yield scope.on_workflow("check", workflow_id, args)
        repairs += _repairs(found)
    return ReconcileReport(workflow_id=workflow_id, repairs=tuple(repairs))


def _repairs(found: list[Any]) -> list[Repair]:
    return [
        Repair(kind=kind.decode(), step=step.decode() or None, details={}) for kind, step in found
    ]
