"""The meaning of rwf, written the slow and obvious way: one process, no server, no clock of its
own.

Only the tables of :mod:`rwf.model.states` are shared with the library. Everything that the library
keeps up to date (remaining parents, counters, workflow state, started and finished) is counted
anew from the whole graph each time it is asked for, so that both can hardly be wrong alike.

``complete`` judges in this order, and the first that applies decides (contract §4):

1.  arguments that need no stored state (``invalid_argument``, which leaves no evidence)
2.  the workflow exists, its version is implemented, the step exists
3.  a ``command_id`` on record for this step, whatever else is asked: duplicate
4.  a lease on record for this step: duplicate when status and payload are the same, else
    ``already_terminal``, whatever state the step is in; so is one that was given up for a wait
5.  a lease that is not the current one: ``stale_lease``, ``force`` or not
6.  a terminal step: without id and lease, the latest result's status and payload: duplicate;
    anything else: ``already_terminal``
7.  a pending step: ``dependencies_unresolved``
8.  an executing step without lease and without ``force``: ``lease_required``
9.  accepted

Where the contract leaves room, this model decides:

- A command id is looked for among all results of its step, not of other steps, and not only in the
  latest result. Refusals and duplicates do not put their id or lease on record.
- "The same request" of a lease is its status and payload bytes; summary, delay and actor do not
  count.
- "The status asked for" is what the caller passed. A ``retryable`` that exhausted the attempts has
  a result row of status ``discarded``, and is repeated by asking for ``retryable`` again; asking
  for ``discarded`` is refused, ``already_terminal``.
- Without id and lease only a terminal step has duplicates: repeating ``retryable`` on a retryable
  step is a new attempt.
- A duplicate shows the step and the workflow as they stand now, but what the first call released
  and cancelled.
- An accepted completion shows in the evidence as ``accepted``, without a reason. Exhausted attempts
  add an entry right before it: ``accepted``, ``attempts_exhausted``.
- Duplicates have the reasons ``duplicate_completion`` and ``duplicate_insert``.
- A retry that is not to be counted (``count=False``) leaves the attempt as it is, and the next
  claim counts none, unless no claim has counted one yet. It shows in no result and no evidence; a
  step's latest is on record for its command id and its lease, which report nothing else.
- A step that is given back for a while is retryable, and stands where the claim found it. The first
  time in a row leaves ``claim`` evidence.
- A claim after a resolved wait counts no attempt. When it then goes on with none that is open, for
  there was none yet or the latest has reported, the report counts one.
- A step that is dispatched and not started has no attempt of its own: a report by force counts one.
  A start that repeats another of its run leaves ``duplicate_start``.
- Accepted inserts, dispatches and starts, cascades and retry timers leave no evidence.
- A refused or repeated insert is evidence of the workflow that holds the key, and so is one that
  takes the key over from it.
- The evidence of ``step_not_found`` carries the name that was asked for. Commands on unknown
  workflows are in ``strangers``.
- ``runnable_step_count`` counts available steps: those that "may run now" (contract §2).
- A step has started when it was first claimed or first reported on; a workflow when any of its
  steps has. A step that was only cancelled by a cascade has finished, but never started.
- A payload of None is no payload: no bytes, and equal only to another None.
- ``retry_in`` goes with ``retryable`` only. 0 is legal; the step is retryable until its timer
  fires, even so. The default backoff is random; here it takes its upper bound, 300 s. Completing a
  retryable step drops its timer.
- An accepted completion under a lease is a worker's: it leaves a refusal to be reviewed.
- Two definitions are equal when name and steps (in their order) and the set of edges are.

- A step that its edges skip, or whose parents have all skipped their branches, moves in the same
  command, and is neither among what was released nor among what was cancelled.
- A command that a workflow of version 2 does not know of (``skipped``, a wait that goes on) leaves
  ``semantics_raised`` before its own evidence.

Awaits, signals, cancel requests, recoveries and callbacks are in ``operated``. Not modelled: leases
that expire, caps.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from rwf.model.states import (
    ATTEMPTS_EXHAUSTED,
    BRANCHING_VERSION,
    CANCELLED_BY_DEPENDENCY,
    CANCELLED_BY_REQUEST,
    COMPLETABLE,
    COMPLETED_LATE,
    COMPLETION,
    FAILED_STEPS,
    LEGAL_NEXT_STEPS,
    SEMANTICS_VERSION,
    SEMANTICS_VERSIONS,
    SKIPPED,
    TERMINAL_STEPS,
    CompletionStatus,
    EdgePolicy,
    Reason,
    StepCause,
    StepState,
    WorkflowCause,
    WorkflowState,
)
from tests.model.plain import (
    Claimed,
    Completed,
    Definition,
    Dispatched,
    EvidenceRow,
    Inserted,
    Refused,
    ResultRow,
    Snapshot,
    StepRow,
    WorkflowRow,
    encode,
)

DUPLICATE_COMPLETION = "duplicate_completion"
DUPLICATE_INSERT = "duplicate_insert"
ATTEMPTS_EXHAUSTED_CODE = "attempts_exhausted"
SEMANTICS_RAISED = "semantics_raised"
LONGEST_BACKOFF = 300.0
WITH_RESULT = frozenset({StepCause.COMPLETED, StepCause.COMPLETED_AFTER_CANCEL_REQUEST})
AFTER_CANCEL_REQUEST = {
    CompletionStatus.COMPLETED: COMPLETED_LATE,
    CompletionStatus.RETRYABLE: CANCELLED_BY_REQUEST,
}


@dataclass(frozen=True)
class Result:
    """The result of one attempt, and what it moved."""

    attempt: int
    status: StepState
    asked: str
    payload: bytes
    command_id: str | None
    lease: str | None
    released: tuple[str, ...]
    cancelled: tuple[str, ...]


@dataclass
class Wait:
    """A step's latest wait for a signal; ``number`` orders all waits by when they began. Or for a
    ``child`` workflow; ``taken``: the step has its results."""

    signal: str
    key: str
    number: int
    deadline: str = "none"
    status: str = "waiting"
    child: str | None = None
    taken: bool = False


@dataclass
class Step:
    """The stored state of a step, which cannot be recomputed."""

    name: str
    max_attempts: int
    parents: tuple[tuple[str, EdgePolicy], ...]
    when: tuple[str, object] | None = None
    always: bool = False
    state: StepState = StepState.PENDING
    cause: StepCause | None = None
    branch: bool = False
    """Whether it has skipped its branch."""
    attempt: int = 0
    started: bool = False
    lease: str | None = None
    ticket: str | None = None
    """That of its present claim, started or not."""
    run: str | None = None
    """The one that has started it."""
    due: float | None = None
    wait: Wait | None = None
    ended_leases: dict[str, Wait] = field(default_factory=dict)
    """Leases that were given up for a wait."""
    signal: object = None
    """The payload of the last signal that woke it."""
    uncounted: bool = False
    """Whether the next claim counts no attempt: a signal has just woken it, or its retry was not
    counted."""
    counted: bool = False
    """Whether the present claim has counted an attempt."""
    put_off: Result | None = None
    """The latest retry that was not counted."""
    pauses: object = None
    """The last report before it was given back for a while, and the reason for that."""
    by: tuple[str, int] | None = None
    """The step and the attempt that have appended it."""
    granted: int = 0
    singled_out: bool = False
    results: list[Result] = field(default_factory=list)

    def become(
        self, state: StepState, cause: StepCause | None = None, branch: bool = False
    ) -> None:
        """Enter a state; a lease and a timer belong to the state that is left."""
        self.state, self.cause, self.branch = state, cause, branch
        self.lease = self.due = self.ticket = self.run = None
        # A recovery may take back a woken step; it stays woken.
        self.uncounted = self.uncounted and state in (StepState.PENDING, StepState.AVAILABLE)
        self.singled_out = False

    @property
    def superseded(self) -> bool:
        """Whether the step that has appended it was placed anew since."""
        return self.cause is StepCause.SUPERSEDED

    @property
    def unstarted(self) -> bool:
        """Whether a dispatcher holds it, and nobody has started it."""
        return self.ticket is not None and self.run is None

    @property
    def has_attempt(self) -> bool:
        """Whether a claim has begun an attempt, or is to go on with one."""
        return self.state is StepState.EXECUTING and not (self.unstarted and self.counted)


@dataclass
class Workflow:
    """A graph and its evidence."""

    id: str
    definition: Definition
    steps: dict[str, Step]
    semantics_version: int = SEMANTICS_VERSION
    cancel_requested: bool = False
    forced: bool = False
    """Whether the cancel request has taken leases away."""
    to_review: bool = False
    """Whether an operator's latest command was refused."""
    acknowledged: str | None = None
    kept: bool = False
    """Whether it is kept when it has finished."""
    scheduled: bool = False
    """Whether it is still to start; nothing moves before."""
    evidence: list[EvidenceRow] = field(default_factory=list)
    callbacks: list[tuple[str, ...]] = field(default_factory=list)
    delivered: int = 0
    """How many of them."""
    parent: tuple[str, str] | None = None
    """Of a child workflow: the workflow and the step that have run it."""
    told: str | None = None
    """How its parent's step took its end, once it was told."""


