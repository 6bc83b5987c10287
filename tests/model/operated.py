"""The rest of the model: waits, signals, cancel requests, recoveries, callbacks (contract §5, §6).

As slow and obvious as ``reference``: signals are matched anew over all waits after every command,
a recovery's steps are a fixed point, and placing is the judgement of all pending steps.

Where the contract leaves room, this model decides:

- A wait that is given up leaves ``abandoned_wait``, one whose deadline passed ``expired_wait``, as
  evidence of ``await_step``; a consumed signal is ``deliver_signal`` of the step that it woke.
- An await is refused in this order: no such step, a lease that ended in something else, a stale
  lease, already terminal, a cancel request, pending, executing without its lease, retryable
  (``illegal_transition``).
- A recovery grants attempts to every step that it revives, and to its own when it has attempts.
- A recovery that leaves the workflow terminal sends ``workflow.recovery_completed`` first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from rwf.model.states import (
    CANCELLED_BY_REQUEST,
    LEGAL_NEXT_STEPS,
    SKIPPED_BY_OPERATOR,
    SUPERSEDED,
    TERMINAL_STEPS,
    WAIT_EXPIRED,
    CompletionStatus,
    EdgePolicy,
    Reason,
    StepCause,
    StepState,
)
from tests.model.plain import (
    Awaited,
    Completed,
    Delivered,
    EvidenceRow,
    KeptRow,
    Recovered,
    Refused,
    Taken,
    WorkflowRow,
)
from tests.model.reference import (
    Reference,
    Step,
    Wait,
    Workflow,
    in_order,
    refuse,
    workflow_row,
)

Deadline = Literal["none", "past", "goes_on"]
"""``goes_on``: it has passed, and the step goes on."""


@dataclass
class Kept:
    """A signal: who has consumed it, if anybody has."""

    name: str
    key: str
    dedupe: str
    payload: object
    workflow: Workflow | None = None
    step: str | None = None


class Operated(Reference):
    """The model with waits, signals and operators' commands."""

    def __init__(self) -> None:
        super().__init__()
        self.signals: list[Kept] = []
        self.recoveries: dict[tuple[str, str, str], Recovered] = {}
        self.dispatched = False
        self.waits = 0
        self.claims = 0
        self.left: dict[str, list[tuple[str, Wait]]] = {}
        """Abandoned waits by workflow, with their steps, which topics and children still know."""

    def claim_any(self, as_tickets: bool = False) -> Taken:
        """Claims the first available step; any would do."""
        for workflow in self.workflows.values():
            for step in workflow.steps.values():
                if step.state is StepState.AVAILABLE:
                    self.claims += 1
                    if not self.condition_holds(workflow.id, step.name):
                        self.claim_unmet(workflow.id, step.name)
                        return Taken(((workflow.id, step.name),))
                    if as_tickets:
                        ticket = f"ticket-{self.claims}"
                        return Taken((), None, self.dispatch(workflow.id, step.name, ticket))
                    claimed = self.claim(workflow.id, step.name, f"lease-{self.claims}")
                    return Taken((), claimed)
        return Taken(())

    # Awaits and signals.

    def await_step(
        self,
        workflow_id: str,
        step_name: str,
        signal: str,
        key: str,
        deadline: Deadline,
        lease: str | None = None,
    ) -> Awaited | Refused:
        workflow = self.workflows[workflow_id]
        step = workflow.steps.get(step_name)
        first = step.ended_leases.get(lease or "") if step else None
        if first is not None and (first.signal, first.key, first.deadline) == (
            signal,
            key,
            deadline,
        ):
            entry = EvidenceRow("await_step", step_name, "duplicate", "duplicate_await")
            workflow.evidence.append(entry)
            return Awaited(first.status)
        reason = self._may_not_wait(workflow, step, lease)
        if step is None or reason is not None:
            return refuse(
                workflow.evidence, "await_step", step_name, reason or Reason.STEP_NOT_FOUND
            )
        before = workflow_row(workflow)
        if deadline == "goes_on":
            self.raise_semantics(workflow, "await_step", step)
        self._abandon(workflow, step)
        self.waits += 1
        step.become(StepState.AWAITING_SIGNAL)
        step.wait = Wait(signal, key, self.waits, deadline)
        step.signal = None
        if lease is not None:
            step.ended_leases[lease] = step.wait
        workflow.evidence.append(EvidenceRow("await_step", step_name, "accepted", None))
        if deadline == "goes_on":
            step.become(StepState.AVAILABLE)
            step.uncounted, step.wait.status = True, "expired"
            entry = EvidenceRow("await_step", step_name, "expired", "timed_out_wait")
            workflow.evidence.append(entry)
        elif deadline == "past":
            step.become(WAIT_EXPIRED.state, WAIT_EXPIRED.cause)
            step.wait.status = "expired"
            workflow.evidence.append(
                EvidenceRow("await_step", step_name, "expired", "expired_wait")
            )
            self.settle(workflow)
        self._tell(workflow, before)
        self._match()
        return Awaited(step.wait.status)

    def _may_not_wait(
        self, workflow: Workflow, step: Step | None, lease: str | None
    ) -> Reason | None:
        if step is None:
            return Reason.STEP_NOT_FOUND
        if lease is not None:
            if lease in step.ended_leases or lease in {row.lease for row in step.results}:
                return Reason.ALREADY_TERMINAL
            if lease != step.lease:
                return Reason.STALE_LEASE
        if step.state in TERMINAL_STEPS:
            return Reason.ALREADY_TERMINAL
        if workflow.cancel_requested and not step.always:
            return Reason.CANCEL_REQUESTED
        if step.state is StepState.PENDING:
            return Reason.DEPENDENCIES_UNRESOLVED
        if step.state is StepState.EXECUTING and lease is None:
            return Reason.LEASE_REQUIRED
        return Reason.ILLEGAL_TRANSITION if step.state is StepState.RETRYABLE else None

    def _abandon(self, workflow: Workflow, step: Step) -> None:
        if step.state is StepState.AWAITING_SIGNAL and step.wait is not None:
            step.wait.status = "abandoned"
            entry = EvidenceRow("await_step", step.name, "abandoned", "abandoned_wait")
            workflow.evidence.append(entry)
            self._leave(workflow, step.name, step.wait)

    def _leave(self, workflow: Workflow, step: str, wait: Wait) -> None:
        self.left.setdefault(workflow.id, []).append((step, wait))

    def _tell_parent(self, child: Workflow) -> bool:
        """Tells a workflow's parent of its end; whether there was anything to tell."""
        return False

    def _tell_of(self, wait: Wait) -> None:
        """Tells a wait's topic or child that it was abandoned."""

    def deliver(self, name: str, key: str, dedupe: str, payload: object) -> Delivered:
        for signal in self.signals:
            if (signal.name, signal.key, signal.dedupe) == (name, key, dedupe):
                if signal.workflow is not None:
                    signal.workflow.evidence.append(
                        EvidenceRow(
                            "deliver_signal",
                            signal.step,
                            "already_consumed",
                            "already_consumed_signal",
                        )
                    )
                return replace(self._delivered(signal), duplicate=True)
        signal = Kept(name, key, dedupe, payload)
        self.signals.append(signal)
        self._match()
        return self._delivered(signal)

    def _delivered(self, signal: Kept) -> Delivered:
        if signal.workflow is not None:
            return Delivered("consumed", signal.workflow.id, signal.step, signal.payload)
        return Delivered(self._kept_as(signal), None, None, signal.payload)

    def withdraw(self, name: str, key: str, dedupe: str) -> Delivered | Refused:
        """Takes back the latest signal of this dedupe key; the next one is another signal."""
        found = [
            one for one in self.signals if (one.name, one.key, one.dedupe) == (name, key, dedupe)
        ]
        if not found:
            return refuse(None, "withdraw_signal", None, Reason.SIGNAL_NOT_FOUND)
        if found[0].workflow is not None:
            return refuse(None, "withdraw_signal", None, Reason.ALREADY_CONSUMED_SIGNAL)
        self.signals.remove(found[0])
        return Delivered("withdrawn", None, None, found[0].payload)

    def kept(self) -> list[KeptRow]:
        """The kept signals that nobody has consumed, by topic and age."""
        rows = [
            KeptRow(one.name, one.key, one.dedupe, self._kept_as(one), one.payload)
            for one in self.signals
            if one.workflow is None
        ]
        return sorted(rows, key=lambda row: (row.name, row.key))

    def _kept_as(self, signal: Kept) -> str:
        if len({workflow.id for workflow, _ in self._waiting(signal)}) > 1:
            return "ambiguous"
        steps = [step for flow in self.workflows.values() for step in flow.steps.values()]
        late = any(
            step.state is StepState.EXPIRED
            and step.wait is not None
            and (step.wait.signal, step.wait.key) == (signal.name, signal.key)
            for step in steps
        )
        return "late" if late else "unmatched"

    def _waiting(self, signal: Kept) -> list[tuple[Workflow, Step]]:
        """The waits for a signal like this, the oldest first."""
        found = [
            (workflow, step, step.wait.number)
            for workflow in self.workflows.values()
            for step in workflow.steps.values()
            if step.state is StepState.AWAITING_SIGNAL
            and step.wait is not None
            and (step.wait.signal, step.wait.key) == (signal.name, signal.key)
        ]
        return [(flow, step) for flow, step, _ in sorted(found, key=lambda one: one[2])]

    def _match(self) -> None:
        """Tells of abandoned waits, those of a workflow by the names of their steps, the workflow
        that was moved last before others; each may end what was ambiguous."""
        self._hand_over()
        while self.left:
            workflow_id, left = next(reversed(self.left.items()))
            self._tell_parent(self.workflows[workflow_id])
            left.sort(key=lambda one: one[0])
            while left:
                self._tell_of(left.pop(0)[1])
                self._hand_over()
            del self.left[workflow_id]

    def _hand_over(self) -> None:
        """Hands over kept signals, oldest first, where exactly one workflow waits, as far as their
        topics know."""
        for signal in self.signals:
            waiting = self._waiting(signal) if signal.workflow is None else []
            known = {
                workflow_id
                for workflow_id, left in self.left.items()
                for _, wait in left
                if (wait.signal, wait.key) == (signal.name, signal.key)
            }
            if not waiting or len({workflow.id for workflow, _ in waiting} | known) != 1:
                continue
            workflow, step = waiting[0]
            signal.workflow, signal.step = workflow, step.name
            assert step.wait is not None
            step.wait.status = "resolved"
            workflow.evidence.append(EvidenceRow("deliver_signal", step.name, "accepted", None))
            step.become(StepState.AVAILABLE)
            step.signal, step.uncounted = signal.payload, True

    # Retention.

    def keep(self, workflow_id: str, for_ever: bool) -> WorkflowRow:
        workflow = self.workflows[workflow_id]
        workflow.kept, workflow.to_review = for_ever, False
        workflow.evidence.append(EvidenceRow("set_retention", None, "accepted", None))
        return workflow_row(workflow)

    def finished(self, workflow_id: str) -> bool:
        return workflow_row(self.workflows[workflow_id]).finished

    def over(self, workflow_id: str) -> bool:
        return self.finished(workflow_id) and not self.workflows[workflow_id].kept

    def prune(self, deliver: bool) -> int:
        """Removes every finished workflow, as its retention is over unless it is kept for ever;
        returns how many.

        Undelivered callbacks hold a workflow back once a dispatcher was seen.
        """
        if deliver:
            self.dispatched = True
            for workflow in self.workflows.values():
                workflow.delivered = len(workflow.callbacks)
        over = [
            one
            for one in self.workflows.values()
            if self.over(one.id) and (not self.dispatched or one.delivered == len(one.callbacks))
        ]
        for workflow in over:
            del self.workflows[workflow.id]
        self.keys = {key: id_ for key, id_ in self.keys.items() if id_ in self.workflows}
        self.signals = [signal for signal in self.signals if signal.workflow not in over]
        return len(over)

    # Cancel requests.

    def request_cancel(self, workflow_id: str, force: bool = False) -> WorkflowRow | Refused:
        workflow = self.workflows[workflow_id]
        action = "request_cancel"
        running = any(step.state is StepState.EXECUTING for step in workflow.steps.values())
        if workflow.cancel_requested and not (force and running and not workflow.forced):
            workflow.evidence.append(EvidenceRow(action, None, "duplicate", "duplicate_cancel"))
            return workflow_row(workflow)
        before = workflow_row(workflow)
        if before.finished:
            return self._refuse_operator(workflow, action, None, Reason.ALREADY_TERMINAL)
        workflow.cancel_requested, workflow.to_review = True, False
        workflow.scheduled = False
        workflow.forced = force
        workflow.evidence.append(EvidenceRow(action, None, "accepted", None))
        for step in in_order(workflow):
            if step.always:
                continue
            runs = step.state is StepState.EXECUTING and not step.unstarted
            if runs and force:
                entry = EvidenceRow(action, step.name, "accepted", "lease_taken")
                workflow.evidence.append(entry)
            if step.state not in TERMINAL_STEPS and (force or not runs):
                self._abandon(workflow, step)
                step.become(CANCELLED_BY_REQUEST.state, CANCELLED_BY_REQUEST.cause)
        self.settle(workflow)
        self._tell(workflow, before)
        self._match()
        return workflow_row(workflow)

    def _refuse_operator(
        self, workflow: Workflow, action: str, step: str | None, reason: Reason
    ) -> Refused:
        workflow.to_review = True
        return refuse(workflow.evidence, action, step, reason)

    # Bad ends.

    def acknowledge(self, workflow_id: str, actor: str) -> WorkflowRow | Refused:
        workflow = self.workflows[workflow_id]
        row, action, reason = workflow_row(workflow), "acknowledge", Reason.ILLEGAL_TRANSITION
        usual = LEGAL_NEXT_STEPS[reason]
        if not row.finished:
            self._refuse_operator(workflow, action, None, reason)
            return Refused(action, reason.value, ("explain_workflow", *usual))
        if row.acknowledged is not None:
            entry = EvidenceRow(action, None, "duplicate", "duplicate_acknowledgement")
            workflow.evidence.append(entry)
            return row
        if not row.failed_step_count:
            refuse(workflow.evidence, action, None, reason)
            return Refused(action, reason.value, ("inspect_workflow", *usual))
        workflow.acknowledged, workflow.to_review = actor, False
        workflow.evidence.append(EvidenceRow(action, None, "accepted", None))
        return workflow_row(workflow)

    # Recoveries.

    def recover(
        self,
        workflow_id: str,
        step_name: str,
        action: str,
        scope: str,
        reopen: bool,
        command_id: str | None,
    ) -> Recovered | Refused:
        workflow = self.workflows[workflow_id]
        step = workflow.steps.get(step_name)
        if action == "skip" and scope == "downstream":
            return refuse(None, "recover_step", step_name, Reason.UNSUPPORTED_RECOVERY_ACTION)
        if step is None:
            return self._refuse_operator(workflow, "recover_step", step_name, Reason.STEP_NOT_FOUND)
        if command_id is not None and (workflow_id, step_name, command_id) in self.recoveries:
            first = self.recoveries[workflow_id, step_name, command_id]
            entry = EvidenceRow("recover_step", step_name, "duplicate", "duplicate_recovery")
            workflow.evidence.append(entry)
            return Recovered(True, workflow_row(workflow), first.changes)
        refusal = self._may_not_recover(workflow, step, action, scope, reopen)
        if refusal is not None:
            reason, first_step = refusal
            refused = self._refuse_operator(workflow, "recover_step", step_name, reason)
            usual = LEGAL_NEXT_STEPS[reason]
            steps = (first_step, *usual) if first_step else usual
            return Refused(refused.action, refused.reason_code, steps)
        done = self._recover(workflow, step, action, scope, reopen)
        if command_id is not None:
            self.recoveries[workflow_id, step_name, command_id] = done
        return done

    def _may_not_recover(
        self, workflow: Workflow, step: Step, action: str, scope: str, reopen: bool
    ) -> tuple[Reason, str | None] | None:
        if workflow.scheduled:
            return Reason.ILLEGAL_TRANSITION, None
        asked_to_end = workflow.cancel_requested and not step.always
        if asked_to_end and action != "cancel" and not reopen:
            return Reason.CANCEL_REQUESTED, None
        if step.state is StepState.EXECUTING:
            return Reason.ILLEGAL_TRANSITION, "recover_with_force"
        if step.superseded:
            return Reason.ILLEGAL_TRANSITION, None
        if action == "cancel":
            return (Reason.ALREADY_TERMINAL, None) if step.state in TERMINAL_STEPS else None
        if step.state is StepState.COMPLETED and (action, scope) != ("retry", "downstream"):
            return Reason.ILLEGAL_TRANSITION, "inspect_step_result"
        parents = [
            (workflow.steps[name].state, policy)
            for name, policy in step.parents
            if not workflow.steps[name].superseded
        ]
        if action == "retry" and any(self.cancels(state, policy) for state, policy in parents):
            return Reason.DEPENDENCIES_UNRESOLVED, None
        return None

    def _recover(
        self, workflow: Workflow, root: Step, action: str, scope: str, reopen: bool
    ) -> Recovered:
        before = workflow_row(workflow)
        workflow.to_review, workflow.acknowledged = False, None
        states = {step.name: step.state for step in workflow.steps.values()}
        workflow.cancel_requested = workflow.cancel_requested and not reopen
        workflow.forced = workflow.forced and workflow.cancel_requested
        is_revived = action == "retry" and root.state not in (
            StepState.PENDING,
            StepState.AVAILABLE,
        )
        roots = [root] if is_revived else []
        gone: list[Step] = []
        members: list[Step] = []
        taken: list[Step] = []
        if action != "cancel":
            members, gone, taken = self._members(workflow, root, roots, scope)
        revived = [*roots, *members]
        if action == "retry":
            self._grant(root)
        else:
            outcome = SKIPPED_BY_OPERATOR if action == "skip" else CANCELLED_BY_REQUEST
            self._abandon(workflow, root)
            root.become(outcome.state, outcome.cause)
            root.singled_out = action == "cancel"
        for step in gone:
            self._abandon(workflow, step)
            step.become(SUPERSEDED.state, SUPERSEDED.cause, branch=True)
        for step in in_order(workflow):
            if step in members and step.state is not StepState.PENDING:
                self._grant(step)
            if step in revived or step in taken:
                self._abandon(workflow, step)
                step.become(StepState.PENDING)
        self.settle(workflow)
        workflow.evidence.append(EvidenceRow("recover_step", root.name, "accepted", None))
        changes = tuple(
            sorted(
                (step.name, states[step.name].value, step.state.value)
                for step in workflow.steps.values()
                if step.state is not states[step.name]
            )
        )
        told = ("workflow.recovery_completed", root.name, action, str(len(changes)))
        workflow.callbacks.append(told)
        self._tell(workflow, before)
        self._match()
        return Recovered(False, workflow_row(workflow), changes)

    def _grant(self, step: Step) -> None:
        if step.attempt:
            step.granted = step.attempt + step.max_attempts

    def _members(
        self, workflow: Workflow, root: Step, roots: list[Step], scope: str
    ) -> tuple[list[Step], list[Step], list[Step]]:
        """The steps that a recovery takes with its own, those that it supersedes, and those that it
        takes back: grown until nothing more belongs to any."""
        causes = {StepCause.CANCELLED_BY_DEPENDENCY, StepCause.OPERATOR_CANCELLED}
        members: list[Step] = []
        gone: list[Step] = []
        taken: list[Step] = []
        growing = True
        while growing:
            growing = False
            for step in workflow.steps.values():
                if step is root or step in gone or step.superseded:
                    continue
                anew = {other.name for other in (*roots, *members, *gone)}
                if step.by is not None and step.by[0] in anew:
                    gone.append(step)
                    members = [member for member in members if member is not step]
                    taken = [other for other in taken if other is not step]
                    growing = True
                    continue
                if step in members:
                    continue
                held = {other.name for other in (*roots, *members, *taken)}
                anchors = {root.name, *held, *(other.name for other in gone)}
                if scope == "downstream":
                    joins = any(name in anchors for name, _ in step.parents)
                else:
                    by_others = step.cause in causes and not step.singled_out
                    joins = by_others and self._joined(workflow, step, anchors)
                if joins and scope != "step":
                    members.append(step)
                    taken = [other for other in taken if other is not step]
                    growing = True
                elif step not in taken and self._is_taken_back(step, held):
                    taken.append(step)
                    growing = True
        return members, gone, taken

    def _joined(self, workflow: Workflow, step: Step, anchors: set[str]) -> bool:
        """By a ``cancel`` edge, with nothing else that cancels it."""
        others = [
            (workflow.steps[name].state, policy)
            for name, policy in step.parents
            if name not in anchors and not workflow.steps[name].superseded
        ]
        if any(self.cancels(state, policy) for state, policy in others):
            return False
        edges = [policy for name, policy in step.parents if name in anchors]
        return EdgePolicy.CANCEL in edges

    def _is_taken_back(self, step: Step, held: set[str]) -> bool:
        """Whether it is to run, and a parent is revived, or taken back itself."""
        free = step.state in (StepState.AVAILABLE, StepState.RETRYABLE)
        return free and any(name in held for name, _ in step.parents)

    # Callbacks, and what the others do to them.

    def _tell(self, workflow: Workflow, before: WorkflowRow) -> None:
        after = workflow_row(workflow)
        changed = (before.state, before.terminal_cause) != (after.state, after.terminal_cause)
        if after.finished and (changed or not before.finished):
            cause = str(after.terminal_cause)
            workflow.callbacks.append(("workflow.terminal", after.state, cause))

    def pause(self, workflow_id: str, step_name: str, lease: str) -> int:
        workflow = self.workflows[workflow_id]
        before = workflow_row(workflow)
        stood = super().pause(workflow_id, step_name, lease)
        self._tell(workflow, before)
        return stood

    def hasten(self, workflow_id: str, step_name: str) -> object:
        """End a step's pause."""
        return self.fire_due(workflow_id, step_name)

    def _put_off(
        self,
        workflow: Workflow,
        step: Step,
        command_id: str | None,
        lease: str | None,
        retry_in: float | None,
    ) -> Completed:
        waited = step.state is StepState.AWAITING_SIGNAL
        step.uncounted = step.uncounted or waited
        self._abandon(workflow, step)
        done = super()._put_off(workflow, step, command_id, lease, retry_in)
        self._match()
        return done

    def _accept(
        self,
        workflow: Workflow,
        step: Step,
        status: str,
        body: bytes,
        command_id: str | None,
        lease: str | None,
        retry_in: float | None,
    ) -> Completed:
        before = workflow_row(workflow)
        if status.startswith(CompletionStatus.SKIPPED):
            self.raise_semantics(workflow, "complete_step", step)
        self._abandon(workflow, step)
        done = super()._accept(workflow, step, status, body, command_id, lease, retry_in)
        self._tell(workflow, before)
        self._match()
        return done
