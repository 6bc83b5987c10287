"""Working out what an append stores: the new steps, and the edges of the existing ones.

All of it follows from the definition of the graph, which only appends change: the server refuses it
when there was another one meanwhile, and it is worked out again.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from rwf.errors import RecordUnreadable, WorkflowInvalid
from rwf.model.fragment import Fragment
from rwf.model.graph import Edge, GraphStep
from rwf.model.limits import CHUNK, MAX_STEPS
from rwf.model.states import SEMANTICS_VERSIONS, TERMINAL_STEPS, EdgePolicy
from rwf.ops.advance import advance_all
from rwf.ops.base import OpContext, read
from rwf.ops.reads import edges, edges_of_all
from rwf.protocol.codecs import UNREADABLE
from rwf.protocol.headers import HEADER_FIELDS, Header
from rwf.protocol.records import START, Fields, Record, edges_text, marked, record_of
from rwf.protocol.requests import Op
from rwf.protocol.stored import GrowthRecord, RelinkRecord

_NAMES_PER_READ: Final = 500
_COST_PER_PIECE: Final = CHUNK
"""In elements, and edges to be resolved."""
_BYTES_PER_PIECE: Final = 262_144
_MOST_EDGES: Final = 1_000_000
"""How many edges the steps that wait for what is appended may get."""
_KEPT: Final = "="

Edges = dict[str, EdgePolicy]
Element = tuple[str, str, str | bytes]
"""Its letter in ``growth.lua``, a name, and a text."""


@dataclass(frozen=True, slots=True)
class Made:
    """A fragment as it is staged."""

    growth: GrowthRecord
    pieces: Sequence[bytes]


@dataclass(slots=True)
class _Relink:
    """The changes to an existing step; None for edges that stay."""

    unresolved: int = 0
    dropped: int = 0
    children: Edges | None = None
    parents: Edges | None = None


@dataclass(slots=True)
class _Graph:
    """A workflow, as far as it is known, and what an append changes of it."""

    workflow_id: str
    header: Header
    records: dict[str, Record] = field(default_factory=dict)
    relinks: dict[str, _Relink] = field(default_factory=dict)

    def relink(self, name: str) -> _Relink:
        return self.relinks.setdefault(name, _Relink())


def make(
    ctx: OpContext, workflow_id: str, fragment: Fragment, appending: str | None, *, join: bool
) -> Op[Made | None]:
    """The pieces of an append by a step, or by none; None where the command is sure to be
    refused, or a duplicate. Raises WorkflowInvalid."""
    graph = yield from _opened(ctx, workflow_id)
    if graph is None:
        return None
    named = [*fragment.dependencies, *fragment.referred]
    own = [step.name for step in fragment.steps]
    first = [START] if appending is None else [appending]
    yield from _fetch(ctx, graph, [*first, *own, *named])
    attempt = 0
    if appending is not None:
        record = graph.records.get(appending)
        if record is None or record.state in TERMINAL_STEPS:
            return None
        attempt = _attempt_of(record)
    again = _check_names(graph, fragment, appending)
    related = yield from _related(ctx, graph, fragment, appending)
    steps: Sequence[GraphStep] = fragment.compile(
        after=appending, related=related, max_payload=ctx.max_payload
    )
    _check_size(graph, len(steps) - len(again))
    heirs: Edges = {}
    if appending is not None and join:
        heirs = yield from _heirs(ctx, graph, appending, own)
    steps = yield from _joined(ctx, graph, steps, heirs, again)
    outer = _outer_edges(steps, set(own), appending)
    yield from _check_cycles(ctx, graph, steps, outer, [*heirs, *graph.relinks], appending)
    yield from _link(ctx, graph, steps, outer, again)
    by = "" if appending is None else f"{appending}:{attempt}"
    listed = [] if appending is None else own
    return (yield from _made(ctx, graph, steps, outer, again, by, listed, attempt))


def _attempt_of(record: Record) -> int:
    """The attempt that a report of the step is of, as ``complete.lua`` has it."""
    counted = record.running is not None and not record.dispatched
    counted = counted and record.attempt != record.reported
    return record.attempt if counted else record.attempt + 1


# --- reading


def _opened(ctx: OpContext, workflow_id: str) -> Op[_Graph | None]:
    """The workflow, once nothing is left to be walked that may change its graph; None where there
    is none that may grow."""
    w = ctx.keys.record(workflow_id)
    while True:
        [fields] = yield from read(w, ("HMGET", w, *HEADER_FIELDS))
        header = Header.stored(*fields)
        if header is None or header.semantics_version not in SEMANTICS_VERSIONS:
            return None
        if not header.moving.recovering:
            return _Graph(workflow_id, header)
        yield from advance_all(ctx, workflow_id)


def _fetch(ctx: OpContext, graph: _Graph, names: Iterable[str]) -> Op[None]:
    """Adds the records of these steps, where they are."""
    missing = [name for name in dict.fromkeys(names) if name not in graph.records]
    w = ctx.keys.record(graph.workflow_id)
    for start in range(0, len(missing), _NAMES_PER_READ):
        some = missing[start : start + _NAMES_PER_READ]
        [found] = yield from read(w, ("HMGET", w, *some))
        for name, text in zip(some, found, strict=True):
            if text is not None:
                graph.records[name] = Record.named(name, text)


def _edges(ctx: OpContext, graph: _Graph, name: str, *, up: bool) -> Op[Edges]:
    return dict((yield from edges(ctx, graph.workflow_id, graph.records[name], up=up)))


# --- what is refused


def _check_names(graph: _Graph, fragment: Fragment, appending: str | None) -> dict[str, Record]:
    """The steps that take the place of superseded ones, which the same step had appended."""
    again: dict[str, Record] = {}
    for step in fragment.steps:
        record = graph.records.get(step.name)
        if record is None:
            continue
        by = record.appended_by
        if not record.superseded or by is None or by.step != appending:
            raise WorkflowInvalid(
                "duplicate_step_name",
                f"the workflow has a step {step.name!r} already",
                step=step.name,
            )
        again[step.name] = record
    for step in fragment.steps:
        for name in step.deps:
            _check_there(graph, fragment, step.name, name, "missing_dependency")
        for name in (*step.references, *step.outcomes, *step.lists):
            _check_there(graph, fragment, step.name, name, "unknown_result_step")
    for parent, child, _ in fragment.edges:
        _check_there(graph, fragment, child, parent, "missing_dependency")
    return again


def _check_there(graph: _Graph, fragment: Fragment, step: str, name: str, code: str) -> None:
    record = graph.records.get(name)
    if name in fragment or (record is not None and not record.superseded):
        return
    if code == "missing_dependency":
        raise WorkflowInvalid(
            code,
            f"step {step!r} depends on {name!r}, which is not a step",
            step=step,
            dependency=name,
        )
    raise WorkflowInvalid(
        code, f"step {step!r} refers to {name!r}, which is not a step", step=step, reference=name
    )


def _check_size(graph: _Graph, new: int) -> None:
    if graph.header.steps + new > MAX_STEPS:
        raise WorkflowInvalid(
            "workflow_too_large",
            f"{graph.header.steps + new} steps, the limit is {MAX_STEPS}",
            steps=graph.header.steps + new,
            limit=MAX_STEPS,
        )


def _check_cycles(
    ctx: OpContext,
    graph: _Graph,
    steps: Sequence[GraphStep],
    outer: Mapping[str, Sequence[Edge]],
    below: Collection[str],
    appending: str | None,
) -> Op[None]:
    """Refuses a dependency on a step that will wait for the fragment: ``below`` are the existing
    steps that do so directly."""
    wanted = {name for name in outer if name not in (START, appending)}
    if not wanted or not below:
        return
    yield from _fetch(ctx, graph, below)
    if not graph.header.grown:
        # Positions are a topological order: only what stands later can descend.
        least = min(graph.records[name].position for name in below)
        wanted = {name for name in wanted if graph.records[name].position >= least}
    came_from: dict[str, str | None] = dict.fromkeys(below)
    level = list(below)
    while level and wanted:
        met = next((name for name in level if name in wanted), None)
        if met is not None:
            raise _cycle(steps, outer, came_from, met)
        records = [graph.records[name] for name in level]
        found = yield from edges_of_all(ctx, graph.workflow_id, records, up=False)
        level = []
        for record, children in zip(records, found, strict=True):
            for child, _ in children:
                if child not in came_from:
                    came_from[child] = record.name
                    level.append(child)
        yield from _fetch(ctx, graph, level)


def _cycle(
    steps: Sequence[GraphStep],
    outer: Mapping[str, Sequence[Edge]],
    came_from: Mapping[str, str | None],
    met: str,
) -> WorkflowInvalid:
    by_name = {step.name: step for step in steps}
    above: list[str] = []
    name: str | None = met
    while name is not None:
        above.insert(0, name)
        name = came_from[name]
    within = [outer[met][0][0]]
    while children := [child for child, _ in by_name[within[-1]].children if child in by_name]:
        within.append(children[0])
    cycle = [*above, *within]
    return WorkflowInvalid("cycle_detected", f"{' -> '.join([*cycle[:10], cycle[0]])}", cycle=cycle)


# --- how the fragment is tied to what is there


def _related(
    ctx: OpContext, graph: _Graph, fragment: Fragment, appending: str | None
) -> Op[dict[str, set[str]]]:
    """For each step that the fragment depends on, which of the steps it refers to are ancestors of
    that one: a reference to an ancestor needs no edge of its own."""
    named = set(fragment.referred) - {appending}
    sources = [*fragment.dependencies, *([appending] if appending else [])]
    found: dict[str, set[str]] = {}
    for source in sources if named else []:
        seen = {source}
        level = [source]
        while level and not named <= seen:
            records = [graph.records[name] for name in level]
            parents = yield from edges_of_all(ctx, graph.workflow_id, records, up=True)
            level = [name for some in parents for name, _ in some if name not in seen]
            level = list(dict.fromkeys(level))
            seen.update(level)
            yield from _fetch(ctx, graph, level)
        found[source] = (seen & named) - {source}
    return found


def _heirs(ctx: OpContext, graph: _Graph, appending: str, own: Collection[str]) -> Op[Edges]:
    """The steps that wait for the one which appends, and are to wait for what it appends."""
    children = yield from _edges(ctx, graph, appending, up=False)
    names = set(own)
    if graph.header.superseded:
        yield from _fetch(ctx, graph, children)
        names |= {name for name in children if graph.records[name].superseded}
    return {name: policy for name, policy in children.items() if name not in names}


def _joined(
    ctx: OpContext,
    graph: _Graph,
    steps: Sequence[GraphStep],
    heirs: Edges,
    again: Mapping[str, Record],
) -> Op[Sequence[GraphStep]]:
    """The steps with all their children: those that have none in the fragment are parents of the
    heirs, and those which take the place of others keep what these had outside."""
    sinks = [step.name for step in steps if not step.children]
    if len(sinks) * len(heirs) > _MOST_EDGES:
        raise WorkflowInvalid(
            "workflow_too_large",
            f"{len(sinks)} steps would each be a parent of {len(heirs)} others",
            edges=len(sinks) * len(heirs),
            limit=_MOST_EDGES,
        )
    yield from _fetch(ctx, graph, heirs)
    for name, policy in heirs.items():
        parents = yield from _edges(ctx, graph, name, up=True)
        change = graph.relink(name)
        change.parents = parents
        if graph.header.superseded:
            yield from _fetch(ctx, graph, parents)
            left = {one: sign for one, sign in parents.items() if not graph.records[one].superseded}
            change.dropped, change.parents = len(parents) - len(left), left
        change.parents |= dict.fromkeys(sinks, policy)
        change.unresolved += len(sinks)
    kept = yield from _kept_children(ctx, graph, heirs, again)
    last, found = tuple(heirs.items()), []
    for step in steps:
        children = (*step.children, *(last if not step.children else ()))
        children += tuple(kept.get(step.name, ()))
        found.append(step._replace(children=children))
    return found


def _kept_children(
    ctx: OpContext, graph: _Graph, heirs: Edges, again: Mapping[str, Record]
) -> Op[dict[str, list[Edge]]]:
    """The children, by name, that others had appended behind superseded steps: they wait for the
    steps in their places, but for those that have stopped waiting since, for others instead."""
    below = yield from edges_of_all(ctx, graph.workflow_id, list(again.values()), up=False)
    names = dict.fromkeys(child for some in below for child, _ in some)
    yield from _fetch(ctx, graph, names)
    outer = [
        name
        for name in names
        if name not in again and name not in heirs and not graph.records[name].superseded
    ]
    records = [graph.records[name] for name in outer]
    above = yield from edges_of_all(ctx, graph.workflow_id, records, up=True)
    parents = {
        name: {parent for parent, _ in some} for name, some in zip(outer, above, strict=True)
    }
    kept = {
        name: [(child, policy) for child, policy in some if name in parents.get(child, ())]
        for name, some in zip(again, below, strict=True)
    }
    for some in kept.values():
        for child, _ in some:
            change = graph.relink(child)
            change.unresolved += 1
            change.dropped += 1  # the superseded one has counted as a skipped branch
    return kept


def _outer_edges(
    steps: Sequence[GraphStep], own: Collection[str], appending: str | None
) -> dict[str, list[Edge]]:
    """The edges to the fragment's steps from existing ones."""
    found: dict[str, list[Edge]] = {} if appending is None else {appending: []}
    for step in steps:
        for parent, policy in step.parents:
            if parent not in own:
                found.setdefault(parent, []).append((step.name, policy))
        if not step.parents:
            found.setdefault(START, []).append((step.name, EdgePolicy.CANCEL))
    return found


