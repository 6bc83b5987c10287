"""How callbacks are stored: the text format of ``lua/lib/outbox.lua``, read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from rwf.model.states import CALLBACK_CODE, EVENT_CODE, CallbackEvent, CallbackStatus
from rwf.model.views import Callback, CallbackView, RecoveryCompleted, WorkflowTerminal
from rwf.protocol.codecs import reading, time_of
from rwf.protocol.stored import HeaderRecord

ENVELOPE_VERSION: Final = 1

_ENVELOPE: Final[Mapping[CallbackEvent, type[Callback]]] = {
    CallbackEvent.WORKFLOW_TERMINAL: WorkflowTerminal,
    CallbackEvent.RECOVERY_COMPLETED: RecoveryCompleted,
}
_EVENT_OF: Final = {code: event for event, code in EVENT_CODE.items()}
_STATUS_OF: Final = {code: status for status, code in CALLBACK_CODE.items()}


@dataclass(frozen=True, slots=True)
class CallbackRecord:
    """A callback's record, taken apart. Times are milliseconds since the workflow's insert."""

    event: CallbackEvent
    since: int
    status: CallbackStatus
    attempts: int
    due: int | None
    data: dict[str, Any]

    @classmethod
    @reading
    def parse(cls, text: bytes) -> CallbackRecord:
        moving, _, fields = text.decode().partition("|")
        event, since, status, attempts, due, _ = moving.split(",")
        return cls(
            event=_EVENT_OF[event],
            since=int(since),
            status=_STATUS_OF[status],
            attempts=int(attempts),
            due=int(due) if due else None,
            data=_data(_EVENT_OF[event], fields),
        )

    def envelope(
        self, workflow_id: str, number: int, static: bytes, key: bytes | None, state: bytes
    ) -> Callback:
        """What the handler gets. ``static`` is the fixed part of the workflow's header, ``key`` its
        insert key, and ``state`` what it is in now, which an event may have been of another."""
        header = HeaderRecord.parse(static)
        return _ENVELOPE[self.event](
            callback_id=f"{workflow_id}/{number}",
            event=self.event,
            workflow_id=workflow_id,
            name=header.name,
            key=None if key is None else key.decode(),
            semantics_version=header.semantics,
            envelope_version=ENVELOPE_VERSION,
            occurred_at=time_of(header.inserted + self.since),
            **{"state": state.decode(), **self.data},
        )

    def view(self, workflow_id: str, number: int, static: bytes) -> CallbackView:
        """Where the callback stands."""
        inserted = HeaderRecord.parse(static).inserted
        return CallbackView(
            callback_id=f"{workflow_id}/{number}",
            event=self.event,
            workflow_id=workflow_id,
            status=self.status,
            attempts=self.attempts,
            due_at=None if self.due is None else time_of(inserted + self.due),
            occurred_at=time_of(inserted + self.since),
            data=self.data,
        )


def _data(event: CallbackEvent, fields: str) -> dict[str, Any]:
    if event is CallbackEvent.WORKFLOW_TERMINAL:
        state, cause = fields.split(",")
        return {"state": state, "terminal_cause": cause}
    data: dict[str, Any] = orjson.loads(f"{{{fields}}}")
    return data
