"""Inserting a graph: in slices, invisible until the last one, and once for each key."""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, TypeVar

import orjson

from rwf.errors import CommandRejected, NotFound, RecordUnreadable, RwfError, StoreUnavailable
from rwf.model.builder import Workflow
from rwf.model.graph import Graph
from rwf.model.limits import EDGES_PER_CALL, ITEMS_PER_CALL
from rwf.model.names import shown
from rwf.model.states import BRANCHING_VERSION, TERMINAL_WORKFLOWS, Reason, WorkflowState
from rwf.model.tags import stored_tags
from rwf.model.views import WorkflowView
from rwf.ops.advance import advance_all
from rwf.ops.appending import discard
from rwf.ops.base import (
    OpContext,
    Slots,
    ask_partitions,
    checked_text,
    invalid,
    new_call_id,
    read,
    side_by_side,
)
from rwf.ops.reads import shown_workflow
from rwf.protocol.codecs import EPOCH, UNREADABLE, time_of_stamp
from rwf.protocol.functions.callbacks import DueCallbacks
from rwf.protocol.functions.commands import RecordedEvidence, RecordEvidence
from rwf.protocol.functions.inserts import (
    BlockId,
    Discard,
    Insert,
    InsertedGraph,
    OverdueInserts,
    ReserveKey,
    StageInsert,
)
from rwf.protocol.functions.workflows import HeaderReply
from rwf.protocol.headers import TAGS, Header
from rwf.protocol.keys import home_of, home_partition, key_digest, new_workflow_id, partition_of
from rwf.protocol.records import Fields, fields_of, header_of
from rwf.protocol.requests import CONNECT, Op, ask
from rwf.protocol.stored import ReservationRecord

# Bounds of one call: about 1 ms of the server's time.
_FIELDS_PER_CALL: Final = 500
_BYTES_PER_CALL: Final = 262_144
# How many graphs one call brings into a partition at most, where there are many partitions.
_GRAPHS_TOGETHER: Final = 16
# How often a staged insert begins again after its parts were given up as left behind.
_RESTARTS: Final = 3
_TIDIED: Final = 10

_LONGEST_START: Final = timedelta(days=36_500)
_LATEST_START: Final = datetime(2200, 1, 1, tzinfo=UTC)

# When a key goes over from the workflow that has it to a new one.
_REPLACES: Final = ("ended_badly",)

Pairs = list[tuple[str, bytes]]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class InsertOptions:
    """The options of an insert beside the graph and its key."""

    kept_ms: int | None
    replace: bool
    actor: str | None
    starts: str
    """As ``Insert`` takes it."""
    link: str = ""
    """Of a child workflow (``LinkRecord``)."""
    trace: str = ""

    @classmethod
    def checked(
        cls, ctx: OpContext, retention: Any, replace: Any, actor: Any, start_at: Any
    ) -> InsertOptions:
        """Raises CommandRejected, ``invalid_argument``."""
        if replace is not None and replace not in _REPLACES:
            raise invalid("insert", f"replace must be {' or '.join(_REPLACES)}, or None")
        return cls(
            kept_ms=milliseconds(retention, "insert"),
            replace=replace is not None,
            actor=checked_text(actor, "actor", "insert"),
            starts=_start(start_at),
            trace=ctx.tracing.traceparent(),
        )

    def evidence(self) -> bytes | None:
        """The note of an insert that is to leave evidence."""
        return None if self.actor is None else self.note()

    def note(self) -> bytes:
        """The part of the insert's evidence that says who asked for it."""
        fields = {"source": "client", "actor": self.actor}
        return orjson.dumps({name: text for name, text in fields.items() if text is not None})


def insert(
    ctx: OpContext,
    workflow: Workflow,
    key: str | None,
    retention: timedelta | None,
    replace: str | None = None,
    actor: str | None = None,
    start_at: datetime | timedelta | None = None,
) -> Op[WorkflowView]:
    options = InsertOptions.checked(ctx, retention, replace, actor, start_at)
    one = checked_insert(ctx, workflow, key)
    if not ctx.keys.partitions:
        yield CONNECT
    yield from look_around(ctx)
    return (yield from _insert_one(ctx, one, options))


