"""Removing finished workflows after their retention, and signals that no workflow consumed.

A workflow first stops being there, in one call; what belongs to it goes in further calls, each of
them idempotent, and anybody can go on where a dead client has stopped:

    its insert key        at the key's home, if the key is still its own
    its waits' topics     at their home partitions: its registrations there, and the signals that
                          it consumed
    its children          they need not be kept for it any more
    its own keys
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeVar

from rwf.errors import StoreUnavailable
from rwf.model.views import PruneReport
from rwf.ops.base import (
    OpContext,
    all_partitions,
    invalid,
    passing_over,
    side_by_side,
    warn_of,
)
from rwf.ops.child_notices import GONE, to_child
from rwf.ops.timer_pages import Due, Page
from rwf.ops.waits import (
    Topic,
    Unsettled,
    hand_over,
    judge_topic,
    number_of,
    settle,
    settle_waits,
)
from rwf.protocol.functions.callbacks import DispatcherSeen
from rwf.protocol.functions.inserts import ReleaseKey
from rwf.protocol.functions.prune import Prune, PrunedWait
from rwf.protocol.functions.topics import Forget, ForgottenWait
from rwf.protocol.keys import Keys
from rwf.protocol.requests import Op, ask
from rwf.protocol.waits import child_of

T = TypeVar("T")
Progress = Callable[[PruneReport], object]
"""A function that is called from time to time with the records removed so far."""

_log = logging.getLogger("rwf")

# How many workflows are removed side by side, each with a call of its own in a round trip.
_SIDE_BY_SIDE: Final = 32


class Undelivered(NamedTuple):
    """A workflow whose retention has ended, with callbacks that are still undelivered."""

    workflow_id: str
    callbacks: int


def prune_all(ctx: OpContext, workflow_ids: Sequence[str]) -> Op[int]:
    """Removes those of the workflows whose retention has ended; returns how many. One that cannot
    be read is skipped, with a warning."""
    found = yield from _side_by_side([(one, prune(ctx, one)) for one in workflow_ids])
    undelivered = [one for one in found if isinstance(one, Undelivered)]
    if undelivered:
        try:
            # Only now, so that none of their callbacks came after it was read (prune.lua).
            seen = yield from dispatcher_seen(ctx.keys)
        except StoreUnavailable:
            return found.count(True)  # they are held back until that can be read
        ops = [
            (one, prune(ctx, one, seen is not None, count if seen is None else None))
            for one, count in undelivered
        ]
        found += yield from _side_by_side(ops)
    return found.count(True)


def _side_by_side(ops: Sequence[tuple[str, Op[T]]]) -> Op[list[T]]:
    done: list[T] = []
    for start in range(0, len(ops), _SIDE_BY_SIDE):
        some = ops[start : start + _SIDE_BY_SIDE]
        results = yield from side_by_side([op for _, op in some])
        for (workflow_id, _), result in zip(some, results, strict=True):
            if isinstance(result, Exception):
                warn_of(f"workflow {workflow_id}", result)
            else:
                done.append(result)
    return done


def prune(
    ctx: OpContext,
    workflow_id: str,
    dispatcher_seen: bool = False,
    never_seen_for: int | None = None,
) -> Op[bool | Undelivered]:
    """Removes a finished workflow, if its retention has ended; returns whether this call did so.

    ``dispatcher_seen`` and ``never_seen_for`` say of dispatchers what :class:`Prune` takes; neither
    when nobody has asked yet.
    """
    unsettled: Unsettled = {}
    place, first = None, 1
    while True:
        asked = Prune(place, dispatcher_seen, never_seen_for, first)
        pruned = yield from ask(ctx.workflow_keys(workflow_id), asked)
        if pruned.outcome == "unacked":
            if not (yield from settle_waits(ctx, workflow_id)):
                return False  # held back until its child or its parent can be told
        elif pruned.outcome == "undelivered":
            return Undelivered(workflow_id, pruned.callbacks)
        elif pruned.outcome == "given_up":
            first = pruned.first
            if dead := pruned.callbacks:
                _log.warning("workflow %s: %d callbacks were never delivered", workflow_id, dead)
        elif pruned.outcome == "removing":
            place = pruned.place
            if pruned.key is not None:
                yield from _release_key(ctx, workflow_id, pruned.key)
            yield from _forget(ctx, workflow_id, pruned.waits, unsettled)
        else:
            yield from settle(ctx, unsettled)
            return pruned.outcome == "removed"


def _release_key(ctx: OpContext, workflow_id: str, key: str) -> Op[None]:
    home, digest, _ = key.split(":")
    yield from ask(ctx.keys.partition(int(home)), ReleaseKey(digest, workflow_id))


def _forget(
    ctx: OpContext, workflow_id: str, waits: Sequence[PrunedWait], unsettled: Unsettled
) -> Op[None]:
    """Removes these waits from their topics, and lets the children of others go."""
    by_topic: dict[bytes, list[ForgottenWait]] = {}
    for wait in waits:
        if (child := child_of(wait.topic.decode())) is not None:
            news = to_child(ctx, workflow_id, wait.step, wait.n, GONE, child)
            yield from passing_over(news, f"workflow {child}")
            continue
        number = number_of(wait.signal_id) if wait.signal_id else None
        by_topic.setdefault(wait.topic, []).append(ForgottenWait(wait.step, number))
    for text, forgotten in by_topic.items():
        topic = Topic.stored(text)
        forget = Forget(topic.signal, topic.quoted_key, workflow_id, forgotten)
        handed = yield from ask(topic.keys(ctx), forget)
        yield from hand_over(ctx, topic, handed, unsettled, None)


def dispatcher_seen(keys: Keys) -> Op[float | None]:
    """How many seconds ago a dispatcher of callbacks was last seen in the namespace, None when none
    ever was."""
    ago = yield from ask([keys.meta()], DispatcherSeen())
    return None if ago is None else ago / 1000


class Pruning:
    """One run over all partitions, a page of timers of each at a time; ``done`` once it is over."""

    def __init__(self, ctx: OpContext, progress: Progress | None) -> None:
        if progress is not None and not callable(progress):
            raise invalid("prune", "progress must be callable, or None")
        self.done = False
        self._ctx = ctx
        self._progress = progress
        self._dues: list[Due] | None = None
        self._workflows = 0
        self._signals = 0
        self._unreachable: set[int] = set()

    def report(self) -> PruneReport:
        """The counts of all that this run has removed so far."""
        return PruneReport(
            workflows=self._workflows,
            signals=self._signals,
            unreachable=tuple(sorted(self._unreachable)),
        )

    def tell(self) -> None:
        """Reports to the caller how far it is."""
        if self._progress is not None:
            self._progress(self.report())

    def page(self) -> Op[None]:
        """Removes what one page of the due timers of each partition names."""
        if self._dues is None:
            numbers = yield from all_partitions(self._ctx, anew=True)
            self._dues = [Due(self._ctx, number) for number in numbers]
        pages = yield from Due.pages(self._dues)
        left: list[Due] = []
        for due, page in zip(self._dues, pages, strict=True):
            if isinstance(page, StoreUnavailable):
                self._away(due, page)
            elif page.members:
                try:
                    more = yield from self._remove(due, page)
                except StoreUnavailable as error:
                    self._away(due, error)
                else:
                    left += [due] if more else []
        self._dues = left
        self.done = not left

    def _away(self, due: Due, error: StoreUnavailable) -> None:
        self._unreachable.add(due.partition)
        self._ctx.away.note({due.partition: error})

    def _remove(self, due: Due, page: Page) -> Op[bool]:
        """Removes what a page names; whether more is due there."""
        timers = list(due.timers(page))
        ended = [timer.owner for timer in timers if timer.kind == "x"]
        self._workflows += yield from prune_all(self._ctx, ended)
        for timer in timers:
            if timer.kind == "s":
                self._signals += yield from judge_topic(self._ctx, timer.owner)
        return (yield from due.leave_behind(page)).more
