"""The outbox: handing callbacks to a handler, showing them, sending them again."""

from __future__ import annotations

import inspect
import logging
import random
import re
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from rwf.errors import NotFound
from rwf.model.limits import CHUNK
from rwf.model.names import shown
from rwf.model.retry import seconds
from rwf.model.states import CallbackStatus
from rwf.model.views import Callback, CallbackPosture, CallbackView, DispatchReport
from rwf.store.callbacks import CallbackRecord
from rwf.store.catalog import CONNECT, Arg, Call, Op
from rwf.store.keys import partition_of
from rwf.store.ops.base import (
    Scope,
    checked_id,
    checked_text,
    invalid,
    is_partition,
    new_call_id,
    passing_over,
    readable_id,
    rejection,
    unknown_workflow,
)

Handler = Callable[[Callback], object]
"""What is called with each envelope; a coroutine function for ``AsyncClient`` only."""

_DISPATCH: Final = "dispatch_callbacks"
_RESEND: Final = "resend_callback"
_MEMBERS_PER_CALL: Final = 100
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


@dataclass(slots=True)
class _Outbox:
    """What one partition has due, read page by page."""

    partition: int
    waiting: deque[str] = field(default_factory=deque)
    seen: set[str] = field(default_factory=set)
    left: int = 0
    """How many stand in front of the next page: those that are not for this release to take."""

    def next(self, scope: Scope, most: int) -> Op[str | None]:
        """The next member, once; None when there is none left."""
        while not self.waiting:
            args: list[Arg] = [self.left, most]
            found = yield Call("due", scope.keys.partition(self.partition), args)
            page = [member.decode() for member in found]
            self.waiting.extend(member for member in page if member not in self.seen)
            self.seen.update(page)
            if not self.waiting:
                if len(page) < most:
                    return None
                self.left += len(page)
        return self.waiting.popleft()


class Dispatch:
    """One run over the outboxes of these partitions, or of all, in turn.

    The client calls the handler between :meth:`claim` and :meth:`settle`; when it never gets to the
    latter, the lease ends by itself. No callback is claimed twice in one run.
    """

    def __init__(
        self,
        scope: Scope,
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
        self._scope = scope
        self._partitions = partitions
        self._left = limit
        self._page = min(limit, _MEMBERS_PER_CALL)
        self._outboxes: deque[_Outbox] | None = None
        self._delivered = 0
        self._failed = 0

    def report(self) -> DispatchReport:
        return DispatchReport(delivered=self._delivered, failed=self._failed)

    def claim(self) -> Op[Claim | None]:
        """The next callback that is due; None when the run is over."""
        if self._outboxes is None:
            self._outboxes = yield from self._all()
        while self._outboxes and self._left:
            outbox = self._outboxes.popleft()
            member = yield from outbox.next(self._scope, self._page)
            if member is None:
                continue
            self._outboxes.append(outbox)
            claim = yield from passing_over(self._claim(outbox, member), "a callback")
            if claim is not None:
                self._left -= 1
                return claim
        return None

    def _all(self) -> Op[deque[_Outbox]]:
        numbers = self._partitions
        if numbers is None:
            keys = self._scope.keys
            if not keys.partitions:
                yield CONNECT
            # Others may have added some since this client has connected.
            found = yield Call("meta", [keys.meta()])
            keys.partitions = int(found[0] or keys.partitions)
            numbers = range(keys.partitions)
        outboxes = deque(_Outbox(number) for number in numbers)
        # No partition comes first each time.
        outboxes.rotate(random.randrange(len(outboxes) or 1))  # noqa: S311
        return outboxes

    def _claim(self, outbox: _Outbox, member: str) -> Op[Claim | None]:
        match = _MEMBER.fullmatch(member)
        if match is None or partition_of(match[1]) != outbox.partition:
            outbox.left += 1
            return None
        workflow_id, number, token = match[1], match[2], new_call_id()
        args: list[Arg] = ["claim", number, token, self._lease_ms]
        kind, *rest = yield self._scope.on_workflow("callback", workflow_id, args)
        if kind == b"other":
            outbox.left += 1
        if kind != b"claimed":
            return None
        record, static = rest
        envelope = CallbackRecord.parse(record).envelope(workflow_id, int(number), static)
        return Claim(envelope, token)

    def settle(self, claim: Claim, error: Exception | None) -> Op[None]:
        """The handler has done its work, or has raised an error."""
        workflow_id, _, number = claim.envelope.callback_id.partition("/")
        args: list[Arg] = ["delivered", number, claim.token]
        if error is not None:
            _log.warning("callback %s failed", claim.envelope.callback_id, exc_info=error)
            name = type(error).__name__
            why = name if _PLAIN.fullmatch(name) else "an error"
            args = ["failed", number, claim.token, f"{random.random():.6f}", why]  # noqa: S311
        yield self._scope.on_workflow("callback", workflow_id, args)
        self._delivered += error is None
        self._failed += error is not None


def attempt(handler: Handler, envelope: Callback) -> tuple[object, Exception | None]:
    """What the handler returned, or raised; what ends the process or the task is raised on."""
    try:
        return handler(envelope), None
    except Exception as error:
        return None, error


def is_async(handler: Handler) -> bool:
    """Whether a handler has to be called in the event loop."""
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


def callbacks(scope: Scope, workflow_id: str) -> Op[list[CallbackView]]:
    """All callbacks of a workflow, oldest first."""
    views: list[CallbackView] = []
    while True:
        first = len(views) + 1
        args: list[Arg] = [first, first + CHUNK - 1]
        reply = yield scope.on_workflow("callbacks", readable_id(workflow_id), args)
        if not reply:
            raise NotFound(f"no workflow {workflow_id}")
        static, _, records = reply
        for number, text in enumerate(records, first):
            views.append(CallbackRecord.parse(text).view(workflow_id, number, static))
        if len(records) < CHUNK:
            return views


def posture(scope: Scope, workflow_id: str) -> Op[CallbackPosture]:
    """How many callbacks of a workflow stand in each status."""
    found = [view.status for view in (yield from callbacks(scope, workflow_id))]
    delivered, dead = found.count(CallbackStatus.DELIVERED), found.count(CallbackStatus.DEAD)
    return CallbackPosture(pending=len(found) - delivered - dead, delivered=delivered, dead=dead)


def resend(scope: Scope, callback_id: str, actor: str | None) -> Op[CallbackView]:
    """Has a callback that is dead or delivered sent once more; raises CommandRejected."""
    workflow_id, number = _checked_callback(callback_id)
    who = checked_text(actor, "actor", _RESEND)
    if not (yield from is_partition(scope, int(workflow_id.partition("-")[0]))):
        raise unknown_workflow(_RESEND, workflow_id)
    note = {"callback_id": callback_id} | ({} if who is None else {"actor": who})
    args: list[Arg] = ["resend", number, new_call_id(), orjson.dumps(note)]
    reply = yield scope.on_workflow("callback", workflow_id, args)
    if reply[0] == b"rejected":
        raise rejection(_RESEND, "callback", reply)
    _, record, static = reply
    return CallbackRecord.parse(record).view(workflow_id, int(number), static)


def _checked_callback(callback_id: Any) -> tuple[str, str]:
    given = callback_id if isinstance(callback_id, str) else ""
    workflow_id, _, number = given.partition("/")
    if not _NUMBER.fullmatch(number):
        raise invalid(_RESEND, f"{shown(callback_id)} is not the id of a callback")
    return checked_id(workflow_id, _RESEND), number
