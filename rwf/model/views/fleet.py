"""Who works, and on what (contract §17)."""

from __future__ import annotations

from datetime import datetime

from rwf.model.views.base import View


class WorkerView(View):
    """A worker, as it has told of itself a few seconds ago.

    ``queues`` and ``handlers`` are names, as many as about 4 KB hold; ``queue_count`` and
    ``handler_count`` are exact. ``running`` counts the steps that it has in hand, ``abandoned`` the
    handlers that go on after their attempts. ``alive`` while it was seen less than 10 s ago.
    ``trouble`` says what keeps it from its work: a handler blocks its event loop, its threads
    hang, or calls fail.
    """

    id: str
    queues: tuple[str, ...]
    queue_count: int
    handlers: tuple[str, ...]
    handler_count: int
    concurrency: int
    running: int
    abandoned: int
    started_at: datetime
    seen_at: datetime
    alive: bool
    trouble: str | None


class RunningStep(View):
    """A step that somebody has in hand: since ``claimed_at``, under a lease up to
    ``lease_expires_at``. ``worker`` is the handler's name, ``worker_id`` who runs it;
    ``dispatched`` when a dispatcher holds it, and nobody has started it yet."""

    workflow_id: str
    workflow_name: str
    step: str
    worker: str
    queue: str
    attempt: int
    worker_id: str
    claimed_at: datetime
    lease_expires_at: datetime
    dispatched: bool


class RunningSteps(View):
    """Steps in hand, those that were claimed first come first; ``count`` is how many there are in
    all. ``unreachable`` are the partitions that did not answer, whose part is missing."""

    steps: tuple[RunningStep, ...]
    count: int
    unreachable: tuple[int, ...] = ()
