"""``rwf watch``: a workflow as it goes on."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

import click

from rwf import Client
from rwf.cli.common import OnWorkflow, Output, dumped, headline, on_client, on_workflow, progress
from rwf.cli.inspect import workflow_explanation
from rwf.cli.text import length, table
from rwf.model.names import escaped
from rwf.model.signs import STATE_SIGNS
from rwf.model.states import StepState
from rwf.model.views import StepView, WorkflowView

_EVERY: Final = 1.0
_LARGE: Final = 1_000
"""Steps of a workflow beyond which only its counters are shown: all would be read each time."""
_BAR: Final = 40
_CLEAR: Final = "\x1b[H\x1b[J"
_UNDER_WAY: Final = (StepState.EXECUTING, StepState.RETRYABLE, StepState.AWAITING_SIGNAL)


@click.command(cls=OnWorkflow)
@on_workflow
@on_client
def watch(client: Client, out: Output, *, workflow_id: str) -> None:
    """Show how a workflow goes on, until it has ended; leave with Ctrl-C.

    On a terminal the picture is drawn anew each second; elsewhere there is a line, or with --json a
    document, for each change.
    """
    shown: WorkflowView | None = None
    drawn = sys.stdout.isatty() and not out.as_json
    while True:
        view = client.get(workflow_id)
        if drawn:
            click.echo(_CLEAR, nl=False)
            out.lines(_picture(client, view))
        elif view != shown:
            if out.as_json:
                out.document(dumped(view))
            else:
                out.lines([f"{headline(view)}  {progress(view)}"])
        sys.stdout.flush()
        if view.finished_at is not None:
            return
        shown = view
        try:
            client.wait(workflow_id, timeout=_EVERY)
        except TimeoutError:
            continue


def _picture(client: Client, view: WorkflowView) -> Iterator[str]:
    done = _BAR * view.completed_step_count // max(view.step_count, 1)
    if view.step_count > _LARGE:
        yield headline(view)
        yield f"  [{'#' * done:<{_BAR}}] {progress(view)}"
        return
    lines = shutil.get_terminal_size().lines
    why = list(workflow_explanation(client.explain(view.id), MappingProxyType({})))
    yield headline(view, why[0].partition("  ")[0])
    yield f"  [{'#' * done:<{_BAR}}] {progress(view)}"
    steps = client.steps(view.id, payloads=False)
    under_way = [step for step in steps if step.state in _UNDER_WAY]
    rows = table(("", "STEP", "STATE", "ATTEMPT", "FOR", "BY"), map(_row, under_way))
    # The causes come first: they are why somebody looks.
    causes = [line for line in why[1:] if not line.startswith("  steps:")]
    room = max(lines - 4, 6)
    yield from causes[: room // 2]
    yield from rows[: room - min(len(causes), room // 2)]


def _row(step: StepView) -> tuple[object, ...]:
    since = length(step.last_transition_at, datetime.now(UTC))
    attempt = f"{step.attempt}/{step.max_attempts}"
    by = escaped(step.leased_by) if step.leased_by else "-"
    return STATE_SIGNS[step.state], step.name, step.state, attempt, since, by


COMMANDS = (watch,)
