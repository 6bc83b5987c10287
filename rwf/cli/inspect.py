"""Reading commands: ``show``, ``graph``, ``explain``, ``evidence``."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import click

from rwf import Client
from rwf.cli import drawing
from rwf.cli.common import (
    OnWorkflow,
    Output,
    acknowledgement_lines,
    dumped,
    headline,
    key_option,
    on_client,
    on_workflow,
    progress,
    state_and_cause,
)
from rwf.cli.gantt import gantt
from rwf.cli.next_steps import next_steps
from rwf.cli.text import compact, moment, table, table_width
from rwf.model.conditions import described
from rwf.model.names import escaped
from rwf.model.operator_status import blocked_by_themselves, held_by_retries, status_of
from rwf.model.states import EdgePolicy, OperatorStatus, StepState
from rwf.model.views import (
    AwaitView,
    ChildWorkflow,
    EvidenceView,
    ResultView,
    StepExplanation,
    StepView,
    WorkflowExplanation,
    WorkflowView,
)

_STEPS_SHOWN: Final = 50
_CAUSES_SHOWN: Final = 10

_optional_step = click.argument("step", required=False)


# --- show -------------------------------------------------------------------------------------


@click.command(cls=OnWorkflow)
@on_workflow
@_optional_step
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=_STEPS_SHOWN,
    show_default=True,
    help="How many steps to show.",
)
@click.option("--offset", type=click.IntRange(min=0), default=0, help="How many to skip first.")
@click.option("--all", "every", is_flag=True, help="Show all steps.")
@on_client
def show(
    client: Client,
    out: Output,
    *,
    workflow_id: str,
    step: str | None,
    limit: int,
    offset: int,
    every: bool,
) -> None:
    """Show a workflow with its steps, or one STEP with its results."""
    if step is not None:
        _show_step(client, out, workflow_id, step)
        return
    why = client.explain(workflow_id)
    view = client.get(workflow_id)
    steps = client.steps(workflow_id, limit=None if every else limit, offset=offset)
    blocked = blocked_by_themselves(why)
    statuses = _statuses(client, view, why, steps, blocked)
    # Of steps that have failed, or will run again: what they reported is why.
    summaries = {cause.step: cause.summary for cause in why.root_causes if cause.summary}
    left = max(view.step_count - offset - len(steps), 0)
    if out.as_json:
        shown = [
            {"operator_status": status, **dumped(each), "summary": summaries.get(each.name)}
            for each, status in zip(steps, statuses, strict=True)
        ]
        following = offset + len(steps) if left else None
        out.document(
            {**dumped(view, why.operator_status), "steps": shown, "next_offset": following}
        )
        return
    out.lines(_workflow_lines(view, why))
    head = ("STATUS", "STATE", "STEP", "ATTEMPT", "WHY")
    rows = (
        _step_row(each, status, blocked.get(each.name), summaries.get(each.name))
        for each, status in zip(steps, statuses, strict=True)
    )
    out.lines(table(head, rows, whole=("STATUS",)))
    if left:
        out.lines([f"{left} more steps: --offset {offset + len(steps)}, or --all"])


def _statuses(
    client: Client,
    view: WorkflowView,
    why: WorkflowExplanation,
    steps: Sequence[StepView],
    blocked: Mapping[str, str],
) -> list[OperatorStatus]:
    """The steps' operator statuses, as ``explain`` gives them for each."""
    held: Collection[str] = ()
    if why.counts[StepState.RETRYABLE] and any(step.state is StepState.PENDING for step in steps):
        held = held_by_retries(client.graph(view.id))
    return [status_of(step, view, held, blocked) for step in steps]


def _workflow_lines(view: WorkflowView, why: WorkflowExplanation) -> Iterator[str]:
    yield headline(view, why.operator_status)
    yield f"  {progress(view)}"
    if view.parent is not None:
        yield f"  child of {view.parent}, step {view.parent_step}"
    times = [f"inserted {moment(view.inserted_at)}"]
    if view.started_at:
        times.append(f"started {moment(view.started_at)}")
    if view.finished_at:
        times.append(f"finished {moment(view.finished_at)}")
    yield f"  {', '.join(times)}"
    if view.cancel_requested_at is not None:
        because = "" if view.cancel_reason is None else f": {escaped(view.cancel_reason)}"
        yield f"  cancel requested {moment(view.cancel_requested_at)}{because}"
    yield from acknowledgement_lines(view)
    yield from _session_lines(why.latest_recovery)
    if view.traceparent is not None:
        yield f"  trace {escaped(view.traceparent)}"
    if view.context is not None:
        yield f"  context {compact(view.context)}"


