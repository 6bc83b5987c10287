"""Why a step waits: what stored records say, in words and codes (contract §7).

Pure: it reads what ``rwf.ops.explain`` has loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from rwf.model.limits import LISTED
from rwf.model.names import shown
from rwf.model.references import Ref
from rwf.model.states import (
    COMPLETABLE,
    OPEN_STEPS,
    SEMANTICS_VERSIONS,
    TERMINAL_STEPS,
    StepCause,
    StepState,
    WorkflowState,
)
from rwf.model.views import (
    AwaitView,
    Blocker,
    QueueView,
    RootCause,
    SkipOrigin,
    WorkflowView,
)
from rwf.protocol.headers import Header
from rwf.protocol.pauses import Pause
from rwf.protocol.records import Record

_ENDED_BADLY: Final = {
    StepState.FAILED: "it was reported as failed",
    StepState.DISCARDED: "it was given up, or has no attempt left",
}


def actions(header: Header, record: Record, *, held_down: bool) -> tuple[str, ...]:
    """The commands that an operator may give for a step now, by ``complete_step`` and
    ``recover_step``.

    The options that it takes are part of the name: ``skip_with_force``. ``held_down``: a parent
    would cancel the step again, so that a retry is refused.
    """
    if header.semantics_version not in SEMANTICS_VERSIONS or header.starts is not None:
        return ()
    if record.superseded:
        return ()
    force = ("force",) if record.state is StepState.EXECUTING else ()
    reopen = ("reopen",) if header.cancel is not None and not record.always else ()
    found = [_with("complete", force)] if record.state in COMPLETABLE else []
    if record.state is not StepState.COMPLETED:
        found += [] if held_down else [_with("retry", force + reopen)]
        found.append(_with("skip", force + reopen))
    if record.state in OPEN_STEPS:
        found.append(_with("cancel", force))
    return tuple(found)


def _with(action: str, options: Sequence[str]) -> str:
    return f"{action}_with_{'_and_'.join(options)}" if options else action


@dataclass(frozen=True, slots=True)
class Awaited:
    """A step's wait. ``swallowed_by`` is the stored signal, if any, of which the next one would be
    a duplicate, unless that has a dedupe key of its own."""

    wait: AwaitView
    swallowed_by: str | None

    def details(self) -> dict[str, object]:
        """The wait in a blocker's details."""
        if self.wait.child is not None:
            return {"workflow_id": self.wait.child, "registered_at": self.wait.registered_at}
        return {
            "signal": self.wait.signal,
            "correlation_key": self.wait.correlation_key,
            "deadline": self.wait.deadline,
            "registered_at": self.wait.registered_at,
            "swallowed_by": self.swallowed_by,
        }


def blockers(
    header: Header,
    record: Record,
    parents: Sequence[Record],
    now: int,
    *,
    queue: QueueView | None = None,
    wait: Awaited | None = None,
    missing: Ref | None = None,
    pause: Pause | None = None,
) -> list[Blocker]:
    """Why a step does not run now, the most important reason first.

    ``parents`` are those that hold the step; ``now`` is the server's time in milliseconds;
    ``queue`` is that of an available step, ``wait`` what a waiting or expired one waits for,
    ``missing`` the first reference of an input that leads nowhere, and ``pause`` the latest of a
    retryable step.
    """
    found: list[Blocker] = []
    if header.cancel is not None and record.state in OPEN_STEPS and not record.always:
        found.append(_cancel_requested(header))
    match record.state:
        case StepState.PENDING:
            found += _waiting(header, record, parents, missing)
        case StepState.AVAILABLE:
            found.append(_for_worker(header, record, now, queue))
        case StepState.RETRYABLE if pause is not None and pause.holds(record):
            found.append(_paused(header, record, pause))
        case StepState.RETRYABLE:
            found.append(
                _blocker(header, record, "retry_scheduled", "it failed, and will run again")
            )
        case StepState.AWAITING_SIGNAL:
            found.append(_on_signal(header, record, wait))
        case StepState.EXECUTING:
            found.append(_executing(header, record))
        case StepState.FAILED | StepState.DISCARDED:
            found.append(_blocker(header, record, "step_failed", _ENDED_BADLY[record.state]))
        case StepState.EXPIRED:
            details = {} if wait is None else wait.details()
            found.append(
                _blocker(
                    header, record, "expired_wait", "no signal came before its deadline", **details
                )
            )
        case StepState.CANCELLED if record.cause is StepCause.CANCELLED_BY_DEPENDENCY:
            names = [parent.name for parent in parents]
            found.append(
                _blocker(
                    header,
                    record,
                    "cancelled_by_dependency",
                    f"cancelled because {_named(names)} did not complete",
                    steps=names[:LISTED],
                    count=len(names),
                )
            )
    return found


