"""Completing steps, one or many."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import orjson

from rwf.errors import CommandRejected
from rwf.model.fragment import Fragment
from rwf.model.limits import ITEMS_PER_CALL
from rwf.model.retry import seconds
from rwf.model.states import ASKED_CODE, BRANCH_CODE, CompletionStatus
from rwf.model.views import ClaimedStep, CommandResult
from rwf.ops.advance import advance_all, advance_origin, try_to_advance
from rwf.ops.appending import NOT_NOW, grow
from rwf.ops.base import (
    OpContext,
    Slots,
    catch_errors,
    checked_id,
    checked_text,
    encoded_payload,
    invalid,
    is_partition,
    new_call_id,
    passing_over,
    rejected,
    unknown_workflow,
    wire_name,
    wire_text,
)
from rwf.ops.claims import Claimer, fill_in, read_claims, release, reserved_step, start
from rwf.ops.inputs import read_item
from rwf.ops.waits import settle_waits
from rwf.protocol.declare import Refusal
from rwf.protocol.functions.completion import (
    Complete,
    Completed,
    CompletedStep,
    CompletedWorkflow,
    ReportedStep,
)
from rwf.protocol.handed import Handed
from rwf.protocol.headers import Header
from rwf.protocol.keys import home_of
from rwf.protocol.records import Record, Row
from rwf.protocol.requests import Op, ask
from rwf.protocol.waits import Wait

_ACTION: Final = "complete_step"
_STATUSES: Final = {str(status): code for status, code in ASKED_CODE.items()}
_RETRYABLE: Final = ASKED_CODE[CompletionStatus.RETRYABLE]
MAX_SUMMARY: Final = 4096
MAX_TRACEBACK: Final = 16_384
"""How many bytes of a traceback are kept."""
_CUT: Final = b"...\n"
"""Replaces the part of a traceback that is not kept."""
_BYTES_PER_CALL: Final = 262_144
_NO_SLOT: Final = 0
"""The slot of a report that is in no call yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """The report on one step; an item of ``complete_many``.

    The fields are the parameters of :meth:`rwf.Client.complete_step`.
    """

    workflow_id: str
    step: str
    status: CompletionStatus | str = CompletionStatus.COMPLETED
    payload: Any = None
    summary: str | None = None
    lease: str | None = None
    retry_in: float | timedelta | None = None
    actor: str | None = None
    force: bool = False
    command_id: str | None = None
    count: bool = True
    traceback: str | None = None
    branch: bool = False
    append: Fragment | None = None
    join: bool = True


@dataclass(slots=True)
class Item:
    """A completion that was checked, and what is sent of it; ``size``: how many bytes of payload,
    note and traceback that has. ``append``: the steps that it appends, for which those that wait
    for its own step are to wait, too, where ``join`` says so."""

    workflow_id: str
    step: str
    size: int
    report: ReportedStep
    append: Fragment | None = None
    join: bool = True


class NotNow(Exception):
    """A report that appends steps has changed nothing: ``outcome`` as in ``CompletedStep``."""

    def __init__(self, outcome: str) -> None:
        super().__init__(outcome)
        self.outcome = outcome


def complete_step(ctx: OpContext, completion: Completion) -> Op[CommandResult]:
    """One completion; raises CommandRejected when it is refused."""
    return (yield from report_item(ctx, prepared(ctx, completion)))


def report_item(ctx: OpContext, item: Item) -> Op[CommandResult]:
    """One completion that was checked. Raises CommandRejected when it is refused, and
    WorkflowInvalid when what it appends is."""
    if item.append is not None:
        return (yield from report_growing(ctx, item))
    return (yield from _report(ctx, item))


def report_growing(ctx: OpContext, item: Item) -> Op[CommandResult]:
    """One completion that appends steps."""
    assert item.append is not None

    def send(growth: str) -> Op[CommandResult | str]:
        item.report.fragment = growth
        try:
            return (yield from _report(ctx, item))
        except NotNow as reply:
            return reply.outcome

    return (yield from grow(ctx, item.workflow_id, item.append, item.step, item.join, send))


def _report(ctx: OpContext, item: Item) -> Op[CommandResult]:
    results, _ = yield from _complete(ctx, [item], None, 0)
    if isinstance(results[0], Exception):
        raise results[0]
    return results[0]


class Batch(list[CommandResult | CommandRejected]):
    """The answer of ``complete_many``: a result or a refusal for each item, in the order given; and
    in ``claimed`` the steps that it has claimed."""

    claimed: list[ClaimedStep]

    def __init__(self, answers: Iterable[CommandResult | CommandRejected]) -> None:
        super().__init__(answers)
        self.claimed = []


