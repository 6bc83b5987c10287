"""A claim as the server returns it (``dispatch.lua``), and the parts of its input."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from rwf.errors import RecordUnreadable
from rwf.model.conditions import described, holds, references_in
from rwf.model.limits import CHUNK
from rwf.model.payload import decode
from rwf.model.result_refs import fill, lists_in, outcomes_in, references
from rwf.model.states import SKIPPED_MARKS, SUPERSEDED_MARK, StepCause, StepState
from rwf.model.views import ClaimedStep, WakingSignal
from rwf.protocol.codecs import CAUSE_OF, STATE_OF, UNREADABLE, reading, time_of, value_of
from rwf.protocol.functions.claims import StartedStep
from rwf.protocol.members import QueueEntry
from rwf.protocol.records import (
    lease_of,
    max_attempts_of,
    priority_of,
    queue_of,
    timeout_of,
)
from rwf.protocol.stored import ClaimRecord, StepRecord
from rwf.protocol.waits import Wait

_VALUE, _NULL = b"v", b"n"
_OWN = "p"
_RESULTS = "r"
_OUTCOMES = "o"
_LISTS = "l"
_CONDITION = "c"
_UNTOLD = "!"

Key = tuple[str, str]


@dataclass(slots=True)
class HeldStep:
    """The part of a step's record that its claim needs; ``expires`` in ms since the insert."""

    worker: str
    queue: str
    attempt: int
    max_attempts: int
    lease: str
    expires: int
    timeout: float | None
    priority: int

    @classmethod
    def parse(cls, step: str, record: bytes) -> HeldStep:
        """Reads these fields alone: to take the whole record apart costs twice as much."""
        attempt, max_, claim, class_, options, handler = StepRecord.held_of(record)
        token, expires = ClaimRecord.lease_of(claim)
        number = int(attempt)
        return cls(
            handler.decode() or step,
            queue_of(class_.decode()),
            number,
            max_attempts_of(max_.decode()),
            lease_of(number, token.decode()),
            int(expires),
            timeout_of(options.decode()),
            priority_of(class_.decode()),
        )