def _cancel_requested(header: Header) -> Blocker:
    return Blocker(
        code="cancel_requested",
        summary="a cancel request stands",
        scope="workflow",
        since=header.at(header.cancel),
        retry_at=None,
        details={"reason": header.cancel_reason},
    )


def _waiting(
    header: Header, record: Record, parents: Sequence[Record], missing: Ref | None
) -> list[Blocker]:
    # A parent that has ended still counts until its edges have been walked.
    retryable = [parent.name for parent in parents if parent.state is StepState.RETRYABLE]
    open_ = [
        parent.name
        for parent in parents
        if parent.state in OPEN_STEPS and parent.state is not StepState.RETRYABLE
    ]
    ended = any(parent.state in TERMINAL_STEPS for parent in parents)
    found = []
    if record.lacks_result:
        found.append(_for_result(header, record, missing))
    elif not (open_ or retryable) and header.starts is not None:
        at = header.at(header.starts)
        found.append(
            _blocker(header, record, "scheduled", f"the workflow starts at {at}", starts_at=at)
        )
    elif not (open_ or retryable) and header.link is not None and header.link.state == "h":
        found.append(
            _blocker(
                header,
                record,
                "waiting_on_parent",
                f"starts once {header.link.step} of {header.link.workflow} waits for it",
                workflow_id=header.link.workflow,
                step=header.link.step,
            )
        )
    elif not (open_ or retryable) or ended or record.recovering:
        found.append(
            _blocker(
                header,
                record,
                "release_in_progress",
                "its dependencies have ended; their release is still in progress",
            )
        )
    if retryable:
        found.append(
            _blocker(
                header,
                record,
                "waiting_on_retryable_dependency",
                f"waits for {_named(retryable)} to run again",
                steps=retryable[:LISTED],
                count=len(retryable),
            )
        )
    if open_:
        found.append(
            _blocker(
                header,
                record,
                "waiting_on_dependencies",
                f"waits for {_named(open_)}",
                steps=open_[:LISTED],
                count=len(open_),
            )
        )
    return found


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _for_result(header: Header, record: Record, missing: Ref | None) -> Blocker:
    if missing is None:
        summary = "the result that its input refers to was missing when it was claimed"
        return _blocker(header, record, "missing_dependency_result", summary)
    return _blocker(
        header,
        record,
        "missing_dependency_result",
        f"its input refers to the result of {missing.step}{missing.place}, which does not exist",
        step=missing.step,
        path=missing.json_path,
    )


def _for_worker(header: Header, record: Record, now: int, queue: QueueView | None) -> Blocker:
    served = queue is not None and queue.served
    return _blocker(
        header,
        record,
        "waiting_for_worker",
        f"available in queue {record.queue}, which "
        + ("has not handed it out yet" if served else "no worker serves"),
        queue=record.queue,
        waiting_seconds=max(now - header.inserted - record.since, 0) / 1000,
        served=served,
        served_before=queue is not None and queue.asked_at is not None,
    )


