"""Invariants of a workflow's two hashes, and what they imply for its partition."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from rwf.model.limits import CALLBACK_ATTEMPTS, CHUNK, LISTED
from rwf.model.states import (
    OPEN_STEPS,
    SEMANTICS_VERSIONS,
    TERMINAL_STEPS,
    WORKFLOW_CODE,
    CallbackEvent,
    CallbackStatus,
    EdgePolicy,
    Outcome,
    ResolvedEdges,
    StepCause,
    StepState,
    WorkflowState,
    resolves,
)
from rwf.protocol.callbacks import StoredCallback
from rwf.protocol.headers import Header
from rwf.protocol.records import START, Record, Row, edges_of
from tests.model.reference import workflow_state
from tests.support.invariants_signals import Waits

_REPORTED: Final = {
    StepCause.COMPLETED,
    StepCause.COMPLETED_AFTER_CANCEL_REQUEST,
    StepCause.STEP_FAILED,
    StepCause.CANCELLED,
}
"""The states in which a report ends a step; in any other its latest row is not of its end."""

_FIXED: Final = {":s", ":c", ":o", ":b", ":f", ":k", ":key", ":d", ":w", ":ack", ":tags"}
_URGENCY_OF_PRIORITY_0: Final = 1000


@dataclass
class Partition:
    """The derived keys that the workflows of one partition imply."""

    ready: set[str] = field(default_factory=set)
    timers: dict[str, int] = field(default_factory=dict)
    index: set[str] = field(default_factory=set)
    tags: set[str] = field(default_factory=set)
    outbox: dict[str, int] = field(default_factory=dict)
    gauges: Counter[str] = field(default_factory=Counter)
    staged: set[str] = field(default_factory=set)
    undated: set[str] = field(default_factory=set)
    """Timers whose time cannot be derived from records."""
    held_back: set[str] = field(default_factory=set)
    """Timers that callbacks may have put off."""
    flows: set[str] = field(default_factory=set)


@dataclass
class Flow:
    """A workflow's two hashes, parsed."""

    id: str
    header: Header
    head: int
    tail: int
    own: dict[str, bytes]
    payload: dict[str, bytes]
    records: dict[str, Record]
    start: Record
    children: dict[str, list[tuple[str, EdgePolicy]]] = field(default_factory=dict)
    parents: dict[str, list[tuple[str, EdgePolicy]]] = field(default_factory=dict)
    rows: defaultdict[str, dict[int, Row]] = field(default_factory=lambda: defaultdict(dict))
    payloads: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    tracebacks: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    given: defaultdict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    """The command ids in each step's rows, and where each is on record ("r:attempt")."""
    indexed: defaultdict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    """The ids and rows according to the index."""
    entries: Counter[str] = field(default_factory=Counter)
    """How many walk entries each completion ("step:attempt") still has."""
    applied: dict[str, set[str]] = field(default_factory=dict)
    """The children of parents that have been walked in part, to whom their edges were applied."""

    def __post_init__(self) -> None:
        for name, value in self.payload.items():
            kind, _, rest = name.partition(":")
            step, _, attempt = rest.partition(":")
            if kind == "r" and attempt.isdigit():
                self.rows[step][int(attempt)] = Row.parse(value)
                if command := text_of(value).split(",", 5)[4]:
                    self.given[step][command] = f"r:{attempt}"
            elif kind == "o" and attempt.isdigit():
                self.payloads[step].add(int(attempt))
            elif kind == "t" and attempt.isdigit():
                self.tracebacks[step].add(int(attempt))
            elif kind[:1] == "@":
                self.indexed[kind[1:]][rest] = text_of(value)
        for number in range(self.head, self.tail):
            self.entries[text_of(self.own.get(f">{number}", b"|")).partition("|")[0]] += 1

    @property
    def appending(self) -> bool:
        """Whether an append is unfinished."""
        return any(entry.startswith("*append") for entry in self.entries)

    @property
    def ended(self) -> bool:
        """Whether no step is open and no edge is left to be walked."""
        open_ = any(record.state in OPEN_STEPS for record in self.records.values())
        return not open_ and self.head == self.tail

    def record(self, name: str) -> Record:
        return self.start if name == START else self.records[name]


