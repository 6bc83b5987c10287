"""The options, client and output format that all commands share."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import click

from rwf import Client
from rwf.cli import colour
from rwf.cli.text import moment
from rwf.model.names import escaped
from rwf.model.operator_status import workflow_status
from rwf.model.views import View, WorkflowView

DEFAULT_URL: Final = "redis://127.0.0.1:6379/0"

Command = Callable[..., int | None]


class Output:
    """Where a command's answer goes: lines for people, or one JSON document."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def lines(self, lines: Iterable[str]) -> None:
        """Prints lines that hold no control characters."""
        text = "\n".join(map(colour.painted, lines) if colour.wanted() else lines)
        if text:
            click.echo(text)

    def document(self, value: Any) -> None:
        """Prints a value as JSON, in ASCII, on one line."""
        click.echo(json.dumps(value))

    def without(self, unreachable: Sequence[int]) -> None:
        """Says on stderr which partitions did not answer, if there are any: what they have is
        missing in the answer."""
        if not unreachable:
            return
        which = ", ".join(map(str, unreachable))
        text = f"what partitions {which} have is missing: they did not answer"
        if self.as_json:
            text = json.dumps({"warning": "partitions_unreachable", "message": text})
        click.echo(text if self.as_json else f"rwf: warning: {text}", err=True)


def url_option(command: Command) -> Command:
    """Adds ``--url``."""
    return click.option(
        "--url",
        envvar="RWF_URL",
        default=DEFAULT_URL,
        metavar="URL",
        help=f"The server.  [$RWF_URL, else {DEFAULT_URL}]",
    )(command)


def namespace_option(command: Command) -> Command:
    """Adds ``--namespace``."""
    return click.option(
        "--namespace",
        envvar="RWF_NAMESPACE",
        default="rwf",
        metavar="NAME",
        help="The namespace of all keys.  [$RWF_NAMESPACE, else rwf]",
    )(command)


def json_option(command: Command) -> Command:
    """Adds ``--json``, passed as an :class:`Output` named ``out``."""
    return click.option(
        "--json",
        "out",
        is_flag=True,
        callback=lambda _context, _option, value: Output(value),
        help="Answer in JSON; an error is one line of JSON on stderr.",
    )(command)


def on_client(command: Command) -> Command:
    """A command on a server: adds ``--url``, ``--namespace`` and ``--json``, and passes an open
    client and the output first."""

    @functools.wraps(command)
    def opened(url: str, namespace: str, out: Output, **given: Any) -> int | None:
        with Client.from_url(url, namespace=namespace) as client:
            if (key := given.pop("workflow_key", None)) is not None:
                given["workflow_id"] = client.find(key).id
            return command(client, out, **given)

    return url_option(json_option(namespace_option(opened)))


class OnWorkflow(click.Command):
    """A command on one workflow, which ``--key`` may name in place of the argument ID."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if any(arg == "--key" or arg.startswith("--key=") for arg in args):
            args = ["", *args]  # stands where the ID would, before all other arguments
        return super().parse_args(ctx, args)


def key_option(command: Command) -> Command:
    """Adds ``--key`` to an :class:`OnWorkflow`."""
    return click.option(
        "--key", "workflow_key", metavar="KEY", help="The workflow's insert key, in place of ID."
    )(command)


def on_workflow(command: Command) -> Command:
    """Adds the argument ID, passed as ``workflow_id``, and ``--key`` to an :class:`OnWorkflow`."""
    return click.argument("workflow_id", metavar="ID")(key_option(command))


def folder_value(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> Path | None:
    """A folder's name as a path."""
    if value is not None and (not value or "\0" in value):
        raise click.BadParameter("not the name of a folder")
    return None if value is None else Path(value)


def embedded_url(folder: Path) -> str:
    """The URL that names the embedded server of a folder."""
    return f"embedded://{quote(str(folder.absolute()))}"


def dumped(view: View, status: str | None = None) -> dict[str, Any]:
    """A view as JSON data; a workflow's operator status comes first."""
    data = view.model_dump(mode="json")
    if isinstance(view, WorkflowView):
        return {"operator_status": str(status or workflow_status(view)), **data}
    return data


def headline(view: WorkflowView, status: str | None = None) -> str:
    """A workflow on one line: the operator status, then the raw state, then what it is."""
    state = state_and_cause(view.state, view.terminal_cause)
    return f"{status or workflow_status(view)}  {state}  {escaped(view.name)}  {view.id}"


def acknowledgement_lines(view: WorkflowView) -> Iterator[str]:
    """Who has left a workflow at its bad end, if anybody has."""
    if view.acknowledged_at is not None:
        who, why = escaped(str(view.acknowledged_by)), escaped(str(view.acknowledged_reason))
        yield f"  acknowledged {moment(view.acknowledged_at)} by {who}: {why}"


def state_and_cause(state: str, cause: str | None) -> str:
    """A raw state, with its terminal cause where that says more."""
    return state if cause in (None, state) else f"{state} ({cause})"


def progress(view: WorkflowView) -> str:
    """A workflow's counters in words."""
    parts = [f"{view.completed_step_count} of {view.step_count} steps completed"]
    parts += [
        f"{count} {what}"
        for count, what in (
            (view.skipped_step_count, "of them skipped"),
            (view.runnable_step_count, "available"),
            (view.failed_step_count, "failed"),
            (view.cancelled_step_count, "cancelled"),
        )
        if count
    ]
    return ", ".join(parts)
