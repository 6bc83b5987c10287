"""A client's settings as operations see them, and checks of arguments."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast
from urllib.parse import quote

from rwf.errors import (
    CommandRejected,
    NamespaceMismatch,
    NotFound,
    RecordUnreadable,
    RwfError,
    StoreMisconfigured,
    StoreUnavailable,
    WorkflowInvalid,
)
from rwf.model.limits import MAX_INPUT
from rwf.model.names import shown
from rwf.model.payload import encode
from rwf.model.states import Reason
from rwf.model.views import PartialList
from rwf.ops.tracing import Tracing
from rwf.protocol.codecs import OTHER_TYPE, time_of_stamp
from rwf.protocol.declare import Arg, Refusal, ServerFunction
from rwf.protocol.functions.namespace import Namespace
from rwf.protocol.keys import Keys, home_of, partition_of
from rwf.protocol.requests import CONNECT, Call, Op, Read, Together, ask, call_of
from rwf.reachability import Away

R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")

_log = logging.getLogger("rwf")

_MAX_TEXT: Final = 512
# Text that quoting would not change; most of it is.
_PLAIN: Final = re.compile(r"[A-Za-z0-9._~-]*").fullmatch
# One character more than a name may have, so that none is cut to one that exists.
_MAX_STEP: Final = 129


@dataclass(frozen=True, slots=True)
class OpContext:
    """The settings and keys that an operation takes from its client."""

    keys: Keys
    max_payload: int
    max_input: int = MAX_INPUT
    away: Away = field(default_factory=Away, compare=False)
    tracing: Tracing = field(default_factory=Tracing, compare=False)

    def __post_init__(self) -> None:
        for name in ("max_payload", "max_input"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise invalid("connect", f"{name} must be a number of bytes, 1 or more")

    def workflow_keys(self, workflow_id: str) -> list[str]:
        """The keys of a function that concerns one workflow."""
        partition = home_of(workflow_id)
        return [*self.keys.partition(partition), *self.keys.workflow(workflow_id)]


class Slots:
    """The keys of a call on several workflows of a partition, and which of them is where."""

    def __init__(self, ctx: OpContext, partition: int, workflow_ids: Iterable[str] = ()) -> None:
        self._ctx = ctx
        self._slots: dict[str, int] = {}
        self.keys = ctx.keys.partition(partition)
        for workflow_id in workflow_ids:
            self.of(workflow_id)

    def of(self, workflow_id: str) -> int:
        """The workflow's slot, from 1; its keys are added when it is new."""
        slot = self._slots.get(workflow_id)
        if slot is None:
            slot = self._slots[workflow_id] = len(self._slots) + 1
            self.keys += self._ctx.keys.workflow(workflow_id)
        return slot

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(self._slots.items())


def catch_errors(op: Op[T]) -> Op[T | Exception]:
    """The result of an operation on one workflow or topic, or the error by which it failed.

    The boundary that keeps a record which nothing can be made of from holding up all others. What
    is wrong with the server itself is raised on.
    """
    try:
        return (yield from op)
    except (StoreUnavailable, StoreMisconfigured, NamespaceMismatch):
        raise
    except Exception as error:
        return error


def passing_over(op: Op[T], whose: str) -> Op[T | None]:
    """The result of an operation; None, and a warning, when it failed."""
    found = yield from catch_errors(op)
    if not isinstance(found, Exception):
        return found
    warn_of(whose, found)
    return None


def warn_of(whose: str, error: Exception) -> None:
    """Warns that something was skipped, and why."""
    # Only our own messages are sure to quote nothing that was stored.
    why = str(error) if isinstance(error, RwfError) else type(error).__name__
    _log.warning("%s was skipped: %s", whose, why)


def catch_each(
    op: Callable[[Sequence[S]], Op[list[T]]], items: Sequence[S], whose: Callable[[S], str]
) -> Op[list[T]]:
    """The results of an operation on several items; when it fails, it is tried on each by itself,
    and those on which it fails are skipped."""
    together = yield from catch_errors(op(items))
    if not isinstance(together, Exception):
        return together
    found: list[T] = []
    for item in items:
        found += (yield from passing_over(op([item]), whose(item))) or []
    return found


def read(key: str, *commands: tuple[Arg, ...]) -> Op[list[Any]]:
    """The replies to plain commands that read keys of one partition, of which ``key`` is one;
    raises RecordUnreadable where a key is of another type."""
    replies: list[Any] = yield Read(key, commands)
    if any(isinstance(reply, Exception) for reply in replies):
        raise RecordUnreadable(OTHER_TYPE)
    return replies


