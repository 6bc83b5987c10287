"""How steps' records are written for an insert and read back, with their result rows and evidence.

``record.lua``, ``rows.lua`` and ``evidence.lua`` describe these texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

import orjson

from rwf.model.graph import Graph, GraphStep
from rwf.model.limits import CHUNK, INLINE_BYTES, INLINE_EDGES
from rwf.model.states import (
    CAUSE_CODE,
    EdgePolicy,
    StepCause,
    StepState,
)
from rwf.model.views import AwaitView, EvidenceView, ResultView, StepView
from rwf.protocol.codecs import STATE_OF, optional_int, reading, time_of, time_of_stamp, value_of
from rwf.protocol.headers import Header

_CAUSE_OF: Final = {code: cause for cause, code in CAUSE_CODE.items()}
_DEFAULT_CLASS: Final = "default:1000"
_DEFAULT_CLASS_BYTES: Final = _DEFAULT_CLASS.encode()
# Urgency is what orders the ready queue: smaller comes first, so it falls as priority rises.
_URGENCY_OF_PRIORITY_0: Final = 1000

START: Final = "^"
"""The step that stands before all others; those without parents are its children."""


# --- writing ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fields:
    """What an insert stores: fields of the workflow's hash, and of its payload hash."""

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
    children = _edges("k", START, roots, fields)
    fields.own.append((START, f"c,0,,,0,0,0,,,,,0,||0|||{children}||".encode()))
    for step in graph.steps:
        fields.own.append((step.name, _record(step, fields)))
        if step.input is not None:
            fields.payload.append((f"i:{step.name}", step.input))
        if step.context is not None:
            fields.payload.append((f"c:{step.name}", step.context))
    return fields


def _record(step: GraphStep, fields: Fields) -> bytes:
    # A step without parents still waits for the start.
    remaining = len(step.parents) or 1
    class_ = f"{step.queue}:{_URGENCY_OF_PRIORITY_0 - step.priority:04d}"
    if class_ == _DEFAULT_CLASS:
        class_ = ""
    options = ""
    if step.backoff is not None or step.timeout is not None:
        backoff = ":".join(step.backoff.parts()) if step.backoff else ""
        timeout = "" if step.timeout is None else f"{step.timeout:.12g}"
        options = f"{backoff};{timeout}"
    children = _edges("k", step.name, step.children, fields)
    parents = _edges("u", step.name, step.parents, fields)
    worker = "" if step.worker == step.name else step.worker
    if step.references:
        fields.payload.append((f"f:{step.name}", ",".join(step.references).encode()))
    payloads = "" if step.input is None else "ir" if step.references else "i"
    payloads += "" if step.context is None else "c"
    return (
        f"p,{remaining},,,0,{step.max_attempts},0,,,,,,"
        f"|{class_}|{step.position}|{payloads}|{options}|{children}|{parents}|{worker}"
    ).encode()


def _edges(prefix: str, name: str, edges: Sequence[tuple[str, EdgePolicy]], fields: Fields) -> str:
    marked = [f"+{step}" if policy is EdgePolicy.CONTINUE else step for step, policy in edges]
    if len(marked) <= INLINE_EDGES and len(text := ",".join(marked)) <= INLINE_BYTES:
        return text
    for number, chunk in enumerate(_chunks(marked)):
        fields.payload.append((f"{prefix}:{name}:{number}", ",".join(chunk).encode()))
    return f"#{len(marked)}"


def _chunks(items: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]


# --- reading ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Claim:
    """Who runs a step, and until when (``claims.lua``)."""

    token: str
    expires: int
    quoted_worker: str

    @classmethod
    def parse(cls, text: str) -> Claim:
        token, expires, _, worker = text.split(":")
        return cls(token, int(expires), worker)

    @property
    def worker(self) -> str:
        return unquote(self.quoted_worker)


