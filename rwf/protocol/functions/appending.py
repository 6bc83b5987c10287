"""Appending steps to workflows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rwf.protocol.declare import Refusal, ServerFunction, server_function
from rwf.protocol.functions.workflows import HeaderReply


@server_function("stage_fragment")
class StageFragment(ServerFunction[bool | None]):
    """Stages pieces of a fragment (``growth.lua``); None where there is no workflow. Keys: the
    workflow's."""

    token: str
    first: int
    """The number of the first of them, from 1."""
    pieces: Sequence[bytes]


@server_function("discard_fragment", when_full=True)
class DiscardFragment(ServerFunction[bool | None]):
    """Removes staged pieces of a fragment; true when there may be more. Keys: the workflow's."""

    token: str
    overdue: bool
    """Only if it was abandoned long enough ago."""


class Appended(NamedTuple):
    """``outcome``: ``accepted`` or ``duplicate``, with how many steps the fragment has; ``busy``
    when something is left to be walked first, ``changed`` when it is to be made anew."""

    outcome: str
    steps: int = 0
    header: HeaderReply | None = None


@server_function("append", publishes=True)
class AppendFragment(ServerFunction[Appended | Refusal]):
    """Brings staged steps into a workflow. Keys: the workflow's."""

    call_id: str
    command_id: str
    fragment: str
    """A ``GrowthRecord``."""
    note: bytes
