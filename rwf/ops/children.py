"""Running a workflow as a child of a step, which waits for its end (contract §14).

The child is inserted first, and held: it starts once the step waits for it, which the step does
only under the lease that has asked for the child. So a child whose step has lost its lease never
runs, and of an attempt that is repeated after a crash one child runs. ``child_notices`` carries
what follows.
"""

from __future__ import annotations

import hashlib
from base64 import b32encode
from dataclasses import replace
from functools import partial
from typing import Final

import orjson

from rwf.errors import CommandRejected, NotFound, StoreUnavailable
from rwf.model.builder import Workflow
from rwf.model.states import TERMINAL_WORKFLOWS, Reason, WorkflowState
from rwf.model.views import WorkflowView
from rwf.ops.base import (
    OpContext,
    checked_id,
    checked_text,
    is_partition,
    new_call_id,
    read,
    rejected,
    unknown_workflow,
    wire_name,
    wire_text,
)
from rwf.ops.child_notices import NOT_WAITED_FOR, tell, to_child
from rwf.ops.insert import (
    Checked,
    InsertOptions,
    anywhere,
    checked_insert,
    find,
    insert_as,
    insert_once,
    look_around,
)
from rwf.ops.reads import get, shown_workflow
from rwf.ops.waits import Unsettled, note_unsettled, settle
from rwf.protocol.codecs import time_of_stamp
from rwf.protocol.functions.commands import RecordEvidence
from rwf.protocol.functions.waits import Await
from rwf.protocol.headers import COUNTS, STATIC
from rwf.protocol.records import Record
from rwf.protocol.requests import Op, ask
from rwf.protocol.stored import CountsRecord, HeaderRecord, LinkRecord
from rwf.protocol.waits import Wait

_ACTION: Final = "start_child"
_FAILED_BY_IT: Final = "f"
_NOT_TAKEN: Final = (_FAILED_BY_IT, "a")
"""How a wait for a child has ended whose results the step has not taken."""


def start_child(
    ctx: OpContext, workflow_id: str, step: str, child: Workflow, lease: str, key: str | None
) -> Op[WorkflowView]:
    """Does what :func:`run_child` does, and returns the child's view."""
    child_id, repeated = yield from run_child(ctx, workflow_id, step, child, lease, key)
    view = yield from get(ctx, child_id)
    return view.model_copy(update={"duplicate": repeated})


def run_child(
    ctx: OpContext, workflow_id: str, step: str, child: Workflow, lease: str, key: str | None
) -> Op[tuple[str, bool]]:
    """Inserts a child workflow, once for a lease, and has the step wait for its end; returns the
    child's id, and whether the step was put into this wait before. Raises CommandRejected, and
    WorkflowInvalid for the child."""
    workflow_id = checked_id(workflow_id, _ACTION)
    name = wire_name(step, _ACTION)
    held_under = wire_text(checked_text(lease, "lease", _ACTION) or "")
    one = checked_insert(ctx, child, key)
    if not (yield from is_partition(ctx, int(workflow_id.partition("-")[0]))):
        raise unknown_workflow(_ACTION, workflow_id)
    link = LinkRecord("h", 0, workflow_id, name, held_under)
    child_id = yield from _child_for(ctx, link, one)
    note = orjson.dumps({"child": child_id})
    waiting = Await(name, new_call_id(), held_under, "", "", child_id, note, "")
    reply = yield from ask(ctx.workflow_keys(workflow_id), waiting)
    unsettled: Unsettled = {}
    if reply.header is not None:
        note_unsettled(workflow_id, reply.header, unsettled)
    if reply.refusal is not None:
        # Where it was inserted for this, it is not to run.
        over = to_child(ctx, workflow_id, name, 0, NOT_WAITED_FOR, child_id)
        for moved, header in (yield from tell(ctx, workflow_id, over)) or ():
            note_unsettled(moved, header, unsettled)
        yield from settle(ctx, unsettled)
        raise rejected(_ACTION, "step", reply.refusal)
    yield from settle(ctx, unsettled)
    return child_id, reply.outcome == "duplicate"