def problems_of(
    workflow_id: str,
    own: dict[str, bytes],
    payload: dict[str, bytes],
    partition: Partition,
    waits: Waits,
) -> Iterator[str]:
    branching = b"#" + own[":b"] if ":b" in own else b""
    header = Header.parse(own[":s"], own[":c"] + branching)
    rest = text_of(own[":c"]).split(",", 2)[2].split(",")
    head, tail = (int(rest[2]), int(rest[3])) if len(rest) > 1 else (0, 0)
    if header.semantics_version not in SEMANTICS_VERSIONS:
        yield f"semantics version {header.semantics_version}"
        return
    names = [
        name
        for number in range(-(-header.steps // CHUNK))
        for name in text_of(own[f"#{number}"]).split(",")
    ]
    # Steps that are being appended are not there yet.
    del names[header.steps :]
    records = {name: Record.named(name, own[name]) for name in names if name in own}
    flow = Flow(
        workflow_id, header, head, tail, own, payload, records, Record.named(START, own[START])
    )
    order = text_of(own.get(":o", b"0000000"))
    if len(order) != 7 or not order.isdigit():
        yield f"its order within its millisecond is {order}"
    tokens = {name[1:].partition(":")[0] for name in payload if name[0] == "+"}
    partition.staged |= {f"{workflow_id}|{token}" for token in tokens}
    yield from _names(flow, names)
    yield from _edges(flow)
    yield from _header(flow)
    for record in records.values():
        for problem in (*_step(flow, record), *_judged(flow, record), *_rows(flow, record)):
            yield f"{record.name} ({record.state}): {problem}"
    yield from waits.problems(flow.records)
    for name in payload:
        kind, _, step = name.partition(":")
        if kind == "s" and (step not in waits.waits or waits.waits[step].status != "r"):
            yield f"{step} holds the payload of a signal that has not woken it last"
    yield from _walks(flow)
    yield from _callbacks(flow, partition)
    _imply(flow, partition)


def _names(flow: Flow, names: list[str]) -> Iterator[str]:
    if len(set(names)) != len(names) or set(names) != set(flow.records):
        yield "the listed names are not those of the records"
    if len(names) != flow.header.steps:
        yield f"{len(names)} steps, the header says {flow.header.steps}"
    if [flow.records[name].position for name in names] != list(range(len(names))):
        yield "positions do not follow the topological order"
    for name in flow.own:
        if name[0] in "#>@~" or name in _FIXED or name[:2] == ":t" or name == START:
            continue
        if name not in flow.records and not flow.appending:
            yield f"the field {name} belongs to nothing"
    for name in flow.payload if not flow.appending else ():
        kind, _, rest = name.partition(":")
        step, _, number = rest.partition(":")
        known = step in flow.records or (kind == "k" and step == START)
        if name == ":" or (kind in ("i", "c", "f", "g", "m", "w") and known and not number):
            continue
        if kind == "v" and 1 <= int(step) <= flow.header.recoveries:
            continue
        if (
            kind[:1] == "!"
            and kind[1:] in flow.records
            and f"v:{text_of(flow.payload[name])}" in flow.payload
        ):
            continue
        if kind[:1] == "+":
            continue  # a piece of a fragment: given up, unless something is done with it
        if kind == "y" and known and re.fullmatch("[0-9]+:[0-9]+", number):
            continue
        if kind == "j" and 1 <= int(step) <= flow.header.grown:
            continue
        if kind == "!^" and f"j:{text_of(flow.payload[name])}" in flow.payload:
            continue
        if kind in ("a", "s", "l", "z", "q") and known:
            continue
        if kind[:1] == "@" and kind[1:] in flow.records and rest:
            continue
        if not (kind in ("k", "u", "r", "o", "t") and known and number.isdigit()):
            yield f"the payload field {name} belongs to nothing"


def _edges(flow: Flow) -> Iterator[str]:
    for name, record in {START: flow.start, **flow.records}.items():
        flow.children[name] = _chunked(flow, "k", name, record.children)
        flow.parents[name] = _chunked(flow, "u", name, record.parents)
    # Nothing comes of the edges of superseded steps any more.
    gone = {name for name, record in flow.records.items() if record.superseded}
    down = {
        (parent, child, policy)
        for parent, found in flow.children.items()
        if parent != START
        for child, policy in found
        if not gone & {parent, child}
    }
    up = {
        (parent, child, policy)
        for child, found in flow.parents.items()
        for parent, policy in found
        if not gone & {parent, child}
    }
    if down != up:
        yield f"children and parents disagree: {sorted(down ^ up)[:3]}"
    roots = {child for child, _ in flow.children[START]}
    if roots - gone != {name for name in flow.records if not flow.parents[name]} - gone:
        yield "the start's children are not the steps without parents"


def _chunked(flow: Flow, kind: str, name: str, text: str) -> list[tuple[str, EdgePolicy]]:
    if not text.startswith("#"):
        return edges_of(text)
    found: list[tuple[str, EdgePolicy]] = []
    for number in range(-(-int(text[1:]) // CHUNK)):
        found += edges_of(text_of(flow.payload.get(f"{kind}:{name}:{number}", b"")))
    assert len(found) == int(text[1:]), f"{name} has {len(found)} stored edges, not {text}"
    return found


def _header(flow: Flow) -> Iterator[str]:
    header = flow.header
    counted = Counter(counted_state(record) for record in flow.records.values())
    stored = Counter({state: count for state, count in header.counts.items() if count})
    if counted != stored:
        yield f"counts {dict(stored)}, the steps say {dict(counted)}"
    skipped = sum(record.cause is StepCause.SKIPPED for record in flow.records.values())
    if skipped != header.skipped:
        yield f"{header.skipped} skipped steps, there are {skipped}"
    superseded = sum(record.superseded for record in flow.records.values())
    if superseded != header.superseded:
        yield f"{header.superseded} superseded steps, there are {superseded}"
    if flow.ended != (header.finished is not None):
        yield f"finished is {header.finished}, and ended is {flow.ended}"
    started = [record.started for record in flow.records.values() if record.started is not None]
    if header.moving.started != (min(started) if started else None):
        yield f"started at {header.moving.started}, its steps at {sorted(started)[:3]}"
    latest = max(
        time
        for record in flow.records.values()
        for time in (record.since, record.started or 0, record.finished or 0)
    )
    if header.moving.last < latest:
        yield f"last transition at {header.moving.last}, a step's at {latest}"


def _step(flow: Flow, record: Record) -> Iterator[str]:
    ended = record.state in TERMINAL_STEPS
    if ended != (record.finished is not None) or ended != (record.cause is not None):
        yield f"finished {record.finished}, cause {record.cause}"
    paused = text_of(flow.payload.get(f"z:{record.name}", b"")).split(",")
    placed = record.state in (StepState.AVAILABLE, StepState.EXECUTING) or (
        # One that was given back for a while keeps its place.
        record.state is StepState.RETRYABLE and paused[2:3] == [str(record.due)]
    )
    if placed != bool(record.order):
        yield f"place in the queue {record.order!r}"
    if (record.state is StepState.RETRYABLE) != (record.due is not None):
        yield f"due {record.due}"
    if (record.state is StepState.EXECUTING) != (record.running is not None):
        yield f"claim {record.running}"
    if record.singled_out and record.cause is not StepCause.OPERATOR_CANCELLED:
        yield "singled out, and not cancelled"
    if record.attempt > 0 and record.started is None:
        yield f"attempt {record.attempt}, started {record.started}"
    if not record.reported <= record.attempt <= record.max_attempts:
        yield f"reported {record.reported}, attempt {record.attempt} of {record.max_attempts}"
    if record.walked in ("b", "h") and record.state is not StepState.PENDING:
        yield f"held back ({record.walked}) after it has gone on"
    if record.walked.isdigit():
        if not ended:
            yield "its edges are being walked, and it has not ended"
        if not 0 <= int(record.walked) * CHUNK < len(flow.children[record.name]):
            yield f"{record.walked} chunks walked of {len(flow.children[record.name])} edges"


def _walked(flow: Flow, parent: str, child: str) -> bool:
    """Whether the edge from this ended parent has been applied to the child."""
    record = flow.record(parent)
    if not record.walked.isdigit():
        return True
    if parent not in flow.applied:
        # The first chunks of edges have been walked, as far as the cursor says.
        walked = flow.children[parent][: int(record.walked) * CHUNK]
        flow.applied[parent] = {name for name, _ in walked}
    return child in flow.applied[parent]


def _judged(flow: Flow, record: Record) -> Iterator[str]:
    """Checks that the step is in the state that its parents imply."""
    edges = flow.parents[record.name] or [(START, EdgePolicy.CANCEL)]
    resolved = unresolved = cancelling = 0
    found = ResolvedEdges()
    for parent, policy in edges:
        above = flow.record(parent)
        state = above.state
        if state not in TERMINAL_STEPS or not _walked(flow, parent, record.name):
            unresolved += 1
        elif resolves(state, policy, above.cause):
            resolved += 1
            found.add(above.outcome, policy)
        else:
            cancelling += 1
    if record.state is StepState.PENDING:
        if flow.head < flow.tail and (flow.header.cancel is not None or flow.header.recoveries):
            return  # a sweep or a recovery has still to place it
        if cancelling:
            yield "a parent that ended otherwise has not cancelled it"
        if record.remaining != unresolved + record.lacks_result or not record.remaining:
            yield f"waits for {record.remaining} parents, there are {unresolved}"
        if not record.lacks_result and record.seen != _seen(found):
            yield f"its edges have brought {record.seen!r}, not {_seen(found)!r}"
    elif flow.header.recoveries:
        return  # a step that runs or has ended keeps its state when a parent is revived
    elif record.cause is StepCause.CANCELLED_BY_DEPENDENCY:
        if not cancelling:
            yield "cancelled by a dependency, and none did"
    elif record.cause is not StepCause.OPERATOR_CANCELLED and resolved != len(edges):
        yield f"out of pending with {resolved} of {len(edges)} parents resolved"
    else:
        yield from _skipped(flow, record, found.outcome(len(edges), always=record.always))


def _seen(found: ResolvedEdges) -> str:
    """The field ``seen`` of a record, which sums up the resolved edges."""
    letters = "f" * found.favourable + "u" * found.unfavourable
    return letters + (str(found.branches) if found.branches else "")


def _skipped(flow: Flow, record: Record, outcome: Outcome) -> Iterator[str]:
    """Checks that the step was skipped exactly if its edges imply it."""
    if record.cause is StepCause.OPERATOR_CANCELLED or outcome.state is StepState.AVAILABLE:
        row = flow.rows[record.name].get(record.reported)
        if record.cause is StepCause.SKIPPED and (row is None or row.asked not in ("s", "b")):
            yield "skipped, and neither its edges nor a report have it so"
    elif record.cause is not StepCause.SKIPPED or record.branch_skipped != outcome.branch:
        yield f"its edges skip it, and it is {record.cause}"


def _rows(flow: Flow, record: Record) -> Iterator[str]:
    rows, payloads = flow.rows[record.name], flow.payloads[record.name]
    tracebacks = flow.tracebacks[record.name]
    # An attempt whose lease was taken away has no row.
    if max(rows, default=0) != record.reported:
        yield f"result rows {sorted(rows)}, reported {record.reported}"
        return
    if flow.given[record.name] != flow.indexed[record.name]:
        yield f"command ids {flow.given[record.name]}, indexed {flow.indexed[record.name]}"
    if not payloads <= set(rows):
        yield f"payloads without a row: {payloads - set(rows)}"
    if not tracebacks <= set(rows):
        yield f"tracebacks without a row: {tracebacks - set(rows)}"
    for attempt, row in rows.items():
        if row.open != flow.entries[f"{record.name}:{attempt}"]:
            yield f"attempt {attempt} says {row.open} walk entries are left"
        for names, count in (
            (row.released_names, row.released),
            (row.cancelled_names, row.cancelled),
        ):
            if len(names) != min(count, LISTED) or len(set(names)) != len(names):
                yield f"attempt {attempt} lists {len(names)} names of {count}"
    told = record.reported and record.reported == record.attempt and record.cause in _REPORTED
    if told and record.state in TERMINAL_STEPS and rows[record.reported].status != record.state:
        yield f"its latest row says {rows[record.reported].status}"


def _walks(flow: Flow) -> Iterator[str]:
    entries = {name for name in flow.own if name[0] == ">"}
    bounded = {f">{number}" for number in range(flow.head, flow.tail)}
    if entries != bounded:
        yield f"walk entries {sorted(entries)}, and bounds {flow.head} to {flow.tail}"
    recovering = any(
        flow.own[one].startswith((b"*recover|", b"*append|")) for one in entries & bounded
    )
    if recovering != flow.own[":c"].endswith(b",1"):
        yield f"a recovery or an append is unfinished: {recovering}, the header says otherwise"
    named = [
        name
        for entry in sorted(entries)
        if not flow.own[entry].startswith(b"*")
        for name in text_of(flow.own[entry]).partition("|")[2].split(",")
    ]
    cursors = {
        name
        for name, record in {START: flow.start, **flow.records}.items()
        if record.walked.isdigit() and not (name == START and _is_unstarted(flow.header))
    }
    if len(set(named)) != len(named) or set(named) != cursors:
        yield f"walk entries name {sorted(named)[:5]}, cursors stand on {sorted(cursors)[:5]}"


def _is_unstarted(header: Header) -> bool:
    link = header.link
    return header.starts is not None or (link is not None and link.state == "h")


def _callbacks(flow: Flow, partition: Partition) -> Iterator[str]:
    """Checks that each change of the end has a callback, numbered without a gap."""
    fields = {name: value for name, value in flow.own.items() if name[0] == "@"}
    header = flow.header
    if set(fields) != {f"@{number}" for number in range(1, header.callbacks + 1)}:
        yield f"callbacks {sorted(fields)}, the header counts {header.callbacks}"
        return
    told = None
    waiting = dead = 0
    for number in range(1, header.callbacks + 1):
        record = StoredCallback.parse(fields[f"@{number}"])
        if record.event is CallbackEvent.WORKFLOW_TERMINAL:
            told = record.data
        dead += record.status is CallbackStatus.DEAD
        open_ = record.status in (CallbackStatus.PENDING, CallbackStatus.LEASED)
        waiting += open_
        partition.gauges[f"gc|{CallbackStatus.PENDING if open_ else record.status}"] += 1
        if open_ != (record.due is not None):
            yield f"callback {number} is {record.status}, and due {record.due}"
        if record.due is not None:
            partition.outbox[f"{flow.id}|{number}"] = header.inserted + record.due
        if not 0 <= record.attempts <= CALLBACK_ATTEMPTS:
            yield f"callback {number} was tried {record.attempts} times"
    if (header.open, header.dead) != (waiting, dead):
        yield f"{header.open} open and {header.dead} dead callbacks, not {waiting} and {dead}"
    link = header.link
    needed = link is not None and link.state == "f"
    if header.finished is not None and header.kept is not None and not needed:
        due = header.inserted + header.finished + header.kept
        partition.timers[f"x|{flow.id}"] = due
        if waiting:
            partition.held_back.add(f"x|{flow.id}")
    if header.finished is not None:
        view = header.view(flow.id, None)
        if told is None or (told["state"], told["terminal_cause"]) != (
            view.state,
            view.terminal_cause,
        ):
            yield f"ended {view.state} ({view.terminal_cause}), told was {told}"


def _imply(flow: Flow, partition: Partition) -> None:
    header = flow.header
    if flow.head < flow.tail:
        partition.undated.add(f"u|{flow.id}")
    if header.starts is not None:
        partition.timers[f"b|{flow.id}"] = header.inserted + header.starts
    if header.deadline is not None and header.cancel is None and not flow.ended:
        partition.timers[f"d|{flow.id}"] = header.inserted + header.deadline
    for record in flow.records.values():
        partition.gauges[f"gs|{record.state}"] += 1
        if record.state is StepState.AVAILABLE:
            class_ = f"{record.queue}:{_URGENCY_OF_PRIORITY_0 - record.priority:04d}"
            partition.ready.add(f"{class_}|{record.order}|{flow.id}|{record.name}")
        if record.state is StepState.RETRYABLE and record.due is not None:
            partition.timers[f"r|{flow.id}|{record.name}"] = header.inserted + record.due
        if record.running is not None:
            partition.timers[f"l|{flow.id}|{record.name}"] = (
                header.inserted + record.running.expires
            )
    state = workflow_state(
        (counted_state(record) for record in flow.records.values()),
        cancel=header.cancel is not None,
    )
    if state in WORKFLOW_CODE and not flow.ended:
        state = WorkflowState.PENDING
    partition.gauges[f"gw|{state}"] += 1
    group = WORKFLOW_CODE.get(state, "o")
    place = f"{header.inserted:011x}|{flow.id}"
    partition.index.add(f"{group}|{place}")
    tags = text_of(flow.own[":tags"]).split(",") if ":tags" in flow.own else []
    partition.tags |= {f"{tag}|{place}" for tag in tags}
    if tags:
        partition.gauges["gt|tags"] += len(tags)


def counted_state(record: Record) -> StepState:
    """The state that a step counts as: one that was superseded holds up nobody."""
    return StepState.COMPLETED if record.superseded else record.state


def text_of(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
