"""The namespace, and what in it waits for a daemon, a worker or an operator."""

from __future__ import annotations

from typing import Final

import redis.exceptions as errors

from rwf.doctor.findings import duration, failed, ok, unreadable, warning
from rwf.errors import RwfError, StoreUnavailable
from rwf.model.states import TERMINAL_WORKFLOWS, CallbackStatus, WorkflowState
from rwf.model.views import Check
from rwf.ops.prune import dispatcher_seen
from rwf.ops.stats import Fleet, fleet
from rwf.transport.actions import Send, Steps
from rwf.transport.session import Session

_LONG: Final = 300.0
"""Seconds after which the doctor warns of a step that nobody claims, or of a sweep that does not
end: five rounds of a daemon at its default settings, where those do not take longer."""


def namespace_check(session: Session) -> Steps[tuple[Check, bool]]:
    """The namespace as it is, and whether it exists; asking by its function would create it."""
    namespace, wanted, key = session.keys.namespace, session.wanted_partitions, session.keys.meta()
    try:
        stored = yield from session.patiently(Send(("HGET", key, "partitions"), key))
    except errors.ResponseError as error:
        return unreadable("namespace", "the namespace's record", error), False
    except StoreUnavailable as error:
        found = f"{namespace}, whose record cannot be read: {error}"
        return failed(
            "namespace", found, "look at the node that stores it"
        ), session.keys.partitions > 0
    if stored is None:
        found = f"{namespace} does not exist yet; the first use creates it"
        return ok("namespace", found), False
    if not stored.isdigit():
        found = f"{namespace}, whose record lacks the number of partitions"
        return failed("namespace", found, f"set the field partitions of {key}"), False
    found = f"{namespace} with {_many(int(stored), 'partition')}"
    if wanted not in (None, int(stored)):
        advice = f"this client was opened with {wanted} partitions: open it with {int(stored)}"
        return failed("namespace", found, advice), False
    return ok("namespace", found), True


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def work_checks(session: Session) -> Steps[tuple[list[Check], tuple[int, ...]]]:
    """Checks of waiting work, and the partitions that do not answer; for a namespace that exists,
    on a server that has the library."""
    try:
        if not session.keys.partitions:
            yield from session.open()
        found = yield from session.run(fleet(session.keys))
        seen = None
        if 0 not in found.unreachable:  # which has the namespace's record
            seen = yield from session.run(dispatcher_seen(session.keys))
    except RwfError as error:
        text = f"the statistics cannot be read: {error}"
        return [warning("work", text, "see the checks above")], ()
    checks = [_sweep(found), _ready(found), _callbacks(found, seen)]
    if found.unreachable:
        many = _many(len(found.unreachable), "partition")
        checks.append(failed("partitions", f"{many} unreachable", "see the checks above"))
    return checks, found.unreachable


def _sweep(found: Fleet) -> Check:
    open_ = sum(
        found.counts.get(f"gw|{state}", 0) for state in set(WorkflowState) - TERMINAL_WORKFLOWS
    )
    advice = "make sure that `rwf reconciler` runs"
    if found.sweep_seconds is None:
        if not open_:
            return ok("sweep", "no open workflow")
        return warning("sweep", f"{_many(open_, 'open workflow')}, and no sweep ever", advice)
    last = f"the last sweep ended {duration(found.sweep_seconds)} ago"
    if found.round_seconds:
        last += f", and a sweep takes about {duration(found.round_seconds)}"
    # Between two ends lies a round; what is open may have become more since.
    if found.sweep_seconds > max(_LONG, 2 * found.round_seconds + _LONG / 5):
        return warning("sweep", last, advice)
    return ok("sweep", last)


def _ready(found: Fleet) -> Check:
    if not found.ready_seconds:
        return ok("ready", "no step waits to be claimed")
    waits = f"the oldest step that may run has waited for {duration(found.ready_seconds)}"
    if found.ready_seconds > _LONG:
        return warning("ready", waits, "see `rwf queues`: does any worker serve its queue?")
    return ok("ready", waits)


def _callbacks(found: Fleet, seen: float | None) -> Check:
    pending, dead = (
        found.counts.get(f"gc|{status}", 0)
        for status in (CallbackStatus.PENDING, CallbackStatus.DEAD)
    )
    counts = f"{dead or 'none'} dead, {pending} pending"
    if seen is None:
        text = f"{counts}; no dispatcher was ever seen, so they keep no workflow from removal"
    else:
        text = f"{counts}; a dispatcher was last seen {duration(seen)} ago"
    if dead:
        advice = "see `rwf ls --status 'Needs Review'`, then `rwf callbacks ID --resend`"
        return warning("callbacks", text, advice)
    if pending and seen is not None and seen > _LONG:
        advice = "make sure that a dispatcher runs: these workflows are not removed until then"
        return warning("callbacks", text, advice)
    return ok("callbacks", text)
