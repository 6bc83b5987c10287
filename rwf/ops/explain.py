"""Loading what an explanation needs, and explaining."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from rwf.errors import NotFound, RecordUnreadable, StoreUnavailable
from rwf.model.limits import CHUNK, LISTED, REPLY_ITEMS
from rwf.model.operator_status import step_status, workflow_status
from rwf.model.references import Ref
from rwf.model.result_refs import ResultMissing, fill, lists_in, outcomes_in, references
from rwf.model.states import (
    FAILED_STEPS,
    OPEN_STEPS,
    SEMANTICS_VERSION,
    TERMINAL_STEPS,
    WITHOUT_RESULT,
    EdgePolicy,
    StepState,
    resolves,
)
from rwf.model.views import (
    CallbackPosture,
    ChildWorkflow,
    Dependency,
    QueueView,
    RootCause,
    StepExplanation,
    WorkflowExplanation,
)
from rwf.ops.base import OpContext, all_of, both, read, wire_name
from rwf.ops.callbacks import posture
from rwf.ops.explanation import (
    Awaited,
    actions,
    blockers,
    step_diagnosis,
    workflow_diagnosis,
)
from rwf.ops.inputs import read_item
from rwf.ops.queues import queue_of
from rwf.ops.reads import Loaded, edges, edges_of_all, get, latest_rejection, load, records, rows
from rwf.ops.recover import latest_recovery
from rwf.ops.root_causes import (
    Holds,
    is_held,
    root_causes_of_step,
    root_causes_of_workflow,
    steps_that_may_run,
)
from rwf.ops.signals import swallowed_by
from rwf.ops.skips import skip_origins
from rwf.protocol.codecs import value_of
from rwf.protocol.functions.reads import Ancestry
from rwf.protocol.headers import Header
from rwf.protocol.pauses import Pause
from rwf.protocol.records import Record, Row
from rwf.protocol.requests import Op, Read, ask
from rwf.protocol.waits import Wait

_PLACES_PER_CALL: Final = 250
# Steps that may be root causes of a workflow whether they hold others or not.
_CAUSING: Final = OPEN_STEPS | FAILED_STEPS


def explain_step(ctx: OpContext, workflow_id: str, name: str) -> Op[StepExplanation]:
    wire = wire_name(name, "explain_step")
    loaded, rejection = yield from both(
        load(ctx, workflow_id, names=[wire]), latest_rejection(ctx, workflow_id, name)
    )
    record, header = loaded.records[0], loaded.header
    parts: list[Op[Any]] = [
        _above(ctx, workflow_id, header, record),
        _parents(ctx, workflow_id, record),
        _queue(ctx, workflow_id, record),
        _waiting(ctx, loaded, name),
        _missing(ctx, workflow_id, record),
        skip_origins(ctx, workflow_id, record),
    ]
    holds, above, queue, waiting, missing, skipped_by = yield from all_of(parts)
    parents, parent_records = above
    holds.pauses = yield from _pauses(ctx, workflow_id, [name, *holds.retryable()], holds)
    holds.run = yield from _run(ctx, workflow_id, header, holds)
    causes, cause_count = root_causes_of_step(holds, name)
    reported = [*parent_records.values(), *(holds.records[cause.step] for cause in causes)]
    latest = yield from _latest(ctx, workflow_id, reported)
    causes = yield from _with_children(ctx, holds, causes, latest, Reach())
    held_by = [holds.records[parent] for parent in holds.parents.get(name, ())]
    why = blockers(
        header,
        record,
        held_by,
        loaded.now,
        queue=queue,
        wait=waiting,
        missing=missing,
        pause=holds.pauses.get(name),
    )
    dependencies = tuple(
        _dependency(parent_records[parent], policy, latest) for parent, policy in parents
    )
    edges_up = [
        resolves(parent_records[parent].state, policy, parent_records[parent].cause)
        for parent, policy in parents
    ]
    held_down = False in edges_up or any(parent.state in TERMINAL_STEPS for parent in held_by)
    return StepExplanation(
        workflow_id=workflow_id,
        step=name,
        operator_status=step_status(
            record.state,
            frozenset(blocker.code for blocker in why),
            deserted=queue is not None and queue.asked_at is not None and not queue.served,
        ),
        state=record.state,
        diagnosis=step_diagnosis(record, why, causes, skipped_by),
        blockers=tuple(why),
        dependencies=dependencies,
        dependency_count=record.parent_count,
        root_causes=tuple(causes),
        root_cause_count=cause_count,
        executable_actions=actions(header, record, held_down=held_down),
        latest_rejection=rejection,
        skipped_by=skipped_by,
    )


def _queue(ctx: OpContext, workflow_id: str, record: Record) -> Op[QueueView | None]:
    """The queue that an available step waits in."""
    if record.state is not StepState.AVAILABLE:
        return None
    return (yield from queue_of(ctx, workflow_id, record.queue))


def _waiting(ctx: OpContext, loaded: Loaded, name: str) -> Op[Awaited | None]:
    """The wait of a step, present or past."""
    wait = loaded.waits.get(name)
    if wait is None:
        return None
    swallowed = None if wait.child else (yield from swallowed_by(ctx, wait))
    return Awaited(wait.view(loaded.workflow_id, name), swallowed)


def _missing(ctx: OpContext, workflow_id: str, record: Record) -> Op[Ref | None]:
    """The first reference of a step's input that leads nowhere now; None when all are there."""
    if not record.lacks_result:
        return None
    name = record.name
    loaded = yield from load(ctx, workflow_id, names=[name], payloads=True)
    value = value_of(loaded.inputs[0])
    names = list(dict.fromkeys(ref.step for ref in references(value)))
    outcomes = {ref.step: None for ref in outcomes_in(value)} if "o" in record.payloads else None
    lists = yield from _lists(ctx, workflow_id, record, value)
    for appended in (lists or {}).values():
        names += appended
    results: dict[str, Any] = {}
    null: set[str] = set()
    for step in names:
        (parent,) = (yield from load(ctx, workflow_id, names=[step])).records
        if parent.state is not StepState.COMPLETED or parent.cause in WITHOUT_RESULT:
            null.add(step)
            continue
        for one in (yield from rows(ctx, workflow_id, [step], payloads=True, latest=True)):
            results[step] = value_of(one.payload)
    try:
        fill(value, results, frozenset(null), outcomes, lists)
    except ResultMissing as error:
        return error.ref
    return None


