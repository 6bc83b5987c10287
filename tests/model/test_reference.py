"""The model itself: each rule of contract §2 and §4 as a literal case, then the machine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from rwf.model import states as tables
from rwf.model.states import EdgePolicy, StepState
from tests.model.graphs import CONTINUE, chain, diamond, fan_in, fan_out, graph, layered
from tests.model.growing import WithAppends
from tests.model.machine import MACHINE_SETTINGS, Machine, System
from tests.model.operated import Kept
from tests.model.plain import (
    Completed,
    Definition,
    EvidenceRow,
    Fragment,
    Inserted,
    Refused,
    ResultRow,
    Snapshot,
    WorkflowRow,
)
from tests.model.reference import (
    Reference,
    Step,
    Workflow,
    in_order,
    workflow_cause,
    workflow_state,
)


class Case:
    """A model with one workflow in it."""

    def __init__(self, definition: Definition) -> None:
        self.model = Reference()
        inserted = self.model.insert(definition)
        assert isinstance(inserted, Inserted)
        self.id = inserted.workflow_id

    def done(self, step: str, status: str = "completed", **options: Any) -> Completed:
        answer = self.model.complete(self.id, step, status, **options)
        assert isinstance(answer, Completed), answer
        return answer

    def refused(self, step: str, status: str = "completed", **options: Any) -> str:
        before = self.snapshot()
        answer = self.model.complete(self.id, step, status, **options)
        assert isinstance(answer, Refused), answer
        assert replace(self.snapshot(), evidence=()) == replace(before, evidence=())
        return answer.reason_code

    def snapshot(self) -> Snapshot:
        return self.model.snapshot(self.id)

    def states(self) -> str:
        """One word a step, in order."""
        return " ".join(row.state for row in self.snapshot().steps.values())

    def workflow(self) -> tuple[str, str | None]:
        row = self.snapshot().workflow
        return row.state, row.terminal_cause

    def evidence(self) -> list[tuple[str | None, str, str | None]]:
        return [(row.step, row.status, row.reason_code) for row in self.snapshot().evidence]


# Releasing and cancelling.


def test_insert_makes_the_roots_available() -> None:
    case = Case(diamond())
    assert case.states() == "available pending pending pending"
    row = case.snapshot().workflow
    assert (row.state, row.started, row.finished) == ("available", False, False)
    assert (row.step_count, row.runnable_step_count) == (4, 1)
    assert case.evidence() == []


def test_diamond_joins_when_both_sides_completed() -> None:
    case = Case(diamond())
    assert case.done("s0").released == {"s1", "s2"}
    assert case.done("s1").released_count == 0
    assert case.states() == "completed completed available pending"
    assert case.done("s2").released == {"s3"}
    assert case.done("s3").workflow.state == "completed"
    assert case.workflow() == ("completed", "completed")
    row = case.snapshot().workflow
    assert (row.completed_step_count, row.runnable_step_count, row.finished) == (4, 0, True)


def test_failure_cancels_down_a_chain() -> None:
    case = Case(chain(4))
    case.done("s0")
    answer = case.done("s1", "failed")
    assert answer.cancelled == {"s2", "s3"}
    assert (answer.cancelled_count, answer.released_count) == (2, 0)
    assert case.states() == "completed failed cancelled cancelled"
    rows = case.snapshot().steps
    assert [row.terminal_cause for row in rows.values()] == [
        "completed",
        "step_failed",
        "cancelled_by_dependency",
        "cancelled_by_dependency",
    ]
    assert (rows["s2"].started, rows["s2"].finished, rows["s2"].attempt) == (False, True, 0)
    assert case.workflow() == ("failed", "step_failed")


def test_cancel_edge_does_not_wait_for_other_parents() -> None:
    case = Case(fan_in(3))
    assert case.done("s0", "failed").cancelled == {"s2"}
    assert case.states() == "failed available cancelled"
    assert case.workflow() == ("available", None)
    case.done("s1")
    assert case.workflow() == ("failed", "step_failed")


def test_continue_edge_resolves_by_any_end() -> None:
    for status in ("completed", "failed", "discarded", "cancelled"):
        case = Case(chain(2, CONTINUE))
        assert case.done("s0", status).released == {"s1"}


def test_cascade_releases_over_a_continue_edge() -> None:
    case = Case(graph(4, [(0, 1), (1, 2), (2, 3)], going_on=[(1, 2)]))
    answer = case.done("s0", "failed")
    assert answer.cancelled == {"s1"}
    assert answer.released == {"s2"}
    assert case.states() == "failed cancelled available pending"


def test_mixed_policies_cancel_wins_over_a_resolved_edge() -> None:
    case = Case(graph(3, [(0, 2), (1, 2)], going_on=[(0, 2)]))
    assert case.done("s0", "failed").released_count == 0
    assert case.states() == "failed available pending"
    assert case.done("s1", "discarded").cancelled == {"s2"}


def test_fan_out_and_layers() -> None:
    case = Case(fan_out(5))
    assert case.done("s0").released_count == 4
    case = Case(layered((2, 2, 1)))
    assert case.done("s0").released_count == 0
    assert case.done("s1").released == {"s2", "s3"}


# Statuses, attempts and results.


@pytest.mark.parametrize(
    ("status", "state", "cause", "workflow"),
    [
        ("completed", "completed", "completed", ("completed", "completed")),
        ("failed", "failed", "step_failed", ("failed", "step_failed")),
        ("discarded", "discarded", "step_failed", ("failed", "step_failed")),
        ("cancelled", "cancelled", "cancelled", ("cancelled", "step_cancelled")),
        ("retryable", "retryable", None, ("running", None)),
    ],
)
def test_each_status(
    status: str, state: str, cause: str | None, workflow: tuple[str, str | None]
) -> None:
    case = Case(graph(1))
    answer = case.done("s0", status, payload={"n": [1, "x"]})
    assert (answer.outcome, answer.step.state, answer.step.terminal_cause) == (
        "accepted",
        state,
        cause,
    )
    assert (answer.step.attempt, answer.step.started) == (1, True)
    assert case.workflow() == workflow
    assert case.snapshot().results["s0"] == (ResultRow(1, status, b'{"n":[1,"x"]}'),)
    assert case.evidence() == [("s0", "accepted", None)]


def test_counters_by_state() -> None:
    case = Case(graph(6))
    for step, status in (("s0", "completed"), ("s1", "failed"), ("s2", "discarded")):
        case.done(step, status)
    case.done("s3", "cancelled")
    row = case.snapshot().workflow
    assert (row.completed_step_count, row.failed_step_count, row.cancelled_step_count) == (1, 2, 1)
    assert (row.step_count, row.runnable_step_count) == (6, 2)


def test_retryable_holds_its_descendants_until_the_timer_fires() -> None:
    case = Case(chain(2))
    answer = case.done("s0", "retryable", retry_in=10)
    assert (answer.released_count, answer.cancelled_count) == (0, 0)
    assert case.states() == "retryable pending"
    assert answer.step.retry_scheduled
    assert case.model.fire_due(case.id) == ()
    case.model.now = 10
    assert case.model.fire_due(case.id) == ("s0",)
    assert case.states() == "available pending"
    assert not case.snapshot().steps["s0"].retry_scheduled
    assert case.done("s0").released == {"s1"}
    assert [row.attempt for row in case.snapshot().results["s0"]] == [1, 2]


def test_timer_of_a_named_step_fires_early() -> None:
    case = Case(graph(2))
    case.done("s0", "retryable")
    case.done("s1", "retryable")
    assert case.model.fire_due(case.id, "s1") == ("s1",)
    assert case.states() == "retryable available"


def test_with_a_named_step_whatever_is_due_fires() -> None:
    case = Case(graph(2))
    case.done("s0", "retryable", retry_in=0)
    case.done("s1", "retryable")
    assert case.model.fire_due(case.id, "s1") == ("s0", "s1")


def test_retryable_step_may_be_completed_before_its_timer() -> None:
    case = Case(chain(2))
    case.done("s0", "retryable", retry_in=10)
    assert case.done("s0").step.attempt == 2
    case.model.now = 10
    assert case.model.fire_due(case.id) == ()
    assert case.states() == "completed available"


def test_attempts_exhausted_discards_and_cascades() -> None:
    case = Case(chain(2, max_attempts=2))
    case.done("s0", "retryable", retry_in=0)
    case.model.fire_due(case.id)
    answer = case.done("s0", "retryable", retry_in=0)
    assert (answer.step.state, answer.step.terminal_cause) == ("discarded", "step_failed")
    assert answer.cancelled == {"s1"}
    assert case.evidence() == [
        ("s0", "accepted", None),
        ("s0", "accepted", "attempts_exhausted"),
        ("s0", "accepted", None),
    ]
    assert [row.status for row in case.snapshot().results["s0"]] == ["retryable", "discarded"]
    assert case.done("s0", "retryable").outcome == "duplicate"
    assert case.refused("s0", "discarded") == "already_terminal"


def test_no_payload_is_no_bytes() -> None:
    case = Case(graph(1))
    case.done("s0")
    assert case.snapshot().results["s0"] == (ResultRow(1, "completed", b""),)
    assert case.refused("s0", payload=0) == "already_terminal"


# Duplicates and refusals.


def test_duplicate_by_status_and_payload() -> None:
    case = Case(chain(3))
    first = case.done("s0", payload=[1])
    case.done("s1")
    again = case.done("s0", payload=[1])
    assert again.outcome == "duplicate"
    assert again.released == first.released == {"s1"}
    assert again.workflow == case.snapshot().workflow
    assert case.refused("s0", payload=[2]) == "already_terminal"
    assert case.refused("s0", "failed", payload=[1]) == "already_terminal"
    assert case.evidence()[2:] == [
        ("s0", "duplicate", "duplicate_completion"),
        ("s0", "rejected", "already_terminal"),
        ("s0", "rejected", "already_terminal"),
    ]


def test_only_the_latest_result_is_compared() -> None:
    case = Case(graph(1))
    case.done("s0", "retryable", payload=1)
    case.done("s0", payload=2)
    assert case.refused("s0", "retryable", payload=1) == "already_terminal"


def test_without_id_a_retryable_step_has_no_duplicates() -> None:
    case = Case(graph(1))
    case.done("s0", "retryable")
    assert case.done("s0", "retryable").outcome == "accepted"
    assert case.snapshot().steps["s0"].attempt == 2


def test_duplicate_by_command_id_in_any_state_and_whatever_it_asks() -> None:
    case = Case(chain(2))
    case.done("s0", "retryable", command_id="c1")
    assert case.done("s0", "retryable", command_id="c1").outcome == "duplicate"
    first = case.done("s0", "failed", command_id="c2", payload=1)
    assert first.cancelled == {"s1"}
    for command in ("c1", "c2"):
        assert case.done("s0", "completed", command_id=command).outcome == "duplicate"
    again = case.done("s0", "failed", command_id="c2", payload="other", lease="unknown")
    assert again.cancelled == {"s1"}
    assert again.cancelled_count == 1
    assert len(case.snapshot().results["s0"]) == 2


def test_command_id_belongs_to_its_step() -> None:
    case = Case(chain(2))
    case.done("s0", command_id="c1")
    assert case.done("s1", command_id="c1").outcome == "accepted"


def test_command_id_of_a_refusal_is_not_on_record() -> None:
    case = Case(chain(2))
    assert case.refused("s1", command_id="c1") == "dependencies_unresolved"
    case.done("s0")
    assert case.done("s1", command_id="c1").outcome == "accepted"


def test_new_command_id_on_a_terminal_step_is_late() -> None:
    case = Case(graph(1))
    case.done("s0")
    assert case.refused("s0", command_id="c1") == "already_terminal"


def test_cascade_cancelled_step_has_no_duplicate() -> None:
    case = Case(chain(2))
    case.done("s0", "cancelled")
    assert case.refused("s1", "cancelled") == "already_terminal"


@pytest.mark.parametrize("status", ["completed", "retryable", "failed", "discarded", "cancelled"])
def test_pending_step_is_refused(status: str) -> None:
    case = Case(chain(2))
    assert case.refused("s1", status, force=True) == "dependencies_unresolved"
    assert case.evidence() == [("s1", "rejected", "dependencies_unresolved")]


def test_unknown_lease_is_stale_in_every_state() -> None:
    case = Case(chain(3))
    assert case.refused("s0", lease="x", force=True) == "stale_lease"
    assert case.refused("s1", lease="x") == "stale_lease"
    case.done("s0", "retryable")
    assert case.refused("s0", lease="x") == "stale_lease"
    case.done("s0")
    assert case.refused("s0", lease="x") == "stale_lease"
    case.done("s1", "failed")
    assert case.refused("s2", lease="x", command_id="c9") == "stale_lease"


def test_unknown_names() -> None:
    case = Case(graph(1))
    assert case.refused("s9", lease="x") == "step_not_found"
    assert case.evidence() == [("s9", "rejected", "step_not_found")]
    stranger = case.model.stranger(case.id)
    answer = case.model.complete(stranger, "s0")
    assert isinstance(answer, Refused)
    assert answer.reason_code == "workflow_not_found"
    entry = EvidenceRow("complete_step", "s0", "rejected", "workflow_not_found")
    assert case.model.strangers == [(stranger, entry)]


def test_unsupported_version_is_judged_before_the_step() -> None:
    case = Case(graph(1))
    case.model.workflows[case.id].semantics_version = 9
    assert case.refused("s0") == "unsupported_semantics"
    assert case.refused("s9") == "unsupported_semantics"
    assert len(case.evidence()) == 2


def test_bad_arguments_leave_no_evidence() -> None:
    case = Case(graph(1))
    assert case.refused("s0", "expired") == "invalid_argument"
    assert case.refused("s0", "retryable", retry_in=-1) == "invalid_argument"
    assert case.refused("s0", "completed", retry_in=1) == "invalid_argument"
    assert case.evidence() == []


# Claimed steps.


def test_executing_step_wants_its_lease_or_force() -> None:
    case = Case(graph(2))
    case.model.claim(case.id, "s0", "L1")
    case.model.claim(case.id, "s1", "L2")
    assert case.states() == "executing executing"
    assert case.snapshot().workflow.runnable_step_count == 0
    assert case.workflow() == ("running", None)
    assert case.refused("s0") == "lease_required"
    assert case.refused("s0", lease="L2") == "stale_lease"
    assert case.done("s0", lease="L1").step.attempt == 1
    assert case.done("s1", force=True).step.attempt == 1


def test_duplicate_by_lease() -> None:
    case = Case(graph(1))
    case.model.claim(case.id, "s0", "L1")
    case.done("s0", "retryable", lease="L1", payload=1, retry_in=0)
    assert case.done("s0", "retryable", lease="L1", payload=1).outcome == "duplicate"
    assert case.refused("s0", "completed", lease="L1", payload=1) == "already_terminal"
    assert case.refused("s0", "retryable", lease="L1", payload=2) == "already_terminal"
    case.model.fire_due(case.id)
    case.model.claim(case.id, "s0", "L2")
    assert case.done("s0", "retryable", lease="L1", payload=1).outcome == "duplicate"
    assert case.done("s0", lease="L2", command_id="c1").step.attempt == 2
    assert case.done("s0", lease="L2", command_id="c2").outcome == "duplicate"
    # The id is looked for before the lease, in whichever attempt either is on record.
    assert case.done("s0", "failed", lease="L1", command_id="c1").outcome == "duplicate"


# Inserting.


def test_key_finds_the_first_workflow() -> None:
    model = Reference()
    first = model.insert(diamond(), "k")
    assert isinstance(first, Inserted)
    model.complete(first.workflow_id, "s0")
    again = model.insert(diamond(), "k")
    assert isinstance(again, Inserted)
    assert (again.workflow_id, again.duplicate) == (first.workflow_id, True)
    assert again.workflow.completed_step_count == 1
    conflict = model.insert(chain(4), "k")
    assert isinstance(conflict, Refused)
    assert (conflict.action, conflict.reason_code) == ("insert", "key_conflict")
    assert model.snapshot(first.workflow_id).evidence[1:] == (
        EvidenceRow("insert", None, "duplicate", "duplicate_insert"),
        EvidenceRow("insert", None, "rejected", "key_conflict"),
    )
    for key in (None, "other"):
        other = model.insert(diamond(), key)
        assert isinstance(other, Inserted)
        assert not other.duplicate


def test_edges_in_another_order_are_the_same_definition() -> None:
    model = Reference()
    model.insert(diamond(), "k")
    turned = diamond()
    turned["edges"].reverse()
    again = model.insert(turned, "k")
    assert isinstance(again, Inserted)
    assert again.duplicate


def test_topological_order_takes_the_first_added_first() -> None:
    case = Case(graph(4, [(0, 1), (2, 3)], order=[3, 1, 2, 0]))
    names = [step.name for step in in_order(case.model.workflows[case.id])]
    assert names == ["s2", "s3", "s0", "s1"]


# The derivations of section 2, of which completions reach only a part.


@pytest.mark.parametrize(
    ("states", "cancel", "state", "cause"),
    [
        ("available executing", True, "cancel_requested", None),
        ("available executing completed", False, "available", None),
        ("executing awaiting_signal", False, "running", None),
        ("retryable pending", False, "running", None),
        ("awaiting_signal failed", False, "pending", None),
        ("pending pending", False, "pending", None),
        ("completed completed", False, "completed", "completed"),
        ("completed completed", True, "completed", "completed_after_cancel_request"),
        ("completed expired failed", True, "expired", "expired_wait"),
        ("completed discarded cancelled", True, "failed", "step_failed"),
        ("completed cancelled", True, "cancelled", "operator_cancelled"),
        ("completed cancelled", False, "cancelled", "step_cancelled"),
    ],
)
def test_workflow_is_derived_from_its_steps(
    states: str, cancel: bool, state: str, cause: str | None
) -> None:
    present = [StepState(word) for word in states.split()]
    assert workflow_state(present, cancel=cancel) == state
    assert workflow_cause(present, cancel=cancel) == cause


def test_derivations_agree_with_the_tables() -> None:
    for number in range(1, 2 ** len(StepState)):
        present = [state for bit, state in enumerate(StepState) if number >> bit & 1]
        counts = {state: int(state in present) for state in StepState}
        for cancel in (False, True):
            state = workflow_state(present, cancel=cancel)
            assert state is tables.workflow_state(counts, cancel=cancel)
            assert workflow_cause(present, cancel=cancel) is tables.workflow_cause(
                counts, cancel=cancel
            )


# The machine: the model agrees with itself, and a planted fault is found.

QUICK = settings(
    MACHINE_SETTINGS, max_examples=20, derandomize=True, database=None, print_blob=False
)


def test_machine_finds_no_difference_between_two_models() -> None:
    run_state_machine_as_test(Machine, settings=QUICK)


class IgnoresPolicy(WithAppends):
    """Every edge goes on."""

    def cancels(self, parent: StepState, policy: EdgePolicy) -> bool:
        return False

    def resolves(self, parent: StepState, policy: EdgePolicy) -> bool:
        return super().resolves(parent, EdgePolicy.CONTINUE)


class ReleasesEarly(WithAppends):
    """A failed parent over a cancel edge holds nobody back, and cancels nobody."""

    def cancels(self, parent: StepState, policy: EdgePolicy) -> bool:
        return parent is StepState.FAILED and super().cancels(parent, policy)


class ForgetsTimers(WithAppends):
    """Retries never come back."""

    def fire_due(self, workflow_id: str, step_name: str | None = None) -> tuple[str, ...]:
        return ()


class ForgetsIds(WithAppends):
    """Every command is new, unless the step has ended."""

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
        return super().complete(
            workflow_id,
            step_name,
            status,
            payload=payload,
            lease=lease,
            retry_in=retry_in,
            force=force,
            count=count,
            branch=branch,
        )


class ForgetsKeys(WithAppends):
    """Every insert is a new workflow."""

    def insert(
        self,
        definition: Definition,
        key: str | None = None,
        replace: bool = False,
        scheduled: bool = False,
    ) -> Inserted | Refused:
        return super().insert(definition)

    def find(self, key: str) -> str | None:
        return f"w{self.inserts}"


class WakesTheWrongOne(WithAppends):
    """An ambiguous signal goes to the oldest wait of all."""

    def _waiting(self, signal: Kept) -> list[tuple[Workflow, Step]]:
        return super()._waiting(signal)[:1]


class TakesNothingBack(WithAppends):
    """Steps that the end of a revived step had released stay released."""

    def _is_taken_back(self, step: Step, held: set[str]) -> bool:
        return False


class ForgetsParents(WithAppends):
    """The end of a child changes nothing in its parent."""

    def _told(self, child: Workflow) -> str:
        return "left"


class ForgetsJoins(WithAppends):
    """The children of a step do not wait for the steps that it appends."""

    def _join(self, workflow: Workflow, fragment: Fragment, by: Step) -> None:
        pass


class SupersedesNothing(WithAppends):
    """A step that is placed anew keeps what it had appended."""

    def _members(
        self, workflow: Workflow, root: Step, roots: list[Step], scope: str
    ) -> tuple[list[Step], list[Step], list[Step]]:
        members, _, taken = super()._members(workflow, root, roots, scope)
        return members, [], taken


class TellsOnce(WithAppends):
    """A workflow that is revived and ends again writes no second callback."""

    def _tell(self, workflow: Workflow, before: WorkflowRow) -> None:
        if not any(event == "workflow.terminal" for event, *_ in workflow.callbacks):
            super()._tell(workflow, before)


@pytest.mark.parametrize(
    "faulty",
    [
        IgnoresPolicy,
        ReleasesEarly,
        ForgetsTimers,
        ForgetsIds,
        ForgetsKeys,
        WakesTheWrongOne,
        TakesNothingBack,
        TellsOnce,
        ForgetsParents,
        ForgetsJoins,
        SupersedesNothing,
    ],
)
def test_machine_finds_a_planted_fault(faulty: type[WithAppends]) -> None:
    class Faulty(Machine):
        def make_system(self) -> System:
            return faulty()

    # Finding it is the point; making the history short would take most of the time.
    found = settings(QUICK, max_examples=200, phases=[Phase.generate], report_multiple_bugs=False)
    with pytest.raises(AssertionError, match=r"differs|the key led"):
        run_state_machine_as_test(Faulty, settings=found)
