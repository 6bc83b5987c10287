"""Reserving and starting steps, extending and giving up their leases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rwf.protocol.declare import Item, Refusal, ServerFunction, item, server_function


@server_function("peek_steps")
class PeekSteps(ServerFunction[list[bytes]]):
    """The first entries of some queues, in the order in which they are to be claimed; they stay
    where they are. Keys: the partition's."""

    limit: int
    queues: Sequence[str]


@server_function("reserve_steps")
class ReserveSteps(ServerFunction[list[bytes]]):
    """Reserves the first entries of some queues for a client that is about to start their steps;
    answers these, in the order in which they are to be claimed. Keys: the partition's."""

    limit: int
    queues: Sequence[str]


@item(packed=3)
class ReservedStep(Item):
    """An entry of the ready queue that was reserved; ``place`` is its class and its order."""

    slot: int
    step: str
    place: str


class GivenResult(NamedTuple):
    """The value of a reference to a step's result: null (``kind`` is ``n``), the payload
    (``v``), or nothing, as it is missing (``m``)."""

    step: bytes
    kind: bytes
    payload: bytes | None


class GivenOutcome(NamedTuple):
    """How a step has ended: ``ended`` is ``state,cause,mark|note`` (``dispatch.lua``)."""

    step: bytes
    ended: bytes
    payload: bytes | None


class StartedStep(NamedTuple):
    """A claim. ``inserted``: when the workflow was, in ms; ``unread``: letters of what the reply
    had no room for and is to be read apart (``inputs``), or ``!`` where it cannot be told. The rest
    is there for a step that was given something."""

    record: bytes
    inserted: int
    unread: str
    input: bytes | None = None
    context: bytes | None = None
    workflow_context: bytes | None = None
    wait: bytes | None = None
    signal_payload: bytes | None = None
    results: list[GivenResult] | None = None
    condition: bytes | None = None
    outcomes: list[GivenOutcome] | None = None
    trace: str | None = None


class StartedSteps(NamedTuple):
    """``claims``: what became of each entry, None for a step that is not to be had any more;
    ``has_notices``: for each workflow, whether topics have still to learn outcomes of its waits."""

    claims: list[StartedStep | None]
    has_notices: list[bool]


@server_function("start_steps", publishes=True)
class StartSteps(ServerFunction[StartedSteps]):
    """Gives reserved steps to a worker. Keys: those of each workflow."""

    token: str
    worker: str
    lease_ms: int
    entries: Sequence[ReservedStep]


@server_function("dispatch_steps", publishes=True)
class DispatchSteps(ServerFunction[StartedSteps]):
    """Gives reserved steps to a dispatcher, each under a ticket: a claim that ends with ``hold_ms``
    and counts no attempt. Of what a step is given it tells only what may keep it from running.
    Keys: those of each workflow."""

    token: str
    dispatcher: str
    hold_ms: int
    entries: Sequence[ReservedStep]


class StartedTicket(NamedTuple):
    """``claim`` is None where the start was refused; ``has_notices``: whether topics have still to
    learn outcomes of the workflow's waits."""

    refusal: Refusal | None
    claim: StartedStep | None
    has_notices: bool


@server_function("start_ticket", publishes=True)
class StartTicket(ServerFunction[StartedTicket]):
    """Turns a ticket into the lease of the run that starts its step first. Keys: the workflow's."""

    step: str
    ticket: str
    """The token of the call that has issued it."""
    run: str
    """A digest of the run's id."""
    call_id: str
    worker: str
    lease_ms: int
    note: bytes


@item(packed=3)
class HeldClaim(Item):
    slot: int
    step: str
    lease: str


class Lease(NamedTuple):
    """``ends_ms``: when a lease ends, None when it was lost; and whether the step's workflow is
    asked to end."""

    ends_ms: int | None
    cancel_requested: bool


@server_function("extend_leases", publishes=True, when_full=True)
class ExtendLeases(ServerFunction[list[Lease]]):
    """Extends leases to end this much later than now. Keys: those of each workflow."""

    lease_ms: int
    held: Sequence[HeldClaim]


@server_function("release_claims", publishes=True, when_full=True)
class ReleaseClaims(ServerFunction[list[bool]]):
    """Gives unstarted steps back, to their former places in the queue; answers which leases were
    still valid. Keys: those of each workflow."""

    held: Sequence[HeldClaim]


@server_function("block_on_missing_result", publishes=True, when_full=True)
class BlockOnMissingResult(ServerFunction[list[bool]]):
    """Gives unstarted steps back that cannot run as long as a result is missing which their input
    refers to; answers which leases were still valid. Keys: those of each workflow."""

    held: Sequence[HeldClaim]


@server_function("pause_claims", publishes=True, when_full=True)
class PauseClaims(ServerFunction[list[bool]]):
    """Gives steps that could not be begun back for a while; answers which leases were still valid.
    Keys: those of each workflow."""

    reason: str
    """Of ``PauseReason``."""
    held: Sequence[HeldClaim]
