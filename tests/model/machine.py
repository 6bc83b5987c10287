"""Random histories, run on the reference model and on a system beside it.

Every reply is compared and, after every rule, every readable part of every workflow. A test
subclasses :class:`Machine` with a ``make_system`` and hands its ``TestCase`` to pytest, or runs it
with ``run_state_machine_as_test``. All choices are drawn by Hypothesis, so a failure replays.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Protocol

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from rwf.model.states import COMPLETABLE, TERMINAL_STEPS, CompletionStatus, EdgePolicy, StepState
from tests.model.graphs import definitions, graph
from tests.model.growing import WithAppends
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
    StepDef,
    Taken,
    WorkflowRow,
    differences,
)

COMMANDS = 50
_OF_MANY = {"abandoned_wait", "lease_taken", "expired_wait"}
"""Reasons in the evidence of what one command may do to several steps."""
MOST_WORKFLOWS = 4
MOST_WITH_CHILDREN = 5
NEVER_DUE = 3600.0  # a history takes seconds

BADLY_ENDED = TERMINAL_STEPS - {StepState.COMPLETED}
OUT_OF_TURN = TERMINAL_STEPS | {StepState.PENDING}

MACHINE_SETTINGS = settings(stateful_step_count=COMMANDS, deadline=None)


class System(Protocol):
    """The interface of a system under test; the reference model has it, too."""

    def insert(
        self,
        definition: Definition,
        key: str | None = None,
        replace: bool = False,
        scheduled: bool = False,
    ) -> Inserted | Refused: ...

    def begin(self, workflow_id: str) -> None:
        """Let the time of a scheduled workflow come."""

    def find(self, key: str) -> str | None:
        """The id of the workflow that has the key, or None."""

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
    ) -> Completed | Refused: ...

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
        """Complete a step that appends others, which fit."""

    def append(self, workflow_id: str, fragment: Fragment) -> Appended | Refused:
        """Bring steps in from outside, which fit."""

    def pause(self, workflow_id: str, step_name: str, lease: str) -> int:
        """Give a claimed step back for a while. Returns how many leases were valid."""

    def hasten(self, workflow_id: str, step_name: str) -> object:
        """End a step's pause."""

    def claim_any(self, as_tickets: bool = False) -> Taken:
        """Any available step, with a lease or a hold that outlasts the history."""

    def start(
        self, workflow_id: str, step_name: str, ticket: str, run: str, lease: str
    ) -> Claimed | Refused: ...

    def give_back(self, workflow_id: str, step_name: str, ticket: str) -> int:
        """Give a ticket back; how many stood."""

    def await_step(
        self,
        workflow_id: str,
        step_name: str,
        signal: str,
        key: str,
        deadline: Deadline,
        lease: str | None,
    ) -> Awaited | Refused: ...

    def start_child(
        self, workflow_id: str, step_name: str, definition: Definition, lease: str
    ) -> Started | Refused: ...

    def deliver(self, name: str, key: str, dedupe: str, payload: object) -> Delivered: ...

    def withdraw(self, name: str, key: str, dedupe: str) -> Delivered | Refused: ...

    def kept(self) -> list[KeptRow]:
        """The kept signals that nobody has consumed, by topic and age."""

    def request_cancel(self, workflow_id: str, force: bool = False) -> WorkflowRow | Refused: ...

    def keep(self, workflow_id: str, for_ever: bool) -> WorkflowRow:
        """Set how long a workflow is kept: for ever, or not at all."""

    def acknowledge(self, workflow_id: str, actor: str) -> WorkflowRow | Refused: ...

    def recover(
        self,
        workflow_id: str,
        step_name: str,
        action: str,
        scope: str,
        reopen: bool,
        command_id: str | None,
    ) -> Recovered | Refused: ...

    def fire_due(self, workflow_id: str) -> object:
        """Make the workflow's retries that are due available (those with ``retry_in=0``)."""

    def prune(self, deliver: bool) -> int:
        """Deliver all callbacks, if asked to, end every retention, and remove what is over."""

    def snapshot(self, workflow_id: str) -> Snapshot: ...

    def stranger(self, workflow_id: str) -> str:
        """A well-formed workflow id that does not exist."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class Command:
    """A completion that was sent, to be sent again."""

    flow: int
    step: str
    status: str
    payload: object
    lease: str | None
    retry_in: float | None
    force: bool
    command_id: str | None
    count: bool = True
    branch: bool = False


SMALL = [graph(1, []), graph(2, [(0, 1)]), graph(2, [])]
STATUSES = st.sampled_from([status.value for status in CompletionStatus])
# Half of the reports succeed: histories that only fail end after a few commands.
USUAL_STATUSES = st.one_of(st.just("completed"), STATUSES)
# Values that every compact JSON encoder writes as the same bytes.
PAYLOADS = st.sampled_from([None, None, {}, [], 0, "done", {"n": 2**53 + 1}, [1, None, "é"]])
DELAYS = st.sampled_from([0.0, 0.0, NEVER_DUE])
RUNS = st.sampled_from(["run-1", "run-1", "run-2"])
UNKNOWN_LEASES = st.sampled_from(["never-leased-1", "never-leased-2"])
UNKNOWN_STEPS = st.sampled_from(["s99", "S0", "nobody"])
UNKNOWN_STATUSES = st.sampled_from(["expired", "pending", ""])
SELDOM = st.sampled_from([False, False, False, True])
KEYS = st.sampled_from(["key-a", "key-b"])
SIGNALS = st.sampled_from(["go", "go", "stop"])
CORRELATIONS = st.sampled_from(["k", "k", "other"])
DEDUPES = st.sampled_from(["1", "2", "3", "4", "5", "6"])
DEADLINES: st.SearchStrategy[Deadline] = st.sampled_from(["none", "none", "past", "goes_on"])
ACTIONS = st.sampled_from(["retry", "retry", "skip", "cancel"])
SCOPES = st.sampled_from(["blocked", "blocked", "step", "downstream"])
RECOVERY_IDS = st.sampled_from([None, None, "r1", "r2"])


class Machine(RuleBasedStateMachine):
    """Drives the model and a system with the same commands."""

    def make_system(self) -> System:
        """The system under test, empty."""
        return WithAppends()

    def __init__(self) -> None:
        super().__init__()
        self.model = WithAppends()
        self.system = self.make_system()
        self.flows: list[tuple[str, str]] = []  # ids: the model's, the system's
        self.keyed: dict[str, Definition] = {}
        self.sent: list[Command] = []
        self.leases: list[tuple[int, Claimed]] = []
        self.tickets: list[tuple[int, str, str]] = []  # workflow, step, ticket
        self.delivered: list[tuple[str, str, str]] = []  # name, correlation key, dedupe key
        self.serial = 0

    def teardown(self) -> None:
        self.system.close()

    # Rules are drawn about equally often, so there are more of the ones that move things on.

    @initialize(definition=definitions())
    def first_insert(self, definition: Definition) -> None:
        self._insert(definition, None)

    @precondition(lambda self: len(self._present()) < MOST_WORKFLOWS)
    @rule(definition=definitions(), key=st.one_of(st.none(), KEYS), scheduled=SELDOM)
    def insert(self, definition: Definition, key: str | None, scheduled: bool) -> None:
        """A new workflow; with a key that is taken, most often a conflict."""
        self._insert(definition, key, scheduled=scheduled)

    @precondition(lambda self: self._scheduled())
    @rule(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        """A workflow's time has come."""
        flow = data.draw(st.sampled_from(self._scheduled()), label="workflow")
        ours, theirs = self.flows[flow]
        self.model.begin(ours)
        self.system.begin(theirs)

    @precondition(lambda self: self.keyed)
    @rule(data=st.data(), different=st.booleans(), replacing=st.booleans())
    def insert_again(self, data: st.DataObject, different: bool, replacing: bool) -> None:
        """A key that is taken, with its own definition or one that differs a little; and perhaps in
        place of a workflow that ended badly."""
        key = data.draw(st.sampled_from(sorted(self.keyed)), label="key")
        definition = self.keyed[key]
        if different:
            first, *rest = definition["steps"]
            changed: StepDef = {**first, "max_attempts": first["max_attempts"] + 1}
            definition = {
                "name": definition["name"],
                "steps": [changed, *rest],
                "edges": definition["edges"],
            }
        self._insert(definition, key, replacing and len(self._present()) < MOST_WORKFLOWS)

    # Reports of a well-behaved service.

    @precondition(lambda self: self._steps(COMPLETABLE))
    @rule(data=st.data(), payload=PAYLOADS)
    def complete(self, data: st.DataObject, payload: object) -> None:
        """As the simplest of users: no id, no lease."""
        flow, step = self._pick(data, COMPLETABLE)
        self._complete(flow, step, payload=payload)

    @precondition(lambda self: self._steps(COMPLETABLE))
    @rule(data=st.data(), payload=PAYLOADS, force=st.booleans())
    def complete_with_id(self, data: st.DataObject, payload: object, force: bool) -> None:
        """Force makes no difference to a step that nobody runs."""
        flow, step = self._pick(data, COMPLETABLE)
        self._complete(flow, step, payload=payload, force=force, with_id=True)

    @precondition(lambda self: self._steps(COMPLETABLE))
    @rule(data=st.data(), status=STATUSES, payload=PAYLOADS, delay=DELAYS, with_id=st.booleans())
    def report(
        self, data: st.DataObject, status: str, payload: object, delay: float, with_id: bool
    ) -> None:
        """Any outcome."""
        flow, step = self._pick(data, COMPLETABLE)
        self._complete(flow, step, status, payload=payload, retry_in=delay, with_id=with_id)

    @precondition(lambda self: self._steps(COMPLETABLE))
    @rule(data=st.data(), branch=st.booleans(), with_id=st.booleans())
    def skip(self, data: st.DataObject, branch: bool, with_id: bool) -> None:
        """The step is not needed, nor perhaps what follows."""
        flow, step = self._pick(data, COMPLETABLE)
        self._complete(flow, step, "skipped", with_id=with_id, branch=branch)

    @precondition(lambda self: self._steps({StepState.AVAILABLE}))
    @rule(data=st.data(), payload=PAYLOADS, delay=DELAYS, with_id=st.booleans())
    def put_off(self, data: st.DataObject, payload: object, delay: float, with_id: bool) -> None:
        """An available step fails for now."""
        flow, step = self._pick(data, {StepState.AVAILABLE})
        self._complete(flow, step, "retryable", payload=payload, retry_in=delay, with_id=with_id)

    @precondition(lambda self: self._steps({StepState.RETRYABLE}))
    @rule(data=st.data())
    def fire_due(self, data: st.DataObject) -> None:
        """Time passes for a workflow in which something waits for a retry."""
        flow, _ = self._pick(data, {StepState.RETRYABLE})
        ours, theirs = self.flows[flow]
        self.model.fire_due(ours)
        self.system.fire_due(theirs)

    # Steps that are appended.

    @precondition(lambda self: self._steps(COMPLETABLE))
    @rule(data=st.data(), join=st.booleans(), held=st.booleans())
    def complete_and_append(self, data: st.DataObject, join: bool, held: bool) -> None:
        """A step that finds out what is to be done next, under its lease if it has one; or tries
        to, while somebody else runs it."""
        flow, step = self._pick(data, COMPLETABLE)
        ours, theirs = self.flows[flow]
        fragment = self._draw_fragment(data, ours, step)
        if not fragment or self.model.is_child(ours):
            return
        self.serial += 1
        payload = f"appended {self.serial}"  # never sent again
        lease = self.model.workflows[ours].steps[step].lease if held else None
        self._agree(
            *(
                target.complete_and_append(
                    workflow_id, step, fragment, join, payload=payload, lease=lease
                )
                for target, workflow_id in ((self.model, ours), (self.system, theirs))
            )
        )

    @precondition(lambda self: self._present())
    @rule(data=st.data())
    def append(self, data: st.DataObject) -> None:
        """From outside."""
        flow, ours = data.draw(st.sampled_from(self._present()), label="workflow")
        fragment = self._draw_fragment(data, ours, None)
        if fragment and not self.model.is_child(ours):
            theirs = self.flows[flow][1]
            self._agree(self.model.append(ours, fragment), self.system.append(theirs, fragment))

    def _draw_fragment(self, data: st.DataObject, ours: str, by: str | None) -> Fragment:
        names = self.model.free_names(ours, by)[:3]
        size = data.draw(st.integers(0, len(names)), label="size")
        known, fragment = self.model.outer_names(ours, by), []
        own = [by] if by is not None else []
        for name in names[:size]:
            outer = st.lists(st.sampled_from([*known, *own]), max_size=2, unique=True)
            parents = data.draw(outer, label=name) if known or own else []
            policies = [data.draw(st.sampled_from(list(EdgePolicy))).value for _ in parents]
            fragment.append((name, list(zip(parents, policies, strict=True))))
            own.append(name)
        return fragment

    # Commands of workers.

    @precondition(lambda self: self._steps({StepState.AVAILABLE}))
    @rule()
    def claim(self) -> None:
        """The system says which step it is."""
        theirs = self._take(as_tickets=False).claimed
        if theirs is None:
            return
        ours = self._ours(theirs)
        expected = self.model.claim(ours, theirs.step, theirs.lease)
        self._agree(replace(expected, workflow_id=theirs.workflow_id), theirs)
        self.leases.append((self.flows.index((ours, theirs.workflow_id)), theirs))

    @precondition(lambda self: self._steps({StepState.AVAILABLE}))
    @rule()
    def dispatch(self) -> None:
        """A dispatcher takes a step."""
        theirs = self._take(as_tickets=True).dispatched
        if theirs is not None:
            ours = self._ours(theirs)
            self.model.dispatch(ours, theirs.step, theirs.ticket)
            flow = self.flows.index((ours, theirs.workflow_id))
            self.tickets.append((flow, theirs.step, theirs.ticket))

    @precondition(lambda self: self.tickets)
    @rule(data=st.data(), run=RUNS)
    def start(self, data: st.DataObject, run: str) -> None:
        """A message with any ticket that ever was is delivered, most often the latest."""
        latest = data.draw(st.booleans(), label="latest")
        chosen = st.just(self.tickets[-1]) if latest else st.sampled_from(self.tickets)
        flow, step, ticket = data.draw(chosen, label="ticket")
        ours, theirs = self.flows[flow]
        actual = self.system.start(theirs, step, ticket, run, "")
        lease = actual.lease if isinstance(actual, Claimed) else "none"
        expected = self.model.start(ours, step, ticket, run, lease)
        if isinstance(expected, Claimed):
            expected = replace(expected, workflow_id=theirs)
        self._agree(expected, actual)
        if isinstance(actual, Claimed):
            self.leases.append((flow, actual))

    @precondition(lambda self: self.tickets)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        """A ticket that could not be sent."""
        flow, step, ticket = data.draw(st.sampled_from(self.tickets), label="ticket")
        ours, theirs = self.flows[flow]
        self._agree(
            self.model.give_back(ours, step, ticket), self.system.give_back(theirs, step, ticket)
        )

    def _take(self, *, as_tickets: bool) -> Taken:
        """The step that the system hands out; the model skips the same branches."""
        taken = self.system.claim_any(as_tickets)
        found = taken.dispatched if as_tickets else taken.claimed
        assert taken.unmet or found, "nothing was handed out, though a step is available"
        models = {system: model for model, system in self.flows}
        for workflow_id, step in taken.unmet:
            assert not self.model.condition_holds(models[workflow_id], step), f"skipped {step}"
            self.model.claim_unmet(models[workflow_id], step)
        return taken

    def _ours(self, theirs: Claimed | Dispatched) -> str:
        """The model's id of the workflow whose step was handed out."""
        ours = {system: model for model, system in self.flows}[theirs.workflow_id]
        assert self.model.condition_holds(ours, theirs.step), f"handed out {theirs.step}"
        return ours

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), status=USUAL_STATUSES, payload=PAYLOADS)
    def complete_claimed(self, data: st.DataObject, status: str, payload: object) -> None:
        """Under any lease that there ever was."""
        flow, claimed = self._pick_lease(data)
        self._complete(flow, claimed.step, status, payload=payload, lease=claimed.lease)

    @precondition(lambda self: self._steps(COMPLETABLE))
    @rule(data=st.data(), delay=DELAYS, with_id=st.booleans())
    def poll(self, data: st.DataObject, delay: float, with_id: bool) -> None:
        """A retry that counts no attempt, from a service without a claim."""
        flow, step = self._pick(data, COMPLETABLE)
        self._complete(flow, step, "retryable", retry_in=delay, with_id=with_id, count=False)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), with_id=st.booleans())
    def poll_claimed(self, data: st.DataObject, with_id: bool) -> None:
        """A retry that counts no attempt, under any lease that there ever was."""
        flow, claimed = self._pick_lease(data)
        self._complete(
            flow, claimed.step, "retryable", lease=claimed.lease, with_id=with_id, count=False
        )

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def lack_the_handler(self, data: st.DataObject) -> None:
        """A step is given back for a while, under any lease that there ever was; and its pause
        ends."""
        flow, claimed = self._pick_lease(data)
        ours, theirs = self.flows[flow]
        stood = self.model.pause(ours, claimed.step, claimed.lease)
        self._agree(stood, self.system.pause(theirs, claimed.step, claimed.lease))
        self.same_records()
        if stood and self.model.workflows[ours].steps[claimed.step].state is StepState.RETRYABLE:
            self.model.hasten(ours, claimed.step)
            self.system.hasten(theirs, claimed.step)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), name=SIGNALS, key=CORRELATIONS, deadline=DEADLINES)
    def await_claimed(self, data: st.DataObject, name: str, key: str, deadline: Deadline) -> None:
        """A wait under any lease that there ever was, which ends in it."""
        flow, claimed = self._pick_lease(data)
        self._await(flow, claimed.step, name, key, deadline, claimed.lease)

    @precondition(lambda self: self.leases and len(self._present()) < MOST_WITH_CHILDREN)
    @rule(data=st.data(), definition=definitions())
    def run_child(self, data: st.DataObject, definition: Definition) -> None:
        """A child workflow under any lease that there ever was, which ends in it."""
        self._run_child(*self._pick_lease(data), definition)

    @precondition(lambda self: self._steps({StepState.AVAILABLE}))
    @precondition(lambda self: len(self._present()) < MOST_WITH_CHILDREN)
    @rule(definition=st.sampled_from(SMALL))
    def claim_and_run_child(self, definition: Definition) -> None:
        """A small child workflow, which soon ends; or the step's last one."""
        leases = len(self.leases)
        self.claim()
        for flow, claimed in self.leases[leases:]:
            self._run_child(flow, claimed, definition)

    @precondition(lambda self: self._children())
    @rule(data=st.data(), status=USUAL_STATUSES, payload=PAYLOADS)
    def move_child(self, data: st.DataObject, status: str, payload: object) -> None:
        """A child workflow gets on, or ends."""
        flow = data.draw(st.sampled_from(self._children()), label="flow")
        steps = self.model.workflows[self.flows[flow][0]].steps.values()
        for name in [step.name for step in steps if step.state is StepState.AVAILABLE]:
            skipped = status == "skipped"
            self._complete(flow, name, status, payload=None if skipped else payload)

    def _children(self) -> list[int]:
        """The children that have steps which may run."""
        return [
            flow
            for flow, ours in self._present()
            if self.model.workflows[ours].parent is not None
            and any(where == flow for where, _ in self._steps({StepState.AVAILABLE}))
        ]

    def _run_child(self, flow: int, claimed: Claimed, definition: Definition) -> None:
        ours, theirs = self.flows[flow]
        expected = self.model.start_child(ours, claimed.step, definition, claimed.lease)
        actual = self.system.start_child(theirs, claimed.step, definition, claimed.lease)
        if isinstance(expected, Refused) or isinstance(actual, Refused):
            self._agree(expected, actual)
            return
        ids = expected.workflow_id, actual.workflow_id
        assert expected.duplicate == actual.duplicate
        if ids not in self.flows:
            assert ids[1] not in [theirs for _, theirs in self.flows], f"id {ids[1]} is not new"
            self.flows.append(ids)

    # Signals, which workflows share.

    @precondition(lambda self: self._steps({StepState.AVAILABLE, StepState.AWAITING_SIGNAL}))
    @rule(data=st.data(), name=SIGNALS, key=CORRELATIONS, deadline=DEADLINES)
    def await_signal(self, data: st.DataObject, name: str, key: str, deadline: Deadline) -> None:
        """A step that may run, or waits for something else."""
        flow, step = self._pick(data, {StepState.AVAILABLE, StepState.AWAITING_SIGNAL})
        self._await(flow, step, name, key, deadline)

    @rule(data=st.data(), name=SIGNALS, key=CORRELATIONS)
    def await_anywhere(self, data: st.DataObject, name: str, key: str) -> None:
        """Most often refused."""
        flow, step = self._pick(data, set(StepState))
        self._await(flow, step, name, key, "none")

    @precondition(lambda self: len({f for f, _ in self._steps({StepState.AVAILABLE})}) > 1)
    @rule(dedupe=DEDUPES)
    def crowd(self, dedupe: str) -> None:
        """Several workflows wait for one signal, and it comes."""
        first = dict(reversed(self._steps({StepState.AVAILABLE})))
        for flow, step in first.items():
            self._await(flow, step, "go", "k", "none")
        self._deliver("go", "k", dedupe, None)

    @rule(name=SIGNALS, key=CORRELATIONS, dedupe=DEDUPES, payload=PAYLOADS)
    def deliver(self, name: str, key: str, dedupe: str, payload: object) -> None:
        """A new signal, or one that was delivered before."""
        self._deliver(name, key, dedupe, payload)

    def _deliver(self, name: str, key: str, dedupe: str, payload: object) -> None:
        """A delivery on both sides."""
        ours = self.model.deliver(name, key, dedupe, payload)
        theirs = self.system.deliver(name, key, dedupe, payload)
        ids = dict(self.flows)
        if ours.workflow_id is not None:
            ours = replace(ours, workflow_id=ids[ours.workflow_id])
        self._agree(ours, theirs)
        self.delivered.append((name, key, dedupe))

    @precondition(lambda self: self.delivered)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        """A signal that is kept, was consumed, or is gone."""
        signal = data.draw(st.sampled_from(self.delivered), label="signal")
        self._agree(self.model.withdraw(*signal), self.system.withdraw(*signal))

    @precondition(lambda self: self.delivered)
    @rule()
    def list_signals(self) -> None:
        """All that are kept."""
        self._agree(self.model.kept(), self.system.kept())

    # Commands of operators.

    @rule(data=st.data(), chance=st.integers(0, 4), force=st.booleans())
    def cancel(self, data: st.DataObject, chance: int, force: bool) -> None:
        """Seldom: it ends a workflow."""
        flow, _ = self._pick(data, set(StepState))
        if chance == 0 or self.model.workflows[self.flows[flow][0]].cancel_requested:
            ours, theirs = self.flows[flow]
            self._agree(
                self.model.request_cancel(ours, force), self.system.request_cancel(theirs, force)
            )

    @rule(data=st.data(), for_ever=st.booleans())
    def keep(self, data: st.DataObject, for_ever: bool) -> None:
        """A workflow is kept for ever, until a command changes that."""
        flow, _ = self._pick(data, set(StepState))
        ours, theirs = self.flows[flow]
        self._agree(self.model.keep(ours, for_ever), self.system.keep(theirs, for_ever))

    @rule(data=st.data(), actor=st.sampled_from(["ann", "bob"]), bad_end=st.booleans())
    def acknowledge(self, data: st.DataObject, actor: str, bad_end: bool) -> None:
        """Most often one that ended badly, if there is any."""
        ended = [
            flow
            for flow, ours in self._present()
            if self.model.finished(ours) and self.model.workflows[ours].acknowledged is None
        ]
        if not (bad_end and ended):
            ended = [flow for flow, _ in self._present()]
        ours, theirs = self.flows[data.draw(st.sampled_from(ended), label="flow")]
        expected, actual = (
            target.acknowledge(id_, actor)
            for target, id_ in ((self.model, ours), (self.system, theirs))
        )
        self._agree(expected, actual)

    @rule(
        data=st.data(), action=ACTIONS, scope=SCOPES, reopen=st.booleans(), command_id=RECOVERY_IDS
    )
    def recover(
        self, data: st.DataObject, action: str, scope: str, reopen: bool, command_id: str | None
    ) -> None:
        """Any step."""
        flow, step = self._pick(data, set(StepState))
        self._recover(flow, step, action, scope, reopen, command_id)

    @precondition(lambda self: self._steps(BADLY_ENDED))
    @rule(data=st.data(), scope=SCOPES, action=st.sampled_from(["retry", "retry", "skip"]))
    def revive(self, data: st.DataObject, scope: str, action: str) -> None:
        """A step that did not complete."""
        flow, step = self._pick(data, BADLY_ENDED)
        self._recover(flow, step, action, scope, True, None)

    @precondition(lambda self: self.model.have_appended())
    @rule(data=st.data(), scope=SCOPES)
    def place_anew(self, data: st.DataObject, scope: str) -> None:
        """A step that has appended others."""
        ours, step = data.draw(st.sampled_from(self.model.have_appended()), label="step")
        flow = next(flow for flow, id_ in self._present() if id_ == ours)
        self._recover(flow, step, "retry", scope, True, None)

    # Time passes.

    @precondition(lambda self: any(self.model.over(ours) for _, ours in self._present()))
    @precondition(lambda self: not self.model.needed())
    @rule(definition=definitions(), deliver=st.booleans())
    def prune(self, definition: Definition, deliver: bool) -> None:
        """Finished workflows are removed, unless a dispatcher has still to deliver callbacks of
        them; commands sent to them afterwards find nothing."""
        self._agree(self.model.prune(deliver), self.system.prune(deliver))
        self.keyed = {key: self.keyed[key] for key in self.model.keys}
        present = {flow for flow, _ in self._present()}
        self.leases = [lease for lease in self.leases if lease[0] in present]
        self.tickets = [ticket for ticket in self.tickets if ticket[0] in present]
        self._insert(definition, None)

    # Reports that arrive early, late, twice, or are wrong.

    @precondition(lambda self: self._steps(OUT_OF_TURN))
    @rule(data=st.data(), status=USUAL_STATUSES, payload=PAYLOADS, with_id=st.booleans())
    def out_of_turn(self, data: st.DataObject, status: str, payload: object, with_id: bool) -> None:
        """A report on a pending or an ended step; a duplicate when it happens to be equal."""
        flow, step = self._pick(data, OUT_OF_TURN)
        self._complete(flow, step, status, payload=payload, with_id=with_id)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        """Any earlier command, unchanged."""
        self._send(data.draw(st.sampled_from(self.sent), label="command"))

    @precondition(lambda self: self._ids_sent())
    @rule(
        data=st.data(),
        status=STATUSES,
        payload=PAYLOADS,
        lease=st.one_of(st.none(), st.none(), UNKNOWN_LEASES),
        elsewhere=st.booleans(),
    )
    def reuse_id(
        self,
        data: st.DataObject,
        status: str,
        payload: object,
        lease: str | None,
        elsewhere: bool,
    ) -> None:
        """An earlier command id, for another request to the same step or to any other."""
        old = data.draw(st.sampled_from(self._ids_sent()), label="command")
        flow, step = self._pick(data, set(StepState)) if elsewhere else (old.flow, old.step)
        delay = 0.0 if status == "retryable" else None
        self._send(Command(flow, step, status, payload, lease, delay, False, old.command_id))

    @rule(data=st.data(), mistake=st.sampled_from(["lease", "step", "workflow", "status"]))
    def mistaken(self, data: st.DataObject, mistake: str) -> None:
        """A lease, a step, a workflow or a status that does not exist."""
        flow, step = self._pick(data, set(StepState))
        if mistake == "lease":
            lease = data.draw(UNKNOWN_LEASES, label="lease")
            status = data.draw(STATUSES, label="status")
            force = data.draw(st.booleans(), label="force")
            with_id = data.draw(st.booleans(), label="with_id")
            self._complete(flow, step, status, lease=lease, force=force, with_id=with_id)
        elif mistake == "step":
            self._complete(flow, data.draw(UNKNOWN_STEPS, label="name"), with_id=True)
        elif mistake == "workflow":
            ours, theirs = self.flows[flow]
            self._agree(
                self.model.complete(self.model.stranger(ours), step),
                self.system.complete(self.system.stranger(theirs), step),
            )
        else:  # refused before anything is sent, so without evidence
            self._complete(flow, step, data.draw(UNKNOWN_STATUSES, label="status"))

    # Comparing.

    @invariant()
    def same_records(self) -> None:
        for number, ours in self._present():
            theirs = self.flows[number][1]
            actual = _without_order(self._with_our_ids(self.system.snapshot(theirs)))
            found = differences(_without_order(self.model.snapshot(ours)), actual)
            assert not found, _report(f"workflow {number} differs", found)

    def _with_our_ids(self, theirs: Snapshot) -> Snapshot:
        """Results that name child workflows name them by the model's ids."""
        ids = {system.encode(): model.encode() for model, system in self.flows}
        named = re.compile(b'(?<="workflow_id":")[^"]+')

        def ours(row: ResultRow) -> ResultRow:
            return replace(row, payload=named.sub(lambda at: ids.get(at[0], at[0]), row.payload))

        results = {step: tuple(map(ours, rows)) for step, rows in theirs.results.items()}
        return replace(theirs, results=results)

    def _agree(self, expected: object, actual: object) -> None:
        found = differences(expected, actual)
        assert not found, _report("the reply differs", found)

    # Sending.

    def _insert(
        self,
        definition: Definition,
        key: str | None,
        replacing: bool = False,
        *,
        scheduled: bool = False,
    ) -> None:
        expected = self.model.insert(definition, key, replacing, scheduled)
        actual = self.system.insert(definition, key, replacing, scheduled)
        if isinstance(expected, Refused) or isinstance(actual, Refused):
            found = differences(expected, actual)
            assert not found, _report("the insert's reply differs", found)
            return
        ids = (expected.workflow_id, actual.workflow_id)
        # Each side has its own ids; they must stand for the same workflow.
        found = differences(replace(expected, workflow_id=""), replace(actual, workflow_id=""))
        assert not found, _report("the insert's reply differs", found)
        if expected.duplicate:
            assert ids in self.flows, f"the key led to {ids[1]}, not to its workflow"
            return
        assert ids[1] not in [theirs for _, theirs in self.flows], f"id {ids[1]} is not new"
        self.flows.append(ids)
        if key is not None:
            self.keyed[key] = definition
            assert (self.model.find(key), self.system.find(key)) == ids, "the key leads elsewhere"

    def _complete(
        self,
        flow: int,
        step: str,
        status: str = "completed",
        *,
        payload: object = None,
        lease: str | None = None,
        retry_in: float | None = None,
        force: bool = False,
        with_id: bool = False,
        count: bool = True,
        branch: bool = False,
    ) -> None:
        command_id = None
        if with_id:
            self.serial += 1
            command_id = f"c{self.serial}"
        if status != "retryable":
            retry_in = None
        elif retry_in is None:
            retry_in = 0.0  # never the random default: the model could not follow it
        self._send(
            Command(flow, step, status, payload, lease, retry_in, force, command_id, count, branch)
        )

    def _await(
        self,
        flow: int,
        step: str,
        name: str,
        key: str,
        deadline: Deadline,
        lease: str | None = None,
    ) -> None:
        ours, theirs = self.flows[flow]
        self._agree(
            self.model.await_step(ours, step, name, key, deadline, lease),
            self.system.await_step(theirs, step, name, key, deadline, lease),
        )

    def _recover(
        self, flow: int, step: str, action: str, scope: str, reopen: bool, command_id: str | None
    ) -> None:
        ours, theirs = self.flows[flow]
        self._agree(
            self.model.recover(ours, step, action, scope, reopen, command_id),
            self.system.recover(theirs, step, action, scope, reopen, command_id),
        )

    def _send(self, command: Command) -> None:
        ours, theirs = self.flows[command.flow]
        self.sent.append(command)
        answers = [
            target.complete(
                workflow_id,
                command.step,
                command.status,
                payload=command.payload,
                lease=command.lease,
                retry_in=command.retry_in,
                force=command.force,
                command_id=command.command_id,
                count=command.count,
                branch=command.branch,
            )
            for target, workflow_id in ((self.model, ours), (self.system, theirs))
        ]
        self._agree(*answers)

    # Choosing.

    def _pick_lease(self, data: st.DataObject) -> tuple[int, Claimed]:
        """Most often the latest."""
        latest = data.draw(st.booleans(), label="latest")
        return self.leases[-1] if latest else data.draw(st.sampled_from(self.leases), label="lease")

    def _present(self) -> list[tuple[int, str]]:
        """The workflows that have not been removed: their numbers, and the model's ids."""
        return [
            (flow, ours)
            for flow, (ours, _) in enumerate(self.flows)
            if ours in self.model.workflows
        ]

    def _scheduled(self) -> list[int]:
        """The numbers of the workflows that are still to start."""
        return [flow for flow, ours in self._present() if self.model.workflows[ours].scheduled]

    def _ids_sent(self) -> list[Command]:
        return [command for command in self.sent if command.command_id is not None]

    def _steps(self, states: set[StepState] | frozenset[StepState]) -> list[tuple[int, str]]:
        return [
            (flow, step.name)
            for flow, ours in self._present()
            for step in self.model.workflows[ours].steps.values()
            if step.state in states
        ]

    def _pick(
        self, data: st.DataObject, states: set[StepState] | frozenset[StepState]
    ) -> tuple[int, str]:
        return data.draw(st.sampled_from(self._steps(states)), label="step")


def _without_order(snapshot: Snapshot) -> Snapshot:
    """With what one command did to several steps in the order of their names: it goes by their
    places, which the model does not know of steps that were appended."""
    evidence: list[EvidenceRow] = []
    for of_steps, rows in groupby(snapshot.evidence, lambda row: row.reason_code in _OF_MANY):
        listed = list(rows)
        evidence += sorted(listed, key=str) if of_steps else listed
    return replace(snapshot, evidence=tuple(evidence))


def _report(title: str, found: list[str]) -> str:
    return "\n  ".join([title, *found])
