"""Reading inputs of claimed steps that had no room in the reply to their claim.

The claims of a round trip share what a reply may hold, so that many small ones are read together,
and large ones one after the other.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from rwf.errors import RecordUnreadable, RwfError
from rwf.model.limits import ITEMS_PER_CALL, REPLY_BYTES, REPLY_ITEMS
from rwf.model.result_refs import ResultMissing
from rwf.model.states import PauseReason
from rwf.model.views import ClaimedStep
from rwf.ops.base import OpContext, catch_errors, warn_of
from rwf.protocol.functions.reads import ReadInputs
from rwf.protocol.handed import Handed, Key
from rwf.protocol.requests import Op, ask, ask_together

# When nothing of a round fits, the next one has so many times fewer claims.
_FEWER: Final = 4


class Judged:
    """Claims that were filled in, and those that cannot be, whose leases are to be given up."""

    def __init__(self, max_input: int) -> None:
        self._max_input = max_input
        self.whole: dict[Key, ClaimedStep] = {}
        self.missing: list[ClaimedStep] = []
        self.unmet: list[tuple[ClaimedStep, str]] = []
        """Claims whose conditions do not hold, and why."""
        self.paused: defaultdict[PauseReason, list[ClaimedStep]] = defaultdict(list)

    def lacks(self, handed: Handed) -> list[str]:
        """The items of a claim to be read next; none once it has been judged."""
        try:
            if handed.size > self._max_input:
                self._pause(handed, PauseReason.INPUT_TOO_LARGE)
                return []
            if items := handed.items():
                return items
            if (why := handed.unmet()) is not None:
                self.unmet.append((handed.bare(), why))
                return []
            self.whole[handed.key] = handed.claim()
        except ResultMissing:
            self.missing.append(handed.bare())
        except RecordUnreadable as error:
            self.cannot_read(handed, error)
        return []

    def cannot_read(self, handed: Handed, error: Exception) -> None:
        """Pauses a claim, and logs it."""
        warn_of(place_of(handed.key), error)
        self._pause(handed, PauseReason.INPUT_UNREADABLE)

    def _pause(self, handed: Handed, reason: PauseReason) -> None:
        self.paused[reason].append(handed.bare())


@dataclass(slots=True)
class _Results:
    """Results that claims of one workflow may share, as far as there is room for them."""

    room: int
    found: dict[tuple[str, str], tuple[bytes | None, bytes | None]] = field(default_factory=dict)

    def keep(self, handed: Handed, item: str, one: bytes | None, other: bytes | None) -> None:
        """Adds a result that was read."""
        self.room -= len(other or b"")
        if self.room >= 0:
            self.found[handed.workflow_id, item] = one, other

    def give(self, handed: Handed, items: Iterable[str]) -> list[str]:
        """Fills in the results that are known; returns the others."""
        unknown = []
        for item in items:
            known = self.found.get((handed.workflow_id, item))
            if known is None:
                unknown.append(item)
            else:
                handed.put(item, *known)
        return unknown


def place_of(key: Key) -> str:
    """The step's name for log lines."""
    workflow_id, step = key
    return f"step {step} of {workflow_id}"


def read_item(
    ctx: OpContext, workflow_id: str, step: str, item: str
) -> Op[tuple[bytes | None, bytes | None]]:
    """One item of those that ``inputs.lua`` returns, however large; nothing of a workflow that is
    gone."""
    asked = ReadInputs(REPLY_BYTES, whole_first=True, step=step, items=[item])
    found = yield from ask(ctx.workflow_keys(workflow_id), asked)
    return found[0] if found else (None, None)


def read_inputs(ctx: OpContext, claims: Iterable[Handed], judged: Judged) -> Op[None]:
    """Reads what these claims lack, and decides which can start."""
    results = _Results(ctx.max_input)
    waiting, together = deque(claims), ITEMS_PER_CALL
    while waiting:
        batch = [waiting.popleft() for _ in range(min(together, len(waiting)))]
        lacking = [(handed, items) for handed in batch if (items := judged.lacks(handed))]
        if not lacking:
            continue
        moved = yield from catch_errors(_read(ctx, lacking, results))
        if moved is not True and len(lacking) == 1:
            error = moved if isinstance(moved, Exception) else RwfError("its workflow is gone")
            judged.cannot_read(lacking[0][0], error)
            continue
        if moved is not True:
            together = max(len(lacking) // _FEWER, 1)
        waiting.extendleft(handed for handed, _ in reversed(lacking))


def _read(
    ctx: OpContext, lacking: Sequence[tuple[Handed, Sequence[str]]], results: _Results
) -> Op[bool]:
    """Reads some of these items of claims in one round trip; whether there was room for any."""
    moved = False
    asked: list[tuple[Handed, Sequence[str]]] = []
    for handed, items in lacking:
        unknown = results.give(handed, items)
        moved |= len(unknown) < len(items)
        if unknown:
            asked.append((handed, unknown[: REPLY_ITEMS // len(lacking) or 1]))
    if not asked:
        return moved
    room, alone = REPLY_BYTES // len(asked), len(asked) == 1
    reads = [
        (ctx.workflow_keys(handed.workflow_id), ReadInputs(room, alone, handed.step, items))
        for handed, items in asked
    ]
    for (handed, items), found in zip(asked, (yield from ask_together(reads)), strict=True):
        for item, (one, other) in zip(items, found, strict=False):
            handed.put(item, one, other)
            if item[0] in "rol":
                results.keep(handed, item, one, other)
            moved = True
    return moved
