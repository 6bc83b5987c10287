"""How steps' records are written for an insert and read back, with their result rows and
evidence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import unquote

from rwf.model.graph import Edge, Graph, GraphStep
from rwf.model.limits import CHUNK, INLINE_BYTES, INLINE_EDGES
from rwf.model.states import (
    BRANCH_MARK,
    SKIPPED_MARKS,
    STEP_CODE,
    SUPERSEDED_MARK,
    EdgePolicy,
    Outcome,
    StepCause,
    StepState,
)
from rwf.model.views import AppendedBy, AwaitView, EvidenceView, ResultView, StepView
from rwf.protocol.codecs import reading, time_of, time_of_stamp, value_of
from rwf.protocol.headers import Header
from rwf.protocol.stored import (
    DEFAULT_CLASS,
    ClaimRecord,
    EvidenceRecord,
    HeaderRecord,
    RowRecord,
    StepRecord,
)

T = TypeVar("T")

_EXECUTING: Final = STEP_CODE[StepState.EXECUTING].encode()
_MARK_OF: Final = {"+": EdgePolicy.CONTINUE, "!": EdgePolicy.ON_FAILURE}
_MARKS: Final = {policy: mark for mark, policy in _MARK_OF.items()} | {EdgePolicy.CANCEL: ""}
# Urgency is what orders the ready queue: smaller comes first, so it falls as priority rises.
_URGENCY_OF_PRIORITY_0: Final = 1000
_APPENDED: Final = len(StepRecord.layout.head)
"""Where what later releases have appended begins in a record's head."""

START: Final = "^"
"""The step that stands before all others; those without parents are its children."""


# --- writing ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields that an insert stores, in the workflow's hash and in its payload hash."""

    own: list[tuple[str, bytes]]
    payload: list[tuple[str, bytes]]


def fields_of(graph: Graph) -> Fields:
    """The stored form of a graph, but for its header."""
    fields = Fields([], [])
    if graph.context is not None:
        fields.payload.append((":", graph.context))
    names = [step.name for step in graph.steps]
    for number, chunk in enumerate(_chunks(names)):
        fields.own.append((f"#{number}", ",".join(chunk).encode()))
    roots = [(step.name, EdgePolicy.CANCEL) for step in graph.steps if not step.parents]
    children = edges_text(START, roots, fields, up=False)
    start = _unstarted(StepState.COMPLETED, 0, children)
    start.walked = "0"
    fields.own.append((START, start.text().encode()))
    for step in graph.steps:
        fields.own.append((step.name, record_of(step, fields)))
    return fields


def record_of(step: GraphStep, fields: Fields, by: str = "") -> bytes:
    """A step's record, before anything has happened; adds to ``fields.payload`` what is stored
    apart from it. ``by``: who appends it."""
    # A step without parents still waits for the start.
    remaining = len(step.parents) or 1
    options = ""
    if step.backoff is not None or step.timeout is not None:
        backoff = ":".join(step.backoff.parts()) if step.backoff else ""
        timeout = "" if step.timeout is None else f"{step.timeout:.12g}"
        options = f"{backoff};{timeout}"
    children = edges_text(step.name, step.children, fields, up=False)
    parents = edges_text(step.name, step.parents, fields, up=True)
    worker = "" if step.worker == step.name else step.worker
    if step.references:
        fields.payload.append((f"f:{step.name}", ",".join(step.references).encode()))
    if step.outcomes:
        fields.payload.append((f"g:{step.name}", ",".join(step.outcomes).encode()))
    if step.lists:
        fields.payload.append((f"m:{step.name}", ",".join(step.lists).encode()))
    if step.when is not None:
        fields.payload.append((f"w:{step.name}", step.when))
    if step.input is not None:
        fields.payload.append((f"i:{step.name}", step.input))
    if step.context is not None:
        fields.payload.append((f"c:{step.name}", step.context))
    there = {
        "i": step.input is not None,
        "r": bool(step.references),
        "o": bool(step.outcomes),
        "l": bool(step.lists),
        "c": step.context is not None,
        "w": step.when is not None,
        "a": step.always,
    }
    payloads = "".join(letter for letter, is_there in there.items() if is_there)
    record = _unstarted(StepState.PENDING, remaining, children)
    record.max_ = str(step.max_attempts)
    record.class_ = f"{step.queue}:{_URGENCY_OF_PRIORITY_0 - step.priority:04d}"
    record.position, record.payloads, record.options = step.position, payloads, options
    record.parents, record.handler, record.by = parents, worker, by
    return record.text().encode()


def _unstarted(state: StepState, remaining: int, children: str) -> StepRecord:
    return StepRecord(
        state=state,
        remaining=remaining,
        since=0,
        order="",
        attempt=0,
        max_="0",
        reported=0,
        started=None,
        finished=None,
        cause=None,
        due=None,
        walked="",
        claim="",
        class_=DEFAULT_CLASS,
        position=0,
        payloads="",
        options="",
        children=children,
        parents="",
        handler="",
    )


