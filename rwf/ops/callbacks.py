"""The outbox: handing callbacks to a handler, showing them, sending them again."""

from __future__ import annotations

import inspect
import logging
import random
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import Any, Final, NamedTuple, TypeVar

import orjson

from rwf.errors import NotFound, StoreUnavailable
from rwf.model.limits import CHUNK, ITEMS_PER_CALL
from rwf.model.names import shown
from rwf.model.retry import seconds
from rwf.model.states import CallbackStatus
from rwf.model.views import Callback, CallbackPosture, CallbackView, DispatchReport
from rwf.ops.base import (
    OpContext,
    Slots,
    ask_partitions,
    catch_errors,
    checked_id,
    checked_text,
    invalid,
    is_partition,
    new_call_id,
    passing_over,
    read,
    readable_id,
    rejected,
    side_by_side,
    unknown_workflow,
    warn_of,
)
from rwf.protocol.callbacks import StoredCallback
from rwf.protocol.declare import Refusal
from rwf.protocol.functions.callbacks import (
    CallbackToClaim,
    ClaimCallbacks,
    DueCallbacks,
    RegisterDispatcher,
    ResendCallback,
    SettleCallbacks,
    SettledCallback,
)
from rwf.protocol.headers import STATIC
from rwf.protocol.keys import home_of, partition_of
from rwf.protocol.requests import CONNECT, Op, ask

Handler = Callable[[Callback], object]
"""The function that is called with each envelope; a coroutine function for ``AsyncClient`` only."""

T = TypeVar("T")

_DISPATCH: Final = "dispatch_callbacks"
_RESEND: Final = "resend_callback"
# How many callbacks most workflows have at most; those are read first, more of them in chunks.
_FEW: Final = 8
# How many callbacks of a partition are looked at together, however many partitions there are.
_LEAST_PAGE: Final = 8
_MEMBER: Final = re.compile(r"([^|]+)\|([1-9][0-9]{0,15})")
_NUMBER: Final = re.compile("[1-9][0-9]{0,15}")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.]{1,128}")

_log = logging.getLogger("rwf")


# --- dispatching ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Claim:
    """A callback that is leased to this dispatcher; the token is the claim's alone."""

    envelope: Callback
    token: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a claim: the handler returned, or raised this."""

    claim: Claim
    error: BaseException | None


class _Due(NamedTuple):
    """A due callback in a partition's outbox."""

    outbox: _Outbox
    workflow_id: str
    number: str


@dataclass(slots=True)
class _Outbox:
    """The due callbacks of one partition, read page by page."""

    partition: int
    passed: set[str] = field(default_factory=set)
    """Members that are not to be claimed (again) in this run."""
    offset: int = 0
    """How many callbacks precede the next page; all of them were passed."""
    is_away: bool = False
    """Whether the partition has not answered, and is left alone for the rest of this run."""

    def take(self, page: Sequence[bytes]) -> list[_Due]:
        """The callbacks of a page that are to be claimed."""
        members = [member.decode(errors="replace") for member in page]
        fresh = [member for member in members if member not in self.passed]
        found: list[_Due] = []
        for member in fresh:
            match = _MEMBER.fullmatch(member)
            if match is None or partition_of(match[1]) != self.partition:
                self.passed.add(member)
            else:
                found.append(_Due(self, match[1], match[2]))
        if not found:
            self.offset += len(members)
        return found


