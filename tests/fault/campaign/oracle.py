"""Judges a campaign: what must be true once everything has come to its end."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rwf import Client
from rwf.model.states import TERMINAL_STEPS, TERMINAL_WORKFLOWS
from rwf.model.views import ResultView, StepView, WorkflowView
from tests.fault.campaign.journal import entries
from tests.fault.campaign.plan import REDUCED, End, Plan, Step, Touch, token_of
from tests.fault.campaign.shapes import plan, plan_of
from tests.support import invariants

_CANCELLED: Final = {
    End("cancelled", "operator_cancelled"),
    End("cancelled", "cancelled_by_dependency"),
}
_COMPLETED: Final = End("completed", "completed")
_AGAIN: Final = (Touch.REOPEN, Touch.RERUN)
_CANCELLING: Final = {False: (Touch.CANCEL,), True: (Touch.CANCEL, *_AGAIN)}
"""The operators' actions by which a workflow's steps may be cancelled, and those of a child."""
_TERMINAL: Final = "workflow.terminal"
_PAGE: Final = 500


@dataclass
class Findings:
    """The oracle's counts, and each breach, one line each."""

    breaches: list[str] = field(default_factory=list)
    workflows: int = 0
    acknowledged: int = 0
    steps: int = 0
    results: int = 0
    runs: int = 0
    acknowledged_reports: int = 0
    callbacks: int = 0
    deliveries: int = 0
    evidence: Counter[str] = field(default_factory=Counter)
    """Evidence of refusals, repetitions and losses, by action, status and reason."""


def judge(client: Client, folder: Path, seed: int) -> Findings:
    """Compares the plan, the journals and everything that is stored."""
    court = _Court(client, folder, seed)
    court.sit()
    return court.findings


def listed(client: Client) -> Iterator[WorkflowView]:
    """All workflows."""
    cursor = None
    while True:
        page = client.list(limit=_PAGE, cursor=cursor)
        yield from page.workflows
        cursor = page.cursor
        if cursor is None:
            return


