"""The contents that workflows' records imply for the derived keys of their partition.

Nothing is asked here: the fields of workflows' hashes go in, and what their header, their steps,
waits and callbacks imply comes out, to be looked up together. What shows by itself that something
is wrong, or cannot be read, makes a workflow suspect at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from rwf.errors import RecordUnreadable
from rwf.model.limits import AHEAD_MS, CALLBACK_KEPT_MS, GRACE_MS
from rwf.model.states import (
    OPEN_STEPS,
    SEMANTICS_VERSION,
    SEMANTICS_VERSIONS,
    SKIPPED_MARKS,
    STEP_CODE,
    SUPERSEDED_MARK,
    WORKFLOW_CODE,
    CallbackStatus,
    StepState,
    workflow_state,
)
from rwf.protocol.callbacks import StoredCallback
from rwf.protocol.headers import Header
from rwf.protocol.keys import topic_digest
from rwf.protocol.records import Record
from rwf.protocol.stored import CountsRecord, HeaderRecord
from rwf.protocol.waits import Wait

OPEN_GROUP: Final = "o"
"""The listing group of open workflows; others are in the group of their state's code."""

UNREADABLE: Final = (RecordUnreadable, ValueError, LookupError)
"""The exceptions that an unreadable record raises."""

_CODES: Final = tuple(STEP_CODE[state].encode()[0] for state in StepState)
_OPEN: Final = frozenset(STEP_CODE[state].encode()[0] for state in OPEN_STEPS)
_PENDING: Final = STEP_CODE[StepState.PENDING].encode()[0]
_AVAILABLE: Final = STEP_CODE[StepState.AVAILABLE].encode()[0]
_TIMED: Final = {
    STEP_CODE[StepState.EXECUTING].encode()[0]: b"l",
    STEP_CODE[StepState.RETRYABLE].encode()[0]: b"r",
}
"""The states in which a step has a timer, and of which kind."""

# Fields of a workflow's hash by the first byte of their name; all others are steps.
_WAIT: Final = ord("~")
_CALLBACK: Final = ord("@")
# The header, chunks of names, the start, and what is left to be walked: found nowhere else.
_OTHERS: Final = frozenset(b":#^>")

# The notice of a child that has news for its parent (``links.lua``).
_PARENT_NOTICE: Final = b"!^"

# Less this, the scores of notices that topics have still to be given (``waits.lua``).
_UNTOLD_OFFSET: Final = 1e15

SOON: Final = math.inf
"""The score of a slice timer: soon, and no later than one that is set now."""

PRESENT: Final = -math.inf
"""Any score."""


Scores = Mapping[bytes, float | None]
"""Entries of a sorted set with their scores; None for a missing one."""


class Entry(NamedTuple):
    """An expected entry: its owner, and its score."""

    owner: str
    score: float


class Registration(NamedTuple):
    """A wait that its topic knows, and its member in the topic's sorted set."""

    workflow_id: str
    digest: str
    member: str


@dataclass(slots=True)
class StepCounts:
    """The steps and callbacks of a workflow that were counted so far."""

    workflow_id: str
    steps: int
    inserted: int
    branches: bool = False
    """Whether steps of it can be skipped."""
    states: dict[int, int] = field(default_factory=dict)
    """How many steps are in a state, by its code."""
    callbacks: int = 0
    open: int = 0
    dead: int = 0
    skipped: int = 0
    superseded: int = 0
    stated: Sequence[int] = (0, 0)
    """How many skipped and how many superseded steps the header counts."""

    def agrees(self, counts: bytes) -> bool:
        """Whether a header counts what was found, once that is all."""
        states = self.states
        text = b"".join([b"%c%d" % (code, states[code]) for code in _CODES if code in states])
        return (
            counts.startswith(text + b";")
            and sum(states.values()) == self.steps
            and Header.callbacks_of(counts) == [self.callbacks, self.open, self.dead]
            and [self.skipped, self.superseded] == [*self.stated]
        )