def _child_lines(child: ChildWorkflow) -> Iterator[str]:
    """A child workflow, and what holds it."""
    yield f"child {child.workflow_id} {child.name or ''} {child.problem or child.state}"
    yield from _cause_lines(child, {})


def _step_row(
    step: StepView, status: str, blocker: str | None, summary: str | None
) -> tuple[object, ...]:
    why = str(step.terminal_cause or "")
    if step.retry_at is not None:
        why = f"again at {moment(step.retry_at)}"
    elif step.lease_expires_at is not None:
        taken = "dispatched by " if step.dispatched else ""
        why = f"{taken}{step.leased_by} until {moment(step.lease_expires_at)}"
    elif step.awaiting is not None and step.terminal_cause is None:
        why = f"waits for {_awaited(step.awaiting)}"
    if blocker is not None:
        why = f"{blocker}, {why}" if why else blocker
    if summary is not None:
        why = f"{why}: {summary}"
    return status, step.state, step.name, f"{step.attempt}/{step.max_attempts}", why


def _show_step(client: Client, out: Output, workflow_id: str, name: str) -> None:
    why = client.explain_step(workflow_id, name)
    step = client.step(workflow_id, name)
    results = client.results(workflow_id, step=name)
    if out.as_json:
        document = {"operator_status": str(why.operator_status), **dumped(step)}
        out.document(document | {"results": [_result_data(result) for result in results]})
        return
    state = state_and_cause(step.state, step.terminal_cause)
    latest = results[-1].summary if results else None
    summary = "" if latest is None else f": {escaped(latest)}"
    out.lines([f"{why.operator_status}  {state}  {step.name}  of {workflow_id}{summary}"])
    out.lines(_step_facts(step, why))
    if results:
        out.lines(["results:"])
    for result in results:
        out.lines(_result_lines(result))


def _definition_lines(step: StepView) -> Iterator[str]:
    """The rarer parts of a step's definition."""
    if step.when is not None:
        yield f"  when {escaped(described(step.when))}"
    if step.appended_by is not None:
        yield f"  appended by {step.appended_by.step}, attempt {step.appended_by.attempt}"
    if step.always:
        yield "  always runs, once what it depends on has ended"


def _step_facts(step: StepView, why: StepExplanation) -> Iterator[str]:
    yield (
        f"  worker {escaped(step.worker)}, queue {step.queue}, priority {step.priority}, "
        f"attempt {step.attempt} of {step.max_attempts}"
    )
    for dependency in why.dependencies:
        usual = dependency.policy is EdgePolicy.CANCEL
        policy = "" if usual else f", {dependency.policy.replace('_', ' ')}"
        yield f"  after {dependency.step} ({dependency.state}{policy})"
    if why.dependency_count > len(why.dependencies):
        yield f"  and {why.dependency_count - len(why.dependencies)} more dependencies"
    yield from _definition_lines(step)
    for origin in why.skipped_by:
        reason = "" if origin.summary is None else f": {escaped(origin.summary)}"
        yield f"  skipped by {origin.step}{reason}"
    if step.retry_at is not None:
        yield f"  runs again at {moment(step.retry_at)}"
    if step.lease_expires_at is not None:
        until = moment(step.lease_expires_at)
        has = "has dispatched it, to be started by" if step.dispatched else "runs it until"
        yield f"  {escaped(str(step.leased_by))} {has} {until}"
    if step.awaiting is not None:
        yield f"  {_wait_text(step.awaiting)}"
    if step.cancel_requested_at is not None:
        yield f"  cancel requested {moment(step.cancel_requested_at)}"
    if step.started_at or step.finished_at:
        yield f"  started {moment(step.started_at)}, finished {moment(step.finished_at)}"
    for what, value in (("input", step.input), ("context", step.context)):
        if value is not None:
            yield f"  {what} {compact(value)}"


