"""How the parents of a running step have ended, read when its handler asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from rwf.ops.outcomes import parent_outcomes
from rwf.runtime import Runtime
from rwf.worker.context import StepContext


def parents_reader(runtime: Runtime) -> Callable[[StepContext], Any]:
    """Reads a step's parents: awaited in this event loop, blocking in a thread. To be made in the
    loop."""
    loop = asyncio.get_running_loop()

    def read(context: StepContext) -> Any:
        op = parent_outcomes(runtime.ctx, context.workflow_id, context.step)
        reading = runtime.run(op)
        if asyncio._get_running_loop() is loop:
            return reading
        return asyncio.run_coroutine_threadsafe(reading, loop).result()

    return read
