"""The records that a partition stores, each declared once (see ``rwf.protocol.record``).

Those that Python looks into have classes of their own beside these: ``steps``, ``headers`` and so
on. Times are milliseconds since the workflow was inserted, where nothing else is said; key
names are in ``rwf.protocol.keys``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Final

from rwf.model.states import (
    CALLBACK_CODE,
    CAUSE_CODE,
    EVENT_CODE,
    STEP_CODE,
    CallbackEvent,
    CallbackStatus,
    PauseReason,
    RecoveryAction,
    RecoveryScope,
    StepCause,
    StepState,
)
from rwf.protocol.record import (
    RECORDS,
    Digits,
    Flag,
    Hex,
    Json,
    Kind,
    Large,
    Lead,
    Names,
    Number,
    OptionalDigits,
    OptionalSigned,
    Quoted,
    Record,
    Since,
    Stamp,
    Text,
    Word,
    appended,
    coded,
    counted,
    one_of,
    record,
    rest,
    section,
    tag,
)

__all__ = ["RECORDS"]

DEFAULT_CLASS: Final = "default:1000"

State = Annotated[StepState, coded(STEP_CODE)]
OptionalCause = Annotated[StepCause | None, coded(CAUSE_CODE, optional=True)]
Counts = Annotated[dict[StepState, int], counted(STEP_CODE)]


# --- steps


@record(
    "step",
    keeps="static",
    beside=("class_",),
    sets=("children", "parents"),
    lead=Lead("order", {"state": "p", "order": ""}),
    peeks={
        "state": ("state",),
        "outcome": ("state", "cause"),
        "place": ("order", "class_"),
        "retry": ("due",),
        "hold": ("claim",),
        "payloads": ("payloads",),
        "options": ("options",),
        "position": ("position",),
        "children": ("children",),
        "parents": ("parents",),
        "held": ("attempt", "max_", "claim", "class_", "options", "handler"),
    },
)
class StepRecord(Record):
    """A step: a field of its workflow's hash, named after it. The head changes, all behind it never
    does, but for the edges when steps are appended. Of steps whose position the header does not
    count an append is unfinished: they are not there yet.

    ``remaining``: parents, and the start, that have not resolved it; meaningful while pending.
    ``order``: its place in the ready queue while it stands there; and while it executes, where it
    goes back to when it is given back unstarted, also after a pause.
    ``max``: how many attempts it has; ``5+3`` when a recovery after the fifth has granted 3 more.
    ``reported``: the latest attempt that has a result row, 0 for none.
    ``due``: when a retry runs again.
    ``walked``: while it has ended and some of its child edges have not been walked, how many chunks
    of them have; ``h`` while a recovery holds a pending step; ``b`` while a result that its input
    refers to is missing (one more remaining).
    ``claim``: while executing, a :class:`ClaimRecord`; ``=`` while available or retryable when the
    next claim counts no attempt, as a signal has woken it, or its retry was not counted; while a
    recovery holds it, ``<``, its state before, and ``=`` if it held that; ``!`` when an operator
    has cancelled this very step.
    ``class``: queue and urgency, smaller first.
    ``seen``: what resolved edges have brought, and how it was skipped or superseded
    (``branching.lua``).
    ``by``: the step and the attempt that have appended it, ``STEP:ATTEMPT``, where a step has.
    ``payloads``: ``i`` when there is an input, ``r`` when it or the condition refers to results,
    ``o`` when it refers to outcomes, ``l`` when it refers to the results of appended steps, ``c``
    when there is a context, ``w`` when there is a condition; and ``a`` when the step always runs.
    ``options``: ``base:factor:cap:jitter;timeout``, in seconds, either part may be missing.
    ``children``, ``parents``: names with commas, ``+`` before one over a continue edge and ``!``
    over an on_failure edge; ``#n`` when there are n of them, in chunks of the payload hash.
    ``handler``: which one works on it; empty for one of its own name.
    """

    place_of: ClassVar[Callable[[bytes], tuple[bytes, bytes]]]
    retry_of: ClassVar[Callable[[bytes], bytes]]
    hold_of: ClassVar[Callable[[bytes], bytes]]
    held_of: ClassVar[Callable[[bytes], tuple[bytes, ...]]]

    state: State
    remaining: Digits
    since: Since
    order: Hex
    attempt: Digits
    max_: Text
    reported: Digits
    started: OptionalDigits
    finished: OptionalDigits
    cause: OptionalCause
    due: OptionalDigits
    walked: Word
    claim: Text
    seen: Word = appended(default="", kw_only=True)
    by: Text = appended(default="", kw_only=True)
    class_: Text = section(empty=DEFAULT_CLASS)
    position: Number = section()
    payloads: Text = section()
    options: Text = section()
    children: Text = section()
    parents: Text = section()
    handler: Text = rest()


@record(
    "claim",
    separator=":",
    peeks={
        "token": ("token",),
        "expires": ("expires",),
        "worker": ("worker",),
        "holder": ("token", "worker"),
        "lease": ("token", "expires"),
    },
)
class ClaimRecord(Record):
    """Who runs a step: what its record holds while it executes.

    ``token``: of the claim; with the attempt it is the lease that a claimer shows, which so names
    the result row that it may stand in. ``TICKET.`` while nobody has started the step that a
    dispatcher holds, and ``TICKET.RUN`` under the lease of the run that has.
    ``expires``: a passed lease stays current until it is taken away.
    ``counted``: whether the claim counted an attempt, or the start of its ticket will; not after a
    resolved wait: it goes on with the last attempt or, when that has reported, counts one by its
    own report.
    ``worker``: who holds it.
    """

    expires_of: ClassVar[Callable[[bytes], bytes]]
    lease_of: ClassVar[Callable[[bytes], tuple[bytes, bytes]]]

    token: Text
    expires: Number
    counted: Annotated[bool, Kind("[01]", "", lambda text: text == "1", lambda on: "01"[on])]
    worker: Quoted


# --- workflows


@record(
    "header",
    peeks={
        "semantics": ("semantics",),
        "opening": ("semantics", "steps", "inserted", "retention", "context"),
        "size": ("semantics", "steps", "inserted"),
        "name": ("name",),
    },
    sets=("semantics", "steps", "inserted", "retention"),
)
class HeaderRecord(Record):
    """A workflow: the field ``:s`` of its hash, written once, but for ``retention``, and ``steps``
    when some are appended.

    ``inserted``: a server's time in milliseconds.
    ``retention``: how long it is kept once it has finished, in milliseconds; empty for ever.
    ``context``: ``c`` when the payload hash holds one. ``trace``: the W3C trace context of its
    insert.
    """

    size_of: ClassVar[Callable[[bytes], tuple[bytes, bytes, bytes]]]
    name_of: ClassVar[Callable[[bytes], bytes]]

    semantics: Digits
    definition: Digits
    steps: Number
    inserted: Large
    retention: OptionalDigits
    context: Annotated[str, Kind("c", "?")]
    trace: Text = appended(default="", kw_only=True)
    name: Text = rest(",")


@record(
    "counts",
    together=(
        "finished",
        {
            "finished": None,
            "cancel": "",
            "head": 0,
            "tail": 0,
            "callbacks": 0,
            "open": 0,
            "dead": 0,
            "recoveries": 0,
            "review": False,
            "recovering": False,
        },
    ),
    peeks={"last": ("last",), "callbacks": ("callbacks", "open", "dead")},
)
class CountsRecord(Record):
    """How a workflow stands: the field ``:c`` of its hash, written by every transition.

    ``counts``: of each state that steps are in its letter and how many, in the order of states.
    ``cancel``: the standing request, ``time:reason``, the reason percent-quoted; or nothing.
    ``head``, ``tail``: bound the numbered entries of what is still to be walked.
    ``callbacks``: how many were written; ``open``: how many of these are neither delivered nor
    dead; ``dead``: how many are.
    ``recoveries``: how many recovery sessions there are.
    ``review``: whether an operator's latest command was refused; means nothing once it has ended.
    ``recovering``: whether a recovery session or an append is unfinished.
    """

    last_of: ClassVar[Callable[[bytes], bytes]]
    callbacks_of: ClassVar[Callable[[bytes], tuple[bytes, bytes, bytes]]]
    is_short: ClassVar[Callable[[bytes], bool]]

    counts: Counts
    last: Digits = tag(";", always=True)
    started: OptionalDigits
    finished: OptionalDigits
    cancel: Text
    head: Number
    tail: Number
    callbacks: Number
    open: Number
    dead: Number
    recoveries: Number
    review: Flag
    recovering: Flag


@record("branching")
class BranchingRecord(Record):
    """A field that few workflows have: ``:b`` of the hash of one under semantics version 3.

    ``skipped``: how many steps were skipped.
    ``starts``: when it is to start; nothing once it has.
    ``deadline``: when it is to have ended; nothing without one, and once it has made a cancel
    request. ``overdue``: the time of that request.
    ``link``: of a child workflow the text of a :class:`LinkRecord`.
    ``grown``: how often steps were appended. ``superseded``: how many steps are.
    """

    skipped: Number
    starts: OptionalDigits
    deadline: OptionalDigits
    overdue: OptionalDigits
    link: Text = appended(default="", kw_only=True)
    grown: Number = appended(default=0, kw_only=True)
    superseded: Number = appended(default=0, kw_only=True)


@record("link", separator=":")
class LinkRecord(Record):
    """A child workflow's tie to the step that waits for its end (``links.lua``).

    ``state``: ``h`` held: it starts once its parent has said that the step waits; ``s`` started;
    and, once its end was told, what the step made of that: ``r`` took its results, ``f`` failed by
    it, ``g`` did not wait for it, or does not any more.
    ``n``: the number of the step's latest wait that it was told of.
    ``workflow``, ``step``: its parent. ``lease``: under which the step asked for it.
    """

    state: Annotated[str, Kind("[hsrfg]", "")]
    n: Number
    workflow: Text
    step: Text
    lease: Text = rest(":")


@record("acknowledgement", peeks={"recoveries": ("recoveries",)})
class AcknowledgementRecord(Record):
    """Who has acknowledged that a workflow ended badly, and why: the field ``:ack`` of its hash. It
    holds while no recovery has come since, and leaves when a further callback dies.
    """

    recoveries: Number
    since: Digits
    actor: Quoted = section()
    reason: Quoted = section()


# --- results and evidence


@record("row", peeks={"open": ("open",)})
class RowRecord(Record):
    """A result row: the field ``r:STEP:ATTEMPT`` of the payload hash, one for each attempt that
    reported; its payload, when there is one, is in ``o:STEP:ATTEMPT``.

    ``asked``: the status that the caller sent; ``status``: what the step became.
    ``call``, ``command``, ``lease``: of the report.
    ``open``: how many entries of what is still to be walked this completion has; until it is 0, the
    numbers of released and cancelled steps are not final. Some of these are listed.
    ``note``: the client's own; of a step that was claimed, ``by`` (who ran it, percent-quoted),
    ``at`` (when that was claimed, ms) and ``waited`` (how long it had been available then, ms)
    stand first in it.
    ``appended``: how many steps it has appended.
    """

    open_of: ClassVar[Callable[[bytes], bytes]]

    asked: Annotated[str, Kind("%a", "")]
    status: State
    stamp: Stamp
    call: Text
    command: Text
    lease: Text
    open: Digits
    released: Digits
    cancelled: Digits
    appended: Number = appended(default=0, kw_only=True)
    released_names: Names = section()
    cancelled_names: Names = section()
    note: Json = rest()


@record("put_off")
class PutOffRecord(Record):
    """The latest retry of a step that counted no attempt: the field ``q:STEP`` of the payload hash.
    The next one overwrites it.

    ``attempt``: the one that it goes on with; ``row``: the text of a :class:`RowRecord`.
    """

    attempt: Digits
    row: Text = rest()


@record(
    "evidence",
    peeks={
        "stamp": ("stamp",),
        "answer": ("stamp", "status", "reason", "call", "message"),
        "call": ("call",),
    },
)
class EvidenceRecord(Record):
    """Evidence of a command: an entry of one of a workflow's two lists (accepted commands, all
    others), or of the partition's log, where it concerns no workflow.

    ``scope``: step, workflow, callback or signal.
    ``call``: of the command. ``note``: the client's own.
    """

    stamp_of: ClassVar[Callable[[bytes], bytes]]

    stamp: Stamp
    action: Text = section()
    scope: Text = section()
    step: Quoted = section()
    status: Text = section()
    reason: Text = section()
    call: Text = section()
    message: Text = section()
    note: Json = rest()


# --- waits, and the topics that they are about


@record("wait")
class WaitRecord(Record):
    """A step's wait for a signal: the latest is the field ``~STEP`` of the workflow's hash, where
    ``:w`` is there once any step has waited; earlier ones are ``a:STEP:N`` in its payload hash,
    where ``s:STEP`` holds the payload of the signal that last woke the step, and ``l:STEP:LEASE``
    the number of the wait that a lease ended in.

    ``n``: its number among the waits of its step, from 1.
    ``status``: ``w`` waiting, ``r`` resolved, ``x`` expired with its step still expired by it,
    ``y`` expired with its step since revived, or gone on, ``a`` abandoned, ``f`` over as the child
    workflow that it was for has ended other than completed.
    ``deadline``, ``resolved``: microseconds. ``signal_id``: of the one that resolved it.
    ``acked``: its last status that its topic knows: none, ``w``, ``x``, ``r`` resolved or ``g``
    gone. ``left``: earlier waits of the step whose topics do not know of their end: ``3+5``.
    ``asked``: the deadline as it was asked for, ``>`` behind it where the step goes on once it has
    passed. ``call``, ``lease``: of the command; ``actor``: who
    has given it, where that was told.
    ``topic``: the signal's name and the correlation key, percent-quoted, with a bar between them;
    of a wait for the end of a child workflow, a bar and its id.
    """

    n: Number
    status: Annotated[str, Kind("[wrxyaf]", "")]
    stamp: Stamp
    deadline: OptionalSigned
    resolved: OptionalDigits
    signal_id: Text
    acked: Annotated[str, Kind("[wxrg]", "?")]
    left: Annotated[str, Kind("[%d+]", "*")]
    asked: Text
    call: Text
    actor: Quoted = tag("~")
    lease: Text
    topic: Text = rest()


@record("topic", peeks={"name": ("name",), "handed": ("handed",)})
class TopicRecord(Record):
    """A signal's name and a correlation key: the field ``:`` of a hash at its home partition.

    ``first``, ``last``: bound the signals that are kept, by number; ``counted``: the latest whose
    first verdict was noted. Numbers begin at the time (us) when the topic came into being: they
    never come again, though a topic goes when it holds nothing, and may come again.
    ``handed``: the number of the signal that is to wake the wait ``workflow_id``, ``step``, ``n``,
    or nothing. There is one such hand-off at most, and it is of the oldest signal kept.
    ``name``: what it is about, as in a :class:`WaitRecord`.
    """

    first: Large
    last: Large
    counted: Large
    handed: OptionalDigits
    workflow_id: Text
    step: Text
    n: OptionalDigits
    name: Text = rest()


@record("signal")
class SignalRecord(Record):
    """A signal: the field ``sNUMBER`` of its topic's hash; its payload, if any, is in ``pNUMBER``,
    and ``dKEY`` holds the number of the signal with this dedupe key.

    ``status``: ``k`` kept, ``c`` consumed, by the wait ``workflow_id``, ``step``, ``n``.
    ``call``: of its delivery; ``actor``: who has delivered it, where that was told.
    """

    status: Annotated[str, Kind("[kc]", "")]
    stamp: Stamp
    call: Text
    actor: Quoted = tag("~")
    workflow_id: Text
    step: Text
    n: OptionalDigits
    dedupe: Quoted = rest()


@record("known", peeks={"wait": ("n", "state", "stamp")})
class KnownRecord(Record):
    """The last news that a topic has had of a step's waits: the field ``lWORKFLOW|STEP`` of its
    hash. It is kept until the workflow is removed, so that late or repeated news changes nothing.

    ``state``: ``w`` waiting, ``x`` expired with its step still expired, ``r`` resolved, then with
    the signal's number for a stamp, ``g`` otherwise over.
    """

    n: Digits
    state: Annotated[str, Kind("[wxrg]", "")]
    stamp: Digits


# --- callbacks


@record("callback")
class CallbackRecord(Record):
    """A callback in the outbox: the field ``@N`` of the workflow's hash, N from 1 on.

    ``due``: when it may be claimed; while leased, when the lease ends; empty once it is delivered
    or dead. ``attempts``: how often it was claimed since it was written or sent again.
    ``token``: of the latest claim, until it is sent again.
    ``fields``: of a terminal event ``state,cause``, under semantics version 3 with how many steps
    were skipped behind these; of others JSON without its braces.
    """

    event: Annotated[CallbackEvent, coded(EVENT_CODE)]
    since: Digits
    status: Annotated[CallbackStatus, coded(CALLBACK_CODE)]
    attempts: Digits
    due: OptionalDigits
    token: Text
    fields: Text = rest()


# --- recoveries, and what else is left to be walked


@record("traversal")
class TraversalRecord(Record):
    """An unfinished slice: edges or steps still to be visited. The field ``>N`` of the workflow's
    hash, N from the header's head up to its tail.

    ``origin``: of edges the completion that they are walked for, ``STEP:ATTEMPT``, empty for an
    insert, with names of steps; ``*cancel`` with the next chunk of steps that a request cancels;
    ``*recover`` with a :class:`PlaceRecord`; ``*append`` with a :class:`GrowthRecord`.
    """

    origin: Text
    left: Text = rest()


@record("session")
class SessionRecord(Record):
    """A recovery session: the field ``v:N`` of the payload hash; ``!STEP:COMMAND`` there holds the
    number of the session of a command id.

    ``call``, ``command``: of the command. ``reopen``: whether it closed a cancel request.
    ``count``: how many states have changed; the first 1,000 are listed, ``step:before:after``.
    ``note``: the client's own.
    """

    stamp: Stamp
    call: Text
    command: Text
    step: Text
    action: Annotated[RecoveryAction, one_of(RecoveryAction)]
    scope: Annotated[RecoveryScope, one_of(RecoveryScope)]
    reopen: Flag
    done: Flag
    count: Number
    changes: Names = section()
    note: Json = rest()


@record("change", separator=":")
class ChangeRecord(Record):
    """One state change of a recovery session."""

    step: Text
    before: State
    after: State


@record("place")
class PlaceRecord(Record):
    """How far a recovery session has come.

    ``phase``: ``m`` marks, ``p`` places; both go through the steps in topological order, from the
    recovered one on, up to ``position``. In a workflow that has grown, whose steps do not stand in
    that order, both go through all of them until nothing changes, and ``t`` tells what has become
    of those that still wait. ``chunk``: where the parents of the step there go on, when
    they are many; ``note``: what is known of them by then.
    ``count``, ``length``: of the changes in the session's record. That is written before the steps,
    so a call that was cut off may have put more into it than it did; this says what of it holds.
    """

    number: Digits
    phase: Annotated[str, Kind("[mpt]", "")]
    position: Number
    chunk: Number
    count: Number
    length: Number
    note: Word
    again: Flag = appended(default=False, kw_only=True)


# --- appended steps


@record("growth")
class GrowthRecord(Record):
    """A fragment that is to be brought in, or is being brought in.

    ``token``: its pieces are the fields ``+TOKEN:N`` of the payload hash, N from 1 to ``pieces``;
    ``+TOKEN`` holds how many of them are staged. ``grown``: how often steps had been appended when
    it was made, and ``attempt``: that of the step that appends it, 0 for none; where these are
    others by now, it has to be made anew. ``shown``: the piece with which its ``steps`` new steps
    become visible. ``count``: how many steps it has, those included that take the place of earlier
    ones. ``piece``: the next one, once it has begun.
    """

    token: Word
    grown: Number
    attempt: Number
    pieces: Number
    shown: Number
    steps: Number
    count: Number
    piece: Number


@record("relink")
class RelinkRecord(Record):
    """The changes of an append to an existing step.

    ``unresolved``: how many edges it has more, which count while it is pending. ``dropped``: how
    many superseded parents it has no more. ``children``, ``parents``: as in a :class:`StepRecord`;
    ``=`` for those that it has.
    """

    unresolved: Number
    dropped: Number
    children: Text = section()
    parents: Text = section()


@record("append")
class AppendRecord(Record):
    """A fragment that a client has appended: the field ``j:N`` of the payload hash, N up to how
    often the workflow has grown; ``!^:COMMAND`` there holds the number of that with a command id.

    ``call``, ``command``: of the command. ``count``: how many steps it has.
    """

    stamp: Stamp
    call: Text
    command: Text
    count: Digits


# --- pauses, insert keys, removals


@record("pause", peeks={"row": ("number", "reason", "mark")})
class PauseRecord(Record):
    """The latest pause of a step that was given back unstarted, and is retryable for a while: the
    field ``z:STEP`` of the payload hash. Meanwhile the step's record keeps its place in the queue,
    and whether its next claim counts.

    ``number``: how many there were in a row; each lasts twice as long as the last one, up to a
    bound. ``due``: when it ends: the due of the step's record, as long as it lasts.
    ``mark``: what the step had reported when it began: its latest attempt with a row, the number of
    its latest wait, the stamp of its latest uncounted retry. Once these have moved on, somebody has
    run the step, and its next pause is the first of a new row.
    ``worker``: who gave the step back.
    """

    number: Number
    reason: Annotated[PauseReason, one_of(PauseReason)]
    due: Digits
    mark: Annotated[str, Kind("[%d:]", "+")]
    worker: Quoted


@record("reservation", separator=" ", peeks={"workflow": ("workflow",)})
class ReservationRecord(Record):
    """The workflow that an insert key stands for: a field of the partition's hash of keys, by the
    key's digest.

    ``definition``: its digest; ``made``: a server's time in milliseconds.
    """

    workflow: Text
    definition: Text
    made: Large


@record("removal")
class RemovalRecord(Record):
    """How far the removal of a workflow has come, in place of its header: the field ``:x`` of its
    hash. An id that was made unusable has ``1`` there instead.

    ``place``: ``CHUNK,PLACE,N``, the next wait: chunk of steps, place in it, and the wait's number;
    or ``end``.
    """

    semantics: Digits
    place: Text = rest(",")


# --- workers


@record("worker")
class WorkerRecord(Record):
    """A worker's account of itself: a field of its home partition's hash of workers.

    ``up``: for how long it has been running, in milliseconds.
    ``queues``, ``handlers``: names with commas, percent-quoted, as many as there is room for; their
    numbers are exact. ``trouble``: what keeps it from its work, if anything.
    """

    up: Digits
    concurrency: Digits
    running: Digits
    abandoned: Digits
    queue_count: Digits
    handler_count: Digits
    queues: Names = section()
    handlers: Names = section()
    trouble: Quoted = rest()