def _wait_text(wait: AwaitView) -> str:
    times = [f"since {moment(wait.registered_at)}"]
    if wait.deadline is not None:
        times.append(f"deadline {moment(wait.deadline)}")
    return f"wait {wait.status}: {escaped(_awaited(wait))}, {', '.join(times)}"


def _awaited(wait: AwaitView) -> str:
    if wait.child is not None:
        return f"workflow {wait.child}"
    return f"{wait.signal} {wait.correlation_key}"


def _result_data(result: ResultView) -> dict[str, Any]:
    # The payload is there already, as what its bytes mean.
    return result.model_dump(mode="json", exclude={"payload_bytes"})


def _result_lines(result: ResultView) -> Iterator[str]:
    summary = f"  {escaped(result.summary)}" if result.summary else ""
    yield f"  attempt {result.attempt}  {result.status}  {moment(result.recorded_at)}{summary}"
    if result.payload is not None:
        yield f"    {compact(result.payload)}"
    for line in (result.traceback or "").split("\n"):
        if line:
            yield f"    {escaped(line)}"


# --- graph ------------------------------------------------------------------------------------


@click.command(cls=OnWorkflow)
@on_workflow
@click.option(
    "--format",
    "form",
    type=click.Choice([*drawing.FORMS, "gantt"]),
    help="[default: drawing on a terminal, else text]",
)
@on_client
def graph(client: Client, out: Output, *, workflow_id: str, form: str | None) -> None:
    """Draw a workflow's steps and edges, in topological order; --json gives them as data.

    gantt shows when each step waited, ran and ended, and the critical path.
    """
    if form == "gantt":
        timeline = client.timeline(workflow_id)
        if out.as_json:
            out.document(dumped(timeline))
        else:
            out.lines(gantt(timeline))
        return
    view = client.graph(workflow_id)
    if out.as_json:
        out.document(dumped(view))
    else:
        blocked = blocked_by_themselves(client.explain(workflow_id))
        usual = "text" if table_width() is None else "drawing"
        out.lines(drawing.FORMS[form or usual](view, blocked))


# --- explain ----------------------------------------------------------------------------------


@click.command(cls=OnWorkflow)
@on_workflow
@_optional_step
@on_client
def explain(client: Client, out: Output, *, workflow_id: str, step: str | None) -> None:
    """Say what a workflow, or one STEP of it, waits for, and what can be done."""
    why = client.explain(workflow_id) if step is None else client.explain_step(workflow_id, step)
    if out.as_json:
        out.document(dumped(why))
        return
    waits = _waits(client, why)
    if isinstance(why, StepExplanation):
        out.lines(step_explanation(why, waits))
    else:
        out.lines(workflow_explanation(why, waits))


def _waits(
    client: Client, why: StepExplanation | WorkflowExplanation
) -> Mapping[str, AwaitView | None]:
    """The waits of those root causes that a signal would end."""
    return {
        cause.step: client.step(why.workflow_id, cause.step).awaiting
        for cause in why.root_causes[:_CAUSES_SHOWN]
        if "deliver_signal" in cause.legal_next_steps
    }


def step_explanation(
    why: StepExplanation, waits: Mapping[str, AwaitView | None] = MappingProxyType({})
) -> Iterator[str]:
    """The explanation of a step, for people; ``waits`` has those of root causes."""
    yield f"{why.operator_status}  {why.state}  {why.step}  of {why.workflow_id}"
    yield f"  {escaped(why.diagnosis)}"
    for blocker in why.blockers:
        since = f" since {moment(blocker.since)}" if blocker.since else ""
        again = f", again at {moment(blocker.retry_at)}" if blocker.retry_at else ""
        yield f"  blocked by {blocker.code}: {escaped(blocker.summary)}{since}{again}"
    for dependency in why.dependencies[:_CAUSES_SHOWN]:
        policy = f"over a {dependency.policy} edge"
        reported = f", reported {dependency.result_status}" if dependency.result_status else ""
        yield f"  depends on {dependency.step}: {dependency.state}, {policy}{reported}"
    if why.dependency_count > _CAUSES_SHOWN:
        yield f"  and on {why.dependency_count - _CAUSES_SHOWN} more"
    yield from _cause_lines(why, waits)
    if why.executable_actions:
        yield f"  can be done: {', '.join(why.executable_actions)}"
    yield from _rejection_lines(why.latest_rejection)


