"""Having a step wait, as its handler has asked for."""

from __future__ import annotations

from rwf.model.views import ClaimedStep
from rwf.ops.base import OpContext
from rwf.ops.children import run_child
from rwf.ops.signals import await_step
from rwf.protocol.requests import Op
from rwf.worker.outcomes import Await, RunWorkflow, Suspension


def suspend(ctx: OpContext, claim: ClaimedStep, outcome: Suspension) -> Op[object]:
    """Puts a claimed step into its wait; raises CommandRejected, and WorkflowInvalid for a child
    workflow."""
    workflow_id, step, lease = claim.workflow_id, claim.step, claim.lease
    if isinstance(outcome, RunWorkflow):
        return run_child(ctx, workflow_id, step, outcome.workflow, lease, outcome.key)
    assert isinstance(outcome, Await)
    return await_step(
        ctx,
        workflow_id,
        step,
        outcome.signal,
        outcome.correlation_key,
        outcome.deadline,
        lease,
        on_timeout=outcome.on_timeout,
    )
