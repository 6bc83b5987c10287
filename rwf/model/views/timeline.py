"""When the attempts of a workflow's steps waited, ran and ended (contract §17)."""

from __future__ import annotations

from datetime import datetime

from rwf.model.states import StepState
from rwf.model.views.base import View
from rwf.model.views.workflows import WorkflowView


class TimelineAttempt(View):
    """One attempt of a step: when it became available, was claimed, by whom, and ended.

    ``status`` is what it reported; ``lease_expired``, ``timed_out`` or ``lease_taken`` where its
    lease was taken away; or the state of the step, for one that has not ended. A time is None
    where it is to come, or is not on record: nobody claims a step that is completed unclaimed.
    """

    attempt: int
    available_at: datetime | None
    claimed_at: datetime | None
    ended_at: datetime | None
    worker_id: str | None
    status: str


class TimelineStep(View):
    """A step with its attempts; ``critical`` when it is on the critical path."""

    step: str
    state: StepState
    attempts: tuple[TimelineAttempt, ...]
    critical: bool


class Timeline(View):
    """The steps of a workflow in topological order, with when their attempts waited, ran and ended.

    ``critical_path`` is the chain of steps that its end waited for, or waits for: from the last
    step that ended, or runs or waits the longest, up to a root, each time by the parent that ended
    last. ``read_at`` is the server's time.
    """

    workflow: WorkflowView
    steps: tuple[TimelineStep, ...]
    critical_path: tuple[str, ...]
    read_at: datetime
