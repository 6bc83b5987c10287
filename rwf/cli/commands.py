"""Writing commands: ``insert``, ``complete`` and ``append``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click

from rwf import Client, Workflow, WorkflowInvalid
from rwf.cli.common import (
    OnWorkflow,
    Output,
    dumped,
    headline,
    on_client,
    on_workflow,
    progress,
    state_and_cause,
)
from rwf.cli.faults import Refused, file_errors
from rwf.model.fragment import Fragment
from rwf.model.names import escaped, shown
from rwf.model.operator_status import step_status
from rwf.model.payload import path_text
from rwf.model.states import CompletionStatus
from rwf.model.views import AppendResult, CommandResult, WorkflowView

_MAX_INPUT: Final = 256 * 1024 * 1024
"""Bytes that are read of a file or of standard input; what is larger is refused."""
_NAMES_SHOWN: Final = 20


def days_value(
    _context: click.Context, _parameter: click.Parameter, value: str
) -> timedelta | None:
    """Days as a number, or ``none`` for ever."""
    if value == "none":
        return None
    try:
        days = timedelta(days=float(value))
    except (ValueError, OverflowError):
        days = timedelta(-1)
    if days < timedelta(0):
        raise click.BadParameter(f"{value!r} is neither a number of days nor 'none'")
    return days


def start_value(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> datetime | timedelta | None:
    """A time with a timezone, or seconds from now with a plus sign before them."""
    if value is None:
        return None
    try:
        if value.startswith("+"):
            return timedelta(seconds=float(value))
        found = datetime.fromisoformat(value)
    except (ValueError, OverflowError):
        found = datetime.min
    if found.utcoffset() is None:
        raise click.BadParameter(f"{value!r} is neither a time with a timezone nor +SECONDS")
    return found


# --- insert -----------------------------------------------------------------------------------


@click.command()
@click.argument("file")
@click.option("--key", help="Insert key of a single workflow: repeating it inserts nothing.")
@click.option(
    "--retention",
    callback=days_value,
    metavar="DAYS|none",
    default="7",
    show_default=True,
    help="How long the workflow is kept once it has finished.",
)
@click.option(
    "--replace",
    type=click.Choice(["ended_badly"]),
    help="Take the key over from a workflow that ended other than completed.",
)
@click.option("--actor", help="Who does this, for the evidence.")
@click.option(
    "--start-at",
    callback=start_value,
    metavar="TIME|+SECONDS",
    help="Nothing runs before: a time in ISO 8601 with a timezone, or seconds from now.",
)
@on_client
def insert(client: Client, out: Output, *, file: str, key: str | None, **given: Any) -> None:
    """Insert the workflow in FILE, or each of a list or of JSON lines; - is standard input.

    All are checked before the first is inserted.
    """
    forms, single = _forms(_read(file))
    if key is not None and not single:
        raise click.UsageError("--key goes with a single workflow")
    workflows = [_workflow(form, number, single) for number, form in enumerate(forms, 1)]
    views: list[WorkflowView] = []
    try:
        for workflow in workflows:
            views.append(client.insert(workflow, key=key, **given))
            if not out.as_json:
                out.lines(_insert_lines(views[-1]))
    finally:
        # When one is refused, those before it are in, and their ids are told.
        if out.as_json and (views or not single):
            out.document(dumped(views[0]) if single else [dumped(view) for view in views])


def _read(file: str) -> str:
    """A file's text, or that of standard input."""
    with file_errors(file):
        if file == "-":
            data = sys.stdin.buffer.read(_MAX_INPUT + 1)
        else:
            with Path(file).open("rb") as opened:
                data = opened.read(_MAX_INPUT + 1)
    if len(data) > _MAX_INPUT:
        raise Refused("input_too_large", f"{file} has more than {_MAX_INPUT} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refused("invalid_json", f"{file} is not UTF-8, at byte {error.start}") from None


def _forms(text: str) -> tuple[list[Any], bool]:
    """The JSON forms in a text, and whether it is a single one rather than a list or lines."""
    try:
        value = _parsed(text)
    except Refused:
        lines = [line for line in text.split("\n") if line.strip()]
        # A line that is whole on its own shows that lines were meant.
        if len(lines) < 2 or not _is_json(lines[0]):
            raise
        return list(_parsed_lines(text)), False
    if isinstance(value, list):
        return value, False
    return [value], True


def _parsed(text: str, where: str = "") -> Any:
    # json, not orjson: it keeps integers of any size, so that one too large is refused; and it
    # tells of a key that an object has twice, of which only the last value would be left.
    repeated = False

    def collect(pairs: list[tuple[str, Any]]) -> Any:
        nonlocal repeated
        found = dict(pairs)
        if len(found) == len(pairs):
            return found
        repeated = True
        return _Repeated(_first_repeated(pairs))

    try:
        value = json.loads(text, object_pairs_hook=collect)
    except RecursionError:
        raise Refused("invalid_json", f"{where}nested too deeply") from None
    except ValueError as error:
        raise Refused("invalid_json", f"{where}{error}") from None
    if repeated:
        key, path = _place_of_repeat(value)
        raise Refused("invalid_json", f"{where}the key {shown(key)} stands twice in {path}")
    return value


class _Repeated:
    """Stands in place of an object that has a key twice."""

    def __init__(self, key: str) -> None:
        self.key = key


def _first_repeated(pairs: list[tuple[str, Any]]) -> str:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            return key
        seen.add(key)
    raise AssertionError("no key stands twice")


def _place_of_repeat(value: Any) -> tuple[str, str]:
    """The key that an object within a value has twice, and the path of that object."""
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    while waiting:
        keys, one = waiting.pop()
        if isinstance(one, _Repeated):
            return one.key, path_text("$", keys)
        if isinstance(one, dict):
            waiting += [((*keys, key), inner) for key, inner in one.items()]
        elif isinstance(one, list):
            waiting += [((*keys, at), inner) for at, inner in enumerate(one)]
    raise AssertionError("no object has a key twice")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (RecursionError, ValueError):
        return False
    return True


def _parsed_lines(text: str) -> Iterator[Any]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _parsed(line, f"line {number}: ")


def _workflow(form: Any, number: int, single: bool) -> Workflow:
    try:
        workflow = Workflow.from_dict(form)
        workflow.validate()
    except WorkflowInvalid as error:
        if single:
            raise
        raise Refused(error.code, f"workflow {number}: {error.message}") from None
    return workflow


def _insert_lines(view: WorkflowView) -> Iterator[str]:
    before = ", inserted before with this key" if view.duplicate else ""
    yield f"{headline(view)}  {view.step_count} steps{before}"


# --- complete ---------------------------------------------------------------------------------


def payload_value(_context: click.Context, _option: click.Parameter, value: str | None) -> Any:
    """The JSON value of ``--payload``: given as it is, or as ``@file``."""
    if value is None:
        return None
    try:
        return _parsed(_read(value[1:]) if value.startswith("@") else value)
    except Refused as error:
        raise click.BadParameter(error.message) from None


def fragment_value(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> Fragment | None:
    """A fragment in its JSON form, in a file or, for ``-``, on standard input."""
    return None if value is None else Fragment.from_dict(_parsed(_read(value)))


@click.command(cls=OnWorkflow)
@on_workflow
@click.argument("step")
@click.argument(
    "status",
    default=CompletionStatus.COMPLETED.value,
    type=click.Choice([status.value for status in CompletionStatus]),
)
@click.option("--payload", callback=payload_value, metavar="JSON|@FILE", help="The result.")
@click.option("--summary", help="The result in words.")
@click.option(
    "--retry-in",
    type=float,
    metavar="SECONDS",
    help="Delay of the next attempt; for retryable.",
)
@click.option("--actor", help="Who does this, for the evidence.")
@click.option("--force", is_flag=True, help="Complete an executing step without its lease.")
@click.option(
    "--command-id", help="An id of your choice; a second command with it changes nothing."
)
@click.option("--lease", help="The token of the claim that it ran under.")
@click.option("--branch", is_flag=True, help="Skip the step's branch; for skipped only.")
@click.option(
    "--append",
    callback=fragment_value,
    metavar="FILE",
    help="Append the steps in this file; for completed only.",
)
@click.option(
    "--join/--no-join",
    default=True,
    help="Have what waits for the step wait for the appended steps, too.",
)
@on_client
def complete(client: Client, out: Output, *, workflow_id: str, step: str, **given: Any) -> None:
    """Report how a STEP ended: completed, unless another status is given."""
    result = client.complete_step(workflow_id, step, **given)
    if out.as_json:
        data = dumped(result)
        out.document(data | {"workflow": dumped(result.workflow)})
    else:
        out.lines(_complete_lines(result))


def _complete_lines(result: CommandResult) -> Iterator[str]:
    step = result.step
    status = step_status(step.state, frozenset())
    state = state_and_cause(step.state, step.terminal_cause)
    yield f"{status}  {state}  {escaped(step.name)}  {result.outcome}"
    for what, names, count in (
        ("released", result.released, result.released_count),
        ("cancelled", result.cancelled, result.cancelled_count),
    ):
        if count:
            more = f" and {count - _NAMES_SHOWN} more" if count > _NAMES_SHOWN else ""
            yield f"  {what} {', '.join(names[:_NAMES_SHOWN])}{more}"
    if result.appended_count:
        yield f"  appended {result.appended_count} steps"
    yield headline(result.workflow)
    yield f"  {progress(result.workflow)}"


# --- append -----------------------------------------------------------------------------------


@click.command(cls=OnWorkflow)
@on_workflow
@click.argument("fragment", metavar="FILE", callback=fragment_value)
@click.option("--actor", help="Who does this, for the evidence.")
@click.option(
    "--command-id", help="An id of your choice; a second command with it changes nothing."
)
@on_client
def append(client: Client, out: Output, *, workflow_id: str, **given: Any) -> None:
    """Bring the steps in FILE into a workflow that has not ended.

    FILE has {"steps": [...], "edges": [...]} as a workflow's definition has; - is standard input.
    """
    result = client.append(workflow_id, given.pop("fragment"), **given)
    if out.as_json:
        data = dumped(result)
        out.document(data | {"workflow": dumped(result.workflow)})
    else:
        out.lines(_append_lines(result))


def _append_lines(result: AppendResult) -> Iterator[str]:
    yield f"{headline(result.workflow)}  {result.outcome}, {result.appended_count} steps appended"
    yield f"  {progress(result.workflow)}"


COMMANDS = (insert, complete, append)
