"""Bulk sessions: one command on all workflows that a filter holds of (contract §17).

A session is a record in the namespace's first partition (``lua/lib/bulk.lua``). Its workflows are
those that the filter holds of when the session comes to them, the oldest first, of those that were
inserted before it began. Each slice is selected, carried out and then reported. What was selected
is carried out with command ids of the session, so a repetition by whoever goes on changes nothing
and has the same outcome.
"""

from __future__ import annotations

import secrets
from base64 import b32encode
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from rwf.errors import CommandRejected, NotFound, RecordUnreadable, RwfError, StoreUnavailable
from rwf.model.names import shown
from rwf.model.states import FAILED_STEPS, Reason, RecoveryAction, RecoveryScope
from rwf.model.views import BulkRefusal, BulkSession
from rwf.ops.base import (
    OpContext,
    all_partitions,
    checked_text,
    invalid,
    read,
    side_by_side,
    warn_of,
    wire_name,
)
from rwf.ops.cancel import request_cancel
from rwf.ops.filters import Filter
from rwf.ops.listing import Place, Walk
from rwf.ops.reads import records
from rwf.ops.recover import Recovery, checked_recovery, recover_step
from rwf.protocol.codecs import time_of
from rwf.protocol.functions.bulk import (
    BeginBulk,
    BulkCount,
    ReportBulk,
    SelectBulk,
    StopBulk,
    TakeBulk,
)
from rwf.protocol.requests import Op, Read, ask

Progress = Callable[[BulkSession], None]

CHANGED: Final = "changed"
UNCHANGED: Final = "unchanged"
UNREADABLE: Final = "unreadable"

