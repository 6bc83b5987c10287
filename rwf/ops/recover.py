"""Recovering a step: retry, skip or cancel, and placing its descendants again (contract §6)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from rwf.errors import CommandRejected, NotFound
from rwf.model.limits import LISTED
from rwf.model.recovery import Planned, cancelling_parent, plan
from rwf.model.states import (
    LEGAL_NEXT_STEPS,
    SEMANTICS_VERSIONS,
    TERMINAL_STEPS,
    Reason,
    RecoveryAction,
    RecoveryScope,
    StepCause,
    StepState,
)
from rwf.model.views import Change, RecoveryResult
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
    wire_name,
    wire_text,
)
from rwf.ops.reads import edges, records
from rwf.ops.waits import settle_waits
from rwf.protocol.declare import Refusal
from rwf.protocol.functions.commands import Recover, Recovered
from rwf.protocol.functions.workflows import RecoverySession
from rwf.protocol.headers import Header
from rwf.protocol.keys import home_of
from rwf.protocol.requests import Op, ask
from rwf.protocol.stored import ChangeRecord, SessionRecord

_ACTION: Final = "recover_step"


@dataclass(frozen=True, kw_only=True, slots=True)
class Recovery:
    """The arguments of a recovery."""

    workflow_id: str
    step: str
    action: RecoveryAction | str
    scope: RecoveryScope | str = RecoveryScope.BLOCKED
    actor: str | None = None
    reason: str | None = None
    force: bool = False
    reopen: bool = False
    command_id: str | None = None


def _changes(session: SessionRecord) -> tuple[Change, ...]:
    """The changes that are listed; raises RecordUnreadable."""
    found = (ChangeRecord.of(text) for text in session.changes)
    return tuple(Change(step=one.step, before=one.before, after=one.after) for one in found)


def recover_step(ctx: OpContext, asked: Recovery, dry_run: bool) -> Op[RecoveryResult]:
    """Carries a recovery out, or plans it; raises CommandRejected."""
    action, reach = checked_recovery(asked)
    workflow_id = checked_id(asked.workflow_id, _ACTION)
    step = wire_name(asked.step, _ACTION)
    fields = {"reason": checked_text(asked.reason, "reason", _ACTION)}
    fields |= {"actor": checked_text(asked.actor, "actor", _ACTION)}
    command_id = checked_text(asked.command_id, "command_id", _ACTION)
    note = {"recovery": action, "scope": reach, **fields, "command_id": command_id}
    if not (yield from is_partition(ctx, home_of(workflow_id))):
        raise unknown_workflow(_ACTION, workflow_id)
    if dry_run:
        return (yield from _planned(ctx, asked, step, action, reach))
    command = Recover(
        step,
        new_call_id(),
        wire_text(command_id or ""),
        action,
        reach,
        asked.force,
        asked.reopen,
        orjson.dumps({name: text for name, text in note.items() if text is not None}),
        parents_chunk=0,
    )
    reply = yield from _begun(ctx, workflow_id, command)
    assert reply.header is not None
    assert reply.session is not None
    header, context = Header.of(reply.header), reply.header.context
    session = SessionRecord.parse(reply.session)
    if header.unwalked:
        header, context = yield from advance_all(ctx, workflow_id)
        stored = yield from ask(ctx.workflow_keys(workflow_id), RecoverySession(reply.number))
        if stored.record is None:
            raise NotFound(f"workflow {workflow_id} is gone")
        session = SessionRecord.parse(stored.record)
    elif reply.header.has_notices:
        yield from settle_waits(ctx, workflow_id)
    return RecoveryResult(
        session_id=f"{workflow_id}/{reply.number}",
        workflow=header.view(workflow_id, context),
        step=session.step,
        action=session.action,
        scope=session.scope,
        dry_run=False,
        duplicate=reply.outcome == "duplicate",
        changes=_changes(session),
        change_count=session.count,
    )


def _begun(ctx: OpContext, workflow_id: str, command: Recover) -> Op[Recovered]:
    """The answer to the command, once nothing else is to be walked and all parents were seen;
    raises CommandRejected."""
    chunk = 0
    while True:
        asked = replace(command, parents_chunk=chunk)
        reply = yield from ask(ctx.workflow_keys(workflow_id), asked)
        if isinstance(reply, Refusal):
            raise rejected(_ACTION, "step", reply)
        if reply.outcome == "busy":
            yield from advance_all(ctx, workflow_id)
            chunk = 0
        elif reply.outcome == "more":
            chunk += 1
        else:
            return reply


def latest_recovery(ctx: OpContext, workflow_id: str) -> Op[dict[str, Any] | None]:
    """The latest session, as explanations show it."""
    stored = yield from ask(ctx.workflow_keys(workflow_id), RecoverySession(None))
    if stored.record is None:
        return None
    session = SessionRecord.parse(stored.record)
    return {
        "session_id": f"{workflow_id}/{stored.number}",
        "step": session.step,
        "action": session.action,
        "scope": session.scope,
        "finished": session.done,
        "change_count": session.count,
        "actor": session.note.get("actor"),
        "reason": session.note.get("reason"),
    }


def checked_recovery(asked: Recovery) -> tuple[RecoveryAction, RecoveryScope]:
    """The action and the scope of a recovery; raises CommandRejected."""
    if not isinstance(asked.action, str) or asked.action not in set(RecoveryAction):
        message = f"action must be one of {', '.join(RecoveryAction)}"
        raise invalid(_ACTION, message, Reason.UNSUPPORTED_RECOVERY_ACTION)
    if not isinstance(asked.scope, str) or asked.scope not in set(RecoveryScope):
        raise invalid(_ACTION, f"scope must be one of {', '.join(RecoveryScope)}")
    action, reach = RecoveryAction(asked.action), RecoveryScope(asked.scope)
    if action is RecoveryAction.SKIP and reach is RecoveryScope.DOWNSTREAM:
        message = "skip takes scope step or blocked"
        raise invalid(_ACTION, message, Reason.UNSUPPORTED_RECOVERY_ACTION)
    for name, value in (("force", asked.force), ("reopen", asked.reopen)):
        if not isinstance(value, bool):
            raise invalid(_ACTION, f"{name} must be True or False")
    return action, reach


def _planned(
    ctx: OpContext, asked: Recovery, name: str, action: RecoveryAction, reach: RecoveryScope
) -> Op[RecoveryResult]:
    """A dry run: the changes that the same command would make now; raises the same refusals."""
    try:
        loaded, found = yield from records(ctx, asked.workflow_id)
    except NotFound:
        message = f"there is no workflow {asked.workflow_id}"
        raise _refusal(Reason.WORKFLOW_NOT_FOUND, message) from None
    if (version := loaded.header.semantics_version) not in SEMANTICS_VERSIONS:
        message = f"the workflow follows semantics version {version}"
        raise _refusal(Reason.UNSUPPORTED_SEMANTICS, message)
    steps = []
    for record in found:
        parents = yield from edges(ctx, asked.workflow_id, record, up=True)
        steps.append(
            Planned(
                name=record.name,
                state=record.state,
                cause=record.cause,
                parents=parents,
                singled_out=record.singled_out,
                lacks_result=record.lacks_result,
                branch=record.branch_skipped or record.superseded,
                always=record.always,
                by=None if record.appended_by is None else record.appended_by.step,
            )
        )
    by_name = {step.name: step for step in steps}
    if name not in by_name:
        raise _refusal(Reason.STEP_NOT_FOUND, "the workflow has no such step")
    cancel = loaded.header.cancel is not None
    if loaded.header.starts is not None:
        raise _refusal(Reason.ILLEGAL_TRANSITION, "the workflow has not started yet")
    _judge(by_name[name], by_name, asked, action, reach, cancel)
    changes = plan(steps, asked.step, action, reach, cancel=cancel, reopen=asked.reopen)
    return RecoveryResult(
        session_id=None,
        workflow=loaded.workflow(),
        step=asked.step,
        action=action,
        scope=reach,
        dry_run=True,
        duplicate=False,
        changes=tuple(changes[:LISTED]),
        change_count=len(changes),
    )


def _judge(
    target: Planned,
    by_name: dict[str, Planned],
    asked: Recovery,
    action: RecoveryAction,
    reach: RecoveryScope,
    cancel: bool,
) -> None:
    """Refuses what ``recover.lua`` refuses; without evidence, as nothing is written."""
    asked_to_end = cancel and not target.always
    if asked_to_end and action is not RecoveryAction.CANCEL and not asked.reopen:
        raise _refusal(Reason.CANCEL_REQUESTED, "a cancel request stands")
    if target.state is StepState.EXECUTING and not asked.force:
        raise _refusal(Reason.ILLEGAL_TRANSITION, "the step is executing", "recover_with_force")
    if target.cause is StepCause.SUPERSEDED:
        message = "the step was superseded by a recovery of the one that has appended it"
        raise _refusal(Reason.ILLEGAL_TRANSITION, message)
    if action is RecoveryAction.CANCEL:
        if target.state in TERMINAL_STEPS:
            raise _refusal(Reason.ALREADY_TERMINAL, f"the step is {target.state}")
        return
    again = action is RecoveryAction.RETRY and reach is RecoveryScope.DOWNSTREAM
    if target.state is StepState.COMPLETED and not again:
        message = "the step has completed"
        raise _refusal(Reason.ILLEGAL_TRANSITION, message, "inspect_step_result")
    if action is RecoveryAction.RETRY and (parent := cancelling_parent(target, by_name)):
        message = f"{parent}, which it depends on, has not completed"
        raise _refusal(Reason.DEPENDENCIES_UNRESOLVED, message)


def _refusal(reason: Reason, message: str, first: str | None = None) -> CommandRejected:
    usual = LEGAL_NEXT_STEPS[reason]
    steps = usual if first is None else (first, *usual)
    return CommandRejected(_ACTION, "step", reason, message, legal_next_steps=steps)
