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
from rwf.store.records import STATES, Header


def reconcile(scope: Scope, workflow_id: str) -> Op[ReconcileReport]:
    """Finishes an unfinished release, then mends what derived keys lack, chunk by chunk."""
    header = (yield from load(scope, workflow_id)).header
    repairs: list[Repair] = []
    if header.unwalked:
        yield from advance_all(scope, workflow_id)
        repairs.append(Repair(kind="release_unfinished", step=None, details={}))
    sums = [0] * len(STATES)
    before: bytes | None = None
    undisturbed = True
    for chunk in range(-(-header.steps // CHUNK)):
        reply = yield scope.on_workflow("check", workflow_id, [chunk])
        if not reply:
            raise NotFound(f"no workflow {workflow_id}")
        found, counts, now, states = reply
        repairs += _repairs(found)
        undisturbed = undisturbed and before in (None, counts)
        before = now
        sums = [count + more for count, more in zip(sums, states, strict=True)]
    # What others change meanwhile is counted in some chunks only; the next reconciliation sees it.
    if (
        before is not None
        and undisturbed
        and Header.counts_of(before) != dict(zip(STATES, sums, strict=True))
    ):
        args: list[Arg] = ["", before, *sums]
        found, _, _, _ = yield scope.on_workflow("check", workflow_id, args)
        repairs += _repairs(found)
    return ReconcileReport(workflow_id=workflow_id, repairs=tuple(repairs))


def _repairs(found: list[Any]) -> list[Repair]:
    return [
        Repair(kind=kind.decode(), step=step.decode() or None, details={}) for kind, step in found
    ]
