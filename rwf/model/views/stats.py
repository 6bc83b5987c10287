"""How a namespace stands, in numbers (contract §17)."""

from __future__ import annotations

from datetime import datetime

from rwf.model.states import CallbackStatus, OperatorStatus, StepState, WorkflowState
from rwf.model.views.base import View


class QueueStats(View):
    """A queue: the steps that wait in it, since when the first of them, how many somebody has in
    hand, and whether anybody has asked for its steps within the last minute (``served``).

    ``ended`` counts the steps of it that have ended, other than cancelled, since the namespace was
    created; ``per_minute`` is how many did per minute, over the last 5. Of more than 200 queues in
    a partition, those that came later are counted together, as ``other``.
    """

    name: str
    available: int
    oldest_at: datetime | None
    running: int
    served: bool
    ended: int
    per_minute: float


class StatsView(View):
    """How a namespace stands: exact counts, but for ``running`` of queues and ``open``.

    ``workflows`` and ``steps`` are by state, ``callbacks`` by status (pending while leased).
    ``open`` has the workflows that have not ended by what their state means to an operator; a
    failed step in one of them shows only in ``list(operator_status="Needs Review")``.
    ``running`` of a queue counts those found by ``running()``. ``ready_seconds`` is how long the
    oldest step at the head of a queue has been available. ``unreachable`` are the partitions that
    did not answer, which are in none of this.
    """

    workflows: dict[WorkflowState, int]
    open: dict[OperatorStatus, int]
    steps: dict[StepState, int]
    callbacks: dict[CallbackStatus, int]
    queues: tuple[QueueStats, ...]
    ready_seconds: float
    unreachable: tuple[int, ...] = ()
