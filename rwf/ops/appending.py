"""Appending steps to workflows: staged in pieces, then brought in by one command."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

import orjson

from rwf.errors import CommandRejected, RwfError, WorkflowInvalid
from rwf.model.fragment import Fragment
from rwf.model.views import AppendResult, CommandResult
from rwf.ops.advance import advance_all
from rwf.ops.base import (
    OpContext,
    checked_id,
    checked_text,
    invalid,
    is_partition,
    new_call_id,
    rejected,
    unknown_workflow,
    wire_text,
)
from rwf.ops.fragments import Made, make
from rwf.protocol.declare import Refusal
from rwf.protocol.functions.appending import (
    Appended,
    AppendFragment,
    DiscardFragment,
    StageFragment,
)
from rwf.protocol.headers import Header
from rwf.protocol.requests import Op, ask

T = TypeVar("T", CommandResult, Appended)

_ACTION: Final = "append"
_ACCEPTED: Final = "accepted"
_BUSY, _CHANGED = "busy", "changed"
NOT_NOW: Final = frozenset({_BUSY, _CHANGED})
"""The outcomes of a command that appends steps and has changed nothing."""
_TRIES: Final = 100
"""Each has failed because somebody else was faster."""
_BYTES_PER_CALL: Final = 262_144
_UNSTAGED: Final = "none,0,0,1,0,0,0,1"
"""A ``GrowthRecord`` that no command brings in: of a step that is sure to be refused, unless it is
revived meanwhile."""


def append(
    ctx: OpContext,
    workflow_id: str,
    fragment: Fragment,
    actor: str | None,
    command_id: str | None,
) -> Op[AppendResult]:
    """Brings steps into a workflow; raises CommandRejected and WorkflowInvalid."""
    workflow_id = checked_id(workflow_id, _ACTION)
    if not isinstance(fragment, Fragment):
        raise invalid(_ACTION, "append takes a Fragment")
    fragment.validate(max_payload=ctx.max_payload)
    command = checked_text(command_id, "command_id", _ACTION)
    fields = {"actor": checked_text(actor, "actor", _ACTION), "command_id": command}
    note = {name: text for name, text in fields.items() if text is not None}
    if not (yield from is_partition(ctx, int(workflow_id.partition("-")[0]))):
        raise unknown_workflow(_ACTION, workflow_id)
    call_id = new_call_id()

    def send(growth: str) -> Op[Appended | str]:
        asked = AppendFragment(call_id, wire_text(command or ""), growth, orjson.dumps(note))
        reply = yield from ask(ctx.workflow_keys(workflow_id), asked)
        if isinstance(reply, Refusal):
            raise rejected(_ACTION, "workflow", reply)
        return reply.outcome if reply.outcome in NOT_NOW else reply

    appended = yield from grow(ctx, workflow_id, fragment, None, False, send)
    assert appended.header is not None
    header, context = Header.of(appended.header), appended.header.context
    if header.unwalked:
        header, context = yield from advance_all(ctx, workflow_id)
    return AppendResult(
        outcome="duplicate" if appended.outcome == "duplicate" else "accepted",
        workflow=header.view(workflow_id, context),
        appended_count=appended.steps,
    )


def grow(
    ctx: OpContext,
    workflow_id: str,
    fragment: Fragment,
    appending: str | None,
    join: bool,
    send: Callable[[str], Op[T | str]],
) -> Op[T]:
    """Stages a fragment and sends the command that brings it in; again, where the workflow has
    changed meanwhile. ``send`` takes the fragment's record, and returns what the command has come
    to, or one of NOT_NOW."""
    for _ in range(_TRIES):
        try:
            made = yield from make(ctx, workflow_id, fragment, appending, join=join)
        except WorkflowInvalid:
            # A command that was carried out before is answered by what is on record.
            reply = yield from send(_UNSTAGED)
            if isinstance(reply, str):
                raise
            return reply
        if made is not None:
            yield from _stage(ctx, workflow_id, made)
        try:
            reply = yield from send(_UNSTAGED if made is None else made.growth.text())
        except CommandRejected:
            if made is not None:
                yield from discard(ctx, workflow_id, made.growth.token)
            raise
        if made is not None and not _is_spent(made, reply):
            yield from discard(ctx, workflow_id, made.growth.token)
        if not isinstance(reply, str):
            return reply
        if reply == _BUSY:
            yield from advance_all(ctx, workflow_id)
    raise RwfError(f"the steps were not appended: {workflow_id} has changed {_TRIES} times")


def _is_spent(made: Made, reply: CommandResult | Appended | str) -> bool:
    """Whether the command that appended has also removed the staged pieces."""
    return not isinstance(reply, str) and reply.outcome == _ACCEPTED and len(made.pieces) == 1


def _stage(ctx: OpContext, workflow_id: str, made: Made) -> Op[None]:
    first = 1
    for pieces in _calls(made.pieces):
        staged = StageFragment(made.growth.token, first, pieces)
        yield from ask(ctx.workflow_keys(workflow_id), staged)
        first += len(pieces)


def _calls(pieces: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Cuts pieces into those that travel together."""
    some: list[bytes] = []
    for piece in pieces:
        if some and sum(map(len, some)) + len(piece) > _BYTES_PER_CALL:
            yield some
            some = []
        some.append(piece)
    yield some


def discard(ctx: OpContext, workflow_id: str, token: str, *, overdue: bool = False) -> Op[None]:
    """Removes what is staged of a fragment."""
    while (yield from ask(ctx.workflow_keys(workflow_id), DiscardFragment(token, overdue))):
        pass
