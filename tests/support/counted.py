"""The expected metrics, derived from replies: a ledger kept beside a client.

After each command everything that a client can see is compared with what it saw before; each change
is entered under the metric and the labels that contract §10 gives it. The server's own counts are
not read here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from rwf import Client, CommandRejected
from rwf.model.states import (
    TERMINAL_STEPS,
    TERMINAL_WORKFLOWS,
    CallbackStatus,
    StepCause,
    StepState,
    TicketStatus,
    WaitStatus,
)
from rwf.model.views import (
    AwaitView,
    ClaimedStep,
    CommandResult,
    ReconcileReport,
    RecoveryResult,
    SignalView,
    StepView,
    Ticket,
    WorkflowView,
)

Sample = tuple[str, tuple[tuple[str, str], ...]]
Counts = Counter[Sample]

COMMANDS = (
    "insert", "complete_step", "complete", "complete_many", "await_step", "deliver_signal",
    "request_cancel", "recover_step", "reconcile", "claim", "release", "dispatch_callbacks",
    "resend_callback", "withdraw_signal", "acknowledge", "dispatch", "start",
    "append", "_run",
)  # fmt: skip


_RELEASED = frozenset({StepState.AVAILABLE, StepState.EXECUTING})
_WOKEN = (StepState.AWAITING_SIGNAL, StepState.AVAILABLE)


class _Seen(NamedTuple):
    """All workflows, and their steps by workflow and name."""

    workflows: dict[str, WorkflowView]
    steps: dict[tuple[str, str], StepView]


class Watched:
    """A client whose commands are entered in ``counts``; everything else is as on the client."""

    def __init__(self, client: Client, counts: Counts) -> None:
        self._client = client
        self.counts = counts
        self._signals: set[str] = set()
        self._waits: set[str] = set()
        self._started: set[str] = set()
        self._seen = self._look()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return self._watched(name, method) if name in COMMANDS else method

    def _watched(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **options: Any) -> Any:
            reply = None
            try:
                reply = method(*args, **options)
            except CommandRejected as error:
                self._refused(error)
                raise
            finally:
                self.catch_up(reply)
            self._answered(reply)
            if name == "start":
                self._start(reply)
            return reply

        return called

    def pending(self) -> frozenset[tuple[str, str]]:
        """The pending steps, by workflow and name, as they were after the last command."""
        steps = self._seen.steps.items()
        return frozenset(key for key, step in steps if step.state is StepState.PENDING)

    def catch_up(self, reply: Any = None) -> None:
        """Enters all changes since the last time, those of unwatched calls too."""
        before, self._seen = self._seen, self._look()
        self._compare_workflows(before, self._seen)
        self._compare_steps(before, self._seen, reply)

    def _look(self) -> _Seen:
        workflows = self._client.list(limit=500).workflows
        return _Seen(
            {view.id: view for view in workflows},
            {(view.id, step.name): step for view in workflows for step in self._steps(view.id)},
        )

    def _steps(self, workflow_id: str) -> Iterator[StepView]:
        yield from self._client.steps(workflow_id)

    def _enter(self, metric: str, **labels: str) -> None:
        self.counts[sample(metric, labels)] += 1

    def _refused(self, error: CommandRejected) -> None:
        if error.requested_at is not None:
            self._enter(
                "rwf_commands_rejected_total", action=error.action, reason_code=error.reason_code
            )

    def _answered(self, reply: Any) -> None:
        for one in reply if isinstance(reply, tuple | list) else (reply,):
            if isinstance(one, CommandRejected):
                self._refused(one)
            elif isinstance(one, ReconcileReport):
                for repair in one.repairs:
                    self._enter("rwf_reconcile_repairs_total", kind=repair.kind)
            elif isinstance(one, Ticket):
                self._enter("rwf_tickets_total", status=TicketStatus.ISSUED)
            elif isinstance(one, SignalView) and one.status == "withdrawn":
                self._enter("rwf_signals_total", status=one.status)
            elif isinstance(one, SignalView) and one.id not in self._signals:
                self._signals.add(one.id)
                if one.status != "consumed":  # counted with the step that it woke
                    self._enter("rwf_signals_total", status=one.status)

    def _start(self, reply: ClaimedStep) -> None:
        """Enters a ticket that was started; the same run may ask for it again."""
        if reply.lease not in self._started:
            self._started.add(reply.lease)
            self._enter("rwf_tickets_total", status=TicketStatus.STARTED)

    def _compare_workflows(self, before: _Seen, after: _Seen) -> None:
        for workflow_id, view in after.workflows.items():
            was = before.workflows.get(workflow_id)
            if view.state in TERMINAL_WORKFLOWS and (was is None or _end(was) != _end(view)):
                self._enter(
                    "rwf_workflows_terminal_total",
                    state=view.state,
                    outcome=view.state,
                    terminal_cause=str(view.terminal_cause),
                    semantics_version=str(view.semantics_version),
                )

    def _compare_steps(self, before: _Seen, after: _Seen, reply: Any) -> None:
        versions = {view.id: str(view.semantics_version) for view in after.workflows.values()}
        recovered = self._recovered(reply)
        woken = self._found(reply)
        for key, step in after.steps.items():
            state = _state_before(before.steps.get(key), step)
            if step.state in TERMINAL_STEPS and step.state is not state:
                self._ended(step, _version_at_its_end(before, reply, key) or versions[key[0]])
            if key in recovered or step.state not in _RELEASED:
                continue
            # A claim may skip a step, and take one that has waited for it.
            if state is StepState.PENDING:
                self._unblocked("dependency", versions[key[0]])
                continue
            was = before.steps[key]
            if state is step.state and _came_back(reply, was, step):
                self._unblocked("recovery", versions[key[0]])
            if (state, step.state) == _WOKEN and not _went_on(reply, key, was, step):
                woken.add(key)
        for _ in woken:
            self._enter("rwf_signals_total", status="consumed")

    def _found(self, reply: Any) -> set[tuple[str, str]]:
        """The step whose new wait has consumed a signal that was kept for it."""
        if not isinstance(reply, AwaitView) or reply.id in self._waits:
            return set()
        self._waits.add(reply.id)
        resolved = reply.status is WaitStatus.RESOLVED
        return {(reply.workflow_id, reply.step)} if resolved else set()

    def _recovered(self, reply: Any) -> set[tuple[str, str]]:
        """Enters the steps that a recovery has made available."""
        if not isinstance(reply, RecoveryResult) or reply.duplicate or reply.dry_run:
            return set()
        for change in reply.changes:
            if change.after is StepState.AVAILABLE:
                self._unblocked("recovery", str(reply.workflow.semantics_version))
        return {(reply.workflow.id, change.step) for change in reply.changes}

    def _unblocked(self, scope: str, version: str) -> None:
        self._enter(
            "rwf_steps_unblocked_total",
            scope=scope,
            state="available",
            semantics_version=version,
        )

    def _ended(self, step: StepView, version: str) -> None:
        labels = {
            "outcome": str(step.state),
            "terminal_cause": str(step.terminal_cause),
            "semantics_version": version,
        }
        if step.terminal_cause is StepCause.CANCELLED_BY_DEPENDENCY:
            self._enter("rwf_cascade_cancelled_total", scope="dependency", **labels)
        else:
            self._enter("rwf_steps_completed_total", **labels)


def _state_before(before: StepView | None, step: StepView) -> StepState:
    """A step that is new was pending; so was one that has taken a superseded one's name."""
    superseded = before is not None and before.terminal_cause is StepCause.SUPERSEDED
    if before is None or (superseded and step.terminal_cause is not StepCause.SUPERSEDED):
        return StepState.PENDING
    return before.state


