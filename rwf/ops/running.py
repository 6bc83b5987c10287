"""Steps that somebody has in hand, by their leases (contract §17)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final

from rwf.errors import RecordUnreadable
from rwf.model.limits import ITEMS_PER_CALL
from rwf.model.states import StepState
from rwf.model.views import PartialList, RunningStep, RunningSteps
from rwf.ops.base import OpContext, all_partitions, invalid, reach_each, read
from rwf.protocol.codecs import time_of
from rwf.protocol.functions.timers import ListLeases
from rwf.protocol.headers import STATIC
from rwf.protocol.records import Record
from rwf.protocol.requests import Op, ask
from rwf.protocol.stored import HeaderRecord

_MOST: Final = 1_000
_PAGES: Final = 20
"""Of a partition's timers so many pages of 500 are looked through at most: leases end soon, so they
are among the first."""
_STEPS_PER_READ: Final = 200

Lease = tuple[str, str]
"""A workflow's id, and the name of a step of it."""


def running(ctx: OpContext, limit: int) -> Op[RunningSteps]:
    """The steps in hand, those first that were claimed first."""
    if type(limit) is not int or not 1 <= limit <= _MOST:
        raise invalid("read", f"limit must be an integer from 1 to {_MOST:,}")
    parts = yield from leased(ctx)
    found = [step for _, steps in parts for step in steps]
    found.sort(key=lambda step: (step.claimed_at, step.workflow_id, step.step))
    return RunningSteps(
        steps=tuple(found[:limit]),
        count=sum(count for count, _ in parts),
        unreachable=parts.unreachable,
    )


def leased(ctx: OpContext) -> Op[PartialList[tuple[int, list[RunningStep]]]]:
    """For each partition how many steps execute, and those of them whose leases were found."""
    numbers = yield from all_partitions(ctx, anew=True)
    return (yield from reach_each(ctx, {number: _in_partition(ctx, number) for number in numbers}))


def _in_partition(ctx: OpContext, partition: int) -> Op[tuple[int, list[RunningStep]]]:
    keys, leases = ctx.keys.partition(partition), dict[Lease, None]()
    resume_at: int | None = None
    for _ in range(_PAGES):
        page = yield from ask(keys, ListLeases(resume_at))
        for lease in page.leases:
            workflow_id, _, step = lease.decode(errors="replace").partition("|")
            leases[workflow_id, step] = None
        resume_at = page.resume_at_ms
        if resume_at is None or len(leases) >= page.executing:
            break
    found = yield from _read(ctx, list(leases))
    return max(page.executing, len(found)), found


def _read(ctx: OpContext, leases: Sequence[Lease]) -> Op[list[RunningStep]]:
    found: list[RunningStep] = []
    some: dict[str, list[str]] = {}
    for number, (workflow_id, step) in enumerate(leases, 1):
        some.setdefault(workflow_id, []).append(step)
        full = len(some) == ITEMS_PER_CALL or sum(map(len, some.values())) == _STEPS_PER_READ
        if full or number == len(leases):
            found += yield from _read_some(ctx, some)
            some = {}
    return found


def _read_some(ctx: OpContext, some: Mapping[str, Sequence[str]]) -> Op[list[RunningStep]]:
    keys = {workflow_id: ctx.keys.record(workflow_id) for workflow_id in some}
    commands = [("HMGET", keys[id_], STATIC, *steps) for id_, steps in some.items()]
    replies = yield from read(next(iter(keys.values())), *commands)
    found: list[RunningStep] = []
    for (workflow_id, steps), (static, *records) in zip(some.items(), replies, strict=True):
        for step, text in zip(steps, records, strict=True):
            with suppress(RecordUnreadable):  # one that was spoilt holds up no other
                found += _views(workflow_id, static, step, text)
    return found


def _views(
    workflow_id: str, static: bytes | None, step: str, text: bytes | None
) -> Iterator[RunningStep]:
    """A step, unless it has ended meanwhile."""
    if static is None or text is None:
        return
    header, record = HeaderRecord.parse(static), Record.named(step, text)
    if record.running is None or record.state is not StepState.EXECUTING:
        return
    yield RunningStep(
        workflow_id=workflow_id,
        workflow_name=header.name,
        step=step,
        worker=record.worker,
        queue=record.queue,
        attempt=record.attempt,
        worker_id=record.running.worker,
        claimed_at=time_of(header.inserted + record.since),
        lease_expires_at=time_of(header.inserted + record.running.expires),
        dispatched=record.dispatched,
    )