def header_of(graph: Graph, kept_ms: int | None, semantics: int, trace: str) -> str:
    """The fixed part of a graph's header; the server puts the time of insertion into it."""
    return HeaderRecord(
        semantics=semantics,
        definition=graph.definition_version,
        steps=len(graph.steps),
        inserted=0,
        retention=kept_ms,
        context="" if graph.context is None else "c",
        name=graph.name,
        trace=trace,
    ).text()


def edges_text(name: str, edges: Sequence[Edge], fields: Fields, *, up: bool) -> str:
    """A step's parents (``up``) or children as its record has them; adds to ``fields.payload`` the
    chunks of many."""
    if len(edges) <= INLINE_EDGES and len(text := marked(edges)) <= INLINE_BYTES:
        return text
    for number, chunk in enumerate(_chunks(edges)):
        field = chunk_field(name, number, up=up)
        fields.payload.append((field, marked(chunk).encode()))
    return f"#{len(edges)}"


def marked(edges: Sequence[Edge]) -> str:
    """Edges as one text, each with its policy's mark."""
    return ",".join([f"{_MARKS[policy]}{step}" for step, policy in edges])


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]


# --- reading ---------------------------------------------------------------------------------


class Record(StepRecord):
    """A step as it is read: its record, with its name and the claim that it runs under."""

    __slots__ = ("name", "running")

    name: str
    running: ClaimRecord | None

    @classmethod
    def named(cls, name: str, text: bytes) -> Record:
        """The record of a step of this name; raises RecordUnreadable."""
        record = cls.parse(text)
        record.name = name
        record.running = ClaimRecord.of(record.claim) if ":" in record.claim else None
        if record.seen in SKIPPED_MARKS:
            record.cause = StepCause.SKIPPED  # stored as one that has completed
        elif record.seen == SUPERSEDED_MARK:  # so is this
            record.state, record.cause = StepState.CANCELLED, StepCause.SUPERSEDED
        return record

    @property
    def singled_out(self) -> bool:
        """Whether an operator has cancelled this very step."""
        return self.claim == "!"

    @property
    def max_attempts(self) -> int:
        return max_attempts_of(self.max_)

    @property
    def queue(self) -> str:
        return queue_of(self.class_)

    @property
    def priority(self) -> int:
        return priority_of(self.class_)

    @property
    def worker(self) -> str:
        """The name of its handler."""
        return self.handler or self.name

    @staticmethod
    def seen_in(text: bytes) -> str:
        """The field ``seen``, of a record's text alone."""
        appended = text.partition(b"|")[0].split(b",", _APPENDED + 1)[_APPENDED:]
        return appended[0].decode() if appended else ""

    @property
    def appended_by(self) -> AppendedBy | None:
        """The step that has appended it, if one has."""
        step, _, attempt = self.by.rpartition(":")
        return AppendedBy(step=step, attempt=int(attempt)) if step else None

    @property
    def superseded(self) -> bool:
        """Whether the step was superseded: the one that had appended it was placed anew since."""
        return self.cause is StepCause.SUPERSEDED

    @property
    def branch_skipped(self) -> bool:
        """Whether the step was skipped together with its branch."""
        return self.seen == BRANCH_MARK

    @property
    def outcome(self) -> Outcome:
        """How the step has ended, as its children see it."""
        return Outcome(self.state, self.cause, self.branch_skipped or self.superseded)

    @property
    def always(self) -> bool:
        """Whether the step runs however the others end."""
        return "a" in self.payloads

    @property
    def lease(self) -> str | None:
        """The lease that it runs under, as a claimer knows it."""
        return None if self.running is None else lease_of(self.attempt, self.running.token)

    @property
    def dispatched(self) -> bool:
        """Whether a dispatcher holds the step under a ticket that nobody has started."""
        return self.running is not None and self.running.token.endswith(".")

    @property
    def lacks_result(self) -> bool:
        """Whether the step is pending because its input refers to a result that is missing."""
        return self.walked == "b"

    @staticmethod
    def timer_of(text: bytes) -> int:
        """When the timer is due of a step that executes, or is to be retried: of its text alone."""
        if text.startswith(_EXECUTING):
            return int(ClaimRecord.expires_of(StepRecord.hold_of(text)))
        return int(StepRecord.retry_of(text))

    @property
    def timeout(self) -> float | None:
        """How long one attempt may take, in seconds."""
        return timeout_of(self.options)

    @property
    def recovering(self) -> bool:
        """Whether an unfinished recovery holds the step."""
        return self.walked == "h"

    @property
    def parent_count(self) -> int:
        return edge_count(self.parents)

    @reading
    def view(
        self,
        header: Header,
        input_: bytes | None,
        context: bytes | None,
        awaiting: AwaitView | None = None,
        condition: bytes | None = None,
    ) -> StepView:
        return StepView(
            name=self.name,
            worker=self.worker,
            queue=self.queue,
            priority=self.priority,
            state=self.state,
            attempt=self.attempt,
            max_attempts=self.max_attempts,
            position=self.position,
            dependency_count=self.parent_count,
            terminal_cause=self.cause,
            input=value_of(input_),
            context=value_of(context),
            lease_expires_at=None if self.running is None else header.at(self.running.expires),
            leased_by=None if self.running is None else self.running.worker,
            retry_at=header.at(self.due) if self.state is StepState.RETRYABLE else None,
            awaiting=awaiting,
            cancel_requested_at=(
                header.at(header.cancel)
                if self.state is StepState.EXECUTING and not self.always
                else None
            ),
            started_at=header.at(self.started),
            finished_at=header.at(self.finished),
            last_transition_at=time_of(header.inserted + self.since),
            when=value_of(condition),
            always=self.always,
            dispatched=self.dispatched,
            appended_by=self.appended_by,
        )


