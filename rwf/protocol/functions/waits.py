"""What passes between a workflow and the topics of its waits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rwf.protocol.declare import Item, ServerFunction, item, server_function
from rwf.protocol.functions.workflows import HeaderReply


class WaitNotice(NamedTuple):
    """What a topic is to be told of one of a step's waits; nothing of the step is left to be told
    where ``topic`` is None. ``known``: the topic was told before."""

    step: str
    n: int
    outcome: str
    stamp: str = ""
    signal_id: str = ""
    topic: bytes | None = None
    known: bool = False


@server_function("pending_wait_notices", reads_only=True)
class PendingWaitNotices(ServerFunction[list[WaitNotice]]):
    """What the topics of a workflow's waits have not been told. Keys: the workflow's."""

    limit: int


@item()
class AckedWait(Item):
    step: str
    n: int
    outcome: str
    """What was told: ``w`` waiting, ``x`` expired, ``r`` resolved, ``g`` over, or empty."""


class Acked(NamedTuple):
    """``wait``: the last of these waits as it is now; ``header``: None where there is no workflow
    that this release may change."""

    wait: bytes | None
    header: HeaderReply | None


@server_function("ack_wait_notices", publishes=True, when_full=True)
class AckWaitNotices(ServerFunction[Acked]):
    """Notes that topics were told what became of waits. Keys: the workflow's."""

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
    """What has become of some waits. Keys: those of each workflow."""

    asked: Sequence[AskedWait]
