"""Commands of the console: how each is shown, asked for and carried out.

A command is first shown (:class:`Preview`), by a dry run where it has one, and carried out only by
the form of that page.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from rwf.aio import AsyncClient
from rwf.errors import CommandRejected
from rwf.model.states import Reason
from rwf.model.views import RecoveryResult

Given = Mapping[str, str]
"""A request's parameters: those of its address, or the fields of its form."""

Place = tuple[str, Given]
"""The path of a page and its parameters."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Field:
    """A form field. ``kind``: text, area, check or choice."""

    name: str
    label: str
    kind: str = "text"
    value: str = ""
    hint: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    required: bool = False


@dataclass(frozen=True, slots=True)
class Preview:
    """The effect that a command would have. ``options`` change the effect and are asked for before
    it is shown; ``fields`` are filled in with the confirmation; ``fixed`` is sent with both."""

    title: str
    sentences: tuple[str, ...]
    button: str
    fixed: Given
    options: tuple[Field, ...] = ()
    fields: tuple[Field, ...] = ()
    result: RecoveryResult | None = None
    refusal: CommandRejected | None = None
    danger: bool = False
    reason_kept: bool = True

    @property
    def seen(self) -> str:
        """A digest of the changes of a dry run: what is confirmed is what was seen."""
        if self.result is None:
            return ""
        changes = [[one.step, one.before, one.after] for one in self.result.changes]
        return hashlib.sha256(json.dumps(changes).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Order:
    """A confirmed command."""

    given: Given
    actor: str
    reason: str
    once: str
    """An id of this confirmation: sent again, it changes nothing."""


@dataclass(frozen=True, slots=True)
class Command:
    """A kind of command; ``run`` returns what there is to tell beside that it was done, or where
    that is seen."""

    name: str
    """By which ``authorize`` is asked, and evidence and the console's log tell of it."""
    preview: Callable[[AsyncClient, Given], Awaitable[Preview]]
    run: Callable[[AsyncClient, Order], Awaitable[str | Place | None]]
    back: Callable[[Given], Place]
    """Where one comes from, and goes when it is done."""


def needed(given: Given, name: str) -> str:
    """A value that the console's own links always give."""
    if not given.get(name):
        raise wrong(f"{name} is missing")
    return given[name]


def wrong(message: str) -> CommandRejected:
    return CommandRejected("console", "request", Reason.INVALID_ARGUMENT, message)


def some(given: Given, *names: str) -> dict[str, str]:
    return {name: given[name] for name in names if given.get(name)}


def member(kind: Callable[[str], T], text: str) -> T:
    try:
        return kind(text)
    except ValueError:
        raise wrong(f"{text[:80]!r} is not known") from None