def complete_many(
    ctx: OpContext,
    completions: Iterable[Completion],
    claimer: Claimer | None = None,
    limit: int = 0,
) -> Op[Batch]:
    """Many completions, in one round trip a partition and 64; a refusal stops no other. Nor does a
    workflow that nothing can be made of: that is raised when all others have been reported.

    With a claimer the next steps are claimed on the way, up to ``limit``, in the partitions that
    are visited anyway.
    """
    if not isinstance(completions, Iterable):
        raise invalid(_ACTION, "complete_many takes Completion items")
    results: list[CommandResult | CommandRejected | None] = []
    by_partition: dict[str, list[tuple[int, Item]]] = defaultdict(list)
    growing: list[tuple[int, Item]] = []
    for number, completion in enumerate(completions):
        try:
            item = prepared(ctx, completion)
        except CommandRejected as refusal:
            results.append(refusal)
            continue
        results.append(None)
        if item.append is not None:
            growing.append((number, item))
            continue
        by_partition[item.workflow_id.partition("-")[0]].append((number, item))
    claimed: list[ClaimedStep] = []
    failed: list[Exception] = []
    for batch in [batch for items in by_partition.values() for batch in batches(items)]:
        wanted = min(limit - len(claimed), ITEMS_PER_CALL)
        replies, found = yield from _complete_each(
            ctx, [item for _, item in batch], claimer if wanted > 0 else None, wanted
        )
        claimed += found
        for (number, _), reply in zip(batch, replies, strict=True):
            if isinstance(reply, CommandResult | CommandRejected):
                results[number] = reply
            else:
                failed.append(reply)
    for number, item in growing:
        reported = yield from catch_errors(report_growing(ctx, item))
        if isinstance(reported, CommandResult | CommandRejected):
            results[number] = reported
        else:
            failed.append(reported)
    if failed:
        yield from release(ctx, claimed)  # nobody will hear of them
        raise failed[0]
    answer = Batch(result for result in results if result is not None)
    answer.claimed += claimed
    return answer


def batches(items: Iterable[tuple[int, Item]]) -> Iterator[list[tuple[int, Item]]]:
    """Cuts numbered items into calls. A step stands once in a call: it is compared with stored
    rows."""
    batch: list[tuple[int, Item]] = []
    seen: set[tuple[str, str]] = set()
    size = 0
    for number, item in items:
        step = item.workflow_id, item.step
        full = len(batch) == ITEMS_PER_CALL or (batch and size + item.size > _BYTES_PER_CALL)
        if full or step in seen:
            yield batch
            batch, seen, size = [], set(), 0
        batch.append((number, item))
        size += item.size
        seen.add(step)
    yield batch


def prepared(ctx: OpContext, asked: Completion) -> Item:
    """The completion as it is sent; raises CommandRejected for what can be judged here.

    The same item may be sent again after a lost reply: it keeps its call's id.
    """
    if not isinstance(asked, Completion):
        raise invalid(_ACTION, "complete_many takes Completion items")
    workflow_id = checked_id(asked.workflow_id, _ACTION)
    step = wire_name(asked.step, _ACTION)
    code = _STATUSES.get(asked.status) if isinstance(asked.status, str) else None
    if code is None:
        raise invalid(_ACTION, f"status must be one of {', '.join(_STATUSES)}")
    _check_options(asked, code)
    _check_fragment(ctx, asked)
    if asked.branch:
        code = BRANCH_CODE
    payload = encoded_payload(ctx, asked.payload, _ACTION)
    command = checked_text(asked.command_id, "command_id", _ACTION)
    lease = checked_text(asked.lease, "lease", _ACTION)
    note = _note(asked, command)
    traceback = _traceback(asked.traceback)
    report = ReportedStep(
        slot=_NO_SLOT,
        step=step,
        asked=code,
        call=new_call_id(),
        command_id=wire_text(command or ""),
        lease=wire_text(lease or ""),
        retry_ms=None if asked.retry_in is None else _delay_ms(asked.retry_in),
        jitter=f"{random.random():.6f}" if code == _RETRYABLE else "",  # noqa: S311 - jitter
        force=asked.force,
        uncounted=not asked.count,
        payload=payload,
        note=note,
        traceback=traceback,
    )
    size = len(payload or b"") + len(note) + len(traceback or b"")
    # Without steps there is nothing to append.
    append = asked.append if asked.append is not None and asked.append.steps else None
    return Item(workflow_id, step, size, report, append, asked.join)