@dataclass(slots=True)
class Handed:
    """A claim as the server returned it, with what was read for it since.

    ``left`` are the letters of what is still to be read: "p" input and context, "w" the workflow's
    context, "s" the signal's payload, "c" the condition, "r" results, "o" outcomes, "l" which steps
    others have appended; or "!" for what cannot be read. ``results`` has the payloads of the steps
    that the input or the condition refers to, None for what is null; a result that is missing is
    not in it. ``outcomes`` are those that the input refers to, and ``lists`` the steps that others
    have appended whose results it does.
    """

    workflow_id: str
    step: str
    held: HeldStep
    inserted: int
    left: str = ""
    input: bytes | None = None
    context: bytes | None = None
    workflow_context: bytes | None = None
    wait: bytes | None = None
    payload: bytes | None = None
    results: dict[str, bytes | None] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    condition: bytes | None = None
    outcomes: dict[str, Any] = field(default_factory=dict)
    trace: str | None = None
    size: int = 0
    """How many bytes the input has, with each result that it refers to, as far as is known."""
    lists: dict[str, list[str]] = field(default_factory=dict)
    _names: tuple[list[str], list[str]] | None = None
    _unlisted: list[str] | None = None
    """The steps that have appended others of which some are not known yet."""

    @classmethod
    @reading
    def parse(cls, entry: bytes, started: StartedStep) -> Handed:
        """The claim that became of an entry; raises RecordUnreadable."""
        _, workflow_id, step = QueueEntry.parse(entry)
        handed = cls(
            workflow_id,
            step,
            HeldStep.parse(step, started.record),
            started.inserted,
            started.unread,
            started.input,
            started.context,
            started.workflow_context,
            started.wait,
            started.signal_payload,
        )
        handed.size = len(started.input or b"")
        for result in started.results or ():
            handed.take(result.step.decode(), result.kind, result.payload)
        handed.condition, handed.trace = started.condition, started.trace
        for outcome in started.outcomes or ():
            handed.take_outcome(outcome.step.decode(), outcome.ended, outcome.payload)
        return handed

    def take(self, name: str, kind: bytes, payload: bytes | None) -> None:
        """Adds the result that a reference to a step stands for."""
        if kind == _VALUE:
            assert payload is not None
            self.results[name] = payload
            self.size += len(payload)
        elif kind == _NULL:
            self.results[name] = None
        else:
            self.missing.add(name)

    def take_outcome(self, name: str, ended: bytes, payload: bytes | None) -> None:
        """Takes in how a step has ended."""
        self.outcomes[name] = outcome_of(ended, payload)
        self.size += len(payload or b"")

    def put(self, item: str, one: bytes | None, other: bytes | None) -> None:
        """Takes in an item that was read (``inputs.lua``)."""
        if item[0] == _RESULTS:
            assert one is not None
            self.take(item[1:], one, other)
            return
        if item[0] == _OUTCOMES:
            assert one is not None
            self.take_outcome(item[1:], one, other)
            return
        if item[0] == _LISTS:
            self._take_names(item[1:].rpartition(":")[0], (one or b"").decode())
            return
        if item == _OWN:
            self.input, self.context = one, other
            self.size += len(one or b"")
        elif item == "w":
            self.workflow_context = one
        elif item == _CONDITION:
            self.condition = one
        else:
            self.payload = one
        self.left = self.left.replace(item, "")

    def _take_names(self, appending: str, text: str) -> None:
        """Takes in a chunk of the names of the steps that one has appended."""
        names = text.split(",") if text else []
        self.lists[appending] += names
        if len(names) < CHUNK:
            assert self._unlisted is not None
            self._unlisted.remove(appending)

    @property
    def key(self) -> Key:
        """Which step it is."""
        return self.workflow_id, self.step

    @reading
    def items(self) -> list[str]:
        """The items to read next: first those of the step itself, then the results and outcomes
        that it refers to. Raises RecordUnreadable."""
        if self.left == _UNTOLD:
            raise RecordUnreadable(UNREADABLE)
        own = [item for item in self.left if item not in (_RESULTS, _OUTCOMES, _LISTS)]
        if own or not self.left:
            return own
        if _LISTS in self.left and (unlisted := self._lists()):
            return [f"{_LISTS}{name}:{len(self.lists[name]) // CHUNK}" for name in unlisted]
        if self._names is None:
            self._names = self._referred()
        results, outcomes = self._names
        found = [
            f"{_RESULTS}{name}"
            for name in results
            if name not in self.results and name not in self.missing
        ]
        return found + [f"{_OUTCOMES}{name}" for name in outcomes if name not in self.outcomes]

    def _lists(self) -> list[str]:
        """The steps that have appended others of which some are not known yet."""
        if self._unlisted is None:
            named = dict.fromkeys(ref.step for ref in lists_in(value_of(self.input)))
            self._unlisted = [*named]
            self.lists = {name: [] for name in named}
        return self._unlisted

    def _referred(self) -> tuple[list[str], list[str]]:
        """The steps whose results, and those whose outcomes, it refers to, each once."""
        value = value_of(self.input)
        refs = [*references(value), *references_in(value_of(self.condition) or ["and"])]
        outcomes = outcomes_in(value) if _OUTCOMES in self.left else ()
        named = [ref.step for ref in refs]
        for names in self.lists.values():
            named += names
        return (
            list(dict.fromkeys(named)),
            list(dict.fromkeys(ref.step for ref in outcomes)),
        )

    @reading
    def unmet(self) -> str | None:
        """Why the step's condition does not hold; None when it does, or there is none. Raises
        ResultMissing, or RecordUnreadable."""
        if self.condition is None:
            return None
        form = decode(self.condition)
        return None if holds(form, *self._results()) else f"not so: {described(form)}"

    def _results(self) -> tuple[dict[str, Any], frozenset[str]]:
        """The decoded results, and the steps whose results are null."""
        results = {
            name: decode(payload) for name, payload in self.results.items() if payload is not None
        }
        return results, frozenset(name for name, kept in self.results.items() if kept is None)

    def bare(self) -> ClaimedStep:
        """The claim without all that it was given, to be given back."""
        return self._claimed(None, None, None, None)

    @reading
    def claim(self) -> ClaimedStep:
        """The claim as its holder sees it. Raises ResultMissing, or RecordUnreadable."""
        value = value_of(self.input)
        if self.results or self.missing or self.outcomes or self.lists:
            lists = self.lists or None
            value = fill(value, *self._results(), self.outcomes or None, lists)
        return self._claimed(
            value, value_of(self.context), value_of(self.workflow_context), self._signal()
        )

    def _claimed(
        self, input_: Any, context: Any, workflow_context: Any, signal: WakingSignal | None
    ) -> ClaimedStep:
        held = self.held
        return ClaimedStep(
            workflow_id=self.workflow_id,
            step=self.step,
            worker=held.worker,
            queue=held.queue,
            attempt=held.attempt,
            max_attempts=held.max_attempts,
            lease=held.lease,
            lease_expires_at=time_of(self.inserted + held.expires),
            timeout=held.timeout,
            input=input_,
            context=context,
            workflow_context=workflow_context,
            signal=signal,
            timed_out=self.wait is not None and not Wait.parse(self.wait).signal_id,
            priority=held.priority,
            traceparent=self.trace,
        )

    def _signal(self) -> WakingSignal | None:
        if self.wait is None:
            return None
        woken = Wait.parse(self.wait)
        if not woken.signal_id:
            return None
        return WakingSignal(
            id=woken.signal_id,
            signal=woken.signal,
            correlation_key=woken.key,
            payload=value_of(self.payload or None),
        )


@reading
def outcome_of(text: bytes, payload: bytes | None) -> dict[str, Any]:
    """How a step has ended, as ``outcome()`` tells it (``dispatch.lua``)."""
    head, _, note = text.partition(b"|")
    state, cause, mark = head.decode().split(",")
    ended_by = CAUSE_OF[cause] if cause else None
    if mark in SKIPPED_MARKS:
        ended_by = StepCause.SKIPPED
    elif mark == SUPERSEDED_MARK:
        ended_by = StepCause.SUPERSEDED
    ended = StepState.CANCELLED if ended_by is StepCause.SUPERSEDED else STATE_OF[state]
    return {
        "state": ended.value,
        "cause": ended_by,
        "summary": orjson.loads(note).get("summary") if note else None,
        "payload": value_of(payload),
    }