def _child_for(ctx: OpContext, link: LinkRecord, one: Checked) -> Op[str]:
    """The child that the step is to wait for: the last one, where that is joined, or one that is
    inserted now. Nothing is inserted where the step is sure to be refused."""
    ours = _id_in(_home(ctx, link), link)
    w = ctx.keys.record(link.workflow)
    fields = link.step, f"~{link.step}", STATIC, COUNTS
    ((step, waited, static, counts),) = yield from read(w, ("HMGET", w, *fields))
    wait = None if waited is None else Wait.parse(waited)
    if wait is not None and wait.lease == link.lease:
        return wait.child or ours
    record = None if step is None else Record.named(link.step, step)
    if record is None or record.lease != link.lease or static is None:
        return ours
    if CountsRecord.parse(counts or b"").cancel and not record.always:
        return ours
    if wait is not None and wait.child is not None and wait.status in _NOT_TAKEN:
        last = yield from shown_workflow(ctx, wait.child)
        if last is not None and _is_joined(last, wait):
            return last.id
    parent = HeaderRecord.parse(static)
    options = InsertOptions(
        kept_ms=parent.retention,
        replace=False,
        actor=None,
        starts="",
        link=link.text(),
        trace=parent.trace,
    )
    yield from look_around(ctx)
    if one.key is not None:
        return (yield from _keyed(ctx, one, one.key, options, link))
    try:
        yield from insert_as(ctx, ours, one, options)
    except StoreUnavailable as error:
        if not error.never_ran or ctx.keys.partitions == 1:
            raise
        return (yield from anywhere(ctx, partial(_insert_in, ctx, one, options, link)))
    return ours


def _is_joined(last: WorkflowView, wait: Wait) -> bool:
    """Whether a step that runs again waits for its last child, rather than for a new one: the child
    has completed, or a recovery has revived it since the step failed by it."""
    if last.state is WorkflowState.COMPLETED:
        return True
    open_ = last.state not in TERMINAL_WORKFLOWS and last.cancel_requested_at is None
    return open_ and wait.status == _FAILED_BY_IT


def _insert_in(
    ctx: OpContext, one: Checked, options: InsertOptions, link: LinkRecord, partition: int
) -> Op[str]:
    child_id = _id_in(partition, link)
    yield from insert_as(ctx, child_id, one, options)
    return child_id


def _home(ctx: OpContext, link: LinkRecord) -> int:
    """The partition of the child that is asked for: the same for each repetition, if it answers."""
    number = int.from_bytes(_digest(link)[-4:]) % ctx.keys.partitions
    living = ctx.away.living(ctx.keys.partitions)
    return number if number in living else living[number % len(living)]


def _id_in(partition: int, link: LinkRecord) -> str:
    return f"{partition}-{b32encode(_digest(link)[:10]).decode().lower()}"


def _digest(link: LinkRecord) -> bytes:
    return hashlib.sha256(f"{link.workflow} {link.step} {link.lease}".encode()).digest()


def _keyed(
    ctx: OpContext, one: Checked, key: str, options: InsertOptions, link: LinkRecord
) -> Op[str]:
    """The child of an insert key: a new one, also in place of an earlier child of the step which
    ended badly; or that earlier child. Raises CommandRejected where the key is another's."""
    try:
        owner: WorkflowView | None = yield from find(ctx, key)
    except NotFound:
        owner = None
    if owner is None or _is_of(owner, link):
        owner = yield from insert_once(ctx, one, key, replace(options, replace=True))
    if _is_of(owner, link):
        return owner.id
    message = f"the key belongs to {owner.id}, which is no child of this step"
    note = orjson.dumps({"source": "client"})
    entry = RecordEvidence(
        _ACTION, Reason.KEY_CONFLICT, new_call_id(), message, note, "step", link.step
    )
    noted = yield from ask(ctx.workflow_keys(link.workflow), entry)
    raise CommandRejected(
        _ACTION,
        "step",
        Reason.KEY_CONFLICT,
        message,
        requested_at=time_of_stamp(noted.stamp),
        workflow_id=owner.id,
    )


def _is_of(view: WorkflowView, link: LinkRecord) -> bool:
    return (view.parent, view.parent_step) == (link.workflow, link.step)