def _check_options(asked: Completion, code: str) -> None:
    """Raises CommandRejected for options that the status does not take."""
    retryable = code == _RETRYABLE
    skipped = code == ASKED_CODE[CompletionStatus.SKIPPED]
    if asked.retry_in is not None and not retryable:
        raise invalid(_ACTION, "retry_in goes with status 'retryable' only")
    flags = (asked.force, asked.count, asked.branch)
    if not all(isinstance(flag, bool) for flag in flags):
        raise invalid(_ACTION, "force, count and branch must be True or False")
    if not asked.count and not retryable:
        raise invalid(_ACTION, "count=False goes with status 'retryable' only")
    if not asked.count and (asked.payload is not None or asked.traceback is not None):
        raise invalid(_ACTION, "count=False goes without a payload, and without a traceback")
    if asked.branch and not skipped:
        raise invalid(_ACTION, "branch goes with status 'skipped' only")
    if skipped and asked.payload is not None:
        raise invalid(_ACTION, "a step that is skipped has no payload")


def _check_fragment(ctx: OpContext, asked: Completion) -> None:
    """Raises CommandRejected, and WorkflowInvalid for steps that cannot be appended anywhere."""
    if not isinstance(asked.join, bool):
        raise invalid(_ACTION, "join must be True or False")
    if asked.append is None:
        return
    if not isinstance(asked.append, Fragment):
        raise invalid(_ACTION, "append must be a Fragment")
    if asked.status != CompletionStatus.COMPLETED:
        raise invalid(_ACTION, "append goes with status 'completed' only")
    asked.append.validate(max_payload=ctx.max_payload)


def _delay_ms(retry_in: float | timedelta) -> int:
    try:
        return round(seconds(retry_in, "retry_in") * 1000)
    except ValueError as error:
        raise invalid(_ACTION, str(error)) from None


def _traceback(text: str | None) -> bytes | None:
    """A traceback as it is kept: of a long one only the end, which says what was raised and
    where."""
    if text is None:
        return None
    if not isinstance(text, str):
        raise invalid(_ACTION, "traceback must be a string")
    # Text that is cut off here has no room, however few bytes the rest takes.
    encoded = text[-MAX_TRACEBACK:].encode(errors="replace")
    if len(text) <= MAX_TRACEBACK and len(encoded) <= MAX_TRACEBACK:
        return encoded
    end = encoded[-(MAX_TRACEBACK - len(_CUT)) :].decode(errors="ignore")
    return _CUT + end.encode()


def _note(asked: Completion, command: str | None) -> bytes:
    summary = asked.summary
    if summary is not None and (not isinstance(summary, str) or len(summary) > MAX_SUMMARY):
        raise invalid(_ACTION, f"summary must be a string of at most {MAX_SUMMARY} characters")
    note: dict[str, Any] = {"status": str(asked.status)}
    if summary is not None:
        note["summary"] = summary
    if (actor := checked_text(asked.actor, "actor", _ACTION)) is not None:
        note["actor"] = actor
    if command is not None:
        note["command_id"] = command
    if asked.force:
        note["force"] = True
    if not asked.count:
        note["count"] = False
    if asked.branch:
        note["branch"] = True
    try:
        return orjson.dumps(note)
    except TypeError:
        raise invalid(_ACTION, "summary must not hold lone surrogates") from None


def _complete_each(
    ctx: OpContext, items: Sequence[Item], claimer: Claimer | None, limit: int
) -> Op[tuple[Sequence[CommandResult | Exception], list[ClaimedStep]]]:
    """One batch of one partition, or each of it by itself where that fails."""
    done = yield from catch_errors(_complete(ctx, items, claimer, limit))
    if not isinstance(done, Exception):
        return done
    replies: list[CommandResult | Exception] = []
    for item in items:
        alone = yield from catch_errors(_complete(ctx, [item], None, 0))
        replies += [alone] if isinstance(alone, Exception) else alone[0]
    return replies, []


def _complete(
    ctx: OpContext, items: Sequence[Item], claimer: Claimer | None, limit: int
) -> Op[tuple[list[CommandResult | Exception], list[ClaimedStep]]]:
    """One batch of one partition; and the next claims there, whatever comes of a report's view."""
    partition = home_of(items[0].workflow_id)
    if not (yield from is_partition(ctx, partition)):
        return [unknown_workflow(_ACTION, item.workflow_id) for item in items], []
    slots = Slots(ctx, partition)
    function = _function(slots, items, (), claimer, limit, with_views=True)
    done = yield from ask(slots.keys, function)
    workflows: dict[str, CompletedWorkflow] = {}
    for workflow_id, slot in slots:
        workflow = done.workflows[slot - 1]
        if workflow is not None and workflow.unread:
            context, _ = yield from read_item(ctx, workflow_id, "", "w")
            workflow = workflow._replace(context=context)
        if workflow is not None:
            workflows[workflow_id] = workflow
    results: list[CommandResult | Exception] = []
    for item, answer in zip(items, done.steps, strict=True):
        if isinstance(answer, Refusal):
            results.append(rejected(_ACTION, "step", answer))
        else:
            assert answer is not None
            if answer.outcome in NOT_NOW:
                results.append(NotNow(answer.outcome))
                continue
            workflow = workflows[item.workflow_id]
            results.append((yield from catch_errors(_result(ctx, item, answer, workflow))))
    for workflow_id, workflow in workflows.items():
        if workflow.has_notices:
            yield from passing_over(settle_waits(ctx, workflow_id), f"workflow {workflow_id}")
    if claimer is None:
        return results, []
    claimed, left = yield from read_claims(ctx, done.found, done.claims)
    reserved = _reserved(done)
    if reserved:
        claimed += yield from start(ctx, partition, claimer, reserved)
    return results, claimed + (yield from fill_in(ctx, left))


