"""The real client, as the machine sees it (:class:`tests.model.machine.System`)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import rwf
from rwf import Client, NotFound, Workflow, result
from rwf.errors import CommandRejected
from rwf.model.states import CallbackEvent, PauseReason
from rwf.model.views import (
    CallbackView,
    ClaimedStep,
    CommandResult,
    EvidenceView,
    RecoveryResult,
    ResultView,
    SignalView,
    StepView,
    Ticket,
    WorkflowView,
)
from rwf.ops.children import run_child
from rwf.ops.claims import pause
from rwf.ops.waits import settle_waits
from tests.model.operated import Deadline
from tests.model.plain import (
    Appended,
    Awaited,
    Claimed,
    Completed,
    Definition,
    Delivered,
    Dispatched,
    EvidenceRow,
    Fragment,
    Inserted,
    KeptRow,
    Recovered,
    Refused,
    ResultRow,
    Snapshot,
    Started,
    StepRow,
    Taken,
    WorkflowRow,
)
from tests.support.flows import end_pause, make_start_due


class ClientSystem:
    """A client on an empty namespace.

    ``fire`` makes due retries of a workflow available; by default a reconciliation of it.
    ``close`` leaves the client open: it belongs to the caller.
    """

    def __init__(self, client: Client, fire: Callable[[str], object] | None = None) -> None:
        self._client = client
        self._fire: Callable[[str], object] = client.reconcile if fire is None else fire
        self._ids: set[str] = set()
        self._held: dict[tuple[str, str, str], ClaimedStep] = {}
        self._tickets: dict[tuple[str, str, str], Ticket] = {}
        self._signals: dict[tuple[str, str, str], str] = {}
        self._skipped: set[tuple[str, str, int]] = set()

    def insert(
        self,
        definition: Definition,
        key: str | None = None,
        replace: bool = False,
        scheduled: bool = False,
    ) -> Inserted | Refused:
        try:
            view: WorkflowView = self._client.insert(
                build(definition),
                key=key,
                retention=timedelta(0),
                replace="ended_badly" if replace else None,
                start_at=timedelta(hours=1) if scheduled else None,
            )
        except CommandRejected as error:
            return _refused(error)
        self._ids.add(view.id)
        return Inserted(view.id, view.duplicate, workflow_row(view))

    def begin(self, workflow_id: str) -> None:
        make_start_due(self._client, workflow_id)
        self._fire(workflow_id)

    def find(self, key: str) -> str | None:
        try:
            return self._client.find(key).id
        except NotFound:
            return None

    def complete(
        self,
        workflow_id: str,
        step_name: str,
        status: str = "completed",
        *,
        payload: object = None,
        lease: str | None = None,
        retry_in: float | None = None,
        force: bool = False,
        command_id: str | None = None,
        count: bool = True,
        branch: bool = False,
    ) -> Completed | Refused:
        try:
            result: CommandResult = self._client.complete_step(
                workflow_id,
                step_name,
                status,
                payload=payload,
                lease=lease,
                retry_in=retry_in,
                force=force,
                command_id=command_id,
                count=count,
                branch=branch,
            )
        except CommandRejected as error:
            return _refused(error)
        # A name that is listed twice must not hide in a set.
        assert len(set(result.released)) == len(result.released)
        assert len(set(result.cancelled)) == len(result.cancelled)
        return Completed(
            outcome=result.outcome,
            step=step_row(result.step),
            workflow=workflow_row(result.workflow),
            released=frozenset(result.released),
            released_count=result.released_count,
            cancelled=frozenset(result.cancelled),
            cancelled_count=result.cancelled_count,
        )

    def complete_and_append(
        self,
        workflow_id: str,
        step_name: str,
        fragment: Fragment,
        join: bool,
        *,
        payload: object,
        lease: str | None = None,
    ) -> Completed | Refused:
        try:
            result: CommandResult = self._client.complete_step(
                workflow_id,
                step_name,
                payload=payload,
                lease=lease,
                append=built(fragment),
                join=join,
            )
        except CommandRejected as error:
            return _refused(error)
        assert result.appended_count == len(fragment)
        return Completed(
            outcome=result.outcome,
            step=step_row(result.step),
            workflow=workflow_row(self._client.get(workflow_id)),
            released=frozenset(),
            released_count=0,
            cancelled=frozenset(),
            cancelled_count=0,
        )

    def append(self, workflow_id: str, fragment: Fragment) -> Appended | Refused:
        try:
            result = self._client.append(workflow_id, built(fragment))
        except CommandRejected as error:
            return _refused(error)
        return Appended(workflow_row(result.workflow), result.appended_count)

    def claim_any(self, as_tickets: bool = False) -> Taken:
        if as_tickets:
            for ticket in self._client.dispatch(["default"], dispatcher="d", hold=3600):
                self._tickets[ticket.workflow_id, ticket.step, str(ticket)] = ticket
                dispatched = Dispatched(ticket.workflow_id, ticket.step, str(ticket))
                return Taken(self._unmet(), None, dispatched)
            return Taken(self._unmet())
        found = self._client.claim(["default"], worker_id="w", lease=3600)
        for claimed in found:
            return Taken(self._unmet(), self._claimed(claimed))
        return Taken(self._unmet())

    def _claimed(self, claimed: ClaimedStep) -> Claimed:
        self._held[claimed.workflow_id, claimed.step, claimed.lease] = claimed
        payload = None if claimed.signal is None else claimed.signal.payload
        step, attempt = claimed.step, claimed.attempt
        return Claimed(claimed.workflow_id, step, attempt, claimed.lease, payload)

    def start(
        self, workflow_id: str, step_name: str, ticket: str, run: str, lease: str = ""
    ) -> Claimed | Refused:
        del workflow_id, step_name, lease  # the ticket tells, and so does the answer
        try:
            held = self._client.start(ticket, run_id=run, worker_id="w", lease=3600)
        except CommandRejected as error:
            return _refused(error)
        return self._claimed(held)

    def give_back(self, workflow_id: str, step_name: str, ticket: str) -> int:
        return self._client.release([self._tickets[workflow_id, step_name, ticket]])

    def _unmet(self) -> tuple[tuple[str, str], ...]:
        """The steps that the last claim has skipped with their branches."""
        found: list[tuple[datetime, str, str]] = []
        for workflow_id in sorted(self._ids):
            try:
                rows = self._client.results(workflow_id)
            except NotFound:
                continue
            for row in rows:
                place = (workflow_id, row.step, row.attempt)
                if place not in self._skipped and (row.summary or "").startswith("not so: "):
                    self._skipped.add(place)
                    found.append((row.recorded_at, workflow_id, row.step))
        return tuple((workflow_id, step) for _, workflow_id, step in sorted(found))

    def pause(self, workflow_id: str, step_name: str, lease: str) -> int:
        claimed = self._held[workflow_id, step_name, lease]
        op = pause(self._client._ctx, [claimed], PauseReason.NO_HANDLER)
        stood = self._client._run(op)
        # It may have ended a child workflow, of which a daemon would tell the parent.
        self._client._run(settle_waits(self._client._ctx, workflow_id))
        return stood

    def hasten(self, workflow_id: str, step_name: str) -> object:
        end_pause(self._client, workflow_id, step_name)
        return self._fire(workflow_id)

    def await_step(
        self,
        workflow_id: str,
        step_name: str,
        signal: str,
        key: str,
        deadline: Deadline,
        lease: str | None,
    ) -> Awaited | Refused:
        moment = None if deadline == "none" else timedelta(0)
        try:
            view = self._client.await_step(
                workflow_id,
                step_name,
                signal=signal,
                correlation_key=key,
                deadline=moment,
                lease=lease,
                on_timeout="continue" if deadline == "goes_on" else "expire",
            )
        except CommandRejected as error:
            return _refused(error)
        return Awaited(view.status)

    def start_child(
        self, workflow_id: str, step_name: str, definition: Definition, lease: str
    ) -> Started | Refused:
        op = run_child(self._client._ctx, workflow_id, step_name, build(definition), lease, None)
        try:
            child, repeated = self._client._run(op)
        except CommandRejected as error:
            return _refused(error)
        self._ids.add(child)
        return Started(child, repeated)

    def deliver(self, name: str, key: str, dedupe: str, payload: object) -> Delivered:
        view = self._client.deliver_signal(name, key, payload=payload, dedupe_key=dedupe)
        self._signals[name, key, dedupe] = view.id
        return _delivered(view)

    def withdraw(self, name: str, key: str, dedupe: str) -> Delivered | Refused:
        try:
            return _delivered(self._client.withdraw_signal(self._signals[name, key, dedupe]))
        except CommandRejected as error:
            return _refused(error)

    def kept(self) -> list[KeptRow]:
        found: list[SignalView] = []
        cursor = None
        while True:
            page = self._client.signals(cursor=cursor)
            found += page.signals
            cursor = page.cursor
            if cursor is None:
                break
        rows = [
            KeptRow(one.signal, one.correlation_key, one.dedupe_key, one.status, one.payload)
            for one in found
        ]
        return sorted(rows, key=lambda row: (row.name, row.key))

    def keep(self, workflow_id: str, for_ever: bool) -> WorkflowRow:
        retention = None if for_ever else timedelta(0)
        return workflow_row(self._client.set_retention(workflow_id, retention))

    def request_cancel(self, workflow_id: str, force: bool = False) -> WorkflowRow | Refused:
        try:
            return workflow_row(self._client.request_cancel(workflow_id, force=force))
        except CommandRejected as error:
            return _refused(error)

    def acknowledge(self, workflow_id: str, actor: str) -> WorkflowRow | Refused:
        try:
            return workflow_row(self._client.acknowledge(workflow_id, actor=actor, reason="why"))
        except CommandRejected as error:
            return _refused(error)

    def recover(
        self,
        workflow_id: str,
        step_name: str,
        action: str,
        scope: str,
        reopen: bool,
        command_id: str | None,
    ) -> Recovered | Refused:
        """The recovery, after a dry run that has to return the same changes, unless it was carried
        out before."""

        def run(**options: Any) -> RecoveryResult | Refused:
            given = {"scope": scope, "reopen": reopen, **options}
            try:
                found: RecoveryResult = self._client.recover_step(
                    workflow_id, step_name, action, **given
                )
            except CommandRejected as error:
                return _refused(error)
            assert len(found.changes) == found.change_count
            return found

        planned, done = run(dry_run=True), run(command_id=command_id)
        if isinstance(done, Refused):
            assert planned == done
            return done
        if not done.duplicate:
            assert isinstance(planned, RecoveryResult)
            # Where steps were appended, changes are in no particular order.
            assert sorted(map(str, planned.changes)) == sorted(map(str, done.changes))
        changes = tuple(
            sorted((one.step, one.before.value, one.after.value) for one in done.changes)
        )
        # When the reply reads the workflow, a signal may or may not have been handed over.
        return Recovered(done.duplicate, workflow_row(self._client.get(workflow_id)), changes)

    def fire_due(self, workflow_id: str) -> object:
        return self._fire(workflow_id)

    def prune(self, deliver: bool) -> int:
        while deliver and self._client.dispatch_callbacks(lambda _envelope: None).delivered:
            pass
        return self._client.prune().workflows

    def snapshot(self, workflow_id: str) -> Snapshot:
        steps: list[StepView] = self._client.steps(workflow_id)
        results: dict[str, tuple[ResultRow, ...]] = {}
        for step in steps:
            rows: list[ResultView] = self._client.results(workflow_id, step=step.name)
            results[step.name] = tuple(
                ResultRow(row.attempt, row.status, row.payload_bytes) for row in rows
            )
        evidence: list[EvidenceView] = list(self._client.evidence(workflow_id))
        return Snapshot(
            workflow=workflow_row(self._client.get(workflow_id)),
            steps={step.name: step_row(step) for step in steps},
            results=results,
            evidence=tuple(
                EvidenceRow(entry.action, entry.step, entry.status, entry.reason_code)
                for entry in evidence
            ),
            callbacks=tuple(_callback(one) for one in self._client.callbacks(workflow_id)),
            operator_status=self._status(workflow_id),
        )

    def _status(self, workflow_id: str) -> str:
        page = self._client.list(limit=500)
        ids = [view.id for view in page.workflows]
        return page.operator_statuses[ids.index(workflow_id)].value

    def stranger(self, workflow_id: str) -> str:
        """The id with another last character: well formed, in the same partition."""
        others = (workflow_id[:-1] + digit for digit in "234567")
        return next(other for other in others if other not in self._ids)

    def close(self) -> None:
        """Nothing to close here."""


def build(definition: Definition) -> Workflow:
    """The definition, as a user would write it."""
    workflow = Workflow(definition["name"])
    for step in definition["steps"]:
        when = step.get("when")
        workflow.add(
            step["name"],
            worker="work",
            max_attempts=step["max_attempts"],
            when=None if when is None else result(when[0]) == when[1],
            always=step.get("always", False),
        )
    for edge in definition["edges"]:
        workflow.connect(edge["parent"], edge["child"], policy=edge["policy"])
    return workflow


def built(fragment: Fragment) -> rwf.Fragment:
    """The fragment, as a user would write it."""
    made = rwf.Fragment()
    for name, edges in fragment:
        made.add(name, worker="work", max_attempts=3)
        for parent, policy in edges:
            made.connect(parent, name, policy)
    return made


def workflow_row(view: WorkflowView) -> WorkflowRow:
    return WorkflowRow(
        name=view.name,
        state=view.state,
        terminal_cause=view.terminal_cause,
        step_count=view.step_count,
        runnable_step_count=view.runnable_step_count,
        completed_step_count=view.completed_step_count,
        cancelled_step_count=view.cancelled_step_count,
        failed_step_count=view.failed_step_count,
        skipped_step_count=view.skipped_step_count,
        semantics_version=view.semantics_version,
        started=view.started_at is not None,
        finished=view.finished_at is not None,
        acknowledged=view.acknowledged_by,
        scheduled=view.starts_at is not None,
    )


def step_row(view: StepView) -> StepRow:
    wait = view.awaiting
    return StepRow(
        state=view.state,
        attempt=view.attempt,
        max_attempts=view.max_attempts,
        dependency_count=view.dependency_count,
        terminal_cause=view.terminal_cause,
        started=view.started_at is not None,
        finished=view.finished_at is not None,
        retry_scheduled=view.retry_at is not None,
        awaiting=f"{wait.signal} {wait.correlation_key} {wait.status}" if wait else None,
        appended_by=f"{by.step}:{by.attempt}" if (by := view.appended_by) else None,
    )


def _delivered(view: SignalView) -> Delivered:
    return Delivered(view.status, view.workflow_id, view.step, view.payload, view.duplicate)


def _callback(view: CallbackView) -> tuple[str, ...]:
    data = view.data
    if view.event is CallbackEvent.WORKFLOW_TERMINAL:
        return view.event.value, data["state"], data["terminal_cause"]
    return view.event.value, data["step"], data["action"], str(data["change_count"])


def _refused(error: CommandRejected) -> Refused:
    return Refused(error.action, error.reason_code.value, error.legal_next_steps)
