# Made of rwf/aio/execution.py by tools/blocking.py: do not edit.
"""Executing steps: claiming them, reporting how they ended, waiting for signals."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from rwf import waiting
from rwf.client.base import Base
from rwf.model.builder import Workflow
from rwf.model.fragment import Fragment
from rwf.model.states import CompletionStatus, OnTimeout
from rwf.model.views import (
    AwaitView,
    ClaimedStep,
    CommandResult,
    HeartbeatReport,
    PartialList,
    Ticket,
    WorkflowView,
)
from rwf.ops import children, claims, complete, signals, tickets
from rwf.ops.complete import Batch, Completion
from rwf.transport.blocking.concurrency import wait_for


class Execution(Base):
    """Commands on steps that are claimed or completed."""

    def claim(
        self,
        queues: Iterable[str],
        *,
        worker_id: str,
        limit: int = 1,
        lease: float | timedelta = 30.0,
        wait: float | timedelta = 0.0,
    ) -> PartialList[ClaimedStep]:
        """Hands out up to ``limit`` (1,000) available steps of these queues, each to one worker.

        Highest priority first; within a priority oldest first, with workflows taking turns (section
        8). ``lease`` is in seconds: when it has passed, others may claim the step. A claim counts
        an attempt, except the one that follows a resolved wait. ``unreachable`` of the list names
        partitions that did not answer.

        While there is none, it waits for up to ``wait`` seconds, and then returns an empty list. A
        hint wakes it at once; without hints it asks about once a second. Meanwhile it takes no
        connection from the pool; all waits of the client share one for hints. Raises
        CommandRejected.
        """
        pauses = waiting.looks(waiting.checked_seconds(wait, "claim", "wait"))
        names = claims.checked_queues(queues, "claim")
        found = self._run(claims.claim(self._ctx, names, worker_id, limit, lease))
        if found or not wait:
            return found
        with self._waits.heard(*(f"queue:{name}" for name in names)) as told:
            for pause in pauses:
                wait_for(told, pause)
                told.clear()
                found = self._run(claims.claim(self._ctx, names, worker_id, limit, lease))
                if found:
                    break
        return found

    def heartbeat(
        self, claimed: Iterable[ClaimedStep], *, lease: float | timedelta = 30.0
    ) -> HeartbeatReport:
        """Extends leases to end ``lease`` seconds from now; reports which are lost, and which
        belong to a workflow with a cancel request (contract §8).
        """
        return self._run(claims.heartbeat(self._ctx, claimed, lease))

    def release(self, claimed: Iterable[ClaimedStep | Ticket]) -> int:
        """Gives steps back that were not begun, without counting the attempt; returns how many of
        the leases and tickets were still valid."""
        return self._run(claims.release(self._ctx, claimed))

    def dispatch(
        self,
        queues: Iterable[str],
        *,
        dispatcher: str,
        limit: int = 1,
        hold: float | timedelta = 600.0,
    ) -> PartialList[Ticket]:
        """Takes up to ``limit`` (1,000) available steps of these queues out for ``dispatcher``,
        which is to send their tickets to an executor (contract §15).

        The order is that of :meth:`claim`. A ticket counts no attempt. One that is not started
        within ``hold`` seconds (at most 7 days) is void, and its step available again. Steps whose
        conditions do not hold are skipped, and not returned. ``unreachable`` of the list names
        partitions that did not answer. Raises CommandRejected.
        """
        return self._run(tickets.dispatch(self._ctx, queues, dispatcher, limit, hold))

    def start(
        self,
        ticket: Ticket | str,
        *,
        run_id: str,
        worker_id: str,
        lease: float | timedelta = 30.0,
    ) -> ClaimedStep:
        """Turns a ticket, or its text, into a lease of ``lease`` seconds, and counts an attempt
        (contract §15).

        The first ``run_id`` (1 to 512 characters) has the step: it gets the same answer again. Give
        each run an id of its own, also each delivery of a message. Raises CommandRejected: to
        another run with ``already_started`` until that lease has passed, and with ``stale_ticket``
        when the ticket is void.
        """
        return self._run(tickets.start_ticket(self._ctx, ticket, run_id, worker_id, lease))

    def complete_step(
        self,
        workflow_id: str,
        step: str,
        status: CompletionStatus | str = CompletionStatus.COMPLETED,
        *,
        payload: Any = None,
        summary: str | None = None,
        lease: str | None = None,
        retry_in: float | timedelta | None = None,
        actor: str | None = None,
        force: bool = False,
        command_id: str | None = None,
        count: bool = True,
        traceback: str | None = None,
        branch: bool = False,
        append: Fragment | None = None,
        join: bool = True,
    ) -> CommandResult:
        """Records how a step ended, and releases or cancels the steps that follow (contract §4).

        ``status`` is completed, retryable, failed, discarded, cancelled or skipped. ``payload`` is
        JSON data; ``retry_in`` is in seconds, for retryable only. ``lease`` is the token of a
        claim; without it, ``force`` completes an executing step. ``command_id`` makes a repetition
        of this command a duplicate. ``count=False``, for retryable without a payload, makes the
        step run again without counting an attempt (polling): only the latest such report is kept.
        A skipped step has completed with a null result, and ``summary`` says why; with ``branch``
        those of its children are skipped in turn that depend on nothing else (contract §13).
        ``traceback`` is an exception's, as text; its last 16 KiB are kept, in ``ResultView``.
        ``append``, with completed only, brings the steps of a fragment into the workflow in the
        same transition; what waits for this step then waits for them too, unless ``join`` is false
        (contract §14). Raises CommandRejected, and WorkflowInvalid for what cannot be appended.
        """
        item = Completion(
            workflow_id=workflow_id,
            step=step,
            status=status,
            payload=payload,
            summary=summary,
            lease=lease,
            retry_in=retry_in,
            actor=actor,
            force=force,
            command_id=command_id,
            count=count,
            traceback=traceback,
            branch=branch,
            append=append,
            join=join,
        )
        return self._run(complete.complete_step(self._ctx, item))

    def complete(
        self,
        claim: ClaimedStep,
        status: CompletionStatus | str = CompletionStatus.COMPLETED,
        *,
        payload: Any = None,
        summary: str | None = None,
        retry_in: float | timedelta | None = None,
        actor: str | None = None,
        command_id: str | None = None,
        count: bool = True,
        traceback: str | None = None,
        branch: bool = False,
        append: Fragment | None = None,
        join: bool = True,
    ) -> CommandResult:
        """Reports how a claimed step ended, under its lease; see :meth:`complete_step`."""
        return self.complete_step(
            claim.workflow_id,
            claim.step,
            status,
            payload=payload,
            summary=summary,
            lease=claim.lease,
            retry_in=retry_in,
            actor=actor,
            command_id=command_id,
            count=count,
            traceback=traceback,
            branch=branch,
            append=append,
            join=join,
        )

    def complete_many(
        self,
        completions: Iterable[Completion],
        *,
        claim_next: int = 0,
        queues: Iterable[str] = ("default",),
        worker_id: str = "",
        lease: float | timedelta = 30.0,
    ) -> Batch:
        """Reports many steps, up to 64 of a partition in a round trip. The answer holds each one's
        result or refusal (a CommandRejected, not raised), in the order given.

        ``claim_next`` claims up to that many next steps in the same round trips, in the partitions
        that these visit; they are in the answer's ``claimed``. ``queues``, ``worker_id`` and
        ``lease`` are those of :meth:`claim`.
        """
        claimer = claims.claimer_for(claim_next, queues, worker_id, lease)
        op = complete.complete_many(self._ctx, completions, claimer, claim_next)
        return self._run(op)

    def await_step(
        self,
        workflow_id: str,
        step: str,
        *,
        signal: str,
        correlation_key: str,
        deadline: datetime | timedelta | None = None,
        lease: str | None = None,
        actor: str | None = None,
        on_timeout: OnTimeout | str = OnTimeout.EXPIRE,
    ) -> AwaitView:
        """Puts an available or executing step into a wait for a signal (contract §5).

        ``signal`` is a name, ``correlation_key`` any text of up to 512 characters. ``deadline`` is
        a timedelta from now by the server's clock, or a datetime with a timezone; one that has
        passed expires the step at once. With ``on_timeout="continue"`` the step is available again
        instead, and ``timed_out`` of its claim is true. ``lease`` is the token of a claim, which
        ends with this. A step that already waits for a signal waits for this one instead. A signal
        that was kept for it is consumed before this returns. ``actor`` is recorded as evidence.
        Raises CommandRejected.
        """
        return self._run(
            signals.await_step(
                self._ctx,
                workflow_id,
                step,
                signal,
                correlation_key,
                deadline,
                lease,
                actor,
                on_timeout,
            )
        )

    def start_child(
        self,
        workflow_id: str,
        step: str,
        child: Workflow,
        *,
        lease: str,
        key: str | None = None,
    ) -> WorkflowView:
        """Runs a workflow as a child of a claimed step, which waits for its end (contract §14).

        ``lease`` is the token of the claim, which ends with this; the same lease again changes
        nothing, and returns its child with ``duplicate`` true. The child is kept as long as its
        parent's retention says. With an insert ``key`` (1 to 512 characters) the step's child of
        that key is waited for, and a new one inserted where there is none, or it has ended badly.
        Where the step's last child has completed since the step failed by it, no other is inserted:
        the step takes its results; nor where a recovery has revived it. Returns the child. Raises
        :class:`~rwf.WorkflowInvalid`, and CommandRejected: ``stale_lease``, ``key_conflict``.
        """
        op = children.start_child(self._ctx, workflow_id, step, child, lease, key)
        return self._run(op)
