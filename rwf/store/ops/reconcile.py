"""Reconciling one workflow by hand: what a daemon's sweep does for each."""

from __future__ import annotations

from typing import Any

from rwf.errors import CommandRejected, NotFound
from rwf.model.limits import CHUNK
from rwf.model.states import SEMANTICS_VERSION, Reason
from rwf.model.views import ReconcileReport, Repair
from rwf.store.catalog import Arg
from rwf.store.ops.advance import advance_all
from rwf.store.ops.base import Op, Scope, new_call_id
from rwf.store.ops.reads import load
from rwf.store.records import STATES, Header, time_of_stamp


def reconcile(scope: Scope, workflow_id: str) -> Op[ReconcileReport]:
    """Finishes an unfinished release, then mends what derived keys lack, chunk by chunk."""
    header = (yield from load(scope, workflow_id)).header
    if header.semantics_version != SEMANTICS_VERSION:
        # No server function moves such a workflow: a release of its would stay unfinished for ever.
        raise (yield from _refusal(scope, workflow_id, header.semantics_version))
    repairs: list[Repair] = []
    if header.unwalked:
        yield from advance_all(scope, workflow_id)
        repairs.append(Repair(kind="release_unfinished", step=None, details={}))
    # Of the steps in each state, then of callbacks and of dead ones.
    sums = [0] * (len(STATES) + 2)
    before: bytes | None = None
    undisturbed = True
    chunks: list[Arg] = list(range(-(-header.steps // CHUNK)))
    # The first chunk of callbacks is looked at with the first of steps.
    chunks += [f"@{first}" for first in range(CHUNK + 1, header.callbacks + 1, CHUNK)]
    for chunk in chunks:
        reply = yield scope.on_workflow("check", workflow_id, [chunk])
        if not reply:
            raise NotFound(f"no workflow {workflow_id}")
        found, counts, now, more = reply
        repairs += _repairs(found)
        undisturbed = undisturbed and before in (None, counts)
        before = now
        sums = [count + some for count, some in zip(sums, more, strict=True)]
    # What others change meanwhile is counted in some chunks only; the next reconciliation sees it.
    if before is not None and undisturbed and sums != _counted(before):
        args: list[Arg] = ["", before, *sums]
        found, _, _, _ = yield scope.on_workflow("check", workflow_id, args)
        repairs += _repairs(found)
    return ReconcileReport(workflow_id=workflow_id, repairs=tuple(repairs))


def _counted(counts: bytes) -> list[int]:
    """What a header says, in the order of what is summed."""
    numbers = Header.counts_of(counts)
    callbacks, dead = Header.callbacks_of(counts)
    return [*(numbers[state] for state in STATES), callbacks, dead]


def _refusal(scope: Scope, workflow_id: str, version: int) -> Op[CommandRejected]:
    reason, message = Reason.UNSUPPORTED_SEMANTICS, f"the workflow follows semantics {version}"
    args: list[Arg] = ["reconcile", reason, new_call_id(), message, b"{}"]
    stamp, *_ = yield scope.on_workflow("note", workflow_id, args)
    return CommandRejected(
        "reconcile", "workflow", reason, message, requested_at=time_of_stamp(stamp.decode())
    )


def _repairs(found: list[Any]) -> list[Repair]:
    return [
        Repair(kind=kind.decode(), step=step.decode() or None, details={}) for kind, step in found
    ]
