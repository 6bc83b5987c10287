"""Messages between a child workflow and the step that waits for its end."""

from __future__ import annotations

from typing import NamedTuple

from rwf.protocol.declare import ServerFunction, server_function
from rwf.protocol.functions.workflows import HeaderReply


class ResolvedChild(NamedTuple):
    """``outcome``: ``w`` the step waits for the child, ``e`` it may come to, ``r`` it has taken the
    child's results, ``f`` it has failed by it, ``g`` it does not wait for it, ``n`` the workflow is
    gone; empty when its semantics are not this library's. ``n``: the number of its latest wait, 0
    for none."""

    outcome: str
    n: int
    header: HeaderReply | None


@server_function("resolve_child", publishes=True, when_full=True)
class ResolveChild(ServerFunction[ResolvedChild]):
    """Tells a step that its child workflow has ended, or asks what it makes of the child. Keys: the
    parent's."""

    step: str
    lease: str
    """Under which it has asked for the child, percent-quoted."""
    child: str
    state: str
    """The child's state; empty to ask only."""
    payload: bytes
    """The step's result."""
    note: bytes
    """Evidence of the child's end, for the step's row."""


class UpdatedChild(NamedTuple):
    """``outcome``: ``open`` or ``ended``; ``gone`` where it is no child of that step; empty when
    its semantics are not this library's."""

    outcome: str
    header: HeaderReply | None


@server_function("update_child", publishes=True, when_full=True)
class UpdateChild(ServerFunction[UpdatedChild]):
    """Tells a child workflow what the step that has asked for it makes of it. Keys: the child's."""

    parent: str
    step: str
    n: int
    """The number of the step's wait that says so."""
    outcome: str
    """As in :class:`ResolvedChild`."""
    note: bytes
    """Of a cancel request's evidence."""
    reason: str
    """Of the cancel request, percent-quoted."""