def _lists(
    ctx: OpContext, workflow_id: str, record: Record, value: Any
) -> Op[dict[str, list[str]] | None]:
    """The steps appended by those that an input refers to; None where it refers to none."""
    if "l" not in record.payloads:
        return None
    found: dict[str, list[str]] = {}
    for ref in lists_in(value):
        names = found.setdefault(ref.step, [])
        while len(names) % CHUNK == 0:
            item = f"l{ref.step}:{len(names) // CHUNK}"
            text, _ = yield from read_item(ctx, workflow_id, record.name, item)
            if not text:
                break
            names += text.decode().split(",")
    return found


def _pauses(
    ctx: OpContext, workflow_id: str, names: Sequence[str], holds: Holds
) -> Op[dict[str, Pause]]:
    """The latest pauses of those of these steps that are retryable; of at most as many as are
    listed."""
    retryable = [name for name in names if holds.records[name].state is StepState.RETRYABLE]
    payloads = ctx.keys.payloads(workflow_id)
    found: dict[str, Pause] = {}
    for start in range(0, min(len(retryable), LISTED), REPLY_ITEMS):
        some = retryable[start : start + REPLY_ITEMS]
        fields = [Pause.field(name) for name in some]
        (texts,) = yield Read(payloads, [("HMGET", payloads, *fields)])
        if isinstance(texts, list):  # else somebody has overwritten the key
            pairs = zip(some, texts, strict=True)
            found |= {name: Pause.parse(text) for name, text in pairs if text is not None}
    return found


