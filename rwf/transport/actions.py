"""The actions that a session asks of its driver: to send, to wait, to see to connections."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from rwf.protocol.declare import Arg

T = TypeVar("T")
Command = tuple[Arg, ...]


@dataclass(frozen=True, slots=True)
class Send:
    """A command to send to the node that has ``key``.

    ``behind`` are commands to send behind it on the same connection; the reply is then a pair, its
    own and that of the last of them.
    """

    args: Command
    key: str
    behind: tuple[Command, ...] = ()


@dataclass(frozen=True, slots=True)
class SendEverywhere:
    """A command to send to every primary at once, or to ``node`` alone, by its name among them; the
    replies are in a dict by these names; errors are among them, not raised."""

    args: Command
    node: str | None = None


@dataclass(frozen=True, slots=True)
class SendTogether:
    """Commands to send in one pipeline a node, to all nodes at once; the reply is the list of
    theirs; errors are among them, not raised.

    Of what stands behind some, a node is sent that of the last: it is for all before it.
    """

    sends: tuple[Send, ...]


@dataclass(frozen=True, slots=True)
class SendInTurn:
    """Commands to send one behind the other on one connection to the node of ``key``; the reply is
    the list of theirs; errors are among them, not raised."""

    commands: Sequence[Command]
    key: str


@dataclass(frozen=True, slots=True)
class Wait:
    """A pause, in seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Revive:
    """See to it that an embedded server runs; nothing for any other."""


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Let no idle connection to the node of ``key`` be used again: behind a fixed address there may
    be another server now."""

    key: str


Action = Send | SendEverywhere | SendTogether | SendInTurn | Wait | Revive | Reconnect
Steps = Generator[Action, Any, T]