class Dispatch:
    """One run over the outboxes of these partitions, or of all.

    Whoever runs it calls the handler between :meth:`claim` and :meth:`settle`; when they never get
    to the latter, the lease ends by itself. No callback is claimed twice in one run.
    """

    def __init__(
        self,
        ctx: OpContext,
        handler: Handler,
        limit: int,
        lease: float,
        partitions: Sequence[int] | None = None,
    ) -> None:
        if not callable(handler):
            raise invalid(_DISPATCH, "the handler must be callable")
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise invalid(_DISPATCH, "limit must be an integer of 1 or more")
        try:
            self._lease_ms = round(seconds(lease, "lease") * 1000)
        except ValueError as error:
            raise invalid(_DISPATCH, str(error)) from None
        if self._lease_ms < 1:
            raise invalid(_DISPATCH, "lease must be at least 0.001 seconds")
        self.lease = self._lease_ms / 1000
        self._ctx = ctx
        self._partitions = partitions
        self._left = int(limit)  # also of one of a subclass, which cannot be sent
        self._outboxes: list[_Outbox] | None = None
        self._delivered = 0
        self._failed = 0
        self._unreachable: set[int] = set()

    def report(self) -> DispatchReport:
        return DispatchReport(
            delivered=self._delivered,
            failed=self._failed,
            unreachable=tuple(sorted(self._unreachable)),
        )

    def claim(self, room: int) -> Op[list[Claim]]:
        """Leases up to so many of the callbacks that are due; none when none is, for now."""
        room = min(room, self._left)
        if room < 1:
            return []
        if self._outboxes is None:
            self._outboxes = yield from self._begun()
        while found := (yield from self._due(self._outboxes, room)):
            if claims := (yield from self._claim(found)):
                self._left -= len(claims)
                return claims
        return []

    def _begun(self) -> Op[list[_Outbox]]:
        """Registers the dispatcher before it claims anything; returns the outboxes to look at."""
        keys, numbers = self._ctx.keys, self._partitions
        if not keys.partitions:
            yield CONNECT
        try:
            found = yield from ask([keys.meta()], RegisterDispatcher())
        except StoreUnavailable:
            # Who removes workflows has to ask there too: what nobody can read holds all of them
            # back, and other partitions may be reachable.
            _log.debug("the namespace's record is out of reach")
        else:
            # Others may have added some since this client has connected.
            keys.partitions = found.now or keys.partitions
        every = range(keys.partitions) if numbers is None else numbers
        outboxes = [_Outbox(number) for number in every]
        random.shuffle(outboxes)  # so that no partition comes first each time
        return outboxes

    def _due(self, outboxes: Sequence[_Outbox], room: int) -> Op[list[_Due]]:
        """Up to so many that are due, of all partitions in turn."""
        most = max(min(room, _LEAST_PAGE), room // (len(outboxes) or 1))
        asked = [outbox for outbox in outboxes if not outbox.is_away]
        while asked:
            looks = {outbox.partition: DueCallbacks(outbox.offset, most) for outbox in asked}
            pages, away = yield from ask_partitions(self._ctx, looks)
            self._leave(away)
            asked = [outbox for outbox in asked if not outbox.is_away]
            found = [one.take(pages[one.partition]) for one in asked]
            if any(found):
                in_turn = chain.from_iterable(zip_longest(*found))
                return [due for due in in_turn if due is not None][:room]
            # Behind those that are not to be claimed others may stand.
            asked = [one for one in asked if len(pages[one.partition]) == most]
        return []

    def _leave(self, away: Iterable[int]) -> None:
        """Leaves partitions that did not answer alone for the rest of this run."""
        self._unreachable.update(away)
        for outbox in self._outboxes or ():
            outbox.is_away = outbox.is_away or outbox.partition in self._unreachable

    def _claim(self, found: Sequence[_Due]) -> Op[list[Claim]]:
        """Leases what was found, or what comes before it in its workflow."""
        claims: list[Claim] = []
        batches = _batches(found, lambda due: due.outbox.partition)
        done = yield from side_by_side([self._claim_batch(batch) for batch in batches])
        for batch, claimed in zip(batches, done, strict=True):
            if not isinstance(claimed, Exception):
                claims += claimed
                continue
            if isinstance(claimed, StoreUnavailable):
                # Callbacks that it may have leased come again when the lease has passed.
                self._ctx.away.note({batch[0].outbox.partition: claimed})
                self._leave([batch[0].outbox.partition])
                continue
            for due in batch:  # one of them cannot be read
                one = yield from catch_errors(self._claim_batch([due]))
                if isinstance(one, Exception):
                    due.outbox.passed.add(f"{due.workflow_id}|{due.number}")
                    warn_of("a callback", one)
                else:
                    claims += one
        return claims

    def _claim_batch(self, batch: Sequence[_Due]) -> Op[list[Claim]]:
        slots = Slots(self._ctx, batch[0].outbox.partition)
        tokens = [new_call_id() for _ in batch]
        wanted = [
            CallbackToClaim(slots.of(due.workflow_id), due.number, token)
            for due, token in zip(batch, tokens, strict=True)
        ]
        found = yield from ask(slots.keys, ClaimCallbacks(self._lease_ms, wanted))
        claims: list[Claim] = []
        for due, token, one in zip(batch, tokens, found, strict=True):
            if one.outcome == "claimed":
                envelope = StoredCallback.parse(one.record).envelope(
                    due.workflow_id, one.number, one.static, one.key, one.state, one.tags
                )
                claims.append(Claim(envelope, token))
                due.outbox.passed.add(f"{due.workflow_id}|{one.number}")
            elif one.outcome == "other":
                due.outbox.passed.add(f"{due.workflow_id}|{due.number}")
        return claims

    def settle(self, outcomes: Sequence[Outcome]) -> Op[None]:
        """Records for claims, of this run or of another, whether they were delivered.

        Those of partitions that do not answer, while others do, come again when their leases have
        passed. Raises StoreUnavailable when none answers.
        """
        batches = _batches(outcomes, lambda one: partition_of(one.claim.envelope.workflow_id))
        done = yield from side_by_side([self._settle_batch(batch) for batch in batches])
        away: dict[int, StoreUnavailable] = {}
        for batch, failure in zip(batches, done, strict=True):
            if isinstance(failure, StoreUnavailable):
                away[partition_of(batch[0].claim.envelope.workflow_id) or 0] = failure
            elif isinstance(failure, Exception):  # one of them cannot be read
                for one in batch:
                    yield from passing_over(self._settle_batch([one]), "a callback")
        if away:
            if all(isinstance(failure, StoreUnavailable) for failure in done):
                yield from self._any_answer()
            self._ctx.away.note(away)
            self._leave(away)
        for one in outcomes:
            self._delivered += one.error is None
            self._failed += one.error is not None

    def _any_answer(self) -> Op[None]:
        """Raises StoreUnavailable when no partition answers."""
        numbers = range(self._ctx.keys.partitions)
        yield from ask_partitions(self._ctx, dict.fromkeys(numbers, DueCallbacks(0, 1)))

    def _settle_batch(self, batch: Sequence[Outcome]) -> Op[None]:
        partition = home_of(batch[0].claim.envelope.workflow_id)
        slots = Slots(self._ctx, partition)
        settled = []
        for claim, error in ((one.claim, one.error) for one in batch):
            workflow_id, _, number = claim.envelope.callback_id.partition("/")
            jitter = f"{random.random():.6f}"  # noqa: S311 - to spread
            slot = slots.of(workflow_id)
            settled.append(SettledCallback(slot, number, claim.token, jitter, _failure(error)))
        yield from ask(slots.keys, SettleCallbacks(settled))


def _failure(error: BaseException | None) -> str | None:
    """The failure as a text that may be stored."""
    if error is None:
        return None
    name = type(error).__name__
    return name if _PLAIN.fullmatch(name) else "an error"


def _batches(items: Sequence[T], partition: Callable[[T], int | None]) -> list[list[T]]:
    """The items of each partition, cut into what one call takes."""
    groups: dict[int | None, list[T]] = {}
    for item in items:
        groups.setdefault(partition(item), []).append(item)
    return [
        group[at : at + ITEMS_PER_CALL]
        for group in groups.values()
        for at in range(0, len(group), ITEMS_PER_CALL)
    ]


def is_async(handler: Handler) -> bool:
    """Whether a handler is a coroutine function, or an object whose ``__call__`` is one."""
    return any(map(inspect.iscoroutinefunction, (handler, type(handler).__call__)))


def blocking(handler: Handler) -> Handler:
    """The handler where nobody awaits: raises CommandRejected for a coroutine function, and fails
    when it returns something to be awaited, whose work would never be done."""
    if is_async(handler):
        raise invalid(_DISPATCH, "a coroutine function is a handler for AsyncClient only")

    def checked(envelope: Callback) -> None:
        outcome = handler(envelope)
        if inspect.iscoroutine(outcome):
            outcome.close()
        if isinstance(outcome, Awaitable):
            raise TypeError("the handler has to be awaited: use AsyncClient")

    return checked


# --- showing and sending again ----------------------------------------------------------------


def callbacks(ctx: OpContext, workflow_id: str) -> Op[list[CallbackView]]:
    """All callbacks of a workflow, oldest first."""
    w = ctx.keys.record(readable_id(workflow_id))
    views: list[CallbackView] = []
    numbers = range(1, _FEW + 1)
    while True:
        fields = [StoredCallback.field(number) for number in numbers]
        [[static, *records]] = yield from read(w, ("HMGET", w, STATIC, *fields))
        if static is None:
            raise NotFound(f"no workflow {workflow_id}")
        for number, text in zip(numbers, records, strict=True):
            if text is None:
                return views
            views.append(StoredCallback.parse(text).view(workflow_id, number, static))
        numbers = range(numbers.stop, numbers.stop + CHUNK)


def posture(ctx: OpContext, workflow_id: str) -> Op[CallbackPosture]:
    """How many callbacks of a workflow have each status."""
    found = [view.status for view in (yield from callbacks(ctx, workflow_id))]
    delivered, dead = found.count(CallbackStatus.DELIVERED), found.count(CallbackStatus.DEAD)
    return CallbackPosture(pending=len(found) - delivered - dead, delivered=delivered, dead=dead)


def resend(ctx: OpContext, callback_id: str, actor: str | None) -> Op[CallbackView]:
    """Sends a dead or delivered callback once more; raises CommandRejected."""
    workflow_id, number = _checked_callback(callback_id)
    who = checked_text(actor, "actor", _RESEND)
    if not (yield from is_partition(ctx, home_of(workflow_id))):
        raise unknown_workflow(_RESEND, workflow_id)
    note = {"callback_id": callback_id} | ({} if who is None else {"actor": who})
    command = ResendCallback(number, new_call_id(), orjson.dumps(note))
    reply = yield from ask(ctx.workflow_keys(workflow_id), command)
    if isinstance(reply, Refusal):
        raise rejected(_RESEND, "callback", reply)
    return StoredCallback.parse(reply.record).view(workflow_id, int(number), reply.static)


def _checked_callback(callback_id: Any) -> tuple[str, str]:
    given = callback_id if isinstance(callback_id, str) else ""
    workflow_id, _, number = given.partition("/")
    if not _NUMBER.fullmatch(number):
        raise invalid(_RESEND, f"{shown(callback_id)} is not the id of a callback")
    return checked_id(workflow_id, _RESEND), number