class Reference:
    """The model. Its clock stands still until ``now`` is moved."""

    def __init__(self) -> None:
        self.now = 0.0
        self.workflows: dict[str, Workflow] = {}
        self.keys: dict[str, str] = {}
        self.strangers: list[tuple[str, EvidenceRow]] = []
        self.inserts = 0
        self.unmet = 0

    # Commands.

    def insert(
        self,
        definition: Definition,
        key: str | None = None,
        replace: bool = False,
        scheduled: bool = False,
    ) -> Inserted | Refused:
        """Insert a valid graph, or find the workflow that has the key.

        With ``replace`` the new one takes over the key when the other has ended badly. If it is
        ``scheduled``, it starts later.
        """
        first = None
        if key is not None and key in self.keys:
            first = self.workflows[self.keys[key]]
        if first is not None and replace and _ended_badly(first):
            first.evidence.append(EvidenceRow("insert", None, "accepted", "key_replaced"))
        elif first is not None:
            if _canonical(first.definition) != _canonical(definition):
                return refuse(first.evidence, "insert", None, Reason.KEY_CONFLICT)
            first.evidence.append(EvidenceRow("insert", None, "duplicate", DUPLICATE_INSERT))
            return Inserted(first.id, True, workflow_row(first))
        self.inserts += 1
        workflow = Workflow(f"w{self.inserts}", definition, steps_of(definition))
        workflow.scheduled = scheduled
        if scheduled or _branches(workflow):
            workflow.semantics_version = BRANCHING_VERSION
        self.workflows[workflow.id] = workflow
        if key is not None:
            self.keys[key] = workflow.id
        self.settle(workflow)
        return Inserted(workflow.id, False, workflow_row(workflow))

    def begin(self, workflow_id: str) -> None:
        """Start a workflow that was to start later."""
        self.workflows[workflow_id].scheduled = False
        self.settle(self.workflows[workflow_id])

    def find(self, key: str) -> str | None:
        """The workflow that has the key."""
        return self.keys.get(key)

    def claim(self, workflow_id: str, step_name: str, lease: str) -> Claimed:
        """Give an available step to a worker. Which one a claim picks is not modelled."""
        step = self.workflows[workflow_id].steps[step_name]
        assert step.state is StepState.AVAILABLE
        step.counted = not step.uncounted
        step.attempt += step.counted
        step.become(StepState.EXECUTING)
        step.lease = lease
        step.started = True
        return Claimed(workflow_id, step_name, step.attempt, lease, step.signal)

    def dispatch(self, workflow_id: str, step_name: str, ticket: str) -> Dispatched:
        """Give an available step to a dispatcher."""
        step = self.workflows[workflow_id].steps[step_name]
        assert step.state is StepState.AVAILABLE
        step.counted = not step.uncounted
        step.become(StepState.EXECUTING)
        step.ticket = ticket
        return Dispatched(workflow_id, step_name, ticket)

    def start(
        self, workflow_id: str, step_name: str, ticket: str, run: str, lease: str
    ) -> Claimed | Refused:
        """Start the step that a ticket stands for, under this lease if nobody has."""
        workflow = self.workflows[workflow_id]
        step = workflow.steps[step_name]
        if step.ticket != ticket:
            return refuse(workflow.evidence, "start", step_name, Reason.STALE_TICKET)
        if step.run not in (None, run):
            return refuse(workflow.evidence, "start", step_name, Reason.ALREADY_STARTED)
        if step.run is None and workflow.cancel_requested and not step.always:
            return refuse(workflow.evidence, "start", step_name, Reason.CANCEL_REQUESTED)
        if step.run is None:
            step.attempt += step.counted
            step.run, step.lease, step.started = run, lease, True
        else:
            entry = EvidenceRow("start", step_name, "duplicate", "duplicate_start")
            workflow.evidence.append(entry)
        assert step.lease is not None
        return Claimed(workflow_id, step_name, step.attempt, step.lease, step.signal)

    def give_back(self, workflow_id: str, step_name: str, ticket: str) -> int:
        """Give a ticket back that nobody has started; how many stood."""
        step = self.workflows[workflow_id].steps[step_name]
        if step.ticket != ticket or not step.unstarted:
            return 0
        woken = not step.counted
        step.become(StepState.AVAILABLE)
        step.uncounted = woken
        return 1

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
        """Report on a step; the module says in which order this is judged."""
        action = "complete_step"
        delay_fits = retry_in is None or (status == CompletionStatus.RETRYABLE and retry_in >= 0)
        count_fits = count or (status == CompletionStatus.RETRYABLE and payload is None)
        skipped = status == CompletionStatus.SKIPPED
        skip_fits = payload is None if skipped else not branch
        fits = delay_fits and count_fits and skip_fits
        if status not in set(CompletionStatus) or not fits:
            return refuse(None, action, step_name, Reason.INVALID_ARGUMENT)

        workflow = self.workflows.get(workflow_id)
        if workflow is None:
            entry = EvidenceRow(action, step_name, "rejected", Reason.WORKFLOW_NOT_FOUND)
            self.strangers.append((workflow_id, entry))
            return refuse(None, action, step_name, Reason.WORKFLOW_NOT_FOUND)
        evidence = workflow.evidence
        if workflow.semantics_version not in SEMANTICS_VERSIONS:
            return refuse(evidence, action, step_name, Reason.UNSUPPORTED_SEMANTICS)
        step = workflow.steps.get(step_name)
        if step is None:
            return refuse(evidence, action, step_name, Reason.STEP_NOT_FOUND)

        status += " branch" if branch else ""
        body = encode(payload)
        if command_id is not None:
            for result in step.results:
                if result.command_id == command_id:
                    return self._duplicate(workflow, step, result)
        if lease is not None:
            for result in step.results:
                if result.lease == lease:
                    if (result.asked, result.payload) == (status, body):
                        return self._duplicate(workflow, step, result)
                    return refuse(evidence, action, step_name, Reason.ALREADY_TERMINAL)
        before = step.put_off
        if before is not None and not count:
            same_id = command_id is not None and command_id == before.command_id
            if same_id or (lease is not None and lease == before.lease):
                return self._duplicate(workflow, step, before)
        if lease is not None:
            if lease in step.ended_leases or (before is not None and lease == before.lease):
                return refuse(evidence, action, step_name, Reason.ALREADY_TERMINAL)
            if lease != step.lease:
                return refuse(evidence, action, step_name, Reason.STALE_LEASE)
        if step.state in TERMINAL_STEPS:
            if command_id is None and lease is None and step.results:
                latest = step.results[-1]
                if (latest.asked, latest.payload) == (status, body):
                    return self._duplicate(workflow, step, latest)
            return refuse(evidence, action, step_name, Reason.ALREADY_TERMINAL)
        if step.state not in COMPLETABLE:
            return refuse(evidence, action, step_name, Reason.DEPENDENCIES_UNRESOLVED)
        if step.state is StepState.EXECUTING and lease is None and not force:
            return refuse(evidence, action, step_name, Reason.LEASE_REQUIRED)

        if not count and (step.always or not workflow.cancel_requested):
            return self._put_off(workflow, step, command_id, lease, retry_in)
        return self._accept(workflow, step, status, body, command_id, lease, retry_in)

    def pause(self, workflow_id: str, step_name: str, lease: str) -> int:
        """Give a claimed step back for a while, as nobody here has its handler. Returns how many
        leases were valid."""
        workflow = self.workflows[workflow_id]
        step = workflow.steps[step_name]
        if step.lease != lease:
            return 0
        step.attempt -= step.counted
        if workflow.cancel_requested and not step.always:
            step.become(CANCELLED_BY_REQUEST.state, CANCELLED_BY_REQUEST.cause)
            self.settle(workflow)
            return 1
        woken = not step.counted
        step.become(StepState.RETRYABLE)
        step.uncounted = woken
        step.due = self.now + LONGEST_BACKOFF
        reported = (len(step.results), step.wait and step.wait.number, step.put_off)
        if step.pauses != reported:
            workflow.evidence.append(EvidenceRow("claim", step_name, "accepted", "no_handler"))
        step.pauses = reported
        return 1

    def fire_due(self, workflow_id: str, step_name: str | None = None) -> tuple[str, ...]:
        """Make the workflow's due retryable steps available; a named one always is."""
        fired = []
        for step in self.workflows[workflow_id].steps.values():
            if step.state is StepState.RETRYABLE:
                assert step.due is not None
                if step.name == step_name or step.due <= self.now:
                    step.become(StepState.AVAILABLE)
                    fired.append(step.name)
        return tuple(fired)

    # Reads.

    def snapshot(self, workflow_id: str) -> Snapshot:
        """Everything that is compared of a workflow."""
        workflow = self.workflows[workflow_id]
        steps = workflow.steps.values()
        return Snapshot(
            workflow=workflow_row(workflow),
            steps={step.name: step_row(step) for step in steps},
            results={
                step.name: tuple(
                    ResultRow(result.attempt, result.status.value, result.payload)
                    for result in step.results
                )
                for step in steps
            },
            evidence=tuple(workflow.evidence),
            callbacks=tuple(workflow.callbacks),
            operator_status=operator_status(workflow),
        )

    def stranger(self, workflow_id: str) -> str:
        """An id like this one that no workflow has."""
        return f"{workflow_id}-unknown"

    def close(self) -> None:
        """Nothing to give back."""

    # The parts of an accepted completion.

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
        reported = step.results[-1].attempt if step.results else 0
        if not step.has_attempt or step.attempt == reported:
            step.attempt += 1  # otherwise a claim has counted it
        step.started = True
        workflow.to_review = workflow.to_review and lease is not None
        before = {other.name: other.state for other in workflow.steps.values()}
        asked = CompletionStatus(status.removesuffix(" branch"))
        outcome = COMPLETION[asked]
        if outcome is SKIPPED:
            self.raise_semantics(workflow, "complete_step", step)
        if workflow.cancel_requested and not step.always:
            outcome = AFTER_CANCEL_REQUEST.get(asked, outcome)
        last = step.granted or step.max_attempts
        exhausted = asked is CompletionStatus.RETRYABLE and step.attempt >= last
        if exhausted:
            outcome = ATTEMPTS_EXHAUSTED
        step.become(outcome.state, outcome.cause, branch=status.endswith(" branch"))
        if step.state is StepState.RETRYABLE:
            step.due = self.now + (LONGEST_BACKOFF if retry_in is None else retry_in)
        self.settle(workflow)

        others = [other for other in in_order(workflow) if other is not step]
        moved = [other for other in others if other.state is not before.get(other.name)]
        result = Result(
            attempt=step.attempt,
            status=outcome.state,
            asked=status,
            payload=body,
            command_id=command_id,
            lease=lease,
            released=tuple(o.name for o in moved if o.state is StepState.AVAILABLE),
            cancelled=tuple(o.name for o in moved if o.state is StepState.CANCELLED),
        )
        step.results.append(result)
        for reason in (ATTEMPTS_EXHAUSTED_CODE, None) if exhausted else (None,):
            workflow.evidence.append(EvidenceRow("complete_step", step.name, "accepted", reason))
        return _completed("accepted", workflow, step, result)

    def _put_off(
        self,
        workflow: Workflow,
        step: Step,
        command_id: str | None,
        lease: str | None,
        retry_in: float | None,
    ) -> Completed:
        waits = step.state is StepState.AWAITING_SIGNAL
        has_one = step.uncounted or step.has_attempt or waits
        step.started = True
        workflow.to_review = workflow.to_review and lease is not None
        step.become(StepState.RETRYABLE)
        step.uncounted = has_one
        step.due = self.now + (LONGEST_BACKOFF if retry_in is None else retry_in)
        asked = CompletionStatus.RETRYABLE
        step.put_off = Result(
            step.attempt, StepState.RETRYABLE, asked, encode(None), command_id, lease, (), ()
        )
        return _completed("accepted", workflow, step, step.put_off)

    def _duplicate(self, workflow: Workflow, step: Step, result: Result) -> Completed:
        workflow.evidence.append(
            EvidenceRow("complete_step", step.name, "duplicate", DUPLICATE_COMPLETION)
        )
        return _completed("duplicate", workflow, step, result)

    def raise_semantics(self, workflow: Workflow, action: str, step: Step) -> None:
        """Put a workflow of version 2 under version 3, which a command needs."""
        if workflow.semantics_version == SEMANTICS_VERSION:
            workflow.semantics_version = BRANCHING_VERSION
            entry = EvidenceRow(action, step.name, "accepted", SEMANTICS_RAISED)
            workflow.evidence.append(entry)

    def settle(self, workflow: Workflow) -> None:
        """Judge every pending step by all of its parents, until nothing moves any more."""
        moving = not workflow.scheduled
        while moving:
            moving = False
            for step in workflow.steps.values():
                if step.state is StepState.PENDING and self._judge(workflow, step):
                    moving = True

    def _judge(self, workflow: Workflow, step: Step) -> bool:
        """Contract §13, sentence by sentence. Returns whether the step has moved."""
        above = [(workflow.steps[name], policy) for name, policy in step.parents]
        parents = [(parent, policy) for parent, policy in above if not parent.superseded]
        cancelled = any(self.cancels(parent.state, policy) for parent, policy in parents)
        resolved = all(self.resolves(parent.state, policy) for parent, policy in parents)
        awaited = [parent for parent, policy in parents if policy is EdgePolicy.ON_FAILURE]
        if not cancelled and not resolved:
            return False
        if workflow.cancel_requested and not step.always:
            step.become(CANCELLED_BY_REQUEST.state, CANCELLED_BY_REQUEST.cause)
        elif cancelled:
            step.become(CANCELLED_BY_DEPENDENCY.state, CANCELLED_BY_DEPENDENCY.cause)
        elif step.always or not above:
            step.become(StepState.AVAILABLE)
        elif all(parent.branch for parent, _ in parents):
            step.become(SKIPPED.state, SKIPPED.cause, branch=True)
        elif awaited and all(parent.state is StepState.COMPLETED for parent in awaited):
            step.become(SKIPPED.state, SKIPPED.cause)
        else:
            step.become(StepState.AVAILABLE)
        return True

    def condition_holds(self, workflow_id: str, step_name: str) -> bool:
        """Whether a claimed step's condition holds."""
        steps = self.workflows[workflow_id].steps
        when = steps[step_name].when
        if when is None:
            return True
        parent = steps[when[0]]
        has_result = parent.cause in WITH_RESULT
        return (parent.results[-1].payload if has_result else b"") == encode(when[1])

    def claim_unmet(self, workflow_id: str, step_name: str) -> None:
        """Claim a step whose condition does not hold, so that it skips its branch."""
        self.unmet += 1
        lease = f"unmet-{self.unmet}"
        self.claim(workflow_id, step_name, lease)
        self.complete(workflow_id, step_name, "skipped", lease=lease, branch=True)

    def cancels(self, parent: StepState, policy: EdgePolicy) -> bool:
        """Whether an edge cancels its child: the parent ended, but did not complete."""
        ended_otherwise = parent in TERMINAL_STEPS and parent is not StepState.COMPLETED
        return ended_otherwise and policy is EdgePolicy.CANCEL

    def resolves(self, parent: StepState, policy: EdgePolicy) -> bool:
        """Whether an edge is resolved: the parent completed, or ended and the edge goes on."""
        ended = parent in TERMINAL_STEPS
        return parent is StepState.COMPLETED or (ended and policy is not EdgePolicy.CANCEL)


