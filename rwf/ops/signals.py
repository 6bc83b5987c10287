"""Waiting for signals, and delivering them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from rwf.errors import WorkflowInvalid
from rwf.model.names import checked_name
from rwf.model.states import OnTimeout
from rwf.model.views import AwaitView, SignalView
from rwf.ops.base import (
    OpContext,
    checked_id,
    checked_text,
    encoded_payload,
    invalid,
    is_partition,
    new_call_id,
    rejected,
    unknown_workflow,
    wire_name,
    wire_text,
)
from rwf.ops.waits import (
    Fate,
    Topic,
    Unsettled,
    hand_over,
    note_unsettled,
    settle,
    tell,
    update_topic,
)
from rwf.protocol.codecs import EPOCH
from rwf.protocol.functions.commands import RecordEvidence
from rwf.protocol.functions.topics import RecordSignal, SignalOfDedupeKey
from rwf.protocol.functions.waits import Await
from rwf.protocol.keys import home_of
from rwf.protocol.requests import CONNECT, Op, ask
from rwf.protocol.waits import GOES_ON, Signal, Wait

_AWAIT: Final = "await_step"
_DELIVER: Final = "deliver_signal"
_MICROSECOND: Final = timedelta(microseconds=1)
# The years in which a server's time can be shown: the same bounds as in await.lua.
_EARLIEST: Final = datetime(1, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9999, 12, 31, tzinfo=UTC)


def await_step(
    ctx: OpContext,
    workflow_id: str,
    step: str,
    signal: str,
    correlation_key: str,
    deadline: datetime | timedelta | None,
    lease: str | None,
    actor: str | None = None,
    on_timeout: OnTimeout | str = OnTimeout.EXPIRE,
) -> Op[AwaitView]:
    """Puts a step into a wait; raises CommandRejected when that is refused."""
    workflow_id = checked_id(workflow_id, _AWAIT)
    name = wire_name(step, _AWAIT)
    topic = _topic(signal, correlation_key, _AWAIT)
    lease = checked_text(lease, "lease", _AWAIT)
    actor = checked_text(actor, "actor", _AWAIT)
    asked = _deadline(deadline)
    if not isinstance(on_timeout, str) or on_timeout not in set(OnTimeout):
        raise invalid(_AWAIT, f"on_timeout must be one of {', '.join(OnTimeout)}")
    if asked and on_timeout == OnTimeout.CONTINUE:
        asked += GOES_ON
    if not (yield from is_partition(ctx, home_of(workflow_id))):
        raise unknown_workflow(_AWAIT, workflow_id)
    command = Await(
        name,
        new_call_id(),
        wire_text(lease or ""),
        asked,
        topic.signal,
        topic.quoted_key,
        note_of(topic, actor=actor),
        wire_text(actor or ""),
    )
    reply = yield from ask(ctx.workflow_keys(workflow_id), command)
    unsettled: Unsettled = {}
    if reply.header is not None:
        note_unsettled(workflow_id, reply.header, unsettled)
    if reply.refusal is not None:
        yield from settle(ctx, unsettled)
        raise rejected(_AWAIT, "step", reply.refusal)
    assert reply.wait is not None
    wait = Wait.parse(reply.wait)
    if (what := wait.unacked) is not None:
        fate = Fate.of(workflow_id, name, wait, what)
        yield from update_topic(ctx, topic, fate, unsettled)
        wait = (yield from tell(ctx, workflow_id, [(topic, fate)], unsettled)) or wait
    yield from settle(ctx, unsettled)
    return wait.view(workflow_id, step)


def deliver_signal(
    ctx: OpContext,
    signal: str,
    correlation_key: str,
    payload: Any,
    dedupe_key: str | None,
    actor: str | None = None,
) -> Op[SignalView]:
    """Delivers a signal, and carries out what follows from it."""
    topic = _topic(signal, correlation_key, _DELIVER)
    dedupe = topic.key if dedupe_key is None else checked_key(dedupe_key, "dedupe_key", _DELIVER)
    encoded = encoded_payload(ctx, payload, _DELIVER)
    actor = checked_text(actor, "actor", _DELIVER)
    if not ctx.keys.partitions:
        yield CONNECT
    note = note_of(topic, dedupe_key=dedupe, actor=actor)
    command = RecordSignal(
        topic.signal,
        topic.quoted_key,
        wire_text(dedupe),
        new_call_id(),
        encoded is not None,
        encoded or b"",
        note,
        wire_text(actor or ""),
    )
    recorded = yield from ask(topic.keys(ctx), command)
    found = Signal.of(recorded.signal)
    if recorded.outcome == "duplicate" and found.workflow_id is not None:
        entry = RecordEvidence(
            _DELIVER, "already_consumed", new_call_id(), "", note, "signal", found.step or ""
        )
        yield from ask(ctx.workflow_keys(found.workflow_id), entry)
    unsettled: Unsettled = {}
    found = (yield from hand_over(ctx, topic, recorded.handed, unsettled, found.number)) or found
    yield from settle(ctx, unsettled)
    signal_id, duplicate = topic.signal_id(ctx, found.number), recorded.outcome != "accepted"
    return found.view(signal_id, topic.signal, topic.key, duplicate=duplicate)


def swallowed_by(ctx: OpContext, wait: Wait) -> Op[str | None]:
    """The id of a signal on record that the next one of the default dedupe key would repeat."""
    topic = Topic(wait.signal, wait.key)
    asked = SignalOfDedupeKey(wire_text(wait.key))
    number = yield from ask(topic.keys(ctx), asked)
    return None if number is None else topic.signal_id(ctx, number)


def _topic(signal: Any, correlation_key: Any, action: str) -> Topic:
    name = checked_signal(signal, action)
    return Topic(name, checked_key(correlation_key, "correlation_key", action))


def checked_signal(signal: Any, action: str) -> str:
    """A signal's name; raises CommandRejected, ``invalid_argument``."""
    try:
        return checked_name(signal, "a signal's name")
    except WorkflowInvalid as error:
        raise invalid(action, error.message) from None


def note_of(topic: Topic | None, **fields: str | None) -> bytes:
    """The part of evidence of a command that names its topic, if it is known, and more."""
    given = {**fields}
    if topic is not None:
        given |= {"signal": topic.signal, "correlation_key": topic.key}
    return orjson.dumps({name: text for name, text in given.items() if text is not None})


def checked_key(value: Any, name: str, action: str) -> str:
    """A correlation or dedupe key: keys are data, any text of up to 512 characters, also none."""
    if value == "":
        return ""
    text = checked_text(value, name, action)
    if text is None:
        raise invalid(action, f"{name} must be a string")
    return text


def _deadline(value: datetime | timedelta | None) -> str:
    """A deadline as ``await.lua`` takes it."""
    if value is None:
        return ""
    if isinstance(value, timedelta):
        return f"+{value // _MICROSECOND}"
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise invalid(_AWAIT, "deadline must be a datetime with a timezone, or a timedelta")
    return f"={(min(max(value, _EARLIEST), _LATEST) - EPOCH) // _MICROSECOND}"
