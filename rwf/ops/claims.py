"""Claiming steps, extending leases, and giving claims back (contract §8)."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeVar

from rwf.errors import RecordUnreadable, StoreUnavailable, WorkflowInvalid
from rwf.model.limits import ITEMS_PER_CALL, QUEUES_PER_CLAIM
from rwf.model.names import checked_name
from rwf.model.retry import seconds
from rwf.model.states import PauseReason
from rwf.model.views import ClaimedStep, HeartbeatReport, PartialList, Ticket
from rwf.ops.base import (
    OpContext,
    Slots,
    all_partitions,
    ask_partitions,
    catch_each,
    checked_id,
    checked_text,
    invalid,
    new_call_id,
    passing_over,
    reach_each,
    side_by_side,
    warn_of,
    wire_name,
    wire_text,
)
from rwf.ops.inputs import Judged, place_of, read_inputs
from rwf.ops.unmet import skip_branches
from rwf.ops.waits import settle_waits
from rwf.protocol.codecs import time_of
from rwf.protocol.declare import ServerFunction
from rwf.protocol.functions.claims import (
    BlockOnMissingResult,
    DispatchSteps,
    ExtendLeases,
    HeldClaim,
    PauseClaims,
    PeekSteps,
    ReleaseClaims,
    ReservedStep,
    ReserveSteps,
    StartedStep,
    StartSteps,
)
from rwf.protocol.handed import Handed
from rwf.protocol.keys import home_of, partition_of
from rwf.protocol.members import QueueEntry
from rwf.protocol.requests import Op, ask

_log = logging.getLogger("rwf")

_CLAIM, _HEARTBEAT, _RELEASE = "claim", "heartbeat", "release"
_MOST: Final = 1_000
_LONGEST_LEASE: Final = 86_400.0
T = TypeVar("T")
H = TypeVar("H", bound=ClaimedStep | Ticket)

OnHeld = Callable[[Sequence[HeldClaim]], ServerFunction[list[T]]]
"""A server function on claims that returns a value for each."""


@dataclass(frozen=True, slots=True)
class Claimer:
    """A worker's claim: its id, its queues, and the length of the lease; or a dispatcher's."""

    queues: tuple[str, ...]
    worker: str
    lease_ms: int
    function: type[StartSteps] | type[DispatchSteps] = StartSteps

    @classmethod
    def checked(cls, queues: Iterable[str], worker_id: str, lease: float | timedelta) -> Claimer:
        """Raises CommandRejected, ``invalid_argument``."""
        names = checked_queues(queues, _CLAIM)
        return cls(names, checked_worker(worker_id, "worker_id", _CLAIM), lease_ms(lease, _CLAIM))


def checked_queues(queues: Iterable[str], action: str) -> tuple[str, ...]:
    """Names of queues, each once; raises CommandRejected, ``invalid_argument``."""
    if isinstance(queues, str) or not isinstance(queues, Iterable):
        raise invalid(action, "queues must be a list of names")
    try:
        names = tuple(dict.fromkeys(checked_name(queue, "a queue") for queue in queues))
    except WorkflowInvalid as error:
        raise invalid(action, error.message) from None
    if not 1 <= len(names) <= QUEUES_PER_CLAIM:
        raise invalid(action, f"{action} takes 1 to {QUEUES_PER_CLAIM} queues")
    return names


def checked_worker(value: str, name: str, action: str) -> str:
    """The name of whoever takes steps, as it is sent; raises CommandRejected,
    ``invalid_argument``."""
    worker = checked_text(value, name, action)
    if worker is None:
        raise invalid(action, f"{action} needs a {name}")
    return wire_text(worker)


def lease_ms(lease: float | timedelta, action: str) -> int:
    """A lease in milliseconds; raises CommandRejected, ``invalid_argument``."""
    return length_ms(lease, "lease", _LONGEST_LEASE, action)


def length_ms(value: float | timedelta, name: str, longest: float, action: str) -> int:
    """A length of time in milliseconds; raises CommandRejected, ``invalid_argument``."""
    try:
        length = seconds(value, name)
    except ValueError as error:
        raise invalid(action, str(error)) from None
    if not 0 < length <= longest:
        raise invalid(action, f"{name} must be more than 0 and at most {longest:.0f} seconds")
    return max(round(length * 1000), 1)


def claimer_for(
    limit: int, queues: Iterable[str], worker_id: str, lease: float | timedelta
) -> Claimer | None:
    """The claimer of ``limit`` steps; None for 0. Raises CommandRejected, ``invalid_argument``."""
    if type(limit) is not int or not 0 <= limit <= _MOST:
        raise invalid(_CLAIM, f"claim_next must be an integer from 0 to {_MOST}")
    return Claimer.checked(queues, worker_id, lease) if limit else None


def claim(
    ctx: OpContext,
    queues: Iterable[str],
    worker_id: str,
    limit: int,
    lease: float | timedelta,
) -> Op[PartialList[ClaimedStep]]:
    """Claims up to ``limit`` steps, those that come first of all partitions.

    When a partition is away, what was claimed in others by then is returned: nobody else could
    tell its holder of it. Raises StoreUnavailable when none answers.
    """
    claimer = Claimer.checked(queues, worker_id, lease)
    return (yield from claim_for(ctx, claimer, limit, _CLAIM))


def claim_for(
    ctx: OpContext, claimer: Claimer, limit: int, action: str
) -> Op[PartialList[ClaimedStep]]:
    """Claims up to ``limit`` steps for a worker or a dispatcher; see :func:`claim`."""
    if type(limit) is not int or not 1 <= limit <= _MOST:
        raise invalid(action, f"limit must be an integer from 1 to {_MOST}")
    numbers = yield from all_partitions(ctx)
    found: PartialList[ClaimedStep] = PartialList()
    more = True
    try:
        while more and len(found) < limit:
            wanted = limit - len(found)
            if len(numbers) == 1:
                asked = min(wanted, ITEMS_PER_CALL)
                taken, claims = yield from claim_in(ctx, 0, claimer, asked)
                found += claims
                more = taken == asked
            else:
                more = yield from _claim_first(ctx, claimer, wanted, found)
    except StoreUnavailable:
        if not found:
            raise
    return found


def _claim_first(
    ctx: OpContext, claimer: Claimer, wanted: int, found: PartialList[ClaimedStep]
) -> Op[bool]:
    """Claims of all partitions together; whether there may be more.

    It looks first where the entries are that come first, and takes only these: what somebody
    reserves and does not start, others wait for.
    """
    peek = PeekSteps(min(wanted, ITEMS_PER_CALL), claimer.queues)
    numbers = [n for n in range(ctx.keys.partitions) if n not in found.unreachable]
    seen, away = yield from ask_partitions(ctx, dict.fromkeys(numbers, peek))
    found.unreachable = tuple(sorted({*found.unreachable, *away}))
    entries = [(QueueEntry.parse(entry).rank, n) for n, some in seen.items() for entry in some]
    shares = Counter(n for _, n in sorted(entries)[:wanted])
    if not shares:
        return False
    reserve = {n: ReserveSteps(most, claimer.queues) for n, most in shares.items()}
    taken, away = yield from ask_partitions(ctx, reserve)
    starts = {n: start(ctx, n, claimer, some) for n, some in taken.items() if some}
    started = yield from reach_each(ctx, starts)
    found.unreachable = tuple(sorted({*found.unreachable, *away, *started.unreachable}))
    for claims in started:
        found += claims
    return bool(starts)


def claim_in(
    ctx: OpContext, partition: int, claimer: Claimer, limit: int
) -> Op[tuple[int, list[ClaimedStep]]]:
    """Claims in one partition: how many entries it had, and the claims."""
    reserve = ReserveSteps(limit, claimer.queues)
    entries = yield from ask(ctx.keys.partition(partition), reserve)
    if not entries:
        return 0, []
    return len(entries), (yield from start(ctx, partition, claimer, entries))


def reserve_each(
    ctx: OpContext, partitions: Sequence[int], claimer: Claimer, limit: int
) -> Op[dict[int, list[bytes]]]:
    """Reserves up to ``limit`` entries in each of these partitions, in one round trip; by the
    partitions that answer. Raises StoreUnavailable when none does."""
    reserve = ReserveSteps(limit, claimer.queues)
    found, _ = yield from ask_partitions(ctx, dict.fromkeys(partitions, reserve))
    return found


def start(
    ctx: OpContext, partition: int, claimer: Claimer, entries: Sequence[bytes]
) -> Op[list[ClaimedStep]]:
    """Starts the steps of entries that were reserved.

    A workflow that nothing can be made of keeps nobody else from their steps: its entries are
    skipped, and return to their queue by themselves.
    """
    found = yield from catch_each(
        lambda some: _start(ctx, partition, claimer, some), entries, _place_of
    )
    whole = [claimed for claimed in found if isinstance(claimed, ClaimedStep)]
    left = [claimed for claimed in found if isinstance(claimed, Handed)]
    return whole + (yield from fill_in(ctx, left))


def _place_of(entry: bytes) -> str:
    _, workflow_id, step = QueueEntry.parse(entry)
    return place_of((workflow_id, step))


def _start(
    ctx: OpContext, partition: int, claimer: Claimer, entries: Sequence[bytes]
) -> Op[list[ClaimedStep | Handed]]:
    slots = Slots(ctx, partition)
    reserved = [reserved_step(slots, entry) for entry in entries]
    function = claimer.function(new_call_id(), claimer.worker, claimer.lease_ms, reserved)
    started = yield from ask(slots.keys, function)
    whole, left = yield from read_claims(ctx, entries, started.claims)
    for workflow_id, slot in slots:
        if started.has_notices[slot - 1]:
            yield from passing_over(settle_waits(ctx, workflow_id), f"workflow {workflow_id}")
    return [*whole, *left]


def reserved_step(slots: Slots, entry: bytes) -> ReservedStep:
    """A reserved entry as it is sent."""
    place, workflow_id, step = QueueEntry.parse(entry)
    return ReservedStep(slots.of(workflow_id), step, place)


def read_claims(
    ctx: OpContext, entries: Sequence[bytes], claims: Sequence[StartedStep | None]
) -> Op[tuple[list[ClaimedStep], list[Handed]]]:
    """The claims made of entries, and those of which something is still to be read.

    Those that lack a result wait for it from now on, those whose condition does not hold have
    skipped their branch, and those that cannot be read pause. One of which nothing can be read is
    passed over: its lease expires, as if its claimer had died.
    """
    judged = Judged(ctx.max_input)
    left: list[Handed] = []
    for entry, started in zip(entries, claims, strict=True):
        if started is None:
            continue
        try:
            handed = Handed.parse(entry, started)
        except RecordUnreadable as error:
            warn_of(_place_of(entry), error)
        else:
            if handed.left or judged.lacks(handed):
                left.append(handed)
    yield from give_up(ctx, judged)
    return list(judged.whole.values()), left


def fill_in(ctx: OpContext, claims: Sequence[Handed]) -> Op[list[ClaimedStep]]:
    """These claims, after reading what they lack; those that cannot be filled in are given up.

    When their partition is away meanwhile, those are returned that were filled in by then: nobody
    else could tell their holder of them.
    """
    judged = Judged(ctx.max_input)
    try:
        yield from read_inputs(ctx, claims, judged)
        yield from give_up(ctx, judged)
    except StoreUnavailable as error:
        _log.warning("the inputs of claimed steps could not be read: %s", error)
    return list(judged.whole.values())


def give_up(ctx: OpContext, judged: Judged) -> Op[None]:
    """Gives back the claims that cannot run. Where their partition is away their leases expire, and
    the claims that can run still reach their holder."""
    try:
        if judged.missing:
            yield from _on_each(ctx, judged.missing, BlockOnMissingResult)
        if judged.unmet:
            yield from skip_branches(ctx, judged.unmet)
        for reason, claims in judged.paused.items():
            yield from pause(ctx, claims, reason)
    except StoreUnavailable as error:
        _log.warning("claims that cannot run could not be given back: %s", error)


def heartbeat(
    ctx: OpContext, claims: Iterable[ClaimedStep], lease: float | timedelta
) -> Op[HeartbeatReport]:
    """Extends leases; a lost one changes nothing, and one of a workflow that nothing can be made of
    is lost."""
    length, held_by = lease_ms(lease, _HEARTBEAT), _checked(claims, ClaimedStep, _HEARTBEAT)
    reports = yield from _on_each(ctx, held_by, lambda held: ExtendLeases(length, held))
    leases = {id(held): lease for held, lease in reports}
    extended: list[ClaimedStep] = []
    lost: list[ClaimedStep] = []
    asked: list[ClaimedStep] = []
    for held in held_by:
        if partition_of(held.workflow_id) in reports.unreachable:
            continue
        found = leases.get(id(held))
        if found is None or found.ends_ms is None:
            lost.append(held)
            continue
        claimed = held.model_copy(update={"lease_expires_at": time_of(found.ends_ms)})
        extended.append(claimed)
        if found.cancel_requested:
            asked.append(claimed)
    return HeartbeatReport(
        extended=tuple(extended),
        lost=tuple(lost),
        cancel_requested=tuple(asked),
        unreachable=reports.unreachable,
    )


def release(ctx: OpContext, claims: Iterable[ClaimedStep | Ticket]) -> Op[int]:
    """Gives unstarted work back, uncounted; returns how many of the leases and tickets were still
    valid."""
    held_by = _checked(claims, (ClaimedStep, Ticket), _RELEASE)
    reports = yield from _on_each(ctx, held_by, ReleaseClaims)
    return sum(stood for _, stood in reports)


def pause(ctx: OpContext, claims: Sequence[ClaimedStep], reason: PauseReason) -> Op[int]:
    """Pauses steps that could not be begun, uncounted; returns how many leases were still valid.

    A step pauses for 0.5 s, and each time in a row for twice as long, up to 30 s (``pauses.lua``).
    """
    reports = yield from _on_each(ctx, claims, lambda held: PauseClaims(reason.value, held))
    return sum(stood for _, stood in reports)


def _checked(claims: Iterable[H], kinds: type[H] | tuple[type[H], ...], action: str) -> list[H]:
    found = list(claims) if isinstance(claims, Iterable) else [None]
    if not all(isinstance(claimed, kinds) for claimed in found):
        raise invalid(action, "claims must be ClaimedStep items")
    for claimed in found:
        checked_id(claimed.workflow_id, action)
        wire_name(claimed.step, action)
        if not isinstance(claimed.lease, str):
            raise invalid(action, "a claim's lease must be a string")
    return found


def _on_each(
    ctx: OpContext, claims: Sequence[H], function: OnHeld[T]
) -> Op[PartialList[tuple[H, T]]]:
    """Each claim with what the function answers of it; without those of a workflow that nothing can
    be made of."""
    found: PartialList[tuple[H, T]] = PartialList()
    failed: dict[int, StoreUnavailable] = {}
    batches = list(_by_partition(claims))
    ops = [_on_batch(ctx, batch, function) for batch in batches]
    done = yield from side_by_side(ops)
    for batch, one in zip(batches, done, strict=True):
        if isinstance(one, StoreUnavailable):
            failed[home_of(batch[0].workflow_id)] = one
        elif isinstance(one, Exception):
            raise one
        else:
            found += one
    ctx.away.note(failed)
    if failed and not found:
        raise next(iter(failed.values()))
    found.unreachable = tuple(sorted(failed))
    return found


def _on_batch(ctx: OpContext, batch: Sequence[H], function: OnHeld[T]) -> Op[list[tuple[H, T]]]:
    return catch_each(
        lambda some: _on_claims(ctx, some, function),
        batch,
        lambda claimed: f"step {claimed.step} of {claimed.workflow_id}",
    )


def _on_claims(ctx: OpContext, claims: Sequence[H], function: OnHeld[T]) -> Op[list[tuple[H, T]]]:
    slots = Slots(ctx, home_of(claims[0].workflow_id))
    held = [
        HeldClaim(
            slots.of(claimed.workflow_id),
            wire_name(claimed.step, _HEARTBEAT),
            wire_text(claimed.lease),
        )
        for claimed in claims
    ]
    answers = yield from ask(slots.keys, function(held))
    return list(zip(claims, answers, strict=True))


def _by_partition(claims: Iterable[H]) -> Iterator[Sequence[H]]:
    by_partition: dict[str, list[H]] = {}
    for claimed in claims:
        by_partition.setdefault(claimed.workflow_id.partition("-")[0], []).append(claimed)
    for some in by_partition.values():
        for start in range(0, len(some), ITEMS_PER_CALL):
            yield some[start : start + ITEMS_PER_CALL]