def insert_many(
    ctx: OpContext,
    workflows: Iterable[Workflow],
    keys: Iterable[str] | None,
    retention: timedelta | None,
    replace: str | None = None,
    actor: str | None = None,
    start_at: datetime | timedelta | None = None,
) -> Op[list[WorkflowView]]:
    listed = _listed(workflows, "workflows")
    options = InsertOptions.checked(ctx, retention, replace, actor, start_at)
    own_keys = [None] * len(listed) if keys is None else _listed(keys, "keys")
    if len(own_keys) != len(listed):
        raise invalid("insert", "there must be as many keys as workflows")
    pairs = zip(listed, own_keys, strict=True)
    checked = [checked_insert(ctx, workflow, key) for workflow, key in pairs]
    if not ctx.keys.partitions:
        yield CONNECT
    yield from look_around(ctx)
    views: list[WorkflowView] = []
    failed: list[Exception] = []
    for start in range(0, len(checked), ITEMS_PER_CALL):
        groups = _groups(ctx, checked[start : start + ITEMS_PER_CALL])
        ops = [_insert_group(ctx, group, options) for group in groups]
        found: dict[int, WorkflowView] = {}
        for group, done in zip(groups, (yield from side_by_side(ops, patient=True)), strict=True):
            if isinstance(done, Exception):
                failed.append(done)
            else:
                found.update(zip(group, done, strict=True))
        views += (found[number] for number in sorted(found))
    if failed:
        raise failed[0]
    return views


def _listed(items: Any, name: str) -> list[Any]:
    if isinstance(items, str | Workflow) or not isinstance(items, Iterable):
        raise invalid("insert", f"{name} must be a list")
    return list(items)


class Size(NamedTuple):
    """The size of a call or a part of one: fields, bytes, and edges to visit."""

    fields: int
    bytes: int
    edges: int

    def plus(self, other: Size) -> Size:
        return Size(*map(operator.add, self, other))

    def fits(self) -> bool:
        """Whether it fits into one call."""
        most = (_FIELDS_PER_CALL, _BYTES_PER_CALL, EDGES_PER_CALL)
        return all(map(operator.le, self, most))


@dataclass(frozen=True, slots=True)
class Checked:
    """A graph that is to be inserted, as it is stored, and the key that it is inserted under."""

    graph: Graph
    fields: Fields
    key: str | None

    @property
    def with_header(self) -> Pairs:
        """The fields of the workflow's hash that come with the call that shows it: they are beside
        the graph."""
        found: Pairs = []
        if self.key is not None:  # which callbacks tell
            found.append((":key", self.key.encode()))
        if self.graph.tags:
            found.append((TAGS, stored_tags(self.graph.tags).encode()))
        return found

    def size(self) -> Size:
        """Its items, bytes and edges in a call: edges to its first steps, and one for a read."""
        pairs = [*self.fields.own, *self.with_header, *self.fields.payload]
        edges = sum(not step.parents for step in self.graph.steps) + 1
        return Size(len(pairs), sum(len(name) + len(value) for name, value in pairs), edges)


def checked_insert(ctx: OpContext, workflow: Workflow, key: str | None) -> Checked:
    """The arguments of an insert, validated."""
    if not isinstance(workflow, Workflow):
        raise invalid("insert", "insert takes a Workflow")
    key = checked_text(key, "key", "insert")
    graph = workflow.compile(max_payload=ctx.max_payload)
    return Checked(graph, fields_of(graph), key)


