"""What a partition stores, each record declared once; ``rwf.protocol.record`` says how.

Those that Python looks into have classes of their own beside these: ``steps``, ``headers`` and so
on. Times are milliseconds since the workflow was inserted, where nothing else is said; keys of
these fields stand in ``rwf.protocol.keys``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Final

from rwf.model.states import (
    CAUSE_CODE,
    STEP_CODE,
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
    Quoted,
    Record,
    Since,
    Stamp,
    Text,
    Word,
    coded,
    counted,
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
    does.

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
    ``payloads``: ``i`` when there is an input, ``r`` when that refers to results, ``c`` when there
    is a context.
    ``options``: ``base:factor:cap:jitter;timeout``, in seconds, either part may be missing.
    ``children``, ``parents``: names with commas, ``+`` before one over a continue edge; ``#n`` when
    there are n of them, in chunks of the payload hash.
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
        "lease": ("token", "expires"),
    },
)
class ClaimRecord(Record):
    """Who runs a step: what its record holds while it executes.

    ``token``: of the claim; with the attempt it is the lease that a claimer shows, which so names
    the result row that it may stand in.
    ``expires``: a passed lease stays current until it is taken away.
    ``counted``: whether the claim counted an attempt; not after a resolved wait: it goes on with
    the last attempt or, when that has reported, counts one by its own report.
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
    },
    sets=("inserted", "retention"),
)
class HeaderRecord(Record):
    """A workflow: the field ``:s`` of its hash, written once, but for ``retention``.

    ``inserted``: a server's time in milliseconds.
    ``retention``: how long it is kept once it has finished, in milliseconds; empty for ever.
    ``context``: ``c`` when the payload hash holds one.
    """

    size_of: ClassVar[Callable[[bytes], tuple[bytes, bytes, bytes]]]

    semantics: Digits
    definition: Digits
    steps: Number
    inserted: Large
    retention: OptionalDigits
    context: Annotated[str, Kind("c", "?")]
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
    ``recovering``: whether a recovery session is unfinished.
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
    ``note``: the client's own; of a step that was claimed, ``by`` (who ran it, percent-quoted) and
    ``at`` (when that was claimed, ms) stand first in it.
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
    released_names: Names = section()
    cancelled_names: Names = section()
    note: Json = rest()
