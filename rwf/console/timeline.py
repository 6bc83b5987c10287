"""A workflow's timeline as bars, for its page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from rwf.model.views import Timeline, TimelineStep

WIDTH: Final = 600
"""The width of the longest bar, in pixels."""
_SHOWN: Final = 100
_LEAST: Final = 2.0


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of a step's time: ``waited`` for somebody to claim it, or ran."""

    x: float
    width: float
    waited: bool
    says: str


@dataclass(frozen=True, slots=True)
class TimelineRow:
    """A step, and its bars."""

    step: TimelineStep
    bars: Sequence[Bar]


@dataclass(frozen=True, slots=True)
class Bars:
    """The rows of a timeline. ``left_out`` counts the steps that are not shown, and ``idle`` those
    that have never run."""

    rows: Sequence[TimelineRow]
    begin: datetime
    end: datetime
    left_out: int
    idle: int


def bars(timeline: Timeline) -> Bars:
    """The first steps that anything is known of, in topological order, those of the critical path
    among them."""
    begun = [step for step in timeline.steps if step.attempts]
    critical = [step for step in begun if step.critical][-_SHOWN:]
    room = _SHOWN - len(critical)
    others = [step for step in begun if not step.critical][:room]
    shown = {step.step for step in (*critical, *others)}
    begin = timeline.workflow.inserted_at
    end = timeline.workflow.finished_at or timeline.read_at
    rows = [
        TimelineRow(step, list(_bars(step, begin, end, timeline.read_at)))
        for step in begun
        if step.step in shown
    ]
    return Bars(rows, begin, end, len(begun) - len(rows), len(timeline.steps) - len(begun))


def _bars(step: TimelineStep, begin: datetime, end: datetime, now: datetime) -> Iterator[Bar]:
    span = max((end - begin).total_seconds(), 1e-6)

    def place(time: datetime) -> float:
        part = (time - begin).total_seconds() / span
        return round(min(max(part, 0.0), 1.0) * WIDTH, 1)

    def bar(since: datetime, until: datetime, waited: bool, says: str) -> Bar:
        x, took = place(since), (until - since).total_seconds()
        width = max(place(until) - x, _LEAST)
        return Bar(min(x, WIDTH - width), width, waited, f"{says}, {took:.3g} s")

    for attempt in step.attempts:
        until = attempt.ended_at or now
        if attempt.available_at is not None:
            claimed = attempt.claimed_at or until
            yield bar(
                attempt.available_at,
                claimed,
                True,
                f"attempt {attempt.attempt} waited for a worker",
            )
        if attempt.claimed_at is not None or attempt.ended_at is not None:
            who = f" by {attempt.worker_id}" if attempt.worker_id else ""
            says = f"attempt {attempt.attempt}{who}: {attempt.status}"
            yield bar(attempt.claimed_at or until, until, False, says)