def _groups(ctx: OpContext, checked: Sequence[Checked]) -> list[dict[int, Checked]]:
    """Cuts numbered inserts into those that one call makes. Each goes into one partition, so that
    a namespace of many has smaller ones; under a key, a graph goes alone."""
    most = max(ITEMS_PER_CALL // ctx.keys.partitions, _GRAPHS_TOGETHER)
    groups: list[dict[int, Checked]] = []
    group: dict[int, Checked] = {}
    room = Size(0, 0, 0)
    for number, one in enumerate(checked):
        if one.key is not None:
            groups.append({number: one})
            continue
        room = room.plus(one.size())
        if not group or len(group) == most or not room.fits():
            group, room = {}, one.size()
            groups.append(group)
        group[number] = one
    return groups


def _insert_group(
    ctx: OpContext, group: Mapping[int, Checked], options: InsertOptions
) -> Op[list[WorkflowView]]:
    if len(group) == 1:
        (one,) = group.values()
        return [(yield from _insert_one(ctx, one, options))]
    return (yield from anywhere(ctx, lambda partition: _put_group(ctx, partition, group, options)))


def _insert_one(ctx: OpContext, one: Checked, options: InsertOptions) -> Op[WorkflowView]:
    if one.key is not None:
        return (yield from insert_once(ctx, one, one.key, options))
    view = yield from anywhere(
        ctx, lambda partition: _put(ctx, new_workflow_id(partition), one, options)
    )
    assert view is not None
    return view


def anywhere(ctx: OpContext, insert: Callable[[int], Op[T]]) -> Op[T]:
    """Inserts in any partition that answers."""
    while True:
        partition = _living(ctx)
        try:
            return (yield from insert(partition))
        except StoreUnavailable as error:
            if ctx.keys.partitions == 1:
                raise
            known = len(ctx.away.partitions)
            ctx.away.note({partition: error})
            # A workflow that may have been inserted is not inserted a second time elsewhere.
            if not error.never_ran or len(ctx.away.partitions) in (known, ctx.keys.partitions):
                raise


def look_around(ctx: OpContext) -> Op[None]:
    """Learns which partitions answer, where that was not known just before; a read, so that a
    node which hangs is met by this and not by an insert, which might then have been made."""
    if ctx.away.is_unsure(ctx.keys.partitions):
        yield from ask_partitions(
            ctx, dict.fromkeys(range(ctx.keys.partitions), DueCallbacks(0, 1))
        )


def _start(value: Any) -> str:
    """When a workflow is to start, as it is sent; raises CommandRejected, ``invalid_argument``."""
    if value is None:
        return ""
    now = isinstance(value, timedelta)
    if not now and (not isinstance(value, datetime) or value.utcoffset() is None):
        raise invalid("insert", "start_at must be a datetime with a timezone, or a timedelta")
    after = value if now else value - EPOCH
    if after > (_LONGEST_START if now else _LATEST_START - EPOCH):
        raise invalid("insert", "start_at must lie within a hundred years")
    return f"{'+' if now else '='}{after // timedelta(milliseconds=1)}"


def milliseconds(retention: Any, action: str) -> int | None:
    """A retention as it is stored; raises CommandRejected, ``invalid_argument``."""
    if retention is None:
        return None
    if not isinstance(retention, timedelta) or retention < timedelta(0):
        raise invalid(action, "retention must be a timedelta of 0 or more, or None")
    return retention // timedelta(milliseconds=1)


def insert_once(ctx: OpContext, one: Checked, key: str, options: InsertOptions) -> Op[WorkflowView]:
    """An insert with a key: the key is reserved in its home partition first, with the workflow's
    id.

    Whoever finds a reservation without a workflow (its inserter died, or is at it) inserts the same
    definition under the same id. Another definition is refused, until the reservation is too old to
    be anybody's; then its id is made unusable, and the key is free. So is the key of a workflow
    that is being removed, and, when it may be replaced, that of one which ended badly: the
    reservation goes over to a new id, by whoever is first. Each says so in the old one's evidence
    before, so that none of them can die without a trace.
    """
    graph, digest = one.graph, key_digest(key)
    home = home_partition(digest, ctx.keys.home_partitions)
    keyed = f"{home}:{digest}"
    own_id: str = _new_id(ctx)
    replaced: str | None = None
    while True:
        reservation = ReserveKey(digest, own_id, graph.digest, replaced)
        reply = yield from ask(ctx.keys.partition(home), reservation)
        held = _reservation(reply.text)
        workflow_id, definition = held.workflow, held.definition
        if workflow_id != own_id:
            found = yield from shown_workflow(ctx, workflow_id)
            if found is not None and options.replace and _ended_badly(found.state):
                own_id, replaced = _new_id(ctx), reply.text
                message = f"the key goes over to {own_id}, unless another insert is faster"
                yield from _note(ctx, workflow_id, "key_replaced", message, options)
                continue
            if found is not None:
                same = definition == graph.digest
                existing = yield from _existing(ctx, workflow_id, same, options)
                if existing is not None:
                    return existing
            elif definition != graph.digest and not reply.is_old:
                raise (yield from _conflict(ctx, workflow_id, "a workflow being inserted", options))
        if definition == graph.digest:
            view = yield from _put(ctx, workflow_id, one, options, keyed)
            if view is not None:
                return view
        # No workflow will come under the id, unless another inserter was faster.
        blocked = yield from ask(ctx.workflow_keys(workflow_id), BlockId())
        unusable = blocked.outcome == "unusable"
        own_id, replaced = _new_id(ctx), reply.text if unusable else None


def _living(ctx: OpContext) -> int:
    """Any partition that answers."""
    return random.choice(ctx.away.living(ctx.keys.partitions))  # noqa: S311 - to spread


def _new_id(ctx: OpContext) -> str:
    """A new workflow's id, in any partition that answers."""
    return new_workflow_id(_living(ctx))


def find(ctx: OpContext, key: str) -> Op[WorkflowView]:
    """The workflow of an insert key; raises NotFound."""
    if checked_text(key, "key", "read") is None:
        raise invalid("read", "key must be a string")
    if not ctx.keys.partitions:
        yield CONNECT
    digest = key_digest(key)
    keys = ctx.keys.derived(home_partition(digest, ctx.keys.home_partitions), "keys")
    [held] = yield from read(keys, ("HGET", keys, digest))
    found = None
    if held is not None:
        owner = _reservation(held).workflow
        found = yield from shown_workflow(ctx, owner)
    if found is None:
        raise NotFound(f"no workflow has the key {shown(key)}")
    return found


def _reservation(text: str | bytes) -> ReservationRecord:
    """A stored reservation; raises RecordUnreadable, also where it is of no workflow's id."""
    held = ReservationRecord.parse(text) if isinstance(text, bytes) else ReservationRecord.of(text)
    if partition_of(held.workflow) is None:
        raise RecordUnreadable(UNREADABLE)
    return held


def _ended_badly(state: WorkflowState) -> bool:
    return state in TERMINAL_WORKFLOWS and state is not WorkflowState.COMPLETED


def _existing(
    ctx: OpContext, workflow_id: str, same: bool, options: InsertOptions
) -> Op[WorkflowView | None]:
    """The workflow of an earlier insert of the key; None when it has been removed meanwhile.

    Raises CommandRejected, ``key_conflict``, when its definition is another one.
    """
    if not same:
        raise (yield from _conflict(ctx, workflow_id, "a workflow", options))
    noted = yield from _note(ctx, workflow_id, "duplicate", "", options)
    if noted.header is None:
        return None
    return Header.of(noted.header).view(workflow_id, noted.header.context, duplicate=True)


def _conflict(
    ctx: OpContext, workflow_id: str, owner: str, options: InsertOptions
) -> Op[CommandRejected]:
    """The refusal of a key that belongs to another definition, left as evidence."""
    message = f"the key belongs to {owner} with another definition"
    noted = yield from _note(ctx, workflow_id, Reason.KEY_CONFLICT, message, options)
    return CommandRejected(
        "insert",
        "workflow",
        Reason.KEY_CONFLICT,
        f"{message}: {workflow_id}",
        requested_at=time_of_stamp(noted.stamp),
        workflow_id=workflow_id,
    )


def _note(
    ctx: OpContext, workflow_id: str, status: str, message: str, options: InsertOptions
) -> Op[RecordedEvidence]:
    entry = RecordEvidence("insert", status, new_call_id(), message, options.note())
    return (yield from ask(ctx.workflow_keys(workflow_id), entry))


def _put_group(
    ctx: OpContext, partition: int, group: Mapping[int, Checked], options: InsertOptions
) -> Op[list[WorkflowView]]:
    """Stores small graphs in a partition, under new ids, and makes them visible, all in one
    call."""
    slots = Slots(ctx, partition, (new_workflow_id(partition) for _ in group))
    graphs: list[InsertedGraph] = []
    fields: list[bytes] = []
    for one in group.values():
        own, payload = [*one.fields.own, *one.with_header], one.fields.payload
        graphs.append(_inserted(one, own, payload, options))
        fields += _flat([*own, *payload])
    replies = yield from ask(slots.keys, Insert(options.evidence(), graphs, fields))
    views: list[WorkflowView] = []
    for (workflow_id, _), reply in zip(slots, replies, strict=True):
        assert reply.header is not None
        views.append((yield from _shown(ctx, workflow_id, reply.header)))
    return views


def _put(
    ctx: OpContext, workflow_id: str, one: Checked, options: InsertOptions, keyed: str | None = None
) -> Op[WorkflowView | None]:
    """Stores the graph under this id and makes it visible.

    None when that was not to be: the id was made unusable, or another inserter of the key was
    first.
    """
    # With the call that shows it, not staged before: it also tells whose insert it was.
    mine = [] if keyed is None else [(":k", f"{keyed}:{new_call_id()}".encode())]
    *parts, (own, payload) = _slices(one.fields)
    own += [*mine, *one.with_header]
    graph = _inserted(one, own, payload, options)
    graph.staged, graph.own_count = bool(parts), graph.own_count + len(mine)
    last = Insert(options.evidence(), [graph], _flat([*own, *payload]))
    keys = ctx.workflow_keys(workflow_id)
    if parts:
        yield from tidy(ctx, home_of(workflow_id))
    for _ in range(_RESTARTS):
        for own, payload in parts:
            staged = yield from ask(keys, StageInsert(_flat(own), _flat(payload)))
            if staged.outcome != "staged":
                break
        (reply,) = yield from ask(keys, last)
        is_other = reply.outcome == "exists" and mine and reply.owner != mine[0][1]
        if reply.outcome == "unusable" or is_other:
            return None
        if reply.header is not None:
            return (yield from _shown(ctx, workflow_id, reply.header))
    raise RwfError(
        f"the insert was begun {_RESTARTS} times and took too long each time: nothing is inserted"
    )


def insert_as(ctx: OpContext, workflow_id: str, one: Checked, options: InsertOptions) -> Op[None]:
    """Inserts a graph under this id, unless there is a workflow of it already."""
    yield from _put(ctx, workflow_id, one, options)


def _inserted(one: Checked, own: Pairs, payload: Pairs, options: InsertOptions) -> InsertedGraph:
    """The argument of a call for one graph, whose fields these are."""
    later = options.starts or options.link
    version = BRANCHING_VERSION if later else one.graph.semantics_version
    return InsertedGraph(
        staged=False,
        own_count=len(one.fields.own) + len(one.with_header),
        payload_count=len(one.fields.payload),
        own=2 * len(own),
        payload=2 * len(payload),
        starts=options.starts,
        deadline_ms=one.graph.deadline,
        static=header_of(one.graph, options.kept_ms, version, options.trace),
        link=options.link,
    )


def _shown(ctx: OpContext, workflow_id: str, reply: HeaderReply) -> Op[WorkflowView]:
    """An inserted workflow, after its first steps are released."""
    header, context = Header.of(reply), reply.context
    if header.unwalked:
        header, context = yield from advance_all(ctx, workflow_id)
    return header.view(workflow_id, context)


def tidy(ctx: OpContext, partition: int) -> Op[None]:
    """Removes the parts of abandoned inserts and appends in a partition; large inserts do this on
    the way."""
    for left in (yield from ask(ctx.keys.partition(partition), OverdueInserts(_TIDIED))):
        workflow_id, _, token = left.decode(errors="replace").partition("|")
        if partition_of(workflow_id) != partition:  # names that are no ids are left to a sweep
            continue
        if token:
            yield from discard(ctx, workflow_id, token, overdue=True)
        else:
            yield from ask(ctx.workflow_keys(workflow_id), Discard())


def _slices(fields: Fields) -> Iterator[tuple[Pairs, Pairs]]:
    """Cuts the fields into what one call stores each."""
    own: Pairs = []
    payload: Pairs = []
    size = 0
    for target, pairs in ((own, fields.own), (payload, fields.payload)):
        for pair in pairs:
            full = len(own) + len(payload) >= _FIELDS_PER_CALL
            if full or (size and size + len(pair[1]) > _BYTES_PER_CALL):
                yield list(own), list(payload)
                own.clear()
                payload.clear()
                size = 0
            target.append(pair)
            size += len(pair[0]) + len(pair[1])
    yield own, payload


def _flat(pairs: Pairs) -> list[bytes]:
    return [part for name, value in pairs for part in (name.encode(), value)]
