"""Stored callbacks as literal text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from rwf.protocol.callbacks import StoredCallback

AT = datetime(2023, 11, 14, 22, 13, 20, 123_000, UTC)
STATIC = b"2,1,3,1700000000123,,,wf, of two words"


def test_the_end_of_a_workflow() -> None:
    record = StoredCallback.parse(b"t,40,l,3,900,tok|failed,step_failed")
    # The end that a callback tells of stays, whatever has happened since.
    assert record.envelope("0-x", 7, STATIC, b"order 7", b"available", b"a=4%202").model_dump() == {
        "callback_id": "0-x/7",
        "event": "workflow.terminal",
        "workflow_id": "0-x",
        "name": "wf, of two words",
        "key": "order 7",
        "tags": {"a": "4 2"},
        "semantics_version": 2,
        "envelope_version": 1,
        "occurred_at": AT + timedelta(milliseconds=40),
        "state": "failed",
        "terminal_cause": "step_failed",
        "skipped_step_count": 0,
    }
    assert record.view("0-x", 7, STATIC).model_dump() == {
        "callback_id": "0-x/7",
        "event": "workflow.terminal",
        "workflow_id": "0-x",
        "status": "leased",
        "attempts": 3,
        "due_at": AT + timedelta(milliseconds=900),
        "occurred_at": AT + timedelta(milliseconds=40),
        "data": {"state": "failed", "terminal_cause": "step_failed"},
    }


def test_the_end_of_a_recovery() -> None:
    fields = b'"session_id":"0-x/2","step":"a|b","action":"retry","change_count":5'
    record = StoredCallback.parse(b"r,0,d,0,,|" + fields)
    view = record.view("0-x", 1, STATIC)
    assert (view.status, view.due_at, view.occurred_at) == ("delivered", None, AT)
    sent = record.envelope("0-x", 1, STATIC, None, b"running", None).model_dump(
        include={*view.data, "event", "key", "state"}
    )
    assert sent == {
        "key": None,
        "state": "running",
        "event": "workflow.recovery_completed",
        "session_id": "0-x/2",
        "step": "a|b",
        "action": "retry",
        "change_count": 5,
    }