class _Court:
    def __init__(self, client: Client, folder: Path, seed: int) -> None:
        self._client = client
        self._folder = folder
        self._seed = seed
        self.findings = Findings()
        self._late = {
            entry["number"]
            for entry in entries(folder, "operated-")
            if entry["did"] == "came too late"
        }
        self._ran = {entry["token"]: entry for entry in entries(folder, "ran-")}
        self._kids: dict[tuple[str, str], list[str]] = defaultdict(list)
        """The children that have run, by parent and step."""
        self._received: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for entry in entries(folder, "received-"):
            self._received[entry["callback_id"]].append(entry)
        self._reported: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for entry in entries(folder, "accepted-"):
            self._reported[entry["id"]].append(entry)

    def sit(self) -> None:
        found = self.findings
        flows = {view.id: view for view in listed(self._client)}
        told = {entry["id"]: entry["number"] for entry in entries(self._folder, "inserted-")}
        found.breaches += [f"{id_}: acknowledged, and lost" for id_ in told.keys() - flows.keys()]
        found.breaches += self._doubled(told, flows)
        for view in flows.values():
            if view.parent and view.parent_step and view.started_at:
                self._kids[view.parent, view.parent_step].append(view.id)
        found.breaches += self._one_child(flows)
        for view in flows.values():
            found.breaches += [f"{view.id}: {breach}" for breach in self._workflow(view)]
        found.breaches += invariants.check(self._client)
        found.workflows, found.acknowledged = len(flows), len(told)
        found.runs = len(self._ran)
        found.acknowledged_reports = sum(map(len, self._reported.values()))
        found.deliveries = sum(map(len, self._received.values()))

    def _doubled(self, told: dict[str, int], flows: dict[str, WorkflowView]) -> Iterator[str]:
        """Breaches of "a key has one workflow, whoever inserts with it, and however often"."""
        numbers = Counter(view.context["number"] for view in flows.values() if view.parent is None)
        for number, count in numbers.items():
            if count > 1 and plan(self._seed, number).keyed:
                yield f"workflow {number} exists {count} times"
        for id_, number in told.items():
            if id_ in flows and flows[id_].context["number"] != number:
                yield f"{id_}: acknowledged as {number}, and is another"

    def _workflow(self, view: WorkflowView) -> Iterator[str]:
        one = plan_of(self._seed, view.context)
        steps = {step.name: step for step in self._client.steps(view.id)}
        rows: dict[str, list[ResultView]] = defaultdict(list)
        for row in self._client.results(view.id):
            rows[row.step].append(row)
        self.findings.steps += len(steps)
        self.findings.results += sum(map(len, rows.values()))
        if view.state not in TERMINAL_WORKFLOWS:
            yield f"stuck, {view.state}: {self._client.explain(view.id).diagnosis}"
            return
        if one.is_child and view.started_at is None:  # nobody waits for it
            if view.state != "cancelled":
                yield f"has never started, and is {view.state}"
        else:
            yield from self._ends(one, view, steps)
        for name, of_step in rows.items():
            if one.every[name].runs:
                yield from self._child(view, one.every[name], of_step)
            yield from self._outcomes(view.id, name, of_step)
            yield from self._seen(one, name, of_step, steps, rows)
        yield from self._acknowledged(view.id, rows)
        yield from self._callbacks(view)
        self._count_evidence(view.id)

    def _ends(self, one: Plan, view: WorkflowView, steps: dict[str, StepView]) -> Iterator[str]:
        """Each step has ended as the plan and the commands imply, and so has the workflow."""
        ends, every = one.ends(), one.every
        may_be_cancelled = one.touch in _CANCELLING[one.is_child] and one.number not in self._late
        if not may_be_cancelled:
            yield from (f"{name} was never appended" for name in ends.keys() - steps.keys())
        for name, step in steps.items():
            end = ends.get(name)
            found = End(str(step.state), str(step.terminal_cause))
            if found == end:
                continue
            late = end == _COMPLETED and found == End("completed", "completed_after_cancel_request")
            cancelled = found in _CANCELLED and end is not None and not every[name].always
            if not (may_be_cancelled and (late or cancelled)):
                yield f"{name} ({one.touch}) has ended as {found}, not {end}"
        yield from _derived(view, [step.state for step in steps.values()])

    def _one_child(self, flows: dict[str, WorkflowView]) -> Iterator[str]:
        """Of the children of a step one has run, unless an operator has the step run again."""
        for (parent, step), kids in self._kids.items():
            if len(kids) > 1 and plan_of(self._seed, flows[parent].context).touch not in _AGAIN:
                yield f"{parent}, {step} has run {len(kids)} children: {kids}"

    def _child(self, view: WorkflowView, step: Step, rows: list[ResultView]) -> Iterator[str]:
        """A step that has run a child ended as this did, and has the results of its last steps."""
        last = rows[-1].payload if rows else None
        if not isinstance(last, dict):  # cancelled while it waited
            return
        if last.get("workflow_id") not in self._kids[view.id, step.name]:
            yield f"{step.name} has the result of no child of its that has run: {last}"
            return
        kid = self._client.get(last["workflow_id"])
        if kid.state != last["state"]:
            yield f"{step.name} was told that {kid.id} ended as {last['state']}, not {kid.state}"
        for name, payload in last.get("results", {}).items():
            row = self._client.result(kid.id, name)
            if (row and row.payload) != payload:
                yield f"{step.name} was told of {kid.id}, {name}: {payload}, not {row}"

    def _outcomes(self, workflow_id: str, name: str, rows: list[ResultView]) -> Iterator[str]:
        """One result for each attempt, of a handler that did run in that attempt."""
        attempts = Counter(row.attempt for row in rows)
        yield from (f"{name} has {n} results of attempt {a}" for a, n in attempts.items() if n > 1)
        for row in rows:
            token = token_of(row.payload)
            if token is None:
                continue
            ran = self._ran.get(token)
            expected = (workflow_id, name, row.attempt)
            if ran is None or (ran["id"], ran["step"], ran["attempt"]) != expected:
                yield f"{name} has a result of attempt {row.attempt} from {ran}"

    def _acknowledged(self, id_: str, rows: dict[str, list[ResultView]]) -> Iterator[str]:
        """Each result that an executor was told was recorded is still recorded."""
        tokens = {token_of(row.payload) for of_step in rows.values() for row in of_step}
        for entry in self._reported.get(id_, ()):
            if entry["token"] not in tokens:
                yield f"{entry['step']}: a report was {entry['outcome']}, and is lost: {entry}"

    def _seen(
        self,
        one: Plan,
        name: str,
        rows: list[ResultView],
        steps: dict[str, StepView],
        all_rows: dict[str, list[ResultView]],
    ) -> Iterator[str]:
        """A step got the recorded results of parents that had completed, and no others."""
        payload = rows[-1].payload if isinstance(rows[-1].payload, dict) else {}
        given = [*payload.get("saw", {}).items()]
        if REDUCED in payload:
            names = [step.name for step in one.every[one.every[name].reduces or ""].appends or ()]
            if len(names) != len(payload[REDUCED]):
                yield f"{name} was given {len(payload[REDUCED])} results of {len(names)} steps"
            given += zip(names, payload[REDUCED], strict=False)
        for parent, token in given:
            completed = [row for row in all_rows.get(parent, ()) if row.status == "completed"]
            known = {token_of(row.payload) for row in completed}
            if not _worked(steps[parent]) or one.touch not in (Touch.NONE, Touch.APPEND):
                known.add(None)
            if token not in known:
                yield f"{name} was given {token} as the result of {parent}, not one of {known}"

    def _callbacks(self, view: WorkflowView) -> Iterator[str]:
        """A callback has reported the end at least once, and correctly."""
        callbacks = self._client.callbacks(view.id)
        self.findings.callbacks += len(callbacks)
        for callback in callbacks:
            if callback.status != "delivered":
                yield f"callback {callback.callback_id} is {callback.status}"
            elif callback.callback_id not in self._received:
                yield f"callback {callback.callback_id} is called delivered, and was not"
        ends = [callback.data for callback in callbacks if callback.event == _TERMINAL]
        if not ends or (ends[-1]["state"], ends[-1]["terminal_cause"]) != (
            view.state,
            view.terminal_cause,
        ):
            yield f"its end was told as {ends[-1:]}, and is {view.state}, {view.terminal_cause}"

    def _count_evidence(self, workflow_id: str) -> None:
        for entry in self._client.evidence(workflow_id):
            if entry.reason_code is not None:
                self.findings.evidence[f"{entry.action} {entry.status} {entry.reason_code}"] += 1


def _worked(step: StepView) -> bool:
    return End(str(step.state), str(step.terminal_cause)).worked


def _derived(view: WorkflowView, states: list[str]) -> Iterator[str]:
    """The workflow's end is the one that its steps imply (contract §2)."""
    cancel = view.cancel_requested_at is not None
    if any(state not in TERMINAL_STEPS for state in states):
        yield f"is {view.state} with steps that are {Counter(states)}"
    failed = any(state in ("failed", "discarded") for state in states)
    if all(state == "completed" for state in states):
        expected = "completed", "completed_after_cancel_request" if cancel else "completed"
    elif "expired" in states:
        expected = "expired", "expired_wait"
    elif failed:
        expected = "failed", "step_failed"
    else:
        expected = "cancelled", "operator_cancelled" if cancel else "step_cancelled"
    if (view.state, view.terminal_cause) != expected:
        yield f"has ended as {view.state}, {view.terminal_cause}, not {expected}"
