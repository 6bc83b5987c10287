"""When the attempts of a workflow's steps waited, ran and ended, and the critical path (contract
§17)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final
from urllib.parse import unquote

from rwf.model.states import StepState
from rwf.model.views import EvidenceView, Timeline, TimelineAttempt, TimelineStep
from rwf.ops.base import OpContext
from rwf.ops.reads import edges_of_all, entries_of, records, rows
from rwf.protocol.codecs import time_of
from rwf.protocol.headers import Header
from rwf.protocol.members import came_in_us
from rwf.protocol.records import Record
from rwf.protocol.requests import Op

# The evidence of a lease that was taken away, and what it says of the attempt and of its holder.
_LEASES: Final = frozenset({"lease_expired", "timed_out", "lease_taken"})
_LEASE: Final = re.compile(r"the lease ([0-9]+)-\S+ of (\S*) (?:has|was) ")
_UNDER_WAY: Final = frozenset(
    {StepState.AVAILABLE, StepState.EXECUTING, StepState.RETRYABLE, StepState.AWAITING_SIGNAL}
)

Attempts = Mapping[str, Sequence[TimelineAttempt]]


def timeline(ctx: OpContext, workflow_id: str) -> Op[Timeline]:
    """Reads all steps and their attempts, without payloads; raises NotFound."""
    loaded, steps = yield from records(ctx, workflow_id)
    header = loaded.header
    edges = yield from edges_of_all(ctx, workflow_id, steps, up=True)
    parents = {
        record.name: [name for name, _ in above] for record, above in zip(steps, edges, strict=True)
    }
    names = [record.name for record in steps if record.reported]
    reported = yield from rows(ctx, workflow_id, names, payloads=False)
    evidence = yield from entries_of(ctx, workflow_id, "accepted")
    ended = {record.name: header.at(record.finished) for record in steps}
    attempts: defaultdict[str, list[TimelineAttempt]] = defaultdict(list)
    for row in reported:
        view = row.view()
        attempts[row.step].append(
            TimelineAttempt(
                attempt=row.attempt,
                available_at=view.available_at,
                claimed_at=view.claimed_at,
                ended_at=view.recorded_at,
                worker_id=view.worker_id,
                status=view.status,
            )
        )
    for lost in _lost_leases(entry for _, entry in evidence):
        attempts[lost[0]].append(lost[1])
    path = _critical_path(steps, header, parents, ended)
    critical = frozenset(path)
    return Timeline(
        workflow=loaded.workflow(),
        steps=tuple(
            TimelineStep(
                step=record.name,
                state=record.state,
                attempts=tuple(_attempts(record, header, attempts, parents, ended)),
                critical=record.name in critical,
            )
            for record in steps
        ),
        critical_path=tuple(path),
        read_at=time_of(loaded.now),
    )


def _lost_leases(evidence: Iterator[EvidenceView]) -> Iterator[tuple[str, TimelineAttempt]]:
    """The attempts whose leases were taken away, which have reported nothing."""
    for entry in evidence:
        said = _LEASE.match(entry.message)
        if entry.reason_code in _LEASES and entry.step is not None and said:
            yield (
                entry.step,
                TimelineAttempt(
                    attempt=int(said[1]),
                    available_at=None,
                    claimed_at=None,
                    ended_at=entry.requested_at,
                    worker_id=unquote(said[2]),
                    status=entry.reason_code,
                ),
            )


def _attempts(
    record: Record,
    header: Header,
    known: Attempts,
    parents: Mapping[str, Sequence[str]],
    ended: Mapping[str, datetime | None],
) -> Iterator[TimelineAttempt]:
    """A step's attempts in their order; the first became available when its last parent ended."""
    found = sorted(known.get(record.name, ()), key=lambda one: (one.attempt, one.ended_at))
    if record.state in _UNDER_WAY:
        found.append(_under_way(record, header))
    for number, attempt in enumerate(found):
        if number == 0 and attempt.available_at is None:
            times = [at for name in parents[record.name] if (at := ended[name]) is not None]
            at = max(times, default=header.at(0))
            yield attempt.model_copy(update={"available_at": at})
        else:
            yield attempt


def _under_way(record: Record, header: Header) -> TimelineAttempt:
    """The attempt that a step is in, or is to begin."""
    held = record.running if record.state is StepState.EXECUTING else None
    running = None if record.dispatched else held
    waits = running is None and record.state is not StepState.AWAITING_SIGNAL
    return TimelineAttempt(
        attempt=record.attempt + waits,
        available_at=time_of(came_in_us(record.order) // 1000) if record.order else None,
        claimed_at=None if running is None else header.at(record.since),
        ended_at=None,
        worker_id=None if held is None else held.worker,
        status="dispatched" if record.dispatched else record.state,
    )


def _critical_path(
    steps: Sequence[Record],
    header: Header,
    parents: Mapping[str, Sequence[str]],
    ended: Mapping[str, datetime | None],
) -> list[str]:
    under_way = [record for record in steps if record.state in _UNDER_WAY]
    if under_way:
        name = min(under_way, key=lambda record: (record.since, record.position)).name
    else:
        finished = [(at, name) for name, at in ended.items() if at is not None]
        if not finished:
            return []
        name = max(finished)[1]
    path = [name]
    while above := [(at, name) for name in parents[path[-1]] if (at := ended[name]) is not None]:
        path.append(max(above)[1])
    return path[::-1]
