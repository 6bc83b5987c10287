"""Waits and signals, as they are read back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from rwf.model.states import OnTimeout, SignalStatus, WaitStatus
from rwf.model.views import AwaitView, SignalView
from rwf.protocol.codecs import reading, time_of_micros, time_of_stamp, value_of
from rwf.protocol.functions.topics import SignalReply
from rwf.protocol.stored import WaitRecord

GOES_ON: Final = ">"
"""The mark behind a deadline after which the step goes on."""


class Wait(WaitRecord):
    """A step's wait for a signal, or for the end of a child workflow; ``deadline`` and ``resolved``
    are microseconds."""

    __slots__ = ()

    @property
    def child(self) -> str | None:
        """The child workflow that it is for; None for a signal."""
        return child_of(self.topic)

    @property
    def signal(self) -> str:
        """The name of the signal that it waits for."""
        return self.topic.partition("|")[0]

    @property
    def key(self) -> str:
        """The correlation key as the user gave it."""
        return unquote(self.topic.partition("|")[2])

    @property
    def goes_on(self) -> bool:
        """Whether the waiting step goes on, rather than expires, when the deadline passes."""
        return self.asked.endswith(GOES_ON)

    @property
    def due(self) -> int | None:
        """When the wait's deadline passes, in whole ms; None when it is over, or has none."""
        if self.status != "w" or self.deadline is None:
            return None
        return -(-self.deadline // 1000)

    @property
    def is_registered(self) -> bool:
        """Whether its topic is to know the wait: its step waits, or has expired by it."""
        return self.status in ("w", "x")

    @property
    def has_news(self) -> bool:
        """Whether a topic does not know its status yet, or that of an earlier wait of its step."""
        return bool(self.left) or self.unacked is not None

    @property
    def unacked(self) -> str | None:
        """The status that the wait's topic does not know yet; None when it is up to date."""
        wanted = _WAIT_WANTED[self.status]
        return wanted if _WAIT_RANK[self.acked] < _WAIT_RANK[wanted] else None

    def view(self, workflow_id: str, step: str) -> AwaitView:
        return AwaitView(
            id=f"{workflow_id}/{step}/{self.n}",
            workflow_id=workflow_id,
            step=step,
            signal=self.signal,
            correlation_key="" if self.child else self.key,
            status=_WAIT_STATUS[self.status],
            deadline=None if self.deadline is None else time_of_micros(self.deadline),
            registered_at=time_of_stamp(self.stamp),
            resolved_at=None if self.resolved is None else time_of_micros(self.resolved),
            signal_id=self.signal_id or None,
            actor=self.actor or None,
            on_timeout=OnTimeout.CONTINUE if self.goes_on else OnTimeout.EXPIRE,
            child=self.child,
        )


def child_of(topic: str) -> str | None:
    """The child workflow that a wait's topic names; None where it names a signal."""
    signal, _, child = topic.partition("|")
    return None if signal else child


_WAIT_STATUS: Final = {
    "w": WaitStatus.WAITING,
    "r": WaitStatus.RESOLVED,
    "x": WaitStatus.EXPIRED,
    "y": WaitStatus.EXPIRED,
    "a": WaitStatus.ABANDONED,
    "f": WaitStatus.RESOLVED,
}
_WAIT_WANTED: Final = {"w": "w", "r": "r", "x": "x", "f": "r", "y": "g", "a": "g"}
_WAIT_RANK: Final = {"": 0, "w": 1, "x": 2, "r": 3, "g": 3}


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal as its topic stores it."""

    number: int
    status: SignalStatus
    workflow_id: str | None
    step: str | None
    stamp: str
    dedupe_key: str
    actor: str | None
    payload: bytes | None

    @classmethod
    @reading
    def of(cls, reply: SignalReply) -> Signal:
        return cls(
            number=reply.number,
            status=SignalStatus(reply.status),
            workflow_id=reply.workflow_id or None,
            step=reply.step or None,
            stamp=reply.stamp,
            dedupe_key=unquote(reply.dedupe_key),
            actor=unquote(reply.actor) or None,
            payload=reply.payload,
        )

    def view(
        self, signal_id: str, signal: str, correlation_key: str, *, duplicate: bool = False
    ) -> SignalView:
        return SignalView(
            id=signal_id,
            signal=signal,
            correlation_key=correlation_key,
            dedupe_key=self.dedupe_key,
            status=self.status,
            payload=value_of(self.payload),
            workflow_id=self.workflow_id,
            step=self.step,
            received_at=time_of_stamp(self.stamp),
            actor=self.actor,
            duplicate=duplicate,
        )
