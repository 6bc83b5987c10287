"""Topics: the signals that they keep, the waits that they know of. Keys: the topic's.

``signal`` and ``correlation_key`` name the topic, the key percent-quoted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rwf.protocol.declare import Item, Refusal, ServerFunction, item, server_function


class SignalReply(NamedTuple):
    """A signal as it is now. ``workflow_id``, ``step``: who consumed it; ``dedupe_key``, ``actor``
    are percent-quoted. A missing value is empty."""

    number: int
    status: str
    workflow_id: str
    step: str
    stamp: str
    dedupe_key: str
    actor: str
    payload: bytes | None


class HandOff(NamedTuple):
    """A signal that the caller has to hand over to a wait: the n-th of a step."""

    number: int
    workflow_id: str
    step: str
    n: int
    payload: bytes | None
    actor: str


class RecordedSignal(NamedTuple):
    """``outcome``: ``accepted``, or ``duplicate``."""

    outcome: str
    signal: SignalReply
    handed: HandOff | None


@server_function("signal", publishes=True)
class RecordSignal(ServerFunction[RecordedSignal]):
    """Records a signal at its topic, and matches the topic's signals with waits. The client
    leaves evidence of a repeated signal with the workflow that has consumed the first."""

    signal: str
    correlation_key: str
    dedupe_key: str
    """Percent-quoted, like the actor."""
    call_id: str
    has_payload: bool
    payload: bytes
    note: bytes
    actor: str


class UpdatedTopic(NamedTuple):
    """``repair``: the kind of repair that this was, or empty; ``signal``: the one asked after."""

    repair: str
    signal: SignalReply | None
    handed: HandOff | None


@server_function("update_topic", publishes=True, when_full=True)
class UpdateTopic(ServerFunction[UpdatedTopic]):
    """Tells a topic the outcome of a wait, and matches its kept signals with waits."""

    signal: str
    correlation_key: str
    workflow_id: str
    step: str
    n: str
    """The wait's number among those of its step."""
    stamp: str
    outcome: str
    """``w`` waiting, ``x`` expired, ``r`` resolved, ``g`` otherwise over, ``n`` gone with its
    workflow."""
    consumed: int | None
    """The number of the signal that resolved it."""
    asked: int | None
    """The number of a signal that is asked after."""
    is_repair: bool
    """Has a wait stand that the topic knew to be over; or, where a signal has resolved it, hands
    that over again."""
    unrecorded: bool
    """Whether, by the workflow's record, this is the first time."""


class JudgedTopic(NamedTuple):
    """``expired``: how many signals have left because nobody took them in time."""

    handed: HandOff | None
    expired: int


@server_function("judge_topic", publishes=True, when_full=True)
class JudgeTopic(ServerFunction[JudgedTopic]):
    """Matches the kept signals of a topic with its waits."""

    signal: str
    correlation_key: str


@item()
class ForgottenWait(Item):
    step: str
    consumed: int | None
    """The number of the signal that it consumed."""


@server_function("forget", publishes=True, when_full=True)
class Forget(ServerFunction[HandOff | None]):
    """Removes from a topic the waits of a removed workflow, and the signals that they consumed."""

    signal: str
    correlation_key: str
    workflow_id: str
    forgotten: Sequence[ForgottenWait]


class Withdrawn(NamedTuple):
    """``outcome``: ``accepted``; or what has to be done before it is called again: ``busy``, carry
    out the hand-off; ``look``, read the signal; ``more``, nothing."""

    outcome: str
    handed: HandOff | None = None


@server_function("withdraw_signal", publishes=True, when_full=True)
class WithdrawSignal(ServerFunction[Withdrawn | Refusal]):
    """Takes back a signal that no wait has consumed. This frees its dedupe key."""

    number: int
    call_id: str
    note: bytes
    seen: bool
    """Whether the caller has seen that it is kept."""
    patient: bool
    """Whether to answer ``busy``, rather than refuse, while a signal is being handed over."""


class KeptSignal(NamedTuple):
    """``place``: of its topic among those of the call, from 1; ``topic``: what that is called."""

    place: int
    topic: bytes
    signal: SignalReply


class KeptSignals(NamedTuple):
    """``place``, ``number``: the topic and the signal to go on with; ``place`` is 0 at the end."""

    signals: list[KeptSignal]
    place: int
    number: int


@server_function("kept_signals", reads_only=True)
class ReadKeptSignals(ServerFunction[KeptSignals]):
    """Signals that some topics of a partition keep, by topic and age. Keys: those of each topic."""

    limit: int
    signal: str | None
    """Only of topics with this signal."""
    any_key: bool
    key: str
    """Only of topics with this correlation key, percent-quoted, unless of any."""
    status: str | None
    first: Sequence[int]
    """For each topic the number of the first signal to look at, 0 for the oldest."""


@server_function("topic_name", reads_only=True)
class TopicName(ServerFunction[bytes | None]):
    """The name of a topic, ``signal|correlation key``; None where there is no topic."""


@server_function("signal_of_dedupe_key", reads_only=True)
class SignalOfDedupeKey(ServerFunction[int | None]):
    """The number of the signal on record that one of this dedupe key would repeat."""

    dedupe_key: str
