"""How a namespace stands, in numbers (contract §17)."""

from __future__ import annotations

from collections import Counter
from typing import Final

from rwf.model.operator_status import state_status
from rwf.model.states import TERMINAL_WORKFLOWS, CallbackStatus, StepState, WorkflowState
from rwf.model.views import QueueStats, StatsView
from rwf.ops.base import OpContext
from rwf.ops.queues import queues
from rwf.ops.running import leased
from rwf.ops.stats import fleet
from rwf.protocol.requests import Op

_COUNTED_CALLBACKS: Final = tuple(one for one in CallbackStatus if one is not CallbackStatus.LEASED)


def stats(ctx: OpContext) -> Op[StatsView]:
    """The counts of all partitions, and the queues with what runs of them."""
    found = yield from fleet(ctx.keys)
    known = yield from queues(ctx)
    running = yield from leased(ctx)
    in_hand = Counter(step.queue for _, steps in running for step in steps)
    views = {view.name: view for view in known}
    names = sorted(views.keys() | in_hand.keys() | found.queues.keys())
    workflows = {state: found.counts.get(f"gw|{state}", 0) for state in WorkflowState}
    opened: Counter[str] = Counter()
    for state, count in workflows.items():
        if state not in TERMINAL_WORKFLOWS:
            opened[state_status(state)] += count
    return StatsView(
        workflows=workflows,
        open=dict(opened),
        steps={state: found.counts.get(f"gs|{state}", 0) for state in StepState},
        callbacks={one: found.counts.get(f"gc|{one}", 0) for one in _COUNTED_CALLBACKS},
        queues=tuple(
            QueueStats(
                name=name,
                available=view.available if (view := views.get(name)) else 0,
                oldest_at=view.oldest_at if view else None,
                running=in_hand[name],
                served=view.served if view else False,
                ended=found.queues[name].ended if name in found.queues else 0,
                per_minute=found.queues[name].per_minute if name in found.queues else 0.0,
            )
            for name in names
        ),
        ready_seconds=found.ready_seconds,
        unreachable=tuple(sorted({*found.unreachable, *known.unreachable, *running.unreachable})),
    )