def _link(
    ctx: OpContext,
    graph: _Graph,
    steps: Sequence[GraphStep],
    outer: Mapping[str, Sequence[Edge]],
    again: Mapping[str, Record],
) -> Op[None]:
    """The new children of existing steps, without what steps of the same names were to them."""
    gone: dict[str, set[str]] = {}
    for step in steps:
        if step.name in again:
            earlier = yield from _edges(ctx, graph, step.name, up=True)
            for parent in earlier.keys() - dict(step.parents).keys() - again.keys():
                gone.setdefault(parent, set()).add(step.name)
    yield from _fetch(ctx, graph, gone)
    for parent in dict.fromkeys([*outer, *gone]):
        if not outer.get(parent) and graph.records[parent].superseded:
            continue
        children = yield from _edges(ctx, graph, parent, up=False)
        for name in gone.get(parent, ()):
            children.pop(name, None)
        graph.relink(parent).children = children | dict(outer.get(parent, ()))


# --- what is staged


def _made(
    ctx: OpContext,
    graph: _Graph,
    steps: Sequence[GraphStep],
    outer: Mapping[str, Sequence[Edge]],
    again: Mapping[str, Record],
    by: str,
    listed: Sequence[str],
    attempt: int,
) -> Op[Made]:
    new = [step.name for step in steps if step.name not in again]
    chunks = yield from _name_chunks(ctx, graph, new)
    lists = [
        ("p", f"y:{by}:{number}", ",".join(listed[start : start + CHUNK]))
        for number, start in enumerate(range(0, len(listed), CHUNK))
    ]
    pieces = list(
        _pieces(
            chain(
                _step_elements(graph, steps, again, by),
                chunks[1:],
                lists,
                _relink_elements(graph),
                chunks[:1],
            )
        )
    )
    shown = len(pieces)
    pieces += _pieces(
        ("e", parent, marked(some[start : start + CHUNK]))
        for parent, some in outer.items()
        if by.rpartition(":")[0] != parent
        for start in range(0, len(some), CHUNK)
    )
    growth = GrowthRecord(
        token=secrets.token_hex(6),
        grown=graph.header.grown,
        attempt=attempt,
        pieces=len(pieces),
        shown=shown,
        steps=len(new),
        count=len(steps),
        piece=1,
    )
    return Made(growth, pieces)