def max_attempts_of(text: str) -> int:
    """How many attempts a record says that its step has."""
    return sum(map(int, text.split("+")))


def queue_of(class_: str) -> str:
    """The queue in a record's class."""
    return class_.partition(":")[0]


def priority_of(class_: str) -> int:
    """The priority in a record's class."""
    return _URGENCY_OF_PRIORITY_0 - int(class_.partition(":")[2])


def lease_of(attempt: int, token: str) -> str:
    """The lease that an attempt runs under, as a claimer knows it."""
    return f"{attempt}-{token}"


def timeout_of(options: str) -> float | None:
    """How long one attempt may take by a record's options, in seconds."""
    text = options.partition(";")[2]
    return float(text) if text else None


@reading
def edge_count(edges: str) -> int:
    """How many edges a record's list of children or parents has."""
    if not edges:
        return 0
    return int(edges[1:]) if edges[0] == "#" else edges.count(",") + 1


def chunk_field(step: str, number: int, *, up: bool) -> str:
    """The field of a workflow's payload hash with a chunk of a step's parents (``up``) or
    children."""
    return f"{'u' if up else 'k'}:{step}:{number}"


@reading
def edges_in_chunk(chunk: bytes) -> list[tuple[str, EdgePolicy]]:
    """The edges in a stored chunk; raises RecordUnreadable where there is none."""
    return edges_of(chunk.decode())


def edges_of(text: str) -> list[tuple[str, EdgePolicy]]:
    """The edges in a record or in a stored chunk."""
    return [
        (edge[1:], _MARK_OF[edge[0]]) if edge[0] in _MARK_OF else (edge, EdgePolicy.CANCEL)
        for edge in text.split(",")
        if edge
    ]


class Row(RowRecord):
    """A result row; its numbers are final once ``open`` is 0."""

    __slots__ = ()

    @staticmethod
    def is_open(text: bytes) -> bool:
        """Whether a row's text says that edges of its step remain to be walked."""
        return Row.open_of(text) != b"0"

    @reading
    def view(
        self, step: str, attempt: int, payload: bytes | None, traceback: bytes | None
    ) -> ResultView:
        worker, claimed = self.note.get("by"), self.note.get("at")
        waited = self.note.get("waited")
        return ResultView(
            step=step,
            attempt=attempt,
            status=self.status,
            payload=value_of(payload),
            payload_bytes=payload or b"",
            summary=self.note.get("summary"),
            recorded_at=time_of_stamp(self.stamp),
            available_at=None if waited is None else time_of(claimed - waited),
            claimed_at=None if claimed is None else time_of(claimed),
            worker_id=None if worker is None else unquote(worker),
            traceback=None if not traceback else traceback.decode(errors="replace"),
        )


def names_of(text: bytes) -> tuple[str, ...]:
    """A reply's or a row's list of names."""
    return tuple(text.decode().split(",")) if text else ()


def result_evidence(workflow_id: str, step: str, attempt: int, row: Row) -> EvidenceView:
    """The evidence that the result row of an accepted completion is."""
    return EvidenceView(
        id=f"{workflow_id}/{row.stamp}",
        action="complete_step",
        scope="step",
        step=step,
        status="accepted",
        reason_code=None,
        message=f"attempt {attempt} reported {row.status}",
        actor=row.note.get("actor"),
        source="client",
        requested_at=time_of_stamp(row.stamp),
        before=None,
        after=row.status,
        metadata={"attempt": attempt},
    )


@reading
def evidence_view(scope_id: str, text: bytes) -> EvidenceView:
    """An entry of evidence; ``scope_id`` is the workflow, or the partition, it belongs to."""
    entry = EvidenceRecord.parse(text)
    note = entry.note
    return EvidenceView(
        id=f"{scope_id}/{entry.stamp}",
        action=entry.action,
        scope=entry.scope,
        step=entry.step or None,
        status=entry.status,
        reason_code=entry.reason or None,
        message=entry.message,
        actor=note.pop("actor", None),
        source=note.pop("source", "client"),
        requested_at=time_of_stamp(entry.stamp),
        before=note.pop("before", None),
        after=note.pop("after", None),
        metadata=note,
    )