# Derived from the steps.


def workflow_state(states: Iterable[StepState], *, cancel: bool) -> WorkflowState:
    """Contract §2, line by line."""
    present = set(states)
    ended = present <= TERMINAL_STEPS
    if cancel and not ended:
        return WorkflowState.CANCEL_REQUESTED
    if StepState.AVAILABLE in present:
        return WorkflowState.AVAILABLE
    if StepState.EXECUTING in present or StepState.RETRYABLE in present:
        return WorkflowState.RUNNING
    if StepState.AWAITING_SIGNAL in present:
        return WorkflowState.PENDING
    if present == {StepState.COMPLETED}:
        return WorkflowState.COMPLETED
    if ended and StepState.EXPIRED in present:
        return WorkflowState.EXPIRED
    if ended and (StepState.FAILED in present or StepState.DISCARDED in present):
        return WorkflowState.FAILED
    if ended:
        return WorkflowState.CANCELLED
    return WorkflowState.PENDING


def workflow_cause(states: Iterable[StepState], *, cancel: bool) -> WorkflowCause | None:
    """Contract §2, line by line."""
    present = set(states)
    if not present <= TERMINAL_STEPS:
        return None
    if cancel and present == {StepState.COMPLETED}:
        return WorkflowCause.COMPLETED_AFTER_CANCEL_REQUEST
    if StepState.EXPIRED in present:
        return WorkflowCause.EXPIRED_WAIT
    if StepState.FAILED in present or StepState.DISCARDED in present:
        return WorkflowCause.STEP_FAILED
    if cancel:
        return WorkflowCause.OPERATOR_CANCELLED
    if present == {StepState.COMPLETED}:
        return WorkflowCause.COMPLETED
    return WorkflowCause.STEP_CANCELLED


