"""Inserting a graph: in slices, invisible until the last one, and once for each key."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any, Final

import orjson

from rwf.errors import CommandRejected, RwfError
from rwf.model.graph import Graph
from rwf.model.limits import ITEMS_PER_CALL
from rwf.model.states import SEMANTICS_VERSION, Reason
from rwf.model.views import WorkflowView
from rwf.model.workflow import Workflow
from rwf.store.catalog import CONNECT, Arg, Call, Op
from rwf.store.headers import Header
from rwf.store.keys import home_partition, key_digest, new_workflow_id, partition_of
from rwf.store.ops.advance import advance_all
from rwf.store.ops.base import Scope, checked_text, invalid, new_call_id, side_by_side
from rwf.store.records import Fields, fields_of
from rwf.store.stored import time_of_stamp

# What one call stores at most: about 1 ms of the server's time.
_FIELDS_PER_CALL: Final = 500
_BYTES_PER_CALL: Final = 262_144
# How often a staged insert begins again after its parts were given up as left behind.
_RESTARTS: Final = 3
_TIDIED: Final = 10

Pairs = list[tuple[str, bytes]]


def insert(
    scope: Scope, workflow: Workflow, key: str | None, retention: timedelta | None
) -> Op[WorkflowView]:
    op = _checked(scope, workflow, key, _milliseconds(retention))
    if not scope.keys.partitions:
        yield CONNECT
    return (yield from op)


def insert_many(
    scope: Scope,
    workflows: Iterable[Workflow],
    keys: Iterable[str] | None,
    retention: timedelta | None,
) -> Op[list[WorkflowView]]:
    graphs = _listed(workflows, "workflows")
    kept_ms = _milliseconds(retention)
    own_keys = [None] * len(graphs) if keys is None else _listed(keys, "keys")
    if len(own_keys) != len(graphs):
        raise invalid("insert", "there must be as many keys as workflows")
    ops = [
        _checked(scope, graph, key, kept_ms) for graph, key in zip(graphs, own_keys, strict=True)
    ]
    if not scope.keys.partitions:
        yield CONNECT
    views: list[WorkflowView] = []
    failed: list[Exception] = []
    for start in range(0, len(ops), ITEMS_PER_CALL):
        for done in (yield from side_by_side(ops[start : start + ITEMS_PER_CALL])):
            if isinstance(done, Exception):
                failed.append(done)
            else:
                views.append(done)
    if failed:
        raise failed[0]
    return views


def _listed(items: Any, name: str) -> list[Any]:
    if isinstance(items, str | Workflow) or not isinstance(items, Iterable):
        raise invalid("insert", f"{name} must be a list")
    return list(items)


def _checked(
    scope: Scope, workflow: Workflow, key: str | None, kept_ms: int | None
) -> Op[WorkflowView]:
    """The insert of what has been validated; to be begun when the partitions are known."""
    if not isinstance(workflow, Workflow):
        raise invalid("insert", "insert takes a Workflow")
    key = checked_text(key, "key", "insert")
    graph = workflow.compile(max_payload=scope.max_payload)
    if key is None:
        return _insert_anew(scope, graph, kept_ms)
    return _insert_once(scope, key, graph, kept_ms)


def _insert_anew(scope: Scope, graph: Graph, kept_ms: int | None) -> Op[WorkflowView]:
    partition = random.randrange(scope.keys.partitions)  # noqa: S311 - to spread, not to hide
    view = yield from _put(scope, new_workflow_id(partition), graph, kept_ms, None)
    assert view is not None
    return view


def _milliseconds(retention: timedelta | None) -> int | None:
    if retention is None:
        return None
    if not isinstance(retention, timedelta) or retention < timedelta(0):
        raise invalid("insert", "retention must be a timedelta of 0 or more, or None")
    return retention // timedelta(milliseconds=1)


def _insert_once(scope: Scope, key: str, graph: Graph, kept_ms: int | None) -> Op[WorkflowView]:
    """The insert of a key: reserved at the key's home first, then made under the reserved id.

    Whoever finds a reservation without a workflow (its inserter died, or is at it) inserts the same
    definition under the same id. Another definition is refused, until the reservation is too old to
    be anybody's; then its id is made unusable, and the key is free. So is the key of a workflow
    that is being removed.
    """
    digest = key_digest(key)
    home = home_partition(digest, scope.keys.homes)
    keyed = f"{home}:{digest}"
    replaced = ""
    while True:
        own_id = new_workflow_id(random.randrange(scope.keys.partitions))  # noqa: S311
        held, old = yield Call(
            "reserve", scope.keys.partition(home), [digest, own_id, graph.digest, replaced]
        )
        workflow_id, definition, _ = held.decode().split(" ")
        if workflow_id != own_id:
            existing = yield from _existing(scope, workflow_id, definition == graph.digest)
            if existing is not None:
                return existing
            if definition != graph.digest and not old:
                raise (yield from _conflict(scope, workflow_id, "a workflow being inserted"))
        if definition == graph.digest:
            view = yield from _put(scope, workflow_id, graph, kept_ms, keyed, key)
            if view is not None:
                return view
        # No workflow will come under the id, unless another inserter was faster.
        reply = yield scope.on_workflow("insert", workflow_id, ["bury"])
        replaced = held if reply[0] == b"buried" else ""


def _existing(scope: Scope, workflow_id: str, same: bool) -> Op[WorkflowView | None]:
    """The workflow that an earlier insert of the key made; None when there is none yet, or no more.

    Raises CommandRejected, ``key_conflict``, when its definition is another one.
    """
    found = yield scope.on_workflow("show", workflow_id, [])
    if not found[0]:
        return None
    if not same:
        raise (yield from _conflict(scope, workflow_id, "a workflow"))
    _, *header = yield _note(scope, workflow_id, "duplicate", "")
    if not header:
        return None
    static, counts, context, _ = header
    return Header.parse(static, counts).view(workflow_id, context, duplicate=True)


def _conflict(scope: Scope, workflow_id: str, owner: str) -> Op[CommandRejected]:
    """The refusal of a key that belongs to another definition, left as evidence."""
    message = f"the key belongs to {owner} with another definition"
    reply = yield _note(scope, workflow_id, Reason.KEY_CONFLICT, message)
    return CommandRejected(
        "insert",
        "workflow",
        Reason.KEY_CONFLICT,
        f"{message}: {workflow_id}",
        requested_at=time_of_stamp(reply[0].decode()),
    )


def _note(scope: Scope, workflow_id: str, status: str, message: str) -> Call:
    note = orjson.dumps({"source": "client"})
    return scope.on_workflow("note", workflow_id, ["insert", status, new_call_id(), message, note])


def _put(
    scope: Scope,
    workflow_id: str,
    graph: Graph,
    kept_ms: int | None,
    keyed: str | None,
    key: str | None = None,
) -> Op[WorkflowView | None]:
    """Stores the graph under this id and shows it.

    None when that was not to be: the id was made unusable, or another inserter of the key was
    first.
    """
    fields = fields_of(graph)
    # With the call that shows it, not staged before: it also tells whose insert it was.
    mine = [] if keyed is None else [(":k", f"{keyed}:{new_call_id()}".encode())]
    if key is not None:  # which callbacks tell
        mine.append((":key", key.encode()))
    head: list[Arg] = [
        len(graph.steps),
        f"{SEMANTICS_VERSION},{graph.definition_version},{len(graph.steps)},",
        f",{'' if kept_ms is None else kept_ms},{'c' if graph.context else ''},{graph.name}",
        len(fields.own) + len(mine),
        len(fields.payload),
    ]
    slices = list(_slices(fields))
    slices[-1][0].extend(mine)
    if len(slices) > 1:
        yield from tidy(scope, int(workflow_id.partition("-")[0]))
    for _ in range(_RESTARTS):
        for own, payload in slices[:-1]:
            args = ["stage", *_arguments(own, payload)]
            reply = yield scope.on_workflow("insert", workflow_id, args)
            if reply[0] != b"staged":
                break
        phase = "whole" if len(slices) == 1 else "publish"
        args = [phase, *head, *_arguments(*slices[-1])]
        reply = yield scope.on_workflow("insert", workflow_id, args)
        if reply[0] == b"buried" or (reply[0] == b"exists" and mine and reply[4] != mine[0][1]):
            return None
        if reply[0] != b"incomplete":
            static, counts, context = reply[1:4]
            header = Header.parse(static, counts)
            if header.unwalked:
                header, context = yield from advance_all(scope, workflow_id)
            return header.view(workflow_id, context)
    raise RwfError(f"the insert took too long {_RESTARTS} times: its parts were given up")


def tidy(scope: Scope, partition: int) -> Op[None]:
    """Removes what dead inserters have left in a partition; whoever stages much does this too."""
    for left in (yield Call("overdue", scope.keys.partition(partition), [_TIDIED])):
        workflow_id = left.decode(errors="replace")
        if partition_of(workflow_id) == partition:  # what is no id, is a sweep's to remove
            yield scope.on_workflow("insert", workflow_id, ["discard"])


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


def _arguments(own: Pairs, payload: Pairs) -> list[Any]:
    return [len(own), *(part for pair in (*own, *payload) for part in pair)]
