"""A context for unit tests of handlers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from rwf import Await, StepContext, WakingSignal, current_step


def approve(invoice: int, ctx: StepContext) -> str:
    if ctx.signal is None:
        raise Await(signal="approved", correlation_key=f"invoice-{invoice}")
    by: str = ctx.signal.payload["by"]
    return by


def test_a_handler_is_a_function_that_a_unit_test_calls() -> None:
    with pytest.raises(Await):
        approve(7, StepContext.fake())
    signal = WakingSignal(id="s", signal="approved", correlation_key="k", payload={"by": "ann"})
    assert approve(7, StepContext.fake(signal=signal)) == "ann"


def test_what_is_not_given_has_a_value_of_its_own() -> None:
    ctx = StepContext.fake()
    assert (ctx.workflow_id, ctx.step, ctx.attempt, ctx.max_attempts) == ("0-fake", "step", 1, 5)
    assert (ctx.input, ctx.context, ctx.workflow_context, ctx.signal) == (None, None, None, None)
    assert (ctx.cancel_requested, ctx.lost, ctx.deadline) == (False, False, None)
    assert (ctx.claim.worker, ctx.claim.queue) == ("step", "default")
    assert ctx.heartbeat() is True
    assert current_step() is None


def test_every_field_can_be_given() -> None:
    ctx = StepContext.fake(
        workflow_id="3-x",
        step="ship",
        worker="shipper",
        queue="q",
        attempt=3,
        max_attempts=4,
        lease="3-l",
        timeout=60.0,
        input={"order": 5},
        context=[1],
        workflow_context="c",
        cancel_requested=True,
        lost=True,
    )
    claim = ctx.claim
    assert (ctx.workflow_id, ctx.step, claim.worker, claim.queue) == ("3-x", "ship", "shipper", "q")
    assert (ctx.attempt, ctx.max_attempts, claim.lease) == (3, 4, "3-l")
    assert (ctx.input, ctx.context, ctx.workflow_context) == ({"order": 5}, [1], "c")
    assert (ctx.cancel_requested, ctx.lost, ctx.heartbeat()) == (True, True, False)
    assert ctx.deadline is not None
    assert timedelta(seconds=50) < ctx.deadline - datetime.now(UTC) <= timedelta(seconds=60)


def test_what_is_no_field_is_refused() -> None:
    with pytest.raises(TypeError, match="sorry"):
        StepContext.fake(sorry=1)  # type: ignore[call-arg]


def test_a_coroutine_awaits_its_heartbeat() -> None:
    async def handler(ctx: StepContext) -> bool:
        stands: bool = await ctx.heartbeat()
        return stands

    assert asyncio.run(handler(StepContext.fake())) is True
    assert asyncio.run(handler(StepContext.fake(lost=True))) is False