def _on_signal(header: Header, record: Record, wait: Awaited | None) -> Blocker:
    assert wait is not None
    if wait.wait.child is not None:
        summary = f"waits for the end of workflow {wait.wait.child}"
        return _blocker(header, record, "waiting_on_workflow", summary, **wait.details())
    key = shown(wait.wait.correlation_key)
    summary = f"waits for signal {wait.wait.signal}, correlation key {key}"
    if wait.swallowed_by is not None:
        summary += (
            f"; without a dedupe_key of its own it would be a duplicate of {wait.swallowed_by}"
        )
    return _blocker(header, record, "waiting_on_signal", summary, **wait.details())


def _paused(header: Header, record: Record, pause: Pause) -> Blocker:
    return _blocker(
        header,
        record,
        pause.reason,
        pause.summary(record.worker),
        worker=record.worker,
        given_back_by=pause.worker,
        retry_at=header.at(pause.due),
        times=pause.number,
    )


def _executing(header: Header, record: Record) -> Blocker:
    assert record.running is not None
    ends = header.at(record.running.expires)
    if record.dispatched:
        return _blocker(
            header,
            record,
            "dispatched",
            f"{record.running.worker} has dispatched it, and nobody has started it",
            dispatcher=record.running.worker,
            void_at=ends,
        )
    return _blocker(
        header,
        record,
        "executing",
        f"{record.running.worker} runs it",
        leased_by=record.running.worker,
        lease_expires_at=ends,
        attempt=record.attempt,
    )


def _blocker(header: Header, record: Record, code: str, summary: str, **details: object) -> Blocker:
    return Blocker(
        code=code,
        summary=summary,
        scope="step",
        since=header.at(record.since),
        retry_at=header.at(record.due) if record.state is StepState.RETRYABLE else None,
        details=details,
    )


def step_diagnosis(
    record: Record,
    blockers: Sequence[Blocker],
    causes: Sequence[RootCause],
    skipped_by: Sequence[SkipOrigin] = (),
) -> str:
    """A sentence that says why a step is in its state."""
    if record.cause is StepCause.SKIPPED:
        return f"{record.name} was skipped: {_why_skipped(record, skipped_by)}"
    if record.state is StepState.COMPLETED:
        return f"{record.name} has completed"
    if not blockers:
        return f"{record.name} is {record.state}: {record.cause}"
    text = f"{record.name} is {record.state}: {blockers[0].summary}"
    far = [cause for cause in causes if cause.step != record.name]
    if far:
        text += f"; held by {far[0].step} ({far[0].code})"
    return text + _inside(next(iter(causes), None))


def _inside(cause: RootCause | None) -> str:
    """The step that holds the child workflow of a root cause, at the innermost, as text."""
    child = None if cause is None else cause.child
    if child is None or not child.root_causes:
        return "" if child is None or child.problem is None else f", which is {child.problem}"
    inner = child.root_causes[0]
    if inner.child is not None:
        return _inside(inner)
    why = f": {inner.summary}" if inner.summary else ""
    return f"; in workflow {child.workflow_id}, {inner.step} ({inner.code}){why}"


def _why_skipped(record: Record, origins: Sequence[SkipOrigin]) -> str:
    if not origins:
        return "no step has failed whose failure it waits for"
    first = origins[0]
    reason = first.summary or "no reason was given"
    return reason if first.step == record.name else f"{first.step} skipped its branch: {reason}"


def workflow_diagnosis(view: WorkflowView, causes: Iterable[RootCause]) -> str:
    """A sentence that says where a workflow stands, and its first root cause."""
    done = f"{view.completed_step_count} of {view.step_count} steps completed"
    if view.skipped_step_count:
        done += f", {view.skipped_step_count} of them skipped"
    if view.terminal_cause is not None:
        return f"ended {view.state} ({view.terminal_cause}): {done}"
    first = next(iter(causes), None)
    if view.state is WorkflowState.CANCEL_REQUESTED:
        return f"a cancel request stands: {done}"
    if first is None:
        return f"{view.state}: {done}"
    holds = f" holds {first.held_count}" if first.held_count else ""
    return f"{view.state}: {done}; {first.step} ({first.code}){holds}{_inside(first)}"