def ask_each(
    ctx: OpContext, calls: Mapping[int, Call | Read]
) -> Op[tuple[dict[int, Any], tuple[int, ...]]]:
    """The replies to a call in each of some partitions, all in one round trip, and the partitions
    that did not answer. Raises StoreUnavailable when none did, and another error of any."""
    replies = reached((yield Together(list(calls.values()), partial=True)))
    found = dict(zip(calls, replies, strict=True))
    failed = {n: one for n, one in found.items() if isinstance(one, StoreUnavailable)}
    answered = {n: one for n, one in found.items() if n not in failed}
    ctx.away.note(failed, answered, all_asked=len(calls) >= ctx.keys.partitions)
    return answered, tuple(sorted(failed))


def ask_reachable(
    asked: Sequence[tuple[Sequence[str], ServerFunction[R]]],
) -> Op[list[R | StoreUnavailable]]:
    """The replies to calls that travel in one round trip, or why one could not be reached; raises
    any other error."""
    calls = [call_of(keys, function) for keys, function in asked]
    replies = reached((yield Together(calls, partial=True)))
    return [
        reply if isinstance(reply, StoreUnavailable) else function.decoded(reply)
        for (_, function), reply in zip(asked, replies, strict=True)
    ]


def ask_partitions(
    ctx: OpContext, asked: Mapping[int, ServerFunction[R]]
) -> Op[tuple[dict[int, R], tuple[int, ...]]]:
    """The replies to a call on the keys of each of some partitions, all in one round trip, and the
    partitions that did not answer. Raises StoreUnavailable when none did, and another error of any.
    """
    calls = {n: call_of(ctx.keys.partition(n), function) for n, function in asked.items()}
    replies, unreachable = yield from ask_each(ctx, calls)
    return {n: asked[n].decoded(reply) for n, reply in replies.items()}, unreachable


def reached(replies: list[Any]) -> list[Any]:
    """These replies to calls that travelled together, those of them that could not be reached
    among them; raises any other error."""
    for reply in replies:
        if isinstance(reply, RwfError) and not isinstance(reply, StoreUnavailable):
            raise reply
    return replies


def all_partitions(ctx: OpContext, *, anew: bool = False) -> Op[range]:
    """The numbers of all partitions; connects. ``anew`` asks the server whether some were added:
    without an answer it goes on with those that are known, unless there is but one."""
    if not ctx.keys.partitions:
        yield CONNECT
    elif anew and 0 not in ctx.away.partitions:
        try:
            found = yield from ask([ctx.keys.meta()], Namespace())
        except StoreUnavailable as error:
            if ctx.keys.partitions == 1:
                raise
            ctx.away.note({0: error})
        else:
            ctx.keys.partitions = found.now or ctx.keys.partitions
    return range(ctx.keys.partitions)


def side_by_side(ops: Sequence[Op[T]], *, patient: bool = False) -> Op[list[T | Exception]]:
    """The results of operations, or the errors by which they failed; the calls that all of them
    make next travel in one round trip. A partition that cannot be reached is the error of those
    that ask there, ``patient`` says how long that is tried (:class:`Together`); any other fault of
    the server itself is raised."""
    done: list[Any] = [None] * len(ops)
    waiting: dict[int, Call | Read | Together] = {}

    def go_on(number: int, reply: Any) -> None:
        op = ops[number]
        try:
            request = op.throw(reply) if isinstance(reply, Exception) else op.send(reply)
        except StopIteration as end:
            done[number] = end.value
        except (StoreMisconfigured, NamespaceMismatch):
            raise
        except Exception as error:
            done[number] = error
        else:
            assert isinstance(request, Call | Read | Together)
            waiting[number] = request

    for number in range(len(ops)):
        go_on(number, None)
    while waiting:
        asked = dict(waiting)
        waiting.clear()
        replies = yield from _replies(list(asked.values()), patient)
        for number, reply in zip(asked, replies, strict=True):
            go_on(number, reply)
    return done


def all_of(ops: Sequence[Op[T]]) -> Op[list[T]]:
    """The results of operations, side by side; the error of any is raised."""
    done = yield from side_by_side(ops, patient=True)
    for one in done:
        if isinstance(one, Exception):
            raise one
    return cast(list[T], done)


def both(one: Op[S], other: Op[T]) -> Op[tuple[S, T]]:
    """The results of two operations, side by side; the error of either is raised."""
    ops: list[Op[Any]] = [one, other]
    first, second = yield from all_of(ops)
    return first, second


def reach_each(ctx: OpContext, ops: Mapping[int, Op[T]]) -> Op[PartialList[T]]:
    """The results of operations in some partitions, as far as these can be reached, with the calls
    of all in one round trip at a time. Raises StoreUnavailable when none can, and another error of
    any."""
    found: PartialList[T] = PartialList()
    failed: dict[int, RwfError] = {}
    done = yield from side_by_side(list(ops.values()))
    for number, one in zip(ops, done, strict=True):
        if isinstance(one, StoreUnavailable):
            failed[number] = one
        elif isinstance(one, Exception):
            raise one
        else:
            found.append(one)
    ctx.away.note(failed, ops.keys() - failed.keys())
    for error in failed.values():
        if not found:
            raise error
    found.unreachable = tuple(sorted(failed))
    return found