def _above(ctx: OpContext, workflow_id: str, header: Header, record: Record) -> Op[Holds]:
    """The steps that hold a step, all the way up."""
    holds = Holds(
        {record.name: record},
        requested=header.cancel is not None,
        scheduled=header.starts is not None,
        for_parent=header.link is not None and header.link.state == "h",
    )
    if not is_held(record):
        return holds
    # Steps, and chunks of their parents ("name#n"), to be walked, and those that have been.
    waiting = {record.name: None}
    done: set[str] = set()
    told: set[tuple[str, str]] = set()
    while waiting:
        asked = list(islice(waiting, _PLACES_PER_CALL))
        ancestors = yield from ask(ctx.workflow_keys(workflow_id), Ancestry(asked))
        found = {step.name: Record.named(step.name, step.record) for step in ancestors.steps}
        for edge in ancestors.edges:
            if edge not in told:
                told.add(edge)
                holds.add(edge.child, found[edge.parent])
        further = set(ancestors.places)
        walked = set(asked)
        walked |= {name for name, parent in found.items() if is_held(parent)}
        done |= walked - further
        for place in done & waiting.keys():
            del waiting[place]
        waiting |= dict.fromkeys(sorted(further - done))
    return holds


def _parents(
    ctx: OpContext, workflow_id: str, record: Record
) -> Op[tuple[list[tuple[str, EdgePolicy]], dict[str, Record]]]:
    """A step's edges from its parents, as many as are listed, and the parents' records."""
    parents = yield from edges(ctx, workflow_id, record, up=True, limit=LISTED)
    found: dict[str, Record] = {}
    names = [name for name, _ in parents]
    for start in range(0, len(names), _PLACES_PER_CALL):
        some = names[start : start + _PLACES_PER_CALL]
        for parent in (yield from load(ctx, workflow_id, names=some)).records:
            found[parent.name] = parent
    return parents, found


def _latest(
    ctx: OpContext, workflow_id: str, some: Iterable[Record]
) -> Op[dict[str, tuple[int, Row]]]:
    """The latest results of these steps, with their attempts, as far as they have reported."""
    names = list(dict.fromkeys(record.name for record in some if record.reported))
    found = yield from rows(ctx, workflow_id, names, payloads=False, latest=True)
    return {one.step: (one.attempt, one.row) for one in found}


def _with_result(cause: RootCause, latest: Mapping[str, tuple[int, Row]]) -> RootCause:
    if cause.step not in latest:
        return cause
    attempt, row = latest[cause.step]
    return cause.model_copy(update={"attempt": attempt, "summary": row.note.get("summary")})


def _dependency(
    parent: Record, policy: EdgePolicy, latest: Mapping[str, tuple[int, Row]]
) -> Dependency:
    status = latest[parent.name][1].status if parent.name in latest else None
    return Dependency(step=parent.name, state=parent.state, policy=policy, result_status=status)


@dataclass(slots=True)
class Reach:
    """How far an explanation may still reach into children, and into children of children."""

    workflows: int = 20
    steps: int = 100_000
    depth: int = 5


_CHILD_CAUSES: Final = 10
"""How many root causes of a child are listed."""


def _run(ctx: OpContext, workflow_id: str, header: Header, holds: Holds) -> Op[dict[str, str]]:
    """The child workflows that root causes wait for; of at most as many as are listed."""
    if header.semantics_version == SEMANTICS_VERSION:
        return {}
    names = holds.awaiting()
    w = ctx.keys.record(workflow_id)
    found: dict[str, str] = {}
    for start in range(0, min(len(names), LISTED), REPLY_ITEMS):
        some = names[start : start + REPLY_ITEMS]
        (texts,) = yield from read(w, ("HMGET", w, *(f"~{name}" for name in some)))
        for name, text in zip(some, texts, strict=True):
            wait = None if text is None else Wait.parse(text)
            if wait is not None and wait.child is not None:
                found[name] = wait.child
    return found


def _with_children(
    ctx: OpContext,
    holds: Holds,
    causes: Iterable[RootCause],
    latest: Mapping[str, tuple[int, Row]],
    reach: Reach,
) -> Op[list[RootCause]]:
    """Root causes, with their latest results, and with what holds their children."""
    found = []
    for cause in (_with_result(cause, latest) for cause in causes):
        child = holds.run.get(cause.step)
        if cause.state is StepState.FAILED and cause.step in latest:
            child = latest[cause.step][1].note.get("child")
        if child is not None and reach.workflows > 0:
            reach.workflows -= 1
            inside = yield from _child_workflow(ctx, child, reach)
            found.append(cause.model_copy(update={"child": inside}))
        else:
            found.append(cause)
    return found


