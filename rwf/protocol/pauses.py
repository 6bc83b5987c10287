"""The record of a step that was given back for a while (``pauses.lua``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from rwf.model.states import PauseReason, StepState
from rwf.protocol.codecs import reading
from rwf.protocol.records import Record

_SUMMARIES: Final = {
    PauseReason.NO_HANDLER: "{} has no handler named {}",
    PauseReason.INPUT_TOO_LARGE: "{} does not take an input as large as this",
    PauseReason.INPUT_UNREADABLE: "{} cannot read what the input is made of",
}


@dataclass(frozen=True, slots=True)
class Pause:
    """The latest pause of a step: how many there were in a row, why, when it ends (milliseconds
    since the insert), and who gave the step back."""

    number: int
    reason: PauseReason
    due: int
    worker: str

    @classmethod
    @reading
    def parse(cls, text: bytes) -> Pause:
        number, reason, due, _, worker = text.decode().split(",")
        return cls(int(number), PauseReason(reason), int(due), unquote(worker))

    @staticmethod
    def field(step: str) -> str:
        """The field of the payload hash."""
        return f"z:{step}"

    def holds(self, record: Record) -> bool:
        """Whether it lasts: its step is retryable, and for this pause."""
        return record.state is StepState.RETRYABLE and record.due == self.due

    def summary(self, handler: str) -> str:
        """Why a step that asks for this handler pauses, in words."""
        return _SUMMARIES[self.reason].format(self.worker, handler)
