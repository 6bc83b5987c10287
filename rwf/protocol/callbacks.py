"""Callbacks, as they are read back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from rwf.model.states import CallbackEvent
from rwf.model.views import Callback, CallbackView, RecoveryCompleted, WorkflowTerminal
from rwf.protocol.codecs import reading, time_of
from rwf.protocol.headers import stored_tags_of
from rwf.protocol.stored import CallbackRecord, HeaderRecord

ENVELOPE_VERSION: Final = 1

_ENVELOPE: Final[Mapping[CallbackEvent, type[Callback]]] = {
    CallbackEvent.WORKFLOW_TERMINAL: WorkflowTerminal,
    CallbackEvent.RECOVERY_COMPLETED: RecoveryCompleted,
}


class StoredCallback(CallbackRecord):
    """A callback, as it is read back."""

    __slots__ = ()

    @property
    def data(self) -> dict[str, Any]:
        """The fields that its event adds to the envelope. Raises RecordUnreadable."""
        return _data(self.event, self.fields)

    @staticmethod
    def field(number: int) -> str:
        """The field of a workflow's hash with the callback of this number, from 1 on."""
        return f"@{number}"

    def envelope(
        self,
        workflow_id: str,
        number: int,
        static: bytes,
        key: bytes | None,
        state: bytes,
        tags: bytes | None,
    ) -> Callback:
        """The envelope for the handler. ``static`` is the fixed part of the workflow's header,
        ``key`` its insert key, ``state`` its present state, used for events that have none of
        their own, and ``tags`` its tags as they are stored."""
        header = HeaderRecord.parse(static)
        return _ENVELOPE[self.event](
            callback_id=f"{workflow_id}/{number}",
            event=self.event,
            workflow_id=workflow_id,
            name=header.name,
            key=None if key is None else key.decode(),
            tags=stored_tags_of(tags),
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


@reading
def _data(event: CallbackEvent, fields: str) -> dict[str, Any]:
    if event is CallbackEvent.WORKFLOW_TERMINAL:
        state, cause, *skipped = fields.split(",")
        found: dict[str, Any] = {"state": state, "terminal_cause": cause}
        if skipped:
            found["skipped_step_count"] = int(skipped[0])
        return found
    data: dict[str, Any] = orjson.loads(f"{{{fields}}}")
    return data
