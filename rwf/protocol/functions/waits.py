"""Messages between a workflow and the topics of its waits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rwf.protocol.declare import Item, Refusal, ServerFunction, item, server_function
from rwf.protocol.functions.workflows import HeaderReply


class Awaited(NamedTuple):
    """``outcome``: ``accepted``, ``duplicate`` or ``rejected``; ``wait``: its record as it is now;
    ``header``: None where there is no workflow."""

    outcome: str
    wait: bytes | None
    refusal: Refusal | None
    header: HeaderReply | None


@server_function("await", publishes=True)
class Await(ServerFunction[Awaited]):
    """Puts a step into a wait for a signal. Keys: the workflow's."""

    step: str
    call_id: str
    lease: str
    """Percent-quoted; empty for none."""
    deadline: str
    """Empty for none; ``=`` and microseconds, or ``+`` and microseconds from now; ``>`` behind it
    where the step goes on when it passes."""
    signal: str
    correlation_key: str
    """Percent-quoted, like the actor."""
    note: bytes
    actor: str


class ResolvedWait(NamedTuple):
    """``outcome``: ``r`` resolved by this very signal; ``x`` expired, and its step still is;
    ``g`` otherwise over, also by a cancel request that has not come to the step yet; empty when the
    workflow's semantics are not this library's. ``stamp``: the wait's."""

    outcome: str
    stamp: str


@server_function("resolve_wait", publishes=True, when_full=True)
class ResolveWait(ServerFunction[ResolvedWait]):
    """Hands a signal to the wait that its topic has chosen. Keys: the workflow's."""

    step: str
    n: int
    signal_id: str
    payload: bytes
    note: bytes


class WaitNotice(NamedTuple):
    """A notice that a topic is to be given of one of a step's waits; the step has none left where
    ``topic`` is None. ``known``: the topic knows of the wait already."""

    step: str
    n: int
    outcome: str
    stamp: str = ""
    signal_id: str = ""
    topic: bytes | None = None
    known: bool = False


@server_function("pending_wait_notices", reads_only=True)
class PendingWaitNotices(ServerFunction[list[WaitNotice]]):
    """The outcomes of a workflow's waits that their topics do not know yet.

    Keys: the workflow's.
    """

    limit: int


@item()
class AckedWait(Item):
    step: str
    n: int
    outcome: str
    """Its state: ``w`` waiting, ``x`` expired, ``r`` resolved, ``g`` over, or empty."""


class Acked(NamedTuple):
    """``wait``: the last of these waits as it is now; ``header``: None where there is no workflow
    that this release may change."""

    wait: bytes | None
    header: HeaderReply | None


@server_function("ack_wait_notices", publishes=True, when_full=True)
class AckWaitNotices(ServerFunction[Acked]):
    """Records that topics know the outcomes of waits. Keys: the workflow's."""

    acked: Sequence[AckedWait]


@item()
class AskedWait(Item):
    slot: int
    step: str
    n: int


class WaitOutcome(NamedTuple):
    """``w`` it waits, ``x`` expired, ``r`` resolved, ``g`` otherwise over, ``n`` gone with its
    workflow; empty where the workflow is of other semantics."""

    outcome: str
    stamp: str
    signal_id: str


@server_function("wait_outcomes", reads_only=True)
class WaitOutcomes(ServerFunction[list[WaitOutcome]]):
    """The outcomes of some waits. Keys: those of each workflow."""

    asked: Sequence[AskedWait]
