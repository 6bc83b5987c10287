"""The options by which commands take workflows together."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import click

from rwf.cli.common import OnWorkflow
from rwf.model.moments import moment_of
from rwf.model.states import OperatorStatus, WorkflowState

Command = Callable[..., int | None]


def _tags(
    _context: click.Context, _parameter: click.Parameter, pairs: tuple[str, ...]
) -> dict[str, str] | None:
    found: dict[str, str] = {}
    for pair in pairs:
        key, is_pair, value = pair.partition("=")
        if not is_pair or not key or not value or found.setdefault(key, value) != value:
            raise click.BadParameter("give each tag once, as KEY=VALUE")
    return found or None


def _time(
    _context: click.Context, _parameter: click.Parameter, text: str | None
) -> datetime | None:
    try:
        return None if text is None else moment_of(text, datetime.now(UTC))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


_OPTIONS: Final = (
    click.option(
        "--tag",
        "tags",
        multiple=True,
        metavar="KEY=VALUE",
        callback=_tags,
        help="Only those with this tag; may be given several times.",
    ),
    click.option("--name", help="Only those of this name."),
    click.option(
        "--state",
        type=click.Choice([state.value for state in WorkflowState]),
        help="Only those in this state.",
    ),
    click.option(
        "--status",
        type=click.Choice([status.value for status in OperatorStatus], case_sensitive=False),
        help="Only those of this operator status.",
    ),
    click.option(
        "--since",
        metavar="TIME|AGE",
        callback=_time,
        help="Only those inserted then or later: a time in ISO 8601, or an age such as 2h.",
    ),
    click.option(
        "--until", metavar="TIME|AGE", callback=_time, help="Only those inserted before then."
    ),
    click.option("--failed-step", metavar="STEP", help="Only those in which this step has failed."),
    click.option("--parent", metavar="ID", help="Only the children of this workflow."),
)
FILTERS: Final = ("tags", "name", "state", "status", "since", "until", "failed_step", "parent")


class OnOneOrMany(OnWorkflow):
    """A command on one workflow, or with ``--all`` on those that filters hold of."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--all" in args:
            args = ["", *args]  # stands where the ID would
        return super().parse_args(ctx, args)


def all_option(command: Command) -> Command:
    """Adds ``--all``, passed as ``many``, and the filters."""
    all_ = click.option("--all", "many", is_flag=True, help="All that the filters hold of.")
    return all_(filter_options(command))


def filter_options(command: Command) -> Command:
    """Adds the filters of workflows, each passed under its name in ``FILTERS``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def filters_of(given: dict[str, Any]) -> Any:
    """Takes the filters that were given out of a command's options."""
    found = {name: given.pop(name) for name in FILTERS}
    return {name: value for name, value in found.items() if value is not None}