def _child_workflow(ctx: OpContext, child: str, reach: Reach) -> Op[ChildWorkflow]:
    """A child, and what holds it; nothing in it that cannot be read is an error here."""
    try:
        return (yield from _looked_into(ctx, child, reach))
    except StoreUnavailable:
        return ChildWorkflow(workflow_id=child, problem="unreachable")
    except NotFound:
        return ChildWorkflow(workflow_id=child, problem="gone")
    except RecordUnreadable:
        return ChildWorkflow(workflow_id=child, problem="unreadable")


def _looked_into(ctx: OpContext, child: str, reach: Reach) -> Op[ChildWorkflow]:
    view = yield from get(ctx, child)
    bare = ChildWorkflow(workflow_id=child, name=view.name, state=view.state)
    if reach.depth == 0 or view.step_count > reach.steps:
        return bare.model_copy(update={"problem": "too_much"})
    reach.steps -= view.step_count
    first, all_records = yield from records(ctx, child)
    reach.depth -= 1
    holds = yield from _whole(ctx, child, first.header, all_records)
    causes, count = yield from _causes(ctx, child, first.header, holds, reach, _CHILD_CAUSES)
    reach.depth += 1
    causes = causes or steps_that_may_run(holds, _CHILD_CAUSES)
    return bare.model_copy(update={"root_causes": tuple(causes), "root_cause_count": count})


def _causes(
    ctx: OpContext,
    workflow_id: str,
    header: Header,
    holds: Holds,
    reach: Reach,
    limit: int,
) -> Op[tuple[list[RootCause], int]]:
    """The root causes of a workflow, at most so many, and how many there are."""
    holds.pauses = yield from _pauses(ctx, workflow_id, holds.retryable(), holds)
    holds.run = yield from _run(ctx, workflow_id, header, holds)
    causes, count = root_causes_of_workflow(holds)
    causes = causes[:limit]
    latest = yield from _latest(ctx, workflow_id, (holds.records[one.step] for one in causes))
    return (yield from _with_children(ctx, holds, causes, latest, reach)), count


def explain(ctx: OpContext, workflow_id: str) -> Op[WorkflowExplanation]:
    first, all_records = yield from records(ctx, workflow_id)
    holds = yield from _whole(ctx, workflow_id, first.header, all_records)
    causes, cause_count = yield from _causes(ctx, workflow_id, first.header, holds, Reach(), LISTED)
    view = first.workflow()
    parts: list[Op[Any]] = [
        _posture(ctx, workflow_id, first.header),
        latest_recovery(ctx, workflow_id),
        latest_rejection(ctx, workflow_id, None),
    ]
    callbacks, recovery, rejection = yield from all_of(parts)
    return WorkflowExplanation(
        workflow_id=workflow_id,
        operator_status=workflow_status(view, review=first.header.needs_review),
        state=view.state,
        diagnosis=workflow_diagnosis(view, causes),
        counts=first.header.counts,
        root_causes=tuple(causes),
        root_cause_count=cause_count,
        callbacks=callbacks,
        latest_recovery=recovery,
        latest_rejection=rejection,
    )


def _posture(ctx: OpContext, workflow_id: str, header: Header) -> Op[CallbackPosture]:
    if not header.callbacks:
        return CallbackPosture()
    return (yield from posture(ctx, workflow_id))


def _whole(
    ctx: OpContext, workflow_id: str, header: Header, all_records: list[Record]
) -> Op[Holds]:
    """All steps of a workflow, and which holds which."""
    by_name = {record.name: record for record in all_records}
    holds = Holds(
        {record.name: record for record in all_records if record.state in _CAUSING},
        requested=header.cancel is not None,
        scheduled=header.starts is not None,
        for_parent=header.link is not None and header.link.state == "h",
    )
    held = [record for record in all_records if is_held(record)]
    parents = yield from edges_of_all(ctx, workflow_id, held, up=True)
    for record, edges_up in zip(held, parents, strict=True):
        for name, policy in edges_up:
            parent = by_name[name]
            if parent.state in OPEN_STEPS:
                holding = record.state is StepState.PENDING
            else:
                holding = resolves(parent.state, policy, parent.cause) is False
            if holding:
                holds.add(record.name, parent)
    return holds
