"""Pauses of steps that were given back for a while."""

from __future__ import annotations

from typing import Final

from rwf.model.states import PauseReason, StepState
from rwf.protocol.records import Record
from rwf.protocol.stored import PauseRecord

_SUMMARIES: Final = {
    PauseReason.NO_HANDLER: "{} has no handler named {}",
    PauseReason.INPUT_TOO_LARGE: "the input is larger than max_input of {}",
    PauseReason.INPUT_UNREADABLE: "{} cannot read the input, or a result that it refers to",
}


class Pause(PauseRecord):
    """The latest pause of a step, as it is read back."""

    __slots__ = ()

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
