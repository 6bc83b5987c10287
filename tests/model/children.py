"""The model with child workflows (contract §14), as slow and obvious as the rest.

What the contract leaves open is taken over from the client:

- Evidence of a wait for a child is ``start_child``, once when it begins and once when the child has
  ended; that of the step's end is its result row.
- A child learns at once of what its parent's step does, and the other way round. Held children,
  hand-offs that are cut off, and insert keys of children are not modelled.
"""

from __future__ import annotations

import json

from rwf.model.states import (
    BRANCHING_VERSION,
    CANCELLED_BY_REQUEST,
    COMPLETION,
    TERMINAL_STEPS,
    CompletionStatus,
    Reason,
    StepState,
    WorkflowState,
)
from tests.model.operated import Operated
from tests.model.plain import Definition, EvidenceRow, Refused, Started
from tests.model.reference import (
    WITH_RESULT,
    Result,
    Step,
    Wait,
    Workflow,
    in_order,
    refuse,
    steps_of,
    workflow_row,
)

ACTION = "start_child"


class WithChildren(Operated):
    """The model with child workflows."""

    def start_child(
        self, workflow_id: str, step_name: str, definition: Definition, lease: str
    ) -> Started | Refused:
        workflow = self.workflows[workflow_id]
        step = workflow.steps.get(step_name)
        first = step.ended_leases.get(lease) if step else None
        if first is not None and first.child is not None:
            workflow.evidence.append(EvidenceRow(ACTION, step_name, "duplicate", "duplicate_child"))
            return Started(first.child, True)
        reason = self._may_not_wait(workflow, step, lease)
        if step is None or reason is not None:
            return refuse(workflow.evidence, ACTION, step_name, reason or Reason.STEP_NOT_FOUND)
        before = workflow_row(workflow)
        child = self._joined_by(step) or self._new(workflow, step, definition)
        self.raise_semantics(workflow, ACTION, step)
        self.waits += 1
        step.become(StepState.AWAITING_SIGNAL)
        step.wait = Wait("", "", self.waits, child=child.id)
        step.signal = None
        step.ended_leases[lease] = step.wait
        child.told = None
        workflow.evidence.append(EvidenceRow(ACTION, step_name, "accepted", None))
        self._tell(workflow, before)
        self._match()
        return Started(child.id, False)

    def _joined_by(self, step: Step) -> Workflow | None:
        """The step's last child, where it has completed and the step has not taken its results, or
        a recovery has revived it since the step failed by it."""
        if step.wait is None or step.wait.child is None or step.wait.taken:
            return None
        child = self.workflows.get(step.wait.child)
        if child is None:
            return None
        row = workflow_row(child)
        failed_by_it = step.wait.status == "resolved"
        revived = failed_by_it and not row.finished and not child.cancel_requested
        return child if row.state == WorkflowState.COMPLETED or revived else None

    def _new(self, parent: Workflow, step: Step, definition: Definition) -> Workflow:
        self.inserts += 1
        child = Workflow(
            f"w{self.inserts}",
            definition,
            steps_of(definition),
            semantics_version=BRANCHING_VERSION,
            kept=parent.kept,
            parent=(parent.id, step.name),
        )
        self.workflows[child.id] = child
        self.settle(child)
        return child

    def _abandon(self, workflow: Workflow, step: Step) -> None:
        wait = step.wait
        if step.state is not StepState.AWAITING_SIGNAL or wait is None or wait.child is None:
            super()._abandon(workflow, step)
            return
        wait.status = "abandoned"
        workflow.evidence.append(EvidenceRow(ACTION, step.name, "abandoned", "abandoned_wait"))
        self._leave(workflow, step.name, wait)

    def _tell_of(self, wait: Wait) -> None:
        child = self.workflows.get(wait.child or "")
        if child is not None:
            child.told = "left"
            self._end(child)  # which may leave children of its own

    def _match(self) -> None:
        told = [True]
        while any(told):
            super()._match()  # anew, as the end of a child may end what was ambiguous
            told = [self._tell_parent(child) for child in list(self.workflows.values())]

    def _tell_parent(self, child: Workflow) -> bool:
        if not child.parent or child.told is not None or not workflow_row(child).finished:
            return False
        child.told = self._told(child)
        return True

    def _end(self, child: Workflow) -> None:
        """Asks a child to end that nobody waits for."""
        before = workflow_row(child)
        if before.finished or child.cancel_requested:
            return
        child.cancel_requested = True
        child.evidence.append(EvidenceRow("request_cancel", None, "accepted", None))
        for step in in_order(child):
            runs = step.state is StepState.EXECUTING and not step.unstarted
            if not (step.always or runs or step.state in TERMINAL_STEPS):
                self._abandon(child, step)
                step.become(CANCELLED_BY_REQUEST.state, CANCELLED_BY_REQUEST.cause)
        self.settle(child)
        self._tell(child, before)

    def _told(self, child: Workflow) -> str:
        """Tells a child's parent of its end; what becomes of that."""
        assert child.parent is not None
        parent = self.workflows.get(child.parent[0])
        step = parent.steps[child.parent[1]] if parent else None
        wait = step.wait if step else None
        if parent is None or step is None or wait is None or wait.child != child.id:
            return "left"
        if step.state is not StepState.AWAITING_SIGNAL:
            return "left"
        before, row = workflow_row(parent), workflow_row(child)
        completed = row.state == WorkflowState.COMPLETED
        status = CompletionStatus.COMPLETED if completed else CompletionStatus.FAILED
        wait.status, wait.taken = "resolved", completed
        parent.evidence.append(EvidenceRow(ACTION, step.name, "accepted", None))
        if step.attempt == (step.results[-1].attempt if step.results else 0):
            step.attempt += 1
        step.started = True
        outcome = COMPLETION[status]
        step.become(outcome.state, outcome.cause)
        self.settle(parent)
        body = _payload(child, row.state, completed)
        step.results.append(Result(step.attempt, outcome.state, status, body, None, None, (), ()))
        parent.evidence.append(EvidenceRow("complete_step", step.name, "accepted", None))
        self._tell(parent, before)
        return "taken" if completed else "failed"

    def pause(self, workflow_id: str, step_name: str, lease: str) -> int:
        stood = super().pause(workflow_id, step_name, lease)
        self._match()
        return stood

    def needed(self) -> bool:
        """Whether some child is kept only until its parent is removed."""
        return any(one.told == "failed" for one in self.workflows.values())


def _payload(child: Workflow, state: str, completed: bool) -> bytes:
    told = {"workflow_id": child.id, "state": state}
    if not completed:
        return json.dumps(told, separators=(",", ":")).encode()
    parents = {name for step in child.steps.values() for name, _ in step.parents}
    results = ",".join(
        f'"{step.name}":{_result(step)}' for step in in_order(child) if step.name not in parents
    )
    head = json.dumps(told, separators=(",", ":"))[:-1]
    return f'{head},"results":{{{results}}}}}'.encode()


def _result(step: Step) -> str:
    body = step.results[-1].payload if step.cause in WITH_RESULT and step.results else b""
    return body.decode() or "null"