def workflow_row(workflow: Workflow) -> WorkflowRow:
    """The present state of the workflow, counted anew."""
    superseded = sum(step.superseded for step in workflow.steps.values())
    states = [
        StepState.COMPLETED if step.superseded else step.state for step in workflow.steps.values()
    ]
    return WorkflowRow(
        name=workflow.definition["name"],
        state=workflow_state(states, cancel=workflow.cancel_requested).value,
        terminal_cause=workflow_cause(states, cancel=workflow.cancel_requested),
        step_count=len(states),
        runnable_step_count=states.count(StepState.AVAILABLE),
        completed_step_count=states.count(StepState.COMPLETED) - superseded,
        cancelled_step_count=states.count(StepState.CANCELLED) + superseded,
        failed_step_count=sum(states.count(state) for state in FAILED_STEPS),
        skipped_step_count=sum(step.cause is StepCause.SKIPPED for step in workflow.steps.values()),
        semantics_version=workflow.semantics_version,
        started=any(step.started for step in workflow.steps.values()),
        finished=all(state in TERMINAL_STEPS for state in states),
        acknowledged=workflow.acknowledged,
        scheduled=workflow.scheduled,
    )


def operator_status(workflow: Workflow) -> str:
    """Contract §7: the most urgent state for an operator comes first."""
    row = workflow_row(workflow)
    if row.acknowledged is not None:
        return "Resolved"
    if row.failed_step_count or (workflow.to_review and not row.finished):
        return "Needs Review"
    if row.finished:
        return "Resolved"
    return {"cancel_requested": "Blocked", "pending": "Waiting"}.get(row.state, "Runnable")