def _reserved(done: Completed) -> list[bytes]:
    """The entries that are to be started with a later call."""
    return [entry for entry, claim in zip(done.found, done.claims, strict=True) if claim is None]


def _function(
    slots: Slots,
    items: Sequence[Item],
    entries: Sequence[bytes],
    claimer: Claimer | None,
    limit: int,
    *,
    with_views: bool,
) -> Complete:
    reserved = [reserved_step(slots, entry) for entry in entries]
    for item in items:
        item.report.slot = slots.of(item.workflow_id)
    reports = [item.report for item in items]
    if claimer is None:
        return Complete(with_views, 0, "", "", 0, (), reserved, reports)
    return Complete(
        with_views,
        limit,
        new_call_id(),
        claimer.worker,
        claimer.lease_ms,
        claimer.queues,
        reserved,
        reports,
    )


@dataclass(slots=True)
class Exchange:
    """The replies to one round trip of a worker.

    ``refusals`` has one for each completion, None where it was accepted. ``lacking`` are claims of
    which something is still to be read (by ``fill_in``). ``reserved`` are queue entries to be
    started in the next round trip. ``found`` counts the queue entries that the server found.
    ``ended`` are child workflows whose parents have still to learn of their ends.
    """

    refusals: list[CommandRejected | None]
    claimed: list[ClaimedStep]
    lacking: list[Handed]
    reserved: list[bytes]
    found: int
    ended: list[str]


def exchange(
    ctx: OpContext,
    partition: int,
    items: Sequence[Item],
    reserved: Sequence[bytes],
    claimer: Claimer | None,
    limit: int,
) -> Op[Exchange]:
    """A worker's round trip in a partition: reports steps, starts reserved ones, asks for more;
    without a claimer it does but report.

    The items are one of ``batches``, and of this partition; at most 64 are reserved, and at most 64
    asked for. The answers have no views, which would cost more than all else.
    """
    slots = Slots(ctx, partition)
    function = _function(slots, items, reserved, claimer, limit, with_views=False)
    done = yield from ask(slots.keys, function)
    refusals: list[CommandRejected | None] = []
    for item, answer in zip(items, done.steps, strict=True):
        if isinstance(answer, Refusal):
            refusals.append(rejected(_ACTION, "step", answer))
            continue
        refusals.append(None)
        if answer is not None and Row.is_open(answer.row):
            yield from try_to_advance(ctx, item.workflow_id, f"{item.step}:{answer.attempt}")
    claimed, lacking = yield from read_claims(
        ctx, [*reserved, *done.found], [*done.started, *done.claims]
    )
    ended = [one for one, slot in slots if slot in done.ended] if done.ended else []
    return Exchange(refusals, claimed, lacking, _reserved(done), len(done.found), ended)


def _result(
    ctx: OpContext, item: Item, answer: CompletedStep, workflow: CompletedWorkflow
) -> Op[CommandResult]:
    input_, step_context = answer.input, answer.context
    if answer.unread:
        input_, step_context = yield from read_item(ctx, item.workflow_id, item.step, "p")
    header, context = Header.parse(workflow.static, workflow.counts), workflow.context
    wait = answer.wait
    awaiting = Wait.parse(wait).view(item.workflow_id, item.step) if wait else None
    row = Row.parse(answer.row)
    if item.append is not None and header.unwalked:
        # Steps that it depends on may have ended what it appends.
        yield from advance_all(ctx, item.workflow_id)
    if row.open or (item.append is not None and header.unwalked):
        origin = f"{item.step}:{answer.attempt}"
        row, header, context = yield from advance_origin(ctx, item.workflow_id, origin)
    return CommandResult(
        outcome=answer.outcome,
        step=Record.named(item.step, answer.record).view(header, input_, step_context, awaiting),
        workflow=header.view(item.workflow_id, context),
        released=row.released_names,
        released_count=row.released,
        cancelled=row.cancelled_names,
        cancelled_count=row.cancelled,
        appended_count=row.appended,
    )
