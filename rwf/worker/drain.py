"""Running steps one at a time until nothing can run: what to run next, and how time passes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from rwf.errors import NotIdle
from rwf.fakes import Clock
from rwf.model.limits import QUEUES_PER_CLAIM
from rwf.model.states import PauseReason
from rwf.model.views import ClaimedStep, HeartbeatReport
from rwf.ops.base import OpContext, all_partitions, read
from rwf.ops.claims import claim, heartbeat, pause, release
from rwf.ops.outcomes import parent_outcomes
from rwf.ops.queues import queues
from rwf.ops.timer_pages import Due, Page
from rwf.protocol.members import Timer
from rwf.protocol.requests import Op
from rwf.repair.timers import carry_out
from rwf.worker.context import StepContext
from rwf.worker.handler import Handler
from rwf.worker.handlers import Handlers
from rwf.worker.inline import Ran
from rwf.worker.reporting import StepRun, report

_log = logging.getLogger("rwf.worker")

_TIMERS_PER_READ: Final = 100
# Timers that move workflows on: retries, leases, waits and walks; and hand-offs, which are always
# due.
_OF_STEP: Final = (b"r|", b"l|")
_WAITED_FOR: Final = (*_OF_STEP, b"w|", b"u|", b"b|", b"d|")
_CARRIED_OUT: Final = (*_WAITED_FOR, b"s|")
# Retries take the whole of their backoff, not a random part of it.
_JITTER: Final = "0.999999"


@dataclass(frozen=True, slots=True)
class DrainOptions:
    """The options of a run; ``queues`` is None for all queues. With a ``clock`` time is skipped. At
    most ``within`` seconds pass; None for no limit."""

    handlers: Handlers
    queues: tuple[str, ...] | None
    worker_id: str
    lease: float
    clock: Clock | None
    within: float | None
    limit: int


class Drain:
    """The operations of one run, for either client; ``ran`` is what has run so far."""

    def __init__(self, ctx: OpContext, options: DrainOptions) -> None:
        self.ran: list[StepRun] = []
        self._ran_at: dict[tuple[str, str], int] = {}
        self._ctx = ctx
        self._options = options
        self._queues = options.queues or ()
        self._until: float | None = None
        # Timers that were carried out, and steps that these brought back, since a step last ran:
        # what is due again all the same is waited for no longer.
        self._fired: dict[bytes, int] = {}
        self._brought_back: set[tuple[str, str]] = set()

    @contextmanager
    def clock_held(self) -> Iterator[None]:
        """Stops the clock, if time is skipped."""
        if self._options.clock is None:
            yield
            return
        with self._options.clock.held():
            yield

    def handler_of(self, claimed: ClaimedStep) -> Handler:
        """The handler of a step that :meth:`next` has returned."""
        handler = self._options.handlers.get(claimed.worker)
        assert handler is not None
        return handler

    def next(self) -> Op[ClaimedStep | float | None]:
        """The step to be run next; or how many seconds to wait for one; or None when nothing can
        run any more. Raises NotIdle."""
        while True:
            claimed = yield from self._claim()
            if claimed is not None:
                return claimed
            wait = yield from self._pass_time()
            if wait != 0:
                return wait

    def give_back(self, claimed: ClaimedStep) -> Op[int]:
        """Gives a step back that does not run."""
        return (yield from release(self._ctx, [claimed]))

    # --- claiming

    def _claim(self) -> Op[ClaimedStep | None]:
        """Claims the first step that there is a handler for."""
        while True:
            claimed = yield from self._claim_any()
            if claimed is None:
                return None
            if self._options.handlers.get(claimed.worker) is None:
                yield from self._pause(claimed)
            elif len(self.ran) < self._options.limit:
                return claimed
            else:
                yield from self.give_back(claimed)
                raise NotIdle(_endless(self.ran))

    def _claim_any(self) -> Op[ClaimedStep | None]:
        options = self._options
        while True:
            for start in range(0, len(self._queues), QUEUES_PER_CLAIM):
                some = self._queues[start : start + QUEUES_PER_CLAIM]
                for claimed in (
                    yield from claim(self._ctx, some, options.worker_id, 1, options.lease)
                ):
                    return claimed
            if options.queues is not None:
                return None
            listed = yield from queues(self._ctx)
            new = [queue.name for queue in listed if queue.available]
            if set(new) <= set(self._queues):
                return None
            self._queues = tuple(dict.fromkeys([*self._queues, *new]))

    def _pause(self, claimed: ClaimedStep) -> Op[None]:
        """Gives a step back that there is no handler for, as a worker does."""
        place = claimed.workflow_id, claimed.step
        if place not in self._brought_back:
            self._brought_back.add(place)
            _log.warning(
                "there is no handler named %r, which step %s of %s asks for",
                claimed.worker,
                claimed.step,
                claimed.workflow_id,
            )
        yield from pause(self._ctx, [claimed], PauseReason.NO_HANDLER)

    # --- reporting

    def report(self, claimed: ClaimedStep, ran: Ran) -> Op[None]:
        """Reports what a handler came to."""
        outcome, summary = yield from report(self._ctx, claimed, ran.report, _JITTER)
        self.ran.append(
            StepRun(
                claimed.workflow_id,
                claimed.step,
                claimed.worker,
                claimed.attempt,
                outcome,
                summary,
                ran.raised,
            )
        )
        self._ran_at[claimed.workflow_id, claimed.step] = len(self.ran)
        self._fired.clear()
        self._brought_back.discard((claimed.workflow_id, claimed.step))

    def beat(self, context: StepContext) -> Op[bool]:
        """A step's own heartbeat: whether its lease still stands."""
        report: HeartbeatReport = yield from heartbeat(
            self._ctx, [context.claim], self._options.lease
        )
        for renewed in report.extended:
            context._renewed(renewed, bool(report.cancel_requested))
        if report.lost:
            context._taken_away()
        return not context.lost

    def parents(self, context: StepContext) -> Op[dict[str, Any]]:
        """How the parents of a step have ended."""
        return parent_outcomes(self._ctx, context.workflow_id, context.step)

    # --- time

    def _pass_time(self) -> Op[float | None]:
        """Carries out what is due, or has time pass until something is: 0 when there may be
        something to run, else for how long it is to be waited for; None when nothing is to come."""
        found: dict[int, dict[bytes, int]] = {}
        now = 0
        for partition in (yield from all_partitions(self._ctx)):
            now, found[partition] = yield from self._timers(partition)
        if self._until is None and self._options.within is not None:
            self._until = now + 1000 * self._options.within
        first = min((score for timers in found.values() for score in timers.values()), default=None)
        if first is None or (first > now and self._until is not None and first > self._until):
            return None
        if first > now:
            if self._options.clock is None:
                return (first - now) / 1000
            self._options.clock.move_on(1000 * first)
        for partition, timers in found.items():
            due = {member: score for member, score in timers.items() if score <= max(now, first)}
            if due:
                yield from self._fire(partition, due)
        return 0

    def _timers(self, partition: int) -> Op[tuple[int, dict[bytes, int]]]:
        """The server's time, and some of a partition's timers that are to be carried out, the first
        among them, with their times (ms)."""
        key = self._ctx.keys.derived(partition, "timers")
        start = 0
        while True:
            end = start + _TIMERS_PER_READ - 1
            (seconds, micros), page = yield from read(key, ("TIME",), ("ZRANGE", key, start, end))
            now = int(seconds) * 1000 + int(micros) // 1000
            known = [member for member in page if member.startswith(_CARRIED_OUT)]
            if known:
                (scores,) = yield from read(key, ("ZMSCORE", key, *known))
                found = {
                    member: int(score)
                    for member, score in zip(known, scores, strict=True)
                    if score is not None and self._counts(member, int(score), now)
                }
                if found:
                    return now, found
            if len(page) < _TIMERS_PER_READ:
                return now, {}
            start += _TIMERS_PER_READ

    def _counts(self, member: bytes, score: int, now: int) -> bool:
        if member.startswith(_OF_STEP):
            return _place(member) not in self._brought_back
        is_due = score <= now or member.startswith(_WAITED_FOR)
        return is_due and self._fired.get(member) != score

    def _fire(self, partition: int, due: dict[bytes, int]) -> Op[None]:
        self._fired |= due

        # Where several are due at once, steps come back in the order in which they ran.
        def order(member: bytes) -> tuple[int, int]:
            place = _place(member) if member.startswith(_OF_STEP) else None
            return due[member], -1 if place is None else self._ran_at.get(place, -1)

        self._brought_back |= {_place(member) for member in due if member.startswith(_OF_STEP)}
        timers = Due(self._ctx, partition).timers(Page(sorted(due, key=order), (), None))
        yield from carry_out(self._ctx, partition, timers)


def _place(member: bytes) -> tuple[str, str]:
    """The workflow and the step of a step's timer."""
    _, workflow_id, step = Timer.parse(member)
    return workflow_id, step


def _endless(ran: list[StepRun]) -> str:
    last = ran[-1]
    return (
        f"there is more to run after {len(ran)} runs: the last was attempt {last.attempt} of step "
        f"{last.step} of {last.workflow_id}, which left it {last.outcome}"
    )
