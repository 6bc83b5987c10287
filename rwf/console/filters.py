"""Filters of workflows as the console's addresses have them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from rwf.errors import CommandRejected
from rwf.model.moments import moment_of
from rwf.model.states import Reason

FILTERS: Final = ("status", "state", "name", "tag", "failed_step", "parent", "since", "until")
"""The parameters. ``tag`` has tags, ``key=value`` with spaces between."""


def given_of(parameters: Mapping[str, str]) -> dict[str, str]:
    """The filters that are set."""
    return {name: parameters[name] for name in FILTERS if parameters.get(name)}


def filter_of(given: Mapping[str, str]) -> Any:
    """The filter that parameters stand for; raises CommandRejected, ``invalid_argument``."""
    found: dict[str, Any] = {}
    for name, text in given_of(given).items():
        if name == "tag":
            pairs = (word.partition("=") for word in text.split())
            found["tags"] = {key: value for key, _, value in pairs}
        elif name in ("since", "until"):
            try:
                found[name] = moment_of(text, datetime.now(UTC))
            except ValueError as error:
                message = f"{name} must be {error}"
                raise CommandRejected("read", "request", Reason.INVALID_ARGUMENT, message) from None
        else:
            found[name] = text
    return found
