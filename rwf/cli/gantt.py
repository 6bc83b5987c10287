"""A workflow's timeline as bars, for terminals."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from rwf.cli.common import headline
from rwf.cli.text import length, table_width
from rwf.model.names import escaped
from rwf.model.views import Timeline, TimelineAttempt, TimelineStep

_NAMES: Final = 24
_BAR: Final = 20
"""Columns of names at most, and of bars at least."""
_WAITS, _RUNS, _NOTHING = "░", "█", " "


def gantt(timeline: Timeline) -> Iterator[str]:
    """One line a step, in topological order: how long it waited to be claimed and ran. A star marks
    the critical path."""
    view = timeline.workflow
    begin = view.inserted_at
    end = view.finished_at or timeline.read_at
    names = [escaped(step.step) for step in timeline.steps]
    column = min(max(map(len, names), default=0), _NAMES)
    took = [_took(step, timeline.read_at) for step in timeline.steps]
    width = max((table_width() or 80) - column - 6 - max(map(len, took), default=0), _BAR)
    yield headline(view)
    yield (
        f"  from {begin:%H:%M:%S} to {end:%H:%M:%S} UTC, {length(begin, end)}; "
        f"{_WAITS} available, {_RUNS} running, * critical path"
    )
    for name, step, told in zip(names, timeline.steps, took, strict=True):
        shown = name if len(name) <= column else f"{name[: column - 1]}…"
        mark = "*" if step.critical else " "
        yield f"{mark} {shown:<{column}} |{_bar(step, begin, end, timeline.read_at, width)}| {told}"


def _bar(step: TimelineStep, begin: datetime, end: datetime, now: datetime, width: int) -> str:
    cells = [_NOTHING] * width
    span = max((end - begin).total_seconds(), 1e-9)

    def place(time: datetime) -> int:
        part = (time - begin).total_seconds() / span
        return min(max(int(part * width), 0), width - 1)

    def fill(since: datetime, until: datetime, sign: str) -> None:
        for at in range(place(since), place(until) + 1):
            cells[at] = sign

    for attempt in step.attempts:
        until = attempt.ended_at or now
        if attempt.available_at is not None:
            fill(attempt.available_at, attempt.claimed_at or until, _WAITS)
        if attempt.claimed_at is not None:
            fill(attempt.claimed_at, until, _RUNS)
        elif attempt.ended_at is not None:
            fill(until, until, _RUNS)
    return "".join(cells)


def _took(step: TimelineStep, now: datetime) -> str:
    """For how long it ran, and in how many attempts; or its state, while it has not."""
    ran = [_ran(attempt, now) for attempt in step.attempts if attempt.claimed_at is not None]
    if not ran:
        return str(step.state)
    attempts = f", {len(step.attempts)} attempts" if len(step.attempts) > 1 else ""
    seconds = sum(ran)
    return f"{seconds:.3g} s{attempts}"


def _ran(attempt: TimelineAttempt, now: datetime) -> float:
    assert attempt.claimed_at is not None
    return ((attempt.ended_at or now) - attempt.claimed_at).total_seconds()