class Expected:
    """The derived entries that some workflows of a partition imply."""

    def __init__(self) -> None:
        self.suspects: dict[str, None] = {}
        self.taken_in = 0
        """How many fields were added, without headers."""
        self.ready: dict[bytes, str] = {}
        self.timers: dict[bytes, Entry] = {}
        self.held_back: set[bytes] = set()
        """The timers that callbacks may have delayed."""
        self.outbox: dict[bytes, Entry] = {}
        self.tags: dict[bytes, str] = {}
        self.wait_notices: dict[str, dict[bytes, float | None]] = {}
        """By workflow, the scores of its wait notices; None for one that must not exist."""
        self.wait_timers: dict[str, None] = {}
        """Workflows whose timer of wait notices is to be looked up; it follows from the notices."""
        self.registrations: list[Registration] = []
        self.children: list[tuple[str, str]] = []
        """Workflows with a step that waits for a child, which knows of that, and the child."""
        self.latest: dict[str, int] = {}
        """By workflow, the time of its latest transition, in milliseconds."""

    def workflow(self, workflow_id: str, group: str, fields: dict[bytes, bytes]) -> None:
        """Adds a whole workflow, which is in this group of the listing."""
        static, counts = fields.pop(b":s", None), fields.pop(b":c", b"")
        branching, tags = fields.pop(b":b", None), fields.pop(b":tags", None)
        try:
            step_counts = self.begin(workflow_id, static)
            if step_counts is None:
                return
            self.header(step_counts, group, static or b"", counts, branching, tags)
            self.fields(step_counts, fields)
            if workflow_id in self.wait_notices:
                self.wait_timers[workflow_id] = None
            if not step_counts.agrees(counts):
                self.suspects[workflow_id] = None
        except UNREADABLE:
            self.suspects[workflow_id] = None

    def begin(self, workflow_id: str, static: bytes | None) -> StepCounts | None:
        """Starts on a workflow; None for one that is gone, or has another semantics version."""
        if static is None:
            return None
        version, steps, inserted = map(int, HeaderRecord.size_of(static))
        if version not in SEMANTICS_VERSIONS:
            return None
        return StepCounts(workflow_id, steps, inserted, version != SEMANTICS_VERSION)

    def header(
        self,
        step_counts: StepCounts,
        group: str,
        static: bytes,
        counts: bytes,
        branching: bytes | None,
        tags: bytes | None,
    ) -> None:
        """Adds a header; ``branching`` and ``tags`` are its parts that few workflows have."""
        for tag in tags.split(b",") if tags else ():
            member = b"%b|%011x|%b" % (tag, step_counts.inserted, step_counts.workflow_id.encode())
            self.tags[member] = step_counts.workflow_id
        at = int(CountsRecord.last_of(counts))
        self.latest[step_counts.workflow_id] = step_counts.inserted + at
        if branching is not None:
            counts = b"%b#%b" % (counts, branching)
            step_counts.stated = Header.marked_of(counts)
        if branching is None and CountsRecord.is_short(counts):
            right, wrong = OPEN_GROUP, _OPEN.isdisjoint(counts.partition(b";")[0])
        else:
            header = Header.parse(static, counts)
            right = self._ends(step_counts.workflow_id, header)
            wrong = (right == OPEN_GROUP) != (header.finished is None)
        if wrong or group != right:
            self.suspects[step_counts.workflow_id] = None

    def _ends(self, workflow_id: str, header: Header) -> str:
        """Adds unfinished slices and the removal; returns the right group of the listing."""
        unfinished = header.unwalked > 0
        if unfinished:
            self.timers[f"u|{workflow_id}".encode()] = Entry(workflow_id, SOON)
        if header.removal is not None:
            timer = f"x|{workflow_id}".encode()
            self.timers[timer] = Entry(workflow_id, header.removal)
            if header.open:
                self.held_back.add(timer)
        if header.link is not None:
            notices = self.wait_notices.setdefault(workflow_id, {})
            notices[_PARENT_NOTICE] = PRESENT if header.has_news else None
        state = workflow_state(
            header.counts, cancel=header.cancel is not None, unfinished=unfinished
        )
        group = WORKFLOW_CODE.get(state, OPEN_GROUP)
        if header.starts is not None:
            timer = f"b|{workflow_id}".encode()
            self.timers[timer] = Entry(workflow_id, header.inserted + header.starts)
        if header.deadline is not None and header.cancel is None and group == OPEN_GROUP:
            timer = f"d|{workflow_id}".encode()
            self.timers[timer] = Entry(workflow_id, header.inserted + header.deadline)
        return group

    def fields(self, step_counts: StepCounts, fields: Mapping[bytes, bytes]) -> None:
        """Adds some of a workflow's fields. Most are steps that are pending, which imply
        nothing."""
        self.taken_in += len(fields)
        pending = 0
        for name, text in fields.items():
            first = name[0]
            if first in _OTHERS:
                continue
            if text[0] == _PENDING:
                pending += 1
            elif first == _WAIT:
                self._wait(step_counts.workflow_id, name[1:], text)
            elif first == _CALLBACK:
                self._callback(step_counts, name[1:], text)
            else:
                self._step(step_counts, name, text)
        if pending:
            step_counts.states[_PENDING] = step_counts.states.get(_PENDING, 0) + pending

    def _step(self, step_counts: StepCounts, name: bytes, text: bytes) -> None:
        state, owner = text[0], step_counts.workflow_id
        step_counts.states[state] = step_counts.states.get(state, 0) + 1
        if step_counts.branches and (seen := Record.seen_in(text)):
            step_counts.skipped += seen in SKIPPED_MARKS
            step_counts.superseded += seen == SUPERSEDED_MARK
        if state == _AVAILABLE:
            order, class_ = Record.place_of(text)
            self.ready[b"|".join((class_, order, owner.encode(), name))] = owner
        elif state in _TIMED:
            member = b"|".join((_TIMED[state], owner.encode(), name))
            self.timers[member] = Entry(owner, step_counts.inserted + Record.timer_of(text))

    def _wait(self, owner: str, name: bytes, text: bytes) -> None:
        wait = Wait.parse(text)
        notices = self.wait_notices.setdefault(owner, {})
        notices[name] = wait.due
        notices[b"!" + name] = PRESENT if wait.has_news else None
        if wait.child is not None:
            if wait.is_registered and wait.unacked is None:
                self.children.append((owner, wait.child))
        elif wait.is_registered and wait.unacked is None:
            member = f"{wait.status}|{owner}|{wait.stamp}|{name.decode()}|{wait.n}"
            digest = topic_digest(wait.signal, wait.key)
            self.registrations.append(Registration(owner, digest, member))

    def _callback(self, step_counts: StepCounts, number: bytes, text: bytes) -> None:
        callback = StoredCallback.parse(text)
        step_counts.callbacks += 1
        step_counts.dead += callback.status is CallbackStatus.DEAD
        if callback.due is not None:
            step_counts.open += 1
            member = b"%b|%b" % (step_counts.workflow_id.encode(), number)
            self.outbox[member] = Entry(
                step_counts.workflow_id, step_counts.inserted + callback.due
            )

    # --- what stands there

    @property
    def looked_up(self) -> list[bytes]:
        """The timers that are to be looked up."""
        return [*self.timers, *map(_wait_timer, self.wait_timers)]

    def judge_wait_notices(self, workflow_id: str, scores: Scores) -> None:
        """Compares wait notices; their timer follows from those that are stored."""
        for member, expected in self.wait_notices[workflow_id].items():
            score = scores[member]
            if score != expected and (score is None or expected != PRESENT):
                self.suspects[workflow_id] = None
        stand = [score for score in scores.values() if score is not None]
        if stand and workflow_id in self.wait_timers:
            due = min(score if score >= 0 else score + _UNTOLD_OFFSET for score in stand)
            self.timers[_wait_timer(workflow_id)] = Entry(workflow_id, due)

    def judge_timers(self, scores: Scores, now: int) -> None:
        """Compares timers at this time of the server, in milliseconds. One that should have gone
        off a while ago is as good as none; and a workflow that was moved before the clock was set
        back is to be brought to it."""
        for owner, at in self.latest.items():
            if at > now + AHEAD_MS:
                self.suspects[owner] = None
        for member, (owner, expected) in self.timers.items():
            score, due = scores[member], expected
            if member in self.held_back and score == due + CALLBACK_KEPT_MS:
                due = score
            if due == SOON:
                right = score is not None and now < score <= now + GRACE_MS
            else:
                right = score == due and now < due + GRACE_MS
            if not right:
                self.suspects[owner] = None

    def judge_outbox(self, scores: Scores) -> None:
        """Compares callbacks."""
        for member, (owner, due) in self.outbox.items():
            if scores[member] != due:
                self.suspects[owner] = None

    def judge_tags(self, scores: Scores) -> None:
        """Compares entries of the tag index."""
        for member, owner in self.tags.items():
            if scores[member] is None:
                self.suspects[owner] = None

    def judge_ready(self, scores: Scores) -> None:
        """Compares entries of the ready queue, of which each stands there or is reserved."""
        for member, owner in self.ready.items():
            if scores[member] is None:
                self.suspects[owner] = None


def _wait_timer(workflow_id: str) -> bytes:
    return f"w|{workflow_id}".encode()