def _replies(requests: Sequence[Call | Read | Together], patient: bool) -> Op[list[Any]]:
    """The replies to requests in one round trip; an error takes the place of its reply."""
    calls = [call for request in requests for call in _calls_of(request)]
    try:
        replies: list[Any] = yield Together(calls, partial=True, patient=patient)
    except StoreUnavailable as error:
        replies = [error] * len(calls)
    rest = iter(replies)
    return [_reply_to(request, [next(rest) for _ in _calls_of(request)]) for request in requests]


def _calls_of(request: Call | Read | Together) -> Sequence[Call | Read]:
    return request.calls if isinstance(request, Together) else (request,)


def _reply_to(request: Call | Read | Together, replies: list[Any]) -> Any:
    if not isinstance(request, Together):
        return replies[0]
    errors = [reply for reply in replies if isinstance(reply, Exception)]
    if errors and (not request.partial or len(errors) == len(replies)):
        return errors[0]
    return replies


def new_call_id() -> str:
    """The id of one call, which makes its repetition harmless."""
    return secrets.token_urlsafe(9)


def invalid(action: str, message: str, reason: Reason = Reason.INVALID_ARGUMENT) -> CommandRejected:
    """A refusal before anything is sent."""
    return CommandRejected(action, "client", reason, message)


def checked_id(workflow_id: Any, action: str) -> str:
    """A workflow id that can exist; raises CommandRejected, ``workflow_not_found``."""
    if not isinstance(workflow_id, str) or partition_of(workflow_id) is None:
        raise unknown_workflow(action, workflow_id)
    return workflow_id


def unknown_workflow(action: str, workflow_id: Any) -> CommandRejected:
    """The refusal of an id that no workflow of this namespace can have; nothing was written."""
    return CommandRejected(
        action,
        "workflow",
        Reason.WORKFLOW_NOT_FOUND,
        f"{shown(workflow_id)} is not a workflow id",
    )


def is_partition(ctx: OpContext, partition: int) -> Op[bool]:
    """Whether the namespace has this partition. The server is asked where this client knows of
    none, as others may have added it."""
    if partition >= ctx.keys.partitions:
        yield from all_partitions(ctx, anew=True)
    return partition < ctx.keys.partitions


def readable_id(workflow_id: Any) -> str:
    """A workflow id that a read may ask for; raises NotFound for any other value."""
    if not isinstance(workflow_id, str) or partition_of(workflow_id) is None:
        raise NotFound(f"no workflow {shown(workflow_id)}")
    return workflow_id


def wire_name(step: Any, action: str) -> str:
    """A step's name as it is sent. A name that no step can have stays one, and is harmless."""
    if not isinstance(step, str):
        raise invalid(action, f"a step's name must be a string, not {shown(step)}")
    # "~" and a step's name is the field of its wait.
    return wire_text(step[:_MAX_STEP]).replace("~", "%7E")


def wire_text(text: str) -> str:
    """A user's text as records hold it: without the characters that separate their parts."""
    return text if _PLAIN(text) else quote(text, safe="", errors="replace")


def encoded_payload(ctx: OpContext, value: Any, action: str) -> bytes | None:
    """A result's or a signal's payload as JSON; raises CommandRejected where it has no JSON
    form."""
    if value is None:
        return None
    try:
        return encode(value, path="$", max_bytes=ctx.max_payload, reserve=False)
    except WorkflowInvalid as error:
        # A reserved key is JSON, but no value that a user may give.
        known = error.code in set(Reason)
        reason = Reason(error.code) if known else Reason.INVALID_ARGUMENT
        raise invalid(action, error.message, reason) from None


def rejected(action: str, scope: str, refusal: Refusal) -> CommandRejected:
    """A refusal as it is raised, with the next steps that the reason alone does not tell."""
    error = CommandRejected(
        action,
        scope,
        Reason(refusal.reason),
        refusal.message,
        requested_at=time_of_stamp(refusal.stamp),
    )
    if refusal.next_steps:
        error.legal_next_steps = (*refusal.next_steps.split(","), *error.legal_next_steps)
    return error


def checked_text(value: Any, name: str, action: str) -> str | None:
    """A short text or None; raises CommandRejected, ``invalid_argument``."""
    if value is None:
        return None
    if not isinstance(value, str) or not value or len(value) > _MAX_TEXT:
        raise invalid(action, f"{name} must be a string of 1 to {_MAX_TEXT} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise invalid(action, f"{name} must not hold lone surrogates") from None
    return value
