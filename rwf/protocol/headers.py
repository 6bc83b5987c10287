"""A workflow's header, as it is read back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import unquote

from rwf.model.states import FAILED_STEPS, StepState, workflow_cause, workflow_state
from rwf.model.tags import tags_of
from rwf.model.views import WorkflowView
from rwf.protocol.codecs import optional_int, reading, time_of, value_of
from rwf.protocol.functions.workflows import HeaderReply
from rwf.protocol.stored import (
    AcknowledgementRecord,
    BranchingRecord,
    CountsRecord,
    HeaderRecord,
    LinkRecord,
)

STATIC: Final = ":s"
COUNTS: Final = ":c"
TAGS: Final = ":tags"
HEADER_FIELDS: Final = (STATIC, COUNTS, ":ack", ":b", TAGS)
"""The fields of a workflow's hash that :meth:`Header.stored` takes."""
CONTEXT: Final = ":"
"""The field of its payload hash that holds its context, if it has one."""


@dataclass(frozen=True, slots=True)
class Header:
    """A workflow's header, taken apart: what was written once, how it stands, who has left it at
    its bad end, and what it is found by."""

    fixed: HeaderRecord
    moving: CountsRecord
    acknowledged: AcknowledgementRecord | None
    branching: BranchingRecord | None
    tags: dict[str, str]

    @classmethod
    def of(cls, reply: HeaderReply) -> Header:
        """A header as functions tell it; raises RecordUnreadable."""
        return cls.parse(reply.static, reply.counts)

    @classmethod
    def parse(cls, static: bytes, counts: bytes) -> Header:
        """``counts`` is the moving part as stored, or as told with more behind it
        (``header.lua``)."""
        told, _, tags = counts.partition(b"&")
        told, _, acknowledged = told.partition(b"|")
        moving, _, branching = told.partition(b"#")
        return cls(
            HeaderRecord.parse(static),
            CountsRecord.parse(moving),
            AcknowledgementRecord.parse(acknowledged) if acknowledged else None,
            BranchingRecord.parse(branching) if branching else None,
            stored_tags_of(tags),
        )

    @classmethod
    def stored(
        cls,
        static: bytes | None,
        counts: bytes | None,
        acknowledged: bytes | None,
        branching: bytes | None,
        tags: bytes | None,
    ) -> Header | None:
        """A header by its stored ``HEADER_FIELDS``; None where there is no workflow. Raises
        RecordUnreadable."""
        if static is None:
            return None
        return cls(
            HeaderRecord.parse(static),
            CountsRecord.parse(counts or b""),
            AcknowledgementRecord.parse(acknowledged) if acknowledged else None,
            BranchingRecord.parse(branching) if branching else None,
            stored_tags_of(tags),
        )

    @staticmethod
    def callbacks_of(text: bytes) -> list[int]:
        """How many callbacks a header's moving part counts, and how many open and dead ones."""
        text = text.partition(b"#")[0]
        if CountsRecord.is_short(text):
            return [0, 0, 0]
        return [int(number) for number in CountsRecord.callbacks_of(text)]

    @staticmethod
    def marked_of(text: bytes) -> list[int]:
        """How many skipped steps a header's moving part, as told, counts, and how many superseded
        ones."""
        text = text.partition(b"#")[2].partition(b"|")[0]
        if not text:
            return [0, 0]
        branching = BranchingRecord.parse(text)
        return [branching.skipped, branching.superseded]

    @property
    def skipped(self) -> int:
        """How many steps were skipped."""
        return 0 if self.branching is None else self.branching.skipped

    @property
    def superseded(self) -> int:
        """How many steps were superseded; the counts by state have them as completed."""
        return 0 if self.branching is None else self.branching.superseded

    @property
    def grown(self) -> int:
        """How often steps were appended."""
        return 0 if self.branching is None else self.branching.grown

    @property
    def starts(self) -> int | None:
        """When the workflow is to start; None once it has."""
        return None if self.branching is None else self.branching.starts

    @property
    def deadline(self) -> int | None:
        """When it is to have ended; None without one, and once it has been asked to end by it."""
        return None if self.branching is None else self.branching.deadline

    @property
    def overdue(self) -> bool:
        """Whether the workflow's deadline has made the cancel request."""
        made = None if self.branching is None else self.branching.overdue
        return made is not None and made == self.cancel

    @property
    def link(self) -> LinkRecord | None:
        """A child workflow's tie to its parent; None of any other workflow."""
        text = "" if self.branching is None else self.branching.link
        return LinkRecord.of(text) if text else None

    @property
    def has_news(self) -> bool:
        """Whether the workflow is a child that has something to ask or to tell its parent
        (``links.lua``)."""
        link = self.link
        if link is None:
            return False
        return link.state == "h" or (link.state == "s" and self.finished is not None)

    @property
    def semantics_version(self) -> int:
        return self.fixed.semantics

    @property
    def name(self) -> str:
        return self.fixed.name

    @property
    def has_context(self) -> bool:
        """Whether the workflow has a context."""
        return self.fixed.context != ""

    @property
    def steps(self) -> int:
        """How many steps the workflow has."""
        return self.fixed.steps

    @property
    def inserted(self) -> int:
        """A server's time in milliseconds."""
        return self.fixed.inserted

    @property
    def kept(self) -> int | None:
        """How long it is kept once it has finished, in milliseconds; None for ever."""
        return self.fixed.retention

    @property
    def counts(self) -> dict[StepState, int]:
        return self.moving.counts

    @property
    def finished(self) -> int | None:
        return self.moving.finished

    @property
    def recoveries(self) -> int:
        return self.moving.recoveries

    @property
    def callbacks(self) -> int:
        """How many callbacks were written."""
        return self.moving.callbacks

    @property
    def open(self) -> int:
        """How many of the callbacks are still to be delivered."""
        return self.moving.open

    @property
    def dead(self) -> int:
        """How many of the callbacks are dead."""
        return self.moving.dead

    @property
    def cancel(self) -> int | None:
        """When it was asked to end, since the insert; None where it was not."""
        return optional_int(self.moving.cancel.partition(":")[0])

    @property
    def cancel_reason(self) -> str | None:
        return unquote(self.moving.cancel.partition(":")[2]) or None

    @property
    def unwalked(self) -> int:
        """How many entries there are of what is still to be walked."""
        return self.moving.tail - self.moving.head

    @property
    def removal(self) -> int | None:
        """When the workflow's retention is over, as a server's time in milliseconds; None while it
        has not finished, when it is kept for ever, and of a child that its parent may need."""
        link = self.link
        needed = link is not None and link.state == "f"
        if self.finished is None or self.kept is None or needed:
            return None
        return self.inserted + self.finished + self.kept

    @property
    def needs_review(self) -> bool:
        """Whether an operator has something to look at, whatever the steps say: a dead callback, or
        a refusal while the workflow is open."""
        return self.dead > 0 or (self.moving.review and self.finished is None)

    @property
    def end_acknowledged(self) -> AcknowledgementRecord | None:
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
        acknowledged, link = self.end_acknowledged, self.link
        return WorkflowView(
            id=workflow_id,
            name=self.name,
            state=workflow_state(self.counts, cancel=cancel, unfinished=unfinished),
            semantics_version=self.semantics_version,
            definition_version=self.fixed.definition,
            context=value_of(context),
            step_count=self.steps,
            runnable_step_count=self.counts[StepState.AVAILABLE],
            completed_step_count=self.counts[StepState.COMPLETED] - self.superseded,
            cancelled_step_count=self.counts[StepState.CANCELLED] + self.superseded,
            failed_step_count=sum(self.counts[state] for state in FAILED_STEPS),
            skipped_step_count=self.skipped,
            terminal_cause=workflow_cause(
                self.counts, cancel=cancel, unfinished=unfinished, overdue=self.overdue
            ),
            cancel_requested_at=self.at(self.cancel),
            cancel_reason=self.cancel_reason,
            inserted_at=time_of(self.inserted),
            started_at=self.at(self.moving.started),
            finished_at=self.at(self.finished),
            last_transition_at=time_of(self.inserted + self.moving.last),
            duplicate=duplicate,
            acknowledged_at=self.at(acknowledged.since) if acknowledged else None,
            acknowledged_by=acknowledged.actor if acknowledged else None,
            acknowledged_reason=acknowledged.reason if acknowledged else None,
            starts_at=self.at(self.starts),
            deadline_at=self.at(self.deadline),
            tags=self.tags,
            parent=None if link is None else link.workflow,
            parent_step=None if link is None else link.step,
            traceparent=self.fixed.trace or None,
        )


@reading
def stored_tags_of(stored: bytes | None) -> dict[str, str]:
    """Tags as they are stored, or told; raises RecordUnreadable."""
    return tags_of(stored.decode()) if stored else {}
