# Made of rwf/aio/commands.py by tools/blocking.py: do not edit.
"""Commands on workflows: inserting, ending and recovering them, and signals."""

from __future__ import annotations

import builtins
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from rwf.client.base import Base
from rwf.model.builder import Workflow
from rwf.model.fragment import Fragment
from rwf.model.states import RecoveryAction, RecoveryScope
from rwf.model.views import AppendResult, RecoveryResult, SignalView, WorkflowView
from rwf.ops import acknowledge, appending, cancel, insert, kept, recover, retaining, signals

_WEEK = timedelta(days=7)


class Commands(Base):
    """Commands on workflows and signals."""

    def insert(
        self,
        workflow: Workflow,
        *,
        key: str | None = None,
        retention: timedelta | None = _WEEK,
        replace: str | None = None,
        actor: str | None = None,
        start_at: datetime | timedelta | None = None,
    ) -> WorkflowView:
        """Validates a workflow and persists it, visible all at once (contract §3).

        The same ``key`` (1 to 512 characters) again returns the first insert's workflow, with
        ``duplicate`` true. ``retention`` is how long it is kept once it has finished, None for
        ever. With ``replace="ended_badly"`` the key goes over to this workflow when the one that
        has it ended other than completed; that one stays. An ``actor`` is recorded as evidence.
        Nothing runs before ``start_at``, a datetime with a timezone, or a timedelta from now by the
        server's clock. Raises :class:`~rwf.WorkflowInvalid`, and CommandRejected with
        ``key_conflict`` and the ``workflow_id`` when the key's workflow has another definition.
        """
        op = insert.insert(self._ctx, workflow, key, retention, replace, actor, start_at)
        return self._run(op)

    def insert_many(
        self,
        workflows: Iterable[Workflow],
        *,
        keys: Iterable[str] | None = None,
        retention: timedelta | None = _WEEK,
        replace: str | None = None,
        actor: str | None = None,
        start_at: datetime | timedelta | None = None,
    ) -> builtins.list[WorkflowView]:
        """Inserts workflows as :meth:`insert` does; returns their views in the order given.

        With ``durability="server"`` 64 travel in a round trip, otherwise each by itself. All are
        validated first. They appear one by one: if the server goes away meanwhile, some are
        inserted, and the same call again inserts the rest, provided each has a key in ``keys``. A
        ``key_conflict`` of one is raised after all others have been inserted. Raises what
        :meth:`insert` raises.
        """
        op = insert.insert_many(self._ctx, workflows, keys, retention, replace, actor, start_at)
        return self._run(op)

    def append(
        self,
        workflow_id: str,
        fragment: Fragment,
        *,
        actor: str | None = None,
        command_id: str | None = None,
    ) -> AppendResult:
        """Brings the steps of a fragment into a workflow that has not ended (contract §14).

        They may depend on its steps, in whatever state these are; those without dependencies are
        available at once. They appear all at once, however many. ``command_id`` makes a repetition
        a duplicate. Raises :class:`~rwf.WorkflowInvalid`, and CommandRejected: ``already_terminal``
        and ``cancel_requested`` among others.
        """
        op = appending.append(self._ctx, workflow_id, fragment, actor, command_id)
        return self._run(op)

    def deliver_signal(
        self,
        signal: str,
        correlation_key: str,
        *,
        payload: Any = None,
        dedupe_key: str | None = None,
        actor: str | None = None,
    ) -> SignalView:
        """Delivers a signal to the only workflow that waits for it under this key (contract §5).

        ``payload`` is JSON data. ``dedupe_key`` (up to 512 characters) is the correlation key
        unless given: the same three again change nothing, and return the first one's record, with
        ``duplicate`` true. The status says what became of it: consumed, or kept as unmatched,
        ambiguous or late, to be consumed when a matching wait allows. ``actor`` is recorded with
        it. Raises CommandRejected.
        """
        return self._run(
            signals.deliver_signal(self._ctx, signal, correlation_key, payload, dedupe_key, actor)
        )

    def withdraw_signal(
        self, signal_id: str, *, actor: str | None = None, reason: str | None = None
    ) -> SignalView:
        """Removes a signal that no wait has consumed; returns it, with status ``withdrawn``.

        ``signal_id`` is the ``id`` of a SignalView. The signal is removed for good, and its dedupe
        key is free: the next delivery under it is a new signal. Who and why stay as evidence, in
        ``evidence()`` without an id. Raises CommandRejected: ``already_consumed_signal``,
        ``signal_not_found`` for one that was withdrawn before or is gone, ``illegal_transition``
        while it is being handed over to a workflow.
        """
        return self._run(kept.withdraw_signal(self._ctx, signal_id, actor, reason))

    def request_cancel(
        self,
        workflow_id: str,
        *,
        actor: str | None = None,
        reason: str | None = None,
        force: bool = False,
    ) -> WorkflowView:
        """Asks a workflow to end (contract §6). Steps that are not running are cancelled; a running
        one learns of it at its next heartbeat, and its outcome is still recorded.

        ``force`` cancels running steps too and takes their leases away, so the workflow is terminal
        when this returns; a forced request may follow one without. Repeating it is harmless. Raises
        CommandRejected: ``already_terminal`` for a first request on a workflow that has ended.
        """
        op = cancel.request_cancel(self._ctx, workflow_id, actor, reason, force)
        return self._run(op)

    def set_retention(
        self, workflow_id: str, retention: timedelta | None, *, actor: str | None = None
    ) -> WorkflowView:
        """Sets how long a workflow is kept once it has finished, from its end on; None for ever.

        With a zero retention a workflow that has finished is removed by the next prune. An
        ``actor`` is recorded as evidence. Raises CommandRejected.
        """
        op = retaining.set_retention(self._ctx, workflow_id, retention, actor)
        return self._run(op)

    def acknowledge(self, workflow_id: str, *, actor: str, reason: str) -> WorkflowView:
        """Marks a bad end as dealt with: the workflow shows as Resolved, with who and why, until
        something fails again.

        A recovery undoes that, and so does a callback that dies later. ``actor`` and ``reason`` are
        texts of 1 to 512 characters. Acknowledging it again changes nothing. Raises
        CommandRejected: ``illegal_transition`` for a workflow that is open, or in which nothing has
        failed.
        """
        return self._run(acknowledge.acknowledge(self._ctx, workflow_id, actor, reason))

    def recover_step(
        self,
        workflow_id: str,
        step: str,
        action: RecoveryAction | str,
        *,
        scope: RecoveryScope | str = RecoveryScope.BLOCKED,
        actor: str | None = None,
        reason: str | None = None,
        dry_run: bool = False,
        force: bool = False,
        reopen: bool = False,
        command_id: str | None = None,
    ) -> RecoveryResult:
        """Makes a step run again (``retry``), counts it as completed (``skip``), or ends it
        (``cancel``), and decides again about its descendants, by ``scope`` (contract §6).

        ``scope`` is step, blocked or downstream. ``force`` takes an executing step's lease away;
        ``reopen`` closes a standing cancel request; ``command_id`` makes a repetition a duplicate.
        ``dry_run`` returns the same changes and writes nothing; it judges what is stored, while the
        command first finishes what others have left unfinished. Raises CommandRejected.
        """
        asked = recover.Recovery(
            workflow_id=workflow_id,
            step=step,
            action=action,
            scope=scope,
            actor=actor,
            reason=reason,
            force=force,
            reopen=reopen,
            command_id=command_id,
        )
        return self._run(recover.recover_step(self._ctx, asked, dry_run))
