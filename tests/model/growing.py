"""The model with appended steps (contract §14), as slow and obvious as the rest.

Of a completion that appends steps, what it has released and cancelled is not compared, and its
workflow is read again: when the reply reads it, a signal may or may not have been handed over.
"""

from __future__ import annotations

from dataclasses import replace

from rwf.model.states import EdgePolicy, Reason, StepState
from tests.model.children import WithChildren
from tests.model.plain import (
    Appended,
    Completed,
    EvidenceRow,
    Fragment,
    Refused,
    WorkflowRow,
)
from tests.model.reference import (
    SEMANTICS_RAISED,
    Step,
    Workflow,
    refuse,
    workflow_row,
)


class WithAppends(WithChildren):
    """The whole model."""

    def __init__(self) -> None:
        super().__init__()
        self.pending: tuple[str, Fragment, bool] | None = None

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
        """Complete a step that appends others; the fragment fits, if the step may complete."""
        workflow = self.workflows[workflow_id]
        version, told = workflow.semantics_version, len(workflow.evidence)
        self.pending = step_name, fragment, join
        done = self.complete(workflow_id, step_name, payload=payload, lease=lease)
        self.pending = None
        if isinstance(done, Refused):
            return done
        if version != workflow.semantics_version:
            entry = EvidenceRow("complete_step", step_name, "accepted", None)
            place = workflow.evidence.index(entry, told) + 1
            raised = EvidenceRow("complete_step", step_name, "accepted", SEMANTICS_RAISED)
            workflow.evidence.insert(place, raised)
        return _without_moves(done, workflow_row(workflow))

    def settle(self, workflow: Workflow) -> None:
        if self.pending is not None:
            (by, fragment, join), self.pending = self.pending, None
            self._bring_in(workflow, fragment, workflow.steps[by], join)
        super().settle(workflow)

    def append(self, workflow_id: str, fragment: Fragment) -> Appended | Refused:
        """Bring steps in from outside; the fragment fits."""
        workflow = self.workflows[workflow_id]
        before = workflow_row(workflow)
        reason = None
        if before.finished:
            reason = Reason.ALREADY_TERMINAL
        elif workflow.cancel_requested:
            reason = Reason.CANCEL_REQUESTED
        if reason is not None:
            return refuse(workflow.evidence, "append", None, reason)
        if workflow.semantics_version == 2:
            entry = EvidenceRow("append", None, "accepted", SEMANTICS_RAISED)
            workflow.evidence.append(entry)
        self._bring_in(workflow, fragment, None, False)
        workflow.evidence.append(EvidenceRow("append", None, "accepted", None))
        self.settle(workflow)
        self._tell(workflow, before)
        self._match()
        return Appended(workflow_row(workflow), len(fragment))

    def _bring_in(
        self, workflow: Workflow, fragment: Fragment, by: Step | None, join: bool
    ) -> None:
        workflow.semantics_version = 3
        if by is not None and join:
            self._join(workflow, fragment, by)
        for name, edges in fragment:
            parents = tuple((parent, EdgePolicy(policy)) for parent, policy in edges)
            if by is not None and not parents:
                parents = ((by.name, EdgePolicy.CANCEL),)
            step = workflow.steps.setdefault(name, Step(name, 3, parents))
            step.become(StepState.PENDING)
            step.parents, step.max_attempts = parents, 3
            step.granted = step.attempt + 3 if step.attempt else 0
            step.by = None if by is None else (by.name, by.attempt)

    def _join(self, workflow: Workflow, fragment: Fragment, by: Step) -> None:
        """The children of the step wait for all of its fragment that nothing else waits for."""
        own = [name for name, _ in fragment]
        inner = {parent for _, edges in fragment for parent, _ in edges}
        sinks = [name for name in own if name not in inner]
        for step in workflow.steps.values():
            policies = [policy for name, policy in step.parents if name == by.name]
            if step.name in own or step.superseded or not policies:
                continue
            left = [edge for edge in step.parents if not workflow.steps[edge[0]].superseded]
            step.parents = (*left, *((sink, policies[0]) for sink in sinks))

    # For whoever draws commands: which ones fit.

    def is_child(self, workflow_id: str) -> bool:
        """Whether another workflow's step waits for it."""
        return self.workflows[workflow_id].parent is not None

    def have_appended(self) -> list[tuple[str, str]]:
        """Steps that have appended others that stand: workflow and step."""
        return sorted(
            {
                (workflow.id, step.by[0])
                for workflow in self.workflows.values()
                for step in workflow.steps.values()
                if step.by is not None and not step.superseded
            }
        )

    def free_names(self, workflow_id: str, by: str | None) -> list[str]:
        """Names that may be appended, by this step or by none."""
        steps = self.workflows[workflow_id].steps
        return [
            name
            for name in (f"x{number}" for number in range(4))
            if name not in steps
            or (by is not None and steps[name].superseded and steps[name].by[0] == by)  # type: ignore[index]
        ]

    def outer_names(self, workflow_id: str, by: str | None) -> list[str]:
        """Steps that may be depended on: those that do not wait for the step that appends."""
        steps = self.workflows[workflow_id].steps
        below: set[str] = set() if by is None else {by}
        grown = True
        while grown:
            grown = False
            for step in steps.values():
                if step.name not in below and any(name in below for name, _ in step.parents):
                    below.add(step.name)
                    grown = True
        return [
            step.name for step in steps.values() if step.name not in below and not step.superseded
        ]


def _without_moves(done: Completed, workflow: WorkflowRow) -> Completed:
    """The reply without what was released and cancelled, and with the workflow as it is now."""
    return replace(
        done,
        workflow=workflow,
        released=frozenset(),
        released_count=0,
        cancelled=frozenset(),
        cancelled_count=0,
    )
