"""Plain data shared by the model, the machine and the systems under test; no semantics."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, NotRequired, TypedDict


class StepDef(TypedDict):
    """A step of a definition. ``when`` is a parent and the value that its result must equal;
    ``always``: it runs however the others end."""

    name: str
    max_attempts: int
    when: NotRequired[tuple[str, object] | None]
    always: NotRequired[bool]


class EdgeDef(TypedDict):
    """A dependency of ``child`` on ``parent``; ``policy`` is that of an edge."""

    parent: str
    child: str
    policy: str


class Definition(TypedDict):
    """A workflow to insert; its steps in the order they are added, topological or not."""

    name: str
    steps: list[StepDef]
    edges: list[EdgeDef]


@dataclass(frozen=True)
class StepRow:
    """The compared part of a step; of times only whether they are set."""

    state: str
    attempt: int
    max_attempts: int
    dependency_count: int
    terminal_cause: str | None
    started: bool
    finished: bool
    retry_scheduled: bool
    awaiting: str | None = None
    """Of a waiting or expired step: signal, correlation key and the wait's status."""
    appended_by: str | None = None
    """The step and the attempt that have appended it, with a colon between them."""


@dataclass(frozen=True)
class WorkflowRow:
    """The compared part of a workflow."""

    name: str
    state: str
    terminal_cause: str | None
    step_count: int
    runnable_step_count: int
    completed_step_count: int
    cancelled_step_count: int
    failed_step_count: int
    skipped_step_count: int
    semantics_version: int
    started: bool
    finished: bool
    acknowledged: str | None = None
    """Who has acknowledged its bad end."""
    scheduled: bool = False
    """Whether it is still to start."""


@dataclass(frozen=True)
class ResultRow:
    """The result of one attempt."""

    attempt: int
    status: str
    payload: bytes


@dataclass(frozen=True)
class EvidenceRow:
    """One record of a command."""

    action: str
    step: str | None
    status: str
    reason_code: str | None


@dataclass(frozen=True)
class Snapshot:
    """The compared part of a workflow as a whole, with its steps, results and evidence."""

    workflow: WorkflowRow
    steps: dict[str, StepRow]
    results: dict[str, tuple[ResultRow, ...]]
    evidence: tuple[EvidenceRow, ...]
    callbacks: tuple[tuple[str, ...], ...] = ()
    """Each callback's event, and its content."""
    operator_status: str = ""


@dataclass(frozen=True)
class Inserted:
    """An insert that was not refused."""

    workflow_id: str
    duplicate: bool
    workflow: WorkflowRow


@dataclass(frozen=True)
class Completed:
    """A completion that was not refused."""

    outcome: Literal["accepted", "duplicate"]
    step: StepRow
    workflow: WorkflowRow
    released: frozenset[str]
    released_count: int
    cancelled: frozenset[str]
    cancelled_count: int


Fragment = list[tuple[str, list[tuple[str, str]]]]
"""Steps to append: names, each with the names and policies of the edges to it."""


@dataclass(frozen=True)
class Appended:
    """An append from outside that was not refused."""

    workflow: WorkflowRow
    count: int


@dataclass(frozen=True)
class Claimed:
    """A claim, and the payload of the signal that last woke its step."""

    workflow_id: str
    step: str
    attempt: int
    lease: str
    signal: object


@dataclass(frozen=True)
class Dispatched:
    """A step that a dispatcher holds; ``ticket`` stands for it."""

    workflow_id: str
    step: str
    ticket: str


@dataclass(frozen=True)
class Taken:
    """The outcome of a claim: the steps whose conditions did not hold, in their order (workflow and
    step), and then the one that is claimed or dispatched, if any is."""

    unmet: tuple[tuple[str, str], ...]
    claimed: Claimed | None = None
    dispatched: Dispatched | None = None


@dataclass(frozen=True)
class Awaited:
    """An await that was not refused: the wait's state."""

    status: str


@dataclass(frozen=True)
class Started:
    """A child workflow that was not refused; ``duplicate``: the step waited for it before."""

    workflow_id: str
    duplicate: bool


@dataclass(frozen=True)
class Delivered:
    """A signal: its status, and who has consumed it."""

    status: str
    workflow_id: str | None
    step: str | None
    payload: object
    duplicate: bool = False


@dataclass(frozen=True)
class KeptRow:
    """A signal that nobody has consumed."""

    name: str
    key: str
    dedupe: str
    status: str
    payload: object


@dataclass(frozen=True)
class Recovered:
    """A recovery that was not refused; each change is step, before, after."""

    duplicate: bool
    workflow: WorkflowRow
    changes: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Refused:
    """A command that was refused."""

    action: str
    reason_code: str
    legal_next_steps: tuple[str, ...]


def encode(payload: object) -> bytes:
    """The bytes that a client stores for a payload: compact JSON, and none at all for None."""
    if payload is None:
        return b""
    return json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode()


def differences(expected: object, actual: object) -> list[str]:
    """Where two pieces of plain data differ, a line for each place."""
    left, right = dict(_leaves("", _plain(expected))), dict(_leaves("", _plain(actual)))
    return [
        f"{path or 'value'}: expected {left.get(path, '(absent)')!r}, "
        f"got {right.get(path, '(absent)')!r}"
        for path in [*left, *(path for path in right if path not in left)]
        if left.get(path, "(absent)") != right.get(path, "(absent)")
    ]


def _plain(value: object) -> object:
    if isinstance(
        value,
        (
            StepRow,
            WorkflowRow,
            ResultRow,
            EvidenceRow,
            Snapshot,
            Inserted,
            Completed,
            Awaited,
            Started,
            Delivered,
            KeptRow,
            Recovered,
            Refused,
        ),
    ):
        # The kind is part of the value: an answer is never equal to a refusal.
        return {"kind": type(value).__name__, **asdict(value)}
    return value


def _leaves(path: str, value: Any) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(f"{path}.{key}" if path else str(key), item)
    elif isinstance(value, (tuple, list)):
        yield f"{path}.length", len(value)
        for index, item in enumerate(value):
            yield from _leaves(f"{path}[{index}]", item)
    else:
        yield path, value