def _came_back(reply: Any, before: StepView, step: StepView) -> bool:
    """Whether a recovery has taken an available step back, and released it once more."""
    moved = before.last_transition_at != step.last_transition_at
    return isinstance(reply, RecoveryResult) and not reply.dry_run and moved


def _version_at_its_end(before: _Seen, reply: Any, key: tuple[str, str]) -> str | None:
    """The version that a completion has found: one that is the first to append raises it."""
    appended = isinstance(reply, CommandResult) and reply.appended_count
    if appended and (reply.workflow.id, reply.step.name) == key:
        return str(before.workflows[key[0]].semantics_version)
    return None


def _went_on(reply: Any, key: tuple[str, str], before: StepView, after: StepView) -> bool:
    """Whether the deadline of its wait, and no signal, has made it available; the end of a new wait
    is in its own reply."""
    if isinstance(reply, AwaitView) and (reply.workflow_id, reply.step) == key:
        return True
    deadline = None if before.awaiting is None else before.awaiting.deadline
    return deadline is not None and after.last_transition_at >= deadline


def _end(view: WorkflowView) -> tuple[str, str | None]:
    return view.state, view.terminal_cause


def present_gauges(client: Client) -> Counts:
    """The expected gauges, zeros left out."""
    found: Counts = Counter()
    for view in client.list(limit=500).workflows:
        found[sample("rwf_workflows", {"state": view.state})] += 1
        for step in client.steps(view.id):
            found[sample("rwf_steps", {"state": step.state})] += 1
        for callback in client.callbacks(view.id):
            open_ = callback.status is CallbackStatus.LEASED
            status = CallbackStatus.PENDING if open_ else callback.status
            found[sample("rwf_callbacks", {"status": status})] += 1
    return found


def sample(metric: str, labels: dict[str, str]) -> Sample:
    return metric, tuple(sorted((name, str(value)) for name, value in labels.items()))


def samples(text: str) -> dict[Sample, float]:
    """Every sample of a scrape."""
    return {
        sample(found.name, found.labels): found.value
        for family in text_string_to_metric_families(text)
        for found in family.samples
    }


def counted(text: str) -> Counts:
    """The fleet's counts and gauges in a scrape, without ages, zeros and the process's own
    calls."""
    found: Counts = Counter()
    for key, value in samples(text).items():
        own = key[0].startswith("rwf_call_") or key[0].endswith("_seconds")
        if value and not own:
            found[key] = int(value)
    return found
