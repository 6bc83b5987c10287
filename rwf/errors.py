"""Every error that rwf raises. All derive from :class:`RwfError`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rwf.model.states import LEGAL_NEXT_STEPS, Reason


class RwfError(Exception):
    """Base of every error that rwf raises."""


class WorkflowInvalid(RwfError):
    """A definition that breaks a rule of contract §3; nothing was written.

    ``code`` names the rule, ``details`` says where it is broken.
    """

    def __init__(self, code: str, message: str, **details: Any) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.details: Mapping[str, Any] = details

    def __reduce__(self) -> Any:
        return _rebuild_invalid, (self.code, self.message, dict(self.details))


def _rebuild_invalid(code: str, message: str, details: dict[str, Any]) -> WorkflowInvalid:
    return WorkflowInvalid(code, message, **details)


class CommandRejected(RwfError):
    """A command that was refused: no state changed.

    ``requested_at`` is the server's time (UTC) when the server judged it, and None when the client
    refused before anything was sent; then no evidence is left either. ``workflow_id`` is, for
    ``key_conflict``, that of the workflow which has the key; else None.
    """

    def __init__(
        self,
        action: str,
        scope: str,
        reason_code: Reason,
        message: str,
        *,
        requested_at: datetime | None = None,
        legal_next_steps: tuple[str, ...] | None = None,
        workflow_id: str | None = None,
    ) -> None:
        super().__init__(f"{reason_code}: {message}")
        self.action = action
        self.scope = scope
        self.reason_code = Reason(reason_code)
        self.message = message
        self.requested_at = requested_at
        self.workflow_id = workflow_id
        self.legal_next_steps = (
            LEGAL_NEXT_STEPS[self.reason_code] if legal_next_steps is None else legal_next_steps
        )

    def __reduce__(self) -> Any:
        state = {
            "requested_at": self.requested_at,
            "legal_next_steps": self.legal_next_steps,
            "workflow_id": self.workflow_id,
        }
        return _rebuild_rejected, (self.action, self.scope, self.reason_code, self.message, state)


def _rebuild_rejected(
    action: str, scope: str, reason: Reason, message: str, state: dict[str, Any]
) -> CommandRejected:
    return CommandRejected(action, scope, reason, message, **state)


class NotFound(RwfError):
    """A read of a workflow or step that does not exist."""


class NotIdle(RwfError):
    """``rwf.testing.run_until_idle`` has reached its limit with steps still to run."""


class RecordUnreadable(RwfError):
    """A workflow's record has been overwritten by somebody else, and cannot be read.
    ``Client.rebuild`` names all such workflows."""


class WebhookFailed(RwfError):
    """A receiver that did not take a callback: it gave no answer in time, or one other than 2xx."""


class StoreUnavailable(RwfError):
    """The server cannot be reached, or cannot serve now: down, loading, read-only, out of memory.

    The command may or may not have run; sending it again is harmless. ``never_ran`` is true when it
    certainly has not.
    """

    def __init__(self, message: str, *, never_ran: bool = False) -> None:
        super().__init__(message)
        self.never_ran = never_ran


class ClientClosed(StoreUnavailable):
    """The client was closed while the call was under way; it says nothing of the server."""

    def __init__(self) -> None:
        super().__init__("the client was closed during this call")


class StoreMisconfigured(RwfError):
    """A server that rwf must not run on: too old, evicting, without AOF, without rights."""


class NamespaceMismatch(RwfError):
    """The namespace was created with another number of partitions than this client expects."""