def _name_chunks(ctx: OpContext, graph: _Graph, new: Sequence[str]) -> Op[list[Element]]:
    """The chunks of names that are new or, the first one, longer."""
    if not new:
        return []
    number, taken = divmod(graph.header.steps, CHUNK)
    names = list(new)
    if taken:
        w = ctx.keys.record(graph.workflow_id)
        [text] = yield from read(w, ("HGET", w, f"#{number}"))
        if text is None:
            raise RecordUnreadable(UNREADABLE)
        names = [*text.decode().split(","), *names]
    return [
        ("w", f"#{number + at}", ",".join(names[start : start + CHUNK]))
        for at, start in enumerate(range(0, len(names), CHUNK))
    ]


def _step_elements(
    graph: _Graph, steps: Sequence[GraphStep], again: Mapping[str, Record], by: str
) -> Iterator[Element]:
    position = graph.header.steps
    for step in steps:
        fields, earlier = Fields([], []), again.get(step.name)
        placed = step._replace(position=earlier.position if earlier else position)
        text = record_of(placed, fields, by)
        yield from (("p", name, value) for name, value in fields.payload)
        yield "t" if earlier else "s", step.name, text
        position += earlier is None


def _relink_elements(graph: _Graph) -> Iterator[Element]:
    for name, change in graph.relinks.items():
        fields = Fields([], [])
        texts = [
            _KEPT if some is None else edges_text(name, [*some.items()], fields, up=up)
            for some, up in ((change.children, False), (change.parents, True))
        ]
        yield from (("p", chunk, value) for chunk, value in fields.payload)
        relink = RelinkRecord(
            unresolved=change.unresolved,
            dropped=change.dropped,
            children=texts[0],
            parents=texts[1],
        )
        yield "x", name, relink.text()


def _pieces(elements: Iterable[Element]) -> Iterator[bytes]:
    """Cuts elements into pieces, each of which one call applies (``growth.lua``)."""
    piece: list[bytes] = []
    cost = size = 0
    for kind, name, value in elements:
        text = value if isinstance(value, bytes) else value.encode()
        element = b"%b%d:%b%d:%b" % (kind.encode(), len(name), name.encode(), len(text), text)
        own = text.count(b",") + 1 if kind == "e" else 1
        if piece and (cost + own > _COST_PER_PIECE or size + len(element) > _BYTES_PER_PIECE):
            yield b"".join(piece)
            piece, cost, size = [], 0, 0
        piece.append(element)
        cost += own
        size += len(element)
    if piece:
        yield b"".join(piece)