def step_row(step: Step) -> StepRow:
    """The present state of the step."""
    return StepRow(
        state=step.state.value,
        attempt=step.attempt,
        max_attempts=step.granted or step.max_attempts,
        dependency_count=len(step.parents),
        terminal_cause=step.cause,
        started=step.started,
        finished=step.state in TERMINAL_STEPS,
        retry_scheduled=step.due is not None,
        awaiting=_awaiting(step),
        appended_by=None if step.by is None else "{}:{}".format(*step.by),
    )


def _awaiting(step: Step) -> str | None:
    shown = step.state in (StepState.AWAITING_SIGNAL, StepState.EXPIRED)
    return f"{step.wait.signal} {step.wait.key} {step.wait.status}" if shown and step.wait else None


def in_order(workflow: Workflow) -> list[Step]:
    """The steps in topological order; of those that could come next, the one added first."""
    placed: list[Step] = []
    while len(placed) < len(workflow.steps):
        names = {step.name for step in placed}
        placed.append(
            next(
                step
                for step in workflow.steps.values()
                if step.name not in names and all(parent in names for parent, _ in step.parents)
            )
        )
    return placed


# Small helpers.


def steps_of(definition: Definition) -> dict[str, Step]:
    return {
        step["name"]: Step(
            step["name"],
            step["max_attempts"],
            tuple(
                (edge["parent"], _policy(edge["policy"], step.get("always", False)))
                for edge in definition["edges"]
                if edge["child"] == step["name"]
            ),
            step.get("when"),
            step.get("always", False),
        )
        for step in definition["steps"]
    }


