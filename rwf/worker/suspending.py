"""Having a step wait, as its handler has asked for."""

from __future__ import annotations

from rwf.model.views import AwaitView, ClaimedStep
from rwf.ops.base import OpContext
from rwf.ops.signals import await_step
from rwf.protocol.requests import Op
from rwf.worker.outcomes import Await, Suspension


def suspend(ctx: OpContext, claim: ClaimedStep, outcome: Suspension) -> Op[AwaitView]:
    """Puts a claimed step into its wait; raises CommandRejected."""
    assert isinstance(outcome, Await)
    return await_step(
        ctx,
        claim.workflow_id,
        claim.step,
        outcome.signal,
        outcome.correlation_key,
        outcome.deadline,
        claim.lease,
        on_timeout=outcome.on_timeout,
    )
