"""The commands on one workflow: for each a preview, the fields that it asks for, and its call."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final
from urllib.parse import quote

from rwf.aio import AsyncClient
from rwf.console.bulk_actions import BULK_COMMANDS
from rwf.console.previews import (
    Command,
    Field,
    Given,
    Order,
    Place,
    Preview,
    member,
    needed,
    some,
    wrong,
)
from rwf.console.words import plural
from rwf.errors import CommandRejected, NotFound
from rwf.model.states import (
    OPEN_STEPS,
    Action,
    CompletionStatus,
    RecoveryAction,
    RecoveryScope,
    SignalStatus,
    StepState,
)
from rwf.model.views import RecoveryResult


def _workflow_page(given: Given) -> Place:
    return f"/workflows/{quote(needed(given, 'workflow'), safe='')}", {}


def _callbacks_page(given: Given) -> Place:
    return f"{_workflow_page(given)[0]}/callbacks", {}


def _signals_page(_given: Given) -> Place:
    return "/signals", {}


def _step_page(given: Given) -> Place:
    return f"{_workflow_page(given)[0]}/step", {"name": needed(given, "step")}


# --- recovery

_SCOPES: Final = {
    RecoveryScope.BLOCKED: "it, and what its end has cancelled",
    RecoveryScope.STEP: "it alone",
    RecoveryScope.DOWNSTREAM: "it, and all that follows, though it has ended",
}
_EFFECTS: Final = {
    RecoveryAction.RETRY: "{} runs again, as its next attempt.",
    RecoveryAction.SKIP: "{} counts as completed, without a result: what refers to it gets null.",
    RecoveryAction.CANCEL: "{} ends as cancelled, and what follows is decided anew.",
}


async def _preview_recovery(client: AsyncClient, given: Given) -> Preview:
    workflow_id, step = needed(given, "workflow"), needed(given, "step")
    action = member(RecoveryAction, needed(given, "do"))
    scope = member(RecoveryScope, given.get("scope") or RecoveryScope.BLOCKED)
    why = await client.explain_step(workflow_id, step)
    takes = {
        option
        for name in why.executable_actions
        if name.partition("_with_")[0] == action
        for option in name.partition("_with_")[2].split("_and_")
    }
    choices = tuple((str(one), _SCOPES[one]) for one in _SCOPES)
    options = [Field("scope", "What is decided anew", "choice", str(scope), choices=choices)]
    for name, label in (
        ("force", "Take the step away from the worker that runs it"),
        ("reopen", "Close the cancel request of the workflow"),
    ):
        if name in takes or given.get(name):
            options.append(Field(name, label, "check", given.get(name, "")))
    preview = Preview(
        title=f"{action.capitalize()} {step}",
        sentences=(_EFFECTS[action].format(step),),
        button=f"{action.capitalize()} it",
        fixed=some(given, "workflow", "step", "do"),
        options=tuple(options),
        danger=action is RecoveryAction.CANCEL,
    )
    try:
        return replace(preview, result=await _recover(client, given, dry_run=True))
    except CommandRejected as refusal:
        return replace(preview, refusal=refusal)


async def _recover(client: AsyncClient, given: Given, **more: Any) -> RecoveryResult:
    return await client.recover_step(
        needed(given, "workflow"),
        needed(given, "step"),
        needed(given, "do"),
        scope=given.get("scope") or RecoveryScope.BLOCKED,
        force=bool(given.get("force")),
        reopen=bool(given.get("reopen")),
        **more,
    )


async def _run_recovery(client: AsyncClient, order: Order) -> None:
    await _recover(
        client, order.given, actor=order.actor, reason=order.reason, command_id=order.once
    )


# --- the end of a workflow


async def _preview_cancel(client: AsyncClient, given: Given) -> Preview:
    why = await client.explain(needed(given, "workflow"))
    running = why.counts[StepState.EXECUTING]
    others = sum(why.counts[state] for state in OPEN_STEPS) - running
    sentences = [f"{plural(others, 'step')} that nobody runs: cancelled at once."]
    if running and given.get("force"):
        sentences.append(
            f"{plural(running, 'step')} in hand: cancelled too. The workers lose their leases; "
            "what their handlers have begun may still happen."
        )
    elif running:
        sentences.append(
            f"{plural(running, 'step')} in hand: told at the next heartbeat, and may still report."
        )
    return Preview(
        title="Cancel the workflow",
        sentences=tuple(sentences),
        button="Cancel the workflow",
        fixed=some(given, "workflow"),
        options=(
            (Field("force", "Cancel steps in hand too", "check", given.get("force", "")),)
            if running or given.get("force")
            else ()
        ),
        danger=True,
    )


async def _run_cancel(client: AsyncClient, order: Order) -> None:
    await client.request_cancel(
        needed(order.given, "workflow"),
        actor=order.actor,
        reason=order.reason,
        force=bool(order.given.get("force")),
    )


async def _preview_acknowledge(client: AsyncClient, given: Given) -> Preview:
    view = await client.get(needed(given, "workflow"))
    return Preview(
        title=f"Acknowledge the end of {view.name}",
        sentences=(
            f"It ended {view.state}, and shows as Resolved from now on, until something fails "
            "again. No step runs because of this.",
        ),
        button="Acknowledge",
        fixed=some(given, "workflow"),
    )


async def _run_acknowledge(client: AsyncClient, order: Order) -> None:
    await client.acknowledge(
        needed(order.given, "workflow"), actor=order.actor, reason=order.reason
    )


async def _preview_retention(client: AsyncClient, given: Given) -> Preview:
    view = await client.get(needed(given, "workflow"))
    ended = "it has ended" if view.finished_at else "it has yet to end"
    return Preview(
        title=f"How long {view.name} is kept",
        sentences=(
            f"The time counts from its end on ({ended}). Then it is removed for good, with its "
            "results and evidence.",
        ),
        button="Set it",
        fixed=some(given, "workflow"),
        fields=(Field("days", "Days, or none for ever", value="7", required=True),),
        danger=True,
        reason_kept=False,
    )


async def _run_retention(client: AsyncClient, order: Order) -> None:
    text = needed(order.given, "days").strip()
    retention = None if text == "none" else _days(text)
    await client.set_retention(needed(order.given, "workflow"), retention, actor=order.actor)


def _days(text: str) -> timedelta:
    try:
        days = float(text)
        if not math.isfinite(days) or days < 0:
            raise ValueError
        return timedelta(days=days)
    except (ValueError, OverflowError):
        raise wrong(f"{text[:80]!r} is neither a number of days nor none") from None


async def _preview_reconcile(client: AsyncClient, given: Given) -> Preview:
    view = await client.get(needed(given, "workflow"))
    return Preview(
        title=f"Reconcile {view.name}",
        sentences=(
            "Unfinished or wrong stored state is repaired, as a daemon does by itself. "
            "Nothing changes where nothing is wrong.",
        ),
        button="Reconcile",
        fixed=some(given, "workflow"),
        reason_kept=False,
    )


async def _run_reconcile(client: AsyncClient, order: Order) -> str | None:
    report = await client.reconcile(needed(order.given, "workflow"))
    kinds = ", ".join(sorted({repair.kind for repair in report.repairs}))
    return f"{plural(len(report.repairs), 'repair')}: {kinds}" if kinds else None


# --- steps


async def _preview_completion(client: AsyncClient, given: Given) -> Preview:
    workflow_id, step = needed(given, "workflow"), needed(given, "step")
    view = await client.step(workflow_id, step)
    sentences = [
        f"The outcome of {step} is recorded in place of a worker's, and what follows is released "
        "or cancelled by it. It cannot be taken back, only recovered."
    ]
    if view.dispatched:
        sentences.append(f"{view.leased_by} has dispatched it: whoever starts it later is refused.")
    elif view.state is StepState.EXECUTING:
        sentences.append(f"{view.leased_by} runs it, and loses its lease: it reports in vain.")
    statuses = tuple((str(one), str(one)) for one in CompletionStatus)
    return Preview(
        title=f"Report an outcome of {step}",
        sentences=tuple(sentences),
        button="Record it",
        fixed=some(given, "workflow", "step")
        | ({"force": "yes"} if view.state is StepState.EXECUTING else {}),
        fields=(
            Field("status", "Outcome", "choice", "completed", choices=statuses),
            Field("payload", "Payload, as JSON", "area", hint="What later steps get of it."),
        ),
        danger=True,
    )


async def _run_completion(client: AsyncClient, order: Order) -> None:
    await client.complete_step(
        needed(order.given, "workflow"),
        needed(order.given, "step"),
        needed(order.given, "status"),
        payload=_json(order.given),
        summary=order.reason,
        actor=order.actor,
        force=bool(order.given.get("force")),
        command_id=order.once,
    )


def _json(given: Given) -> Any:
    text = given.get("payload", "").strip()
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError) as error:
        raise wrong(f"the payload is no JSON: {error}") from None


# --- signals and callbacks


async def _preview_delivery(client: AsyncClient, given: Given) -> Preview:
    workflow_id, step = needed(given, "workflow"), needed(given, "step")
    why = await client.explain_step(workflow_id, step)
    details = next((one.details for one in why.blockers if one.code == "waiting_on_signal"), None)
    if details is None:
        raise NotFound(f"{step} waits for no signal any more")
    sentences = [
        f"Signal {details['signal']} is delivered under the key {details['correlation_key']}; "
        f"{step} goes on with its payload."
    ]
    if details["swallowed_by"] is not None:
        sentences.append("A signal of this key has been before: give a dedupe key of its own.")
    return Preview(
        title=f"Deliver the signal that {step} waits for",
        sentences=tuple(sentences),
        button="Deliver it",
        fixed=some(given, "workflow", "step"),
        fields=(
            Field("payload", "Payload, as JSON", "area"),
            Field(
                "dedupe", "Dedupe key", hint="A signal with a key that was there changes nothing."
            ),
        ),
        reason_kept=False,
    )


async def _run_delivery(client: AsyncClient, order: Order) -> str | None:
    view = await client.step(needed(order.given, "workflow"), needed(order.given, "step"))
    awaited = view.awaiting if view.state is StepState.AWAITING_SIGNAL else None
    if awaited is None or awaited.child is not None:
        raise NotFound(f"{view.name} waits for no signal any more")
    told = await client.deliver_signal(
        awaited.signal,
        awaited.correlation_key,
        payload=_json(order.given),
        dedupe_key=order.given.get("dedupe") or None,
        actor=order.actor,
    )
    if told.duplicate:
        return "Nothing has changed: a signal with this dedupe key is on record."
    if told.status is SignalStatus.CONSUMED:
        return None
    return f"The signal is kept as {told.status}: no step took it."


async def _preview_withdrawal(client: AsyncClient, given: Given) -> Preview:
    signal_id = needed(given, "signal")
    page = await client.signals(needed(given, "name"), needed(given, "key"))
    found = next((one for one in page.signals if one.id == signal_id), None)
    if found is None:
        raise NotFound("no such signal is kept any more")
    return Preview(
        title=f"Withdraw signal {found.signal}",
        sentences=(
            f"{found.signal} under the key {found.correlation_key}, {found.status}, is removed for "
            "good, and its dedupe key is free again.",
        ),
        button="Withdraw it",
        fixed={"signal": signal_id},
        danger=True,
    )


async def _run_withdrawal(client: AsyncClient, order: Order) -> None:
    await client.withdraw_signal(
        needed(order.given, "signal"), actor=order.actor, reason=order.reason
    )


async def _preview_resend(client: AsyncClient, given: Given) -> Preview:
    callback_id = needed(given, "callback")
    found = next(
        (
            one
            for one in await client.callbacks(needed(given, "workflow"))
            if one.callback_id == callback_id
        ),
        None,
    )
    if found is None:
        raise NotFound("no such callback")
    return Preview(
        title=f"Send callback {found.event} again",
        sentences=(
            f"It is {found.status} after {plural(found.attempts, 'attempt')}. The receiver gets it "
            "once more, under the same callback id; its attempts count from 0 again.",
        ),
        button="Send it again",
        fixed=some(given, "workflow", "callback"),
        reason_kept=False,
    )


async def _run_resend(client: AsyncClient, order: Order) -> None:
    await client.resend_callback(needed(order.given, "callback"), actor=order.actor)


COMMANDS: Final[Mapping[str, Command]] = {
    str(command.name): command
    for command in (
        Command(Action.RECOVER_STEP, _preview_recovery, _run_recovery, _workflow_page),
        Command(Action.COMPLETE_STEP, _preview_completion, _run_completion, _step_page),
        Command(Action.DELIVER_SIGNAL, _preview_delivery, _run_delivery, _step_page),
        Command(Action.WITHDRAW_SIGNAL, _preview_withdrawal, _run_withdrawal, _signals_page),
        Command(Action.REQUEST_CANCEL, _preview_cancel, _run_cancel, _workflow_page),
        Command(Action.ACKNOWLEDGE, _preview_acknowledge, _run_acknowledge, _workflow_page),
        Command(Action.SET_RETENTION, _preview_retention, _run_retention, _workflow_page),
        Command(Action.RESEND_CALLBACK, _preview_resend, _run_resend, _callbacks_page),
        Command(Action.RECONCILE, _preview_reconcile, _run_reconcile, _workflow_page),
        *BULK_COMMANDS,
    )
}