@dataclass(slots=True)
class Record:
    """A step's record, taken apart. Times are milliseconds since the insert.

    Not frozen, as that would double the time that a worker spends on each claim.
    """

    name: str
    state: StepState
    remaining: int
    since: int
    order: str
    attempt: int
    max_attempts: int
    reported: int
    started: int | None
    finished: int | None
    cause: StepCause | None
    due: int | None
    walked: str
    claim: Claim | None
    singled_out: bool
    """Whether an operator has cancelled this very step."""
    position: int
    queue: str
    priority: int
    payloads: str
    options: str
    children: str
    parents: str
    worker: str

    @classmethod
    @reading
    def parse(cls, name: str, text: bytes) -> Record:
        fixed = text.decode().split("|", 7)
        moving, class_, position, payloads, options, children, parents, worker = fixed
        parts = moving.split(",")
        queue, urgency = (class_ or _DEFAULT_CLASS).split(":")
        return cls(
            name=name,
            state=STATE_OF[parts[0]],
            remaining=int(parts[1]),
            since=int(parts[2] or 0),
            order=parts[3],
            attempt=int(parts[4]),
            max_attempts=sum(map(int, parts[5].split("+"))),
            reported=int(parts[6]),
            started=optional_int(parts[7]),
            finished=optional_int(parts[8]),
            cause=_CAUSE_OF[parts[9]] if parts[9] else None,
            due=optional_int(parts[10]),
            walked=parts[11],
            claim=Claim.parse(parts[12]) if ":" in parts[12] else None,
            singled_out=parts[12] == "!",
            position=int(position),
            queue=queue,
            priority=_URGENCY_OF_PRIORITY_0 - int(urgency),
            payloads=payloads,
            options=options,
            children=children,
            parents=parents,
            worker=worker or name,
        )

    @property
    def lease(self) -> str | None:
        """The lease that it runs under, as a claimer knows it."""
        return None if self.claim is None else f"{self.attempt}-{self.claim.token}"

    @property
    def lacks_result(self) -> bool:
        """Whether it is pending because a result is missing that its input refers to."""
        return self.walked == "b"

    @staticmethod
    def place_of(text: bytes) -> tuple[bytes, bytes]:
        """The class and the order of an available step in the ready queue, for whoever needs to
        know nothing else of a record."""
        moving, class_, _ = text.split(b"|", 2)
        return class_ or _DEFAULT_CLASS_BYTES, moving.split(b",", 4)[3]

    @staticmethod
    def timer_of(text: bytes) -> int:
        """The same for when the timer of a step is due that executes, or is to be retried."""
        parts = text.partition(b"|")[0].split(b",", 12)
        return int(parts[12].split(b":")[1] if text.startswith(b"e") else parts[10])

    @property
    def timeout(self) -> float | None:
        """How long one attempt may take, in seconds."""
        text = self.options.partition(";")[2]
        return float(text) if text else None

    @property
    def recovering(self) -> bool:
        """Whether an unfinished recovery holds it."""
        return self.walked == "h"

    @property
    def parent_count(self) -> int:
        return edge_count(self.parents)

    def view(
        self,
        header: Header,
        input_: bytes | None,
        context: bytes | None,
        awaiting: AwaitView | None = None,
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
            lease_expires_at=None if self.claim is None else header.at(self.claim.expires),
            leased_by=None if self.claim is None else self.claim.worker,
            retry_at=header.at(self.due) if self.state is StepState.RETRYABLE else None,
            awaiting=awaiting,
            cancel_requested_at=(
                header.at(header.cancel) if self.state is StepState.EXECUTING else None
            ),
            started_at=header.at(self.started),
            finished_at=header.at(self.finished),
            last_transition_at=time_of(header.inserted + self.since),
        )


def edge_count(edges: str) -> int:
    """How many edges a record's children or parents are."""
    if not edges:
        return 0
    return int(edges[1:]) if edges[0] == "#" else edges.count(",") + 1


def edges_of(text: str) -> list[tuple[str, EdgePolicy]]:
    """The edges in a record or in a stored chunk."""
    return [
        (edge[1:], EdgePolicy.CONTINUE) if edge[0] == "+" else (edge, EdgePolicy.CANCEL)
        for edge in text.split(",")
        if edge
    ]


@dataclass(frozen=True, slots=True)
class Row:
    """A result row, taken apart; its numbers are final once ``open`` is 0."""

    status: StepState
    stamp: str
    open: int
    released_count: int
    cancelled_count: int
    released: tuple[str, ...]
    cancelled: tuple[str, ...]
    note: dict[str, Any]

    @classmethod
    @reading
    def parse(cls, text: bytes) -> Row:
        head, released, cancelled, note = text.split(b"|", 3)
        _, status, stamp, _, _, _, left, released_count, cancelled_count = head.decode().split(",")
        return cls(
            status=STATE_OF[status],
            stamp=stamp,
            open=int(left),
            released_count=int(released_count),
            cancelled_count=int(cancelled_count),
            released=names_of(released),
            cancelled=names_of(cancelled),
            note=orjson.loads(note),
        )

    @staticmethod
    def is_open(text: bytes) -> bool:
        """Whether ``open`` is not 0, for whoever needs to know nothing else of a row."""
        return text.split(b",", 7)[6] != b"0"

    @reading
    def view(
        self, step: str, attempt: int, payload: bytes | None, traceback: bytes | None
    ) -> ResultView:
        worker, claimed = self.note.get("by"), self.note.get("at")
        return ResultView(
            step=step,
            attempt=attempt,
            status=self.status,
            payload=value_of(payload),
            payload_bytes=payload or b"",
            summary=self.note.get("summary"),
            recorded_at=time_of_stamp(self.stamp),
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


def evidence_view(scope_id: str, text: bytes) -> EvidenceView:
    """An entry of evidence; ``scope_id`` is the workflow, or the partition, it belongs to."""
    stamp, action, scope, step, status, reason, _, message, note = text.decode().split("|", 8)
    told: dict[str, Any] = orjson.loads(note)
    return EvidenceView(
        id=f"{scope_id}/{stamp}",
        action=action,
        scope=scope,
        step=unquote(step) or None,
        status=status,
        reason_code=reason or None,
        message=message,
        actor=told.pop("actor", None),
        source=told.pop("source", "client"),
        requested_at=time_of_stamp(stamp),
        before=told.pop("before", None),
        after=told.pop("after", None),
        metadata=told,
    )