def workflow_explanation(
    why: WorkflowExplanation, waits: Mapping[str, AwaitView | None]
) -> Iterator[str]:
    """The explanation of a workflow, for people; ``waits`` has those of root causes."""
    yield f"{why.operator_status}  {why.state}  {why.workflow_id}"
    yield f"  {escaped(why.diagnosis)}"
    counts = [f"{count} {state}" for state, count in why.counts.items() if count]
    yield f"  steps: {', '.join(counts)}"
    yield from _cause_lines(why, waits)
    posture = {name: count for name, count in why.callbacks if count}
    if posture:
        yield f"  callbacks: {', '.join(f'{count} {name}' for name, count in posture.items())}"
    yield from _session_lines(why.latest_recovery)
    yield from _rejection_lines(why.latest_rejection)


def _session_lines(session: dict[str, Any] | None) -> Iterator[str]:
    if session is not None:
        done = "recovered" if session["finished"] else "recovering"
        what = f"{session['action']} of {session['step']}"
        yield f"  {done}: {what}, {session['change_count']} changes"


def _cause_lines(
    why: StepExplanation | WorkflowExplanation | ChildWorkflow,
    waits: Mapping[str, AwaitView | None],
) -> Iterator[str]:
    for cause in why.root_causes[:_CAUSES_SHOWN]:
        line = f"  root cause {cause.step}: {cause.state} ({cause.code})"
        if not isinstance(why, StepExplanation):
            line += f", holds {'at least ' if cause.truncated else ''}{cause.held_count}"
        elif len(cause.path) > 2:
            line += f", by way of {_path(cause.path[1:-1])}"
        yield line
        if cause.summary is not None:
            yield f"    attempt {cause.attempt}: {escaped(cause.summary)}"
        if cause.child is not None:
            yield from (f"    {line}" for line in _child_lines(cause.child))
        for step in next_steps(why.workflow_id, cause, waits.get(cause.step)):
            yield f"    {escaped(step)}"
    if why.root_cause_count > _CAUSES_SHOWN:
        yield f"  and {why.root_cause_count - _CAUSES_SHOWN} more root causes"


def _path(names: Sequence[str]) -> str:
    if len(names) <= _CAUSES_SHOWN:
        return " > ".join(names)
    half = _CAUSES_SHOWN // 2
    left_out = f"({len(names) - 2 * half} more)"
    return " > ".join([*names[:half], left_out, *names[-half:]])


def _rejection_lines(rejection: EvidenceView | None) -> Iterator[str]:
    if rejection is not None:
        when = moment(rejection.requested_at)
        message = escaped(rejection.message)
        yield f"  latest refusal: {rejection.action}, {rejection.reason_code}, {when}: {message}"


# --- evidence ---------------------------------------------------------------------------------


@click.command(cls=OnWorkflow)
@click.argument("workflow_id", metavar="[ID]", required=False)
@key_option
@click.option("--step", help="Only what concerns this step.")
@on_client
def evidence(client: Client, out: Output, *, workflow_id: str | None, step: str | None) -> None:
    """List what was accepted, refused or repeated, oldest first.

    Without an ID: what concerns no workflow, such as commands on unknown ones, signals repeated
    before anybody took them, and withdrawn signals.
    """
    entries = client.evidence(workflow_id, step=step)
    out.without(entries.unreachable)
    if out.as_json:
        out.document([dumped(entry) for entry in entries])
        return
    head = ("STATUS", "TIME", "ACTION", "STEP", "REASON", "ACTOR", "MESSAGE")
    rows = [
        (
            entry.status,
            entry.requested_at,
            entry.action,
            entry.step or "-",
            entry.reason_code or "-",
            entry.actor or "-",
            entry.message,
        )
        for entry in entries
    ]
    out.lines(table(head, rows) or ["no evidence"])


COMMANDS = (show, graph, explain, evidence)