_LEASE_MS: Final = 15_000
_HELD_WAIT: Final = 0.5
_PER_SLICE: Final = 50
# Failed steps that one workflow is recovered at, where no step is named: the first in order.
_STEPS_PER_WORKFLOW: Final = 100
_SCANNED_PER_SLICE: Final = 2_000
_PLANNED: Final = 100
_REFUSALS_SHOWN: Final = 1000
_LISTED: Final = 100
_SESSION_FIELDS: Final = ("s", "created", "done", "selected", "hand", "stopped")


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """The command of a session, checked. ``action`` is None for a cancel request."""

    filter: Mapping[str, Any]
    action: RecoveryAction | None
    step: str | None
    scope: RecoveryScope | None
    actor: str
    reason: str

    def text(self) -> str:
        """The command's text in its session's record."""
        return orjson.dumps(
            {
                "filter": dict(self.filter),
                "action": self.action,
                "step": self.step,
                "scope": self.scope,
                "actor": self.actor,
                "reason": self.reason,
            }
        ).decode()

    @classmethod
    def of(cls, text: bytes) -> Command:
        """A stored command; raises RecordUnreadable."""
        try:
            found = orjson.loads(text)
            action, scope = found["action"], found["scope"]
            return cls(
                filter=found["filter"],
                action=None if action is None else RecoveryAction(action),
                step=found["step"],
                scope=None if scope is None else RecoveryScope(scope),
                actor=found["actor"],
                reason=found["reason"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise RecordUnreadable("a bulk session cannot be read") from error

    def wanted(self, action: str) -> Filter:
        """The filter, checked."""
        given = dict(self.filter)
        for name in ("since", "until"):
            if isinstance(given.get(name), str):
                given[name] = datetime.fromisoformat(given[name])
        return Filter.checked(given, action)


def checked_command(
    given: Any, action: Any, step: Any, scope: Any, actor: Any, reason: Any
) -> Command:
    """A command on many workflows; raises CommandRejected, ``invalid_argument`` and
    ``unsupported_recovery_action``."""
    name = "cancel_many" if action is None else "recover_many"
    wanted = Filter.checked(given, name)
    meant = {key: value for key, value in given.items() if value is not None}
    if not meant:
        raise invalid(name, "the filter names nothing: that would be every workflow")
    if step is None:
        step = wanted.failed_step
    elif action is not None:
        step = wire_name(step, name)
    for text, what in ((actor, "actor"), (reason, "reason")):
        if checked_text(text, what, name) is None:
            raise invalid(name, f"{what} must be a string")
    recovery = scope_ = None
    if action is not None:
        recovery, scope_ = checked_recovery(
            Recovery(workflow_id="", step="", action=action, scope=scope)
        )
    return Command(
        filter=meant, action=recovery, step=step, scope=scope_, actor=actor, reason=reason
    )


def begin(ctx: OpContext, command: Command) -> Op[str]:
    """Makes a session; returns its id."""
    yield from all_partitions(ctx)
    session_id = b32encode(secrets.token_bytes(10)).decode().lower()
    yield from ask(ctx.keys.bulk(session_id), BeginBulk(command.text()))
    return session_id


def stop(ctx: OpContext, session_id: str, actor: str, reason: str) -> Op[BulkSession]:
    """Ends a session before its end; raises NotFound."""
    note = {"actor": checked_text(actor, "actor", "stop_bulk")}
    note["reason"] = checked_text(reason, "reason", "stop_bulk")
    keys = ctx.keys.bulk(_checked_id(session_id))
    if not (yield from ask(keys, StopBulk(orjson.dumps(note)))):
        raise _missing(session_id)
    return (yield from session(ctx, session_id))


def session(ctx: OpContext, session_id: str) -> Op[BulkSession]:
    """Where a session stands; raises NotFound."""
    yield from all_partitions(ctx)
    _, key, refusals = ctx.keys.bulk(_checked_id(session_id))
    fields, refused = yield from read(
        key, ("HGETALL", key), ("LRANGE", refusals, 0, _REFUSALS_SHOWN - 1)
    )
    if b"s" not in fields:
        raise _missing(session_id)
    return _view(session_id, fields, refused)


def sessions(ctx: OpContext, *, open_only: bool = False) -> Op[list[str]]:
    """The ids of the latest sessions, those that are open first."""
    yield from all_partitions(ctx)
    key = ctx.keys.bulks()
    limit = ("LIMIT", 0, _LISTED)
    commands = [("ZRANGEBYLEX", key, "[o|", "(o}", *limit)]
    if not open_only:
        commands.append(("ZREVRANGEBYLEX", key, "(d}", "[d|", *limit))
    found = yield Read(key, commands)
    pages = [page for page in found if not isinstance(page, Exception)]
    return [entry.decode().rpartition("|")[2] for page in pages for entry in page][:_LISTED]


def latest(ctx: OpContext) -> Op[list[BulkSession]]:
    """The latest sessions, as far as they are still kept."""
    ids = yield from sessions(ctx)
    done = yield from side_by_side([session(ctx, id_) for id_ in ids], patient=True)
    return [one for one in done if not isinstance(one, Exception)]


def _checked_id(session_id: Any) -> str:
    if isinstance(session_id, str) and session_id.isalnum() and session_id.isascii():
        return session_id
    raise _missing(session_id)


def _missing(session_id: Any) -> NotFound:
    return NotFound(f"no bulk session {shown(session_id)}")


def _view(
    session_id: str | None, fields: Mapping[bytes, bytes], refused: Sequence[bytes]
) -> BulkSession:
    command = Command.of(fields[b"s"])
    counts = {
        name[2:].decode(): int(count) for name, count in fields.items() if name.startswith(b"c|")
    }
    stopped = orjson.loads(fields[b"stopped"]) if b"stopped" in fields else {}
    done = fields.get(b"done")
    return BulkSession(
        id=session_id,
        action=command.action or "request_cancel",
        filter=dict(command.filter),
        step=command.step,
        scope=command.scope,
        actor=command.actor,
        reason=command.reason,
        created_at=time_of(int(fields[b"created"])) if b"created" in fields else None,
        finished_at=None if done is None else time_of(int(done)),
        stopped_by=stopped.get("actor"),
        stopped_reason=stopped.get("reason"),
        selected=int(fields.get(b"selected", 0)),
        counts=counts,
        refusals=tuple(BulkRefusal.model_validate_json(text) for text in refused),
    )


# --- carrying out


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The outcome of the command on a workflow; a refusal has a message."""

    workflow_id: str
    outcome: str
    step: str | None = None
    message: str | None = None


class BulkRun:
    """One runner of a session."""

    def __init__(self, ctx: OpContext, session_id: str) -> None:
        self._ctx = ctx
        self._id = _checked_id(session_id)
        self._keys = ctx.keys.bulk(session_id)
        self._runner = secrets.token_hex(8)
        self._command: Command | None = None
        self.done = False

    def slice(self) -> Op[float]:
        """Carries out the next slice; returns how long to wait before the next, in seconds. Raises
        NotFound, and StoreUnavailable while a partition does not answer: the next runner goes on.
        """
        yield from all_partitions(self._ctx)
        if self._command is None:
            [text] = yield from read(self._keys[1], ("HGET", self._keys[1], "s"))
            if text is None:
                raise _missing(self._id)
            self._command = Command.of(text)
        taken = yield from ask(self._keys, TakeBulk(self._runner, _LEASE_MS))
        if taken.outcome == "missing":
            raise _missing(self._id)
        if taken.outcome == "held":
            return _HELD_WAIT
        if taken.outcome == "done":
            self.done = True
            return 0.0
        number, hand = taken.number, taken.hand
        if hand is None:
            number += 1
            found = yield from self._select(self._command, taken.cursor, taken.created)
            hand, cursor, last = found
            count = len(hand.split(";")) if hand else 0
            selected = SelectBulk(self._runner, number, cursor, last, count, hand)
            if not (yield from ask(self._keys, selected)):
                return 0.0  # stopped, or taken over
        outcomes = yield from self._carry_out(self._command, hand)
        counts = Counter(one.outcome for one in outcomes)
        refusals = [_refusal(one) for one in outcomes if one.message is not None]
        report = ReportBulk(number, [BulkCount(*pair) for pair in sorted(counts.items())], refusals)
        yield from ask(self._keys, report)
        return 0.0

    def _select(self, command: Command, cursor: str, created: int) -> Op[tuple[str, str, bool]]:
        """The next workflows, ``id,step,step;id``, where the selection stands then, and whether it
        is over."""
        wanted = command.wanted("bulk").before(created + 1)  # all of its own millisecond
        after = Place.of_cursor(cursor) if cursor else None
        walk = Walk(self._ctx, wanted, after, oldest_first=True)
        found = yield from walk.next(_PER_SLICE, _SCANNED_PER_SLICE)
        if found.unreachable:
            raise StoreUnavailable(f"partitions {found.unreachable} do not answer")
        ids = [listed.view.id for listed in found]
        steps = yield from _steps_of(self._ctx, command, ids)
        hand = ";".join(",".join((id_, *names)) for id_, names in zip(ids, steps, strict=True))
        return hand, walk.after.cursor() if walk.after else "", walk.ended

    def _carry_out(self, command: Command, hand: str) -> Op[list[_Outcome]]:
        items = [item.split(",") for item in hand.split(";") if item]
        return (yield from _outcomes(self._ctx, command, items, f"bulk:{self._id}"))


def _steps_of(ctx: OpContext, command: Command, ids: Sequence[str]) -> Op[list[tuple[str, ...]]]:
    """The steps of each workflow that the command is for: the named one, or those that have failed.
    A cancel request is for none."""
    if command.action is None:
        return [()] * len(ids)
    if command.step is not None:
        return [(command.step,)] * len(ids)
    done = yield from side_by_side([_failed(ctx, id_) for id_ in ids], patient=True)
    for one in done:
        if isinstance(one, StoreUnavailable):
            raise one
    return [() if isinstance(one, Exception) else one for one in done]


def _failed(ctx: OpContext, workflow_id: str) -> Op[tuple[str, ...]]:
    """The first failed steps of a workflow, in topological order."""
    _, found = yield from records(ctx, workflow_id)
    names = [record.name for record in found if record.state in FAILED_STEPS]
    return tuple(names[:_STEPS_PER_WORKFLOW])


def _outcomes(
    ctx: OpContext, command: Command, items: Sequence[Sequence[str]], command_id: str | None
) -> Op[list[_Outcome]]:
    """The outcomes of the command on workflows, each given as its id and the names of steps;
    without a command id, those that it would have. Raises StoreUnavailable."""
    ops = [_outcome(ctx, command, id_, steps, command_id) for id_, *steps in items]
    done = yield from side_by_side(ops, patient=True)
    outcomes: list[_Outcome] = []
    for (id_, *_), one in zip(items, done, strict=True):
        if isinstance(one, StoreUnavailable):
            raise one
        if isinstance(one, RwfError):
            outcomes.append(_Outcome(id_, UNREADABLE, None, str(one)))
        elif isinstance(one, Exception):
            warn_of(id_, one)
            outcomes.append(_Outcome(id_, UNREADABLE, None, type(one).__name__))
        else:
            outcomes.append(one)
    return outcomes


def _outcome(
    ctx: OpContext,
    command: Command,
    workflow_id: str,
    steps: Sequence[str],
    command_id: str | None,
) -> Op[_Outcome]:
    """The outcome of the command on one workflow: changed when any of the steps was."""
    if command.action is None:
        return (yield from _cancelled(ctx, command, workflow_id, dry_run=command_id is None))
    outcome = _Outcome(workflow_id, UNCHANGED)
    for step in steps:
        asked = Recovery(
            workflow_id=workflow_id,
            step=step,
            action=command.action,
            scope=command.scope or RecoveryScope.BLOCKED,
            actor=command.actor,
            reason=command.reason,
            command_id=command_id,
        )
        try:
            result = yield from recover_step(ctx, asked, dry_run=command_id is None)
        except CommandRejected as error:
            if outcome.outcome == UNCHANGED:
                outcome = _Outcome(workflow_id, error.reason_code, step, error.message)
        except NotFound as error:
            return _Outcome(workflow_id, Reason.WORKFLOW_NOT_FOUND, step, str(error))
        else:
            if result.change_count:
                outcome = _Outcome(workflow_id, CHANGED)
    return outcome


def _cancelled(
    ctx: OpContext, command: Command, workflow_id: str, *, dry_run: bool
) -> Op[_Outcome]:
    if not dry_run:
        try:
            yield from request_cancel(ctx, workflow_id, command.actor, command.reason)
        except CommandRejected as error:
            return _Outcome(workflow_id, error.reason_code, None, error.message)
    return _Outcome(workflow_id, CHANGED)


def _refusal(one: _Outcome) -> bytes:
    refusal = BulkRefusal(
        workflow_id=one.workflow_id,
        step=one.step,
        reason_code=one.outcome,
        message=one.message or "",
    )
    return refusal.model_dump_json().encode()


# --- dry runs


def dry_run(ctx: OpContext, command: Command) -> Op[BulkSession]:
    """Plans the command on the oldest 100 of the workflows; writes nothing."""
    name = "cancel_many" if command.action is None else "recover_many"
    walk = Walk(ctx, command.wanted(name), None, oldest_first=True)
    ids: list[str] = []
    while len(ids) < _PLANNED and not walk.ended:
        found = yield from walk.next(_PLANNED - len(ids), _SCANNED_PER_SLICE)
        ids += [listed.view.id for listed in found]
    steps = yield from _steps_of(ctx, command, ids)
    items = [(id_, *names) for id_, names in zip(ids, steps, strict=True)]
    outcomes = yield from _outcomes(ctx, command, items, None)
    fields = {b"s": command.text().encode(), b"selected": b"%d" % len(ids)}
    for outcome, count in Counter(one.outcome for one in outcomes).items():
        fields[b"c|" + outcome.encode()] = b"%d" % count
    refusals = [_refusal(one) for one in outcomes if one.message is not None]
    return _view(None, fields, refusals).model_copy(update={"dry_run": True})
