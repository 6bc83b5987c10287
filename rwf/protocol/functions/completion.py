"""Reporting how steps ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rwf.protocol.declare import Item, Refusal, ServerFunction, item, server_function
from rwf.protocol.functions.claims import ReservedStep, StartedStep


@item(packed=10)
class ReportedStep(Item):
    """The report of a step's outcome. ``asked`` is the code of the state that the report asks for;
    ``retry_ms``: how long until the retry, where the report says; ``jitter``: of a retry, a random
    number in [0, 1); ``force``: to do without the lease of an executing step; ``uncounted``: a
    retry that counts no attempt; ``note``: what evidence is to tell of it; ``traceback``: of its
    handler, as text; ``fragment``: the steps that it appends (``GrowthRecord``), where it does."""

    slot: int
    step: str
    asked: str
    call: str
    command_id: str
    lease: str
    retry_ms: int | None
    jitter: str
    force: bool
    uncounted: bool
    payload: bytes | None
    note: bytes
    traceback: bytes | None = None
    fragment: str | None = None


class CompletedStep(NamedTuple):
    """``outcome``: ``accepted`` or ``duplicate``; or, of a report that appends steps and has
    changed nothing, ``busy`` when something is left to be walked, and ``changed`` when the fragment
    is to be made anew. ``row``: that of the attempt. With views: what the step is now, and ``p`` in
    ``unread`` when there was no room for its input and context."""

    outcome: str
    attempt: int
    row: bytes
    record: bytes = b""
    input: bytes | None = None
    context: bytes | None = None
    wait: bytes | None = None
    unread: str = ""


class CompletedWorkflow(NamedTuple):
    """A workflow's header after a call (``HeaderReply``); ``unread`` is ``w`` when there was no
    room for its context."""

    static: bytes
    counts: bytes
    context: bytes | None
    unread: str
    has_notices: bool


class Completed(NamedTuple):
    """``steps``: an answer to each report, None without views for one that was accepted and whose
    descendants are all released or cancelled; ``workflows``: with views, each by its slot, None
    where there is none; ``started``: what became of each reserved entry; ``found``: further entries
    of the ready queue, and ``claims`` what became of each: None for one that is reserved, to be
    started with a later call; ``ended``: without views, the slots of child workflows that have news
    for their parents."""

    steps: list[CompletedStep | Refusal | None]
    workflows: list[CompletedWorkflow | None]
    started: list[StartedStep | None]
    found: list[bytes]
    claims: list[StartedStep | None]
    ended: list[int]


@server_function("complete", publishes=True)
class Complete(ServerFunction[Completed]):
    """Records how steps ended, and releases or cancels their descendants; starts reserved steps,
    and claims the next ones. Keys: those of each workflow."""

    with_views: bool
    limit: int
    """How many steps to claim next, of these queues."""
    token: str
    worker: str
    lease_ms: int
    queues: Sequence[str]
    entries: Sequence[ReservedStep]
    reports: Sequence[ReportedStep]
