"""A workflow's header, as it is read back: ``header.lua`` describes its two fields."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import unquote

from rwf.model.states import FAILED_STEPS, StepState, workflow_cause, workflow_state
from rwf.model.views import WorkflowView
from rwf.protocol.codecs import STATE_OF, STATES, optional_int, reading, time_of, value_of
from rwf.protocol.functions.workflows import HeaderReply

_COUNT: Final = re.compile(r"([a-z])([0-9]+)")


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Who has left a workflow at its bad end, and why; ``since`` is when, as in a header."""

    recoveries: int
    since: int
    actor: str
    reason: str

    @classmethod
    def parse(cls, text: str) -> Acknowledgement:
        numbers, actor, reason = text.split("|")
        recoveries, since = numbers.split(",")
        return cls(int(recoveries), int(since), unquote(actor), unquote(reason))


@dataclass(frozen=True, slots=True)
class Header:
    """A workflow's header, taken apart."""

    semantics_version: int
    definition_version: int
    steps: int
    inserted: int
    name: str
    counts: dict[StepState, int]
    last: int
    started: int | None
    finished: int | None
    cancel: int | None
    cancel_reason: str | None
    unwalked: int
    kept: int | None
    callbacks: int
    open: int
    dead: int
    recoveries: int
    review: bool
    acknowledged: Acknowledgement | None

    @classmethod
    def of(cls, reply: HeaderReply) -> Header:
        """A header as functions tell it; raises RecordUnreadable."""
        return cls.parse(reply.static, reply.counts)

    @classmethod
    @reading
    def parse(cls, static: bytes, counts: bytes) -> Header:
        """``counts`` is the moving part as stored, or as told with an acknowledgement behind it."""
        fixed = static.decode().split(",", 6)
        stored, _, acknowledged = counts.decode().partition("|")
        moving = stored.partition(";")[2]
        last, started, rest = moving.split(",", 2)
        finished, cancel, head, tail, callbacks, open_, dead, recoveries, review, _ = (
            rest or ",,0,0,0,0,0,0,,"
        ).split(",")
        cancelled_at, _, reason = cancel.partition(":")
        return cls(
            semantics_version=int(fixed[0]),
            definition_version=int(fixed[1]),
            steps=int(fixed[2]),
            inserted=int(fixed[3]),
            name=fixed[6],
            counts=cls.counts_of(counts),
            last=int(last),
            started=optional_int(started),
            finished=optional_int(finished),
            cancel=optional_int(cancelled_at),
            cancel_reason=unquote(reason) or None,
            unwalked=int(tail) - int(head),
            kept=optional_int(fixed[4]),
            callbacks=int(callbacks),
            open=int(open_),
            dead=int(dead),
            recoveries=int(recoveries),
            review=bool(review),
            acknowledged=Acknowledgement.parse(acknowledged) if acknowledged else None,
        )

    @staticmethod
    def fixed_of(text: bytes) -> tuple[int, int, int]:
        """The semantics version in a header's fixed part, how many steps there are, and when they
        were inserted."""
        version, _, steps, inserted, _ = text.split(b",", 4)
        return int(version), int(steps), int(inserted)

    @staticmethod
    def name_of(text: bytes) -> str:
        """The workflow's name in a header's fixed part."""
        return text.split(b",", 6)[6].decode()

    @staticmethod
    def counts_of(text: bytes) -> dict[StepState, int]:
        """The step counts in a header's moving part."""
        counts = dict.fromkeys(STATES, 0)
        for code, count in _COUNT.findall(text.decode().partition(";")[0]):
            counts[STATE_OF[code]] = int(count)
        return counts

    @staticmethod
    def callbacks_of(text: bytes) -> list[int]:
        """How many callbacks a header's moving part counts, and how many open and dead ones."""
        if Header.has_nothing_but_counts(text):
            return [0, 0, 0]
        rest = text.split(b",", 2)[2].split(b",")
        return [int(number) for number in rest[4:7]]

    @staticmethod
    def last_of(text: bytes) -> int:
        """When a header's moving part says that the last change was, in milliseconds since the
        workflow was inserted."""
        return int(text.partition(b";")[2].partition(b",")[0])

    @staticmethod
    def has_nothing_but_counts(text: bytes) -> bool:
        """Whether a header's moving part holds no more than the step counts and when the last
        change and the first start were; most do."""
        return text.count(b",") == 2

    @property
    def removal(self) -> int | None:
        """When the workflow's retention is over, as a server's time in milliseconds; None while it
        has not finished, and when it is kept for ever."""
        if self.finished is None or self.kept is None:
            return None
        return self.inserted + self.finished + self.kept

    @property
    def needs_review(self) -> bool:
        """Whether an operator has something to look at, whatever the steps say: a dead callback, or
        a refusal while the workflow is open."""
        return self.dead > 0 or (self.review and self.finished is None)

    @property
    def end_acknowledged(self) -> Acknowledgement | None:
        """The acknowledgement of the present end; a recovery since then has undone it."""
        found = self.acknowledged
        if found is None or self.finished is None or found.recoveries != self.recoveries:
            return None
        return found

    def at(self, since: int | None) -> datetime | None:
        """A time that is stored in milliseconds since the insert."""
        return None if since is None else time_of(self.inserted + since)

    def view(
        self, workflow_id: str, context: bytes | None, *, duplicate: bool = False
    ) -> WorkflowView:
        cancel, unfinished = self.cancel is not None, self.unwalked > 0
        acknowledged = self.end_acknowledged
        return WorkflowView(
            id=workflow_id,
            name=self.name,
            state=workflow_state(self.counts, cancel=cancel, unfinished=unfinished),
            semantics_version=self.semantics_version,
            definition_version=self.definition_version,
            context=value_of(context),
            step_count=self.steps,
            runnable_step_count=self.counts[StepState.AVAILABLE],
            completed_step_count=self.counts[StepState.COMPLETED],
            cancelled_step_count=self.counts[StepState.CANCELLED],
            failed_step_count=sum(self.counts[state] for state in FAILED_STEPS),
            terminal_cause=workflow_cause(self.counts, cancel=cancel, unfinished=unfinished),
            cancel_requested_at=self.at(self.cancel),
            cancel_reason=self.cancel_reason,
            inserted_at=time_of(self.inserted),
            started_at=self.at(self.started),
            finished_at=self.at(self.finished),
            last_transition_at=time_of(self.inserted + self.last),
            duplicate=duplicate,
            acknowledged_at=self.at(acknowledged.since) if acknowledged else None,
            acknowledged_by=acknowledged.actor if acknowledged else None,
            acknowledged_reason=acknowledged.reason if acknowledged else None,
        )
