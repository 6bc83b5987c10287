"""Operators' commands on a workflow or a step, and evidence of decisions that clients take.

Keys: the workflow's.
"""

from __future__ import annotations

from typing import NamedTuple

from rwf.protocol.declare import Refusal, ServerFunction, server_function
from rwf.protocol.functions.workflows import HeaderReply


class Accepted(NamedTuple):
    """``outcome``: ``accepted``, or ``duplicate`` for what was on record already."""

    outcome: str
    header: HeaderReply


@server_function("cancel", publishes=True, when_full=True)
class Cancel(ServerFunction[Accepted | Refusal]):
    """Asks a workflow to end: cancels what does not run, a slice at a time."""

    call_id: str
    reason: str
    """Percent-quoted."""
    note: bytes
    force: bool
    """Cancels what runs too, and takes its leases away."""


@server_function("acknowledge", publishes=True)
class Acknowledge(ServerFunction[Accepted | Refusal]):
    """Marks the bad end of a workflow as dealt with."""

    call_id: str
    actor: str
    """Percent-quoted, like the reason."""
    reason: str
    note: bytes


@server_function("set_retention", publishes=True, when_full=True)
class SetRetention(ServerFunction[Accepted | Refusal]):
    """Sets how long a workflow is kept once it has finished."""

    call_id: str
    kept_ms: str
    """Milliseconds, as the header has them; empty for ever."""
    note: bytes


class Recovered(NamedTuple):
    """``outcome``: ``accepted`` or ``duplicate``, with the session and the header; ``more`` when no
    parent in this chunk cancels the step, and there is another chunk; ``busy`` while something else
    is left to be walked, which is to be done first."""

    outcome: str
    number: str | None
    session: bytes | None
    header: HeaderReply | None


@server_function("recover", publishes=True)
class Recover(ServerFunction[Recovered | Refusal]):
    """Carries out an operator's retry, skip or cancel of a step."""

    step: str
    call_id: str
    command_id: str
    """Percent-quoted; empty for none."""
    action: str
    scope: str
    force: bool
    """Does without the lease of an executing step."""
    reopen: bool
    """Closes a standing cancel request."""
    note: bytes
    parents_chunk: int
    """Which chunk of the step's parents this call looks at."""


class RecordedEvidence(NamedTuple):
    """``header``: None where there is no workflow."""

    stamp: str
    header: HeaderReply | None


@server_function("record_evidence", publishes=True)
class RecordEvidence(ServerFunction[RecordedEvidence]):
    """Stores evidence of a command that the client itself has decided on."""

    action: str
    status: str
    """``duplicate``, ``already_consumed``, ``key_replaced``, or the reason of a refusal."""
    call_id: str
    message: str
    note: bytes
    scope: str = "workflow"
    step: str = ""