def _policy(policy: str, always: bool) -> EdgePolicy:
    """The policy of an edge; nothing cancels a step that always runs."""
    return EdgePolicy.CONTINUE if always else EdgePolicy(policy)


def _branches(workflow: Workflow) -> bool:
    """Whether it uses anything that only version 3 has."""
    return any(
        step.always
        or step.when is not None
        or any(policy is EdgePolicy.ON_FAILURE for _, policy in step.parents)
        for step in workflow.steps.values()
    )


def _ended_badly(workflow: Workflow) -> bool:
    row = workflow_row(workflow)
    return row.finished and row.state != WorkflowState.COMPLETED


def _canonical(definition: Definition) -> object:
    steps = [
        (step["name"], step["max_attempts"], step.get("when"), step.get("always", False))
        for step in definition["steps"]
    ]
    edges = {(edge["parent"], edge["child"], edge["policy"]) for edge in definition["edges"]}
    return definition["name"], steps, edges


def refuse(
    evidence: list[EvidenceRow] | None, action: str, step: str | None, reason: Reason
) -> Refused:
    if evidence is not None:
        evidence.append(EvidenceRow(action, step, "rejected", reason.value))
    return Refused(action, reason.value, LEGAL_NEXT_STEPS[reason])


def _completed(
    outcome: Literal["accepted", "duplicate"], workflow: Workflow, step: Step, result: Result
) -> Completed:
    return Completed(
        outcome=outcome,
        step=step_row(step),
        workflow=workflow_row(workflow),
        released=frozenset(result.released),
        released_count=len(result.released),
        cancelled=frozenset(result.cancelled),
        cancelled_count=len(result.cancelled),
    )
