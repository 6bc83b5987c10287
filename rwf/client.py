"""The blocking client."""

from __future__ import annotations

import builtins
from collections.abc import Generator, Iterable, Iterator
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

from rwf import doctor as diagnose
from rwf import waiting
from rwf.dispatching import deliver
from rwf.model.builder import Workflow
from rwf.model.limits import CALLBACKS_AT_ONCE, MAX_INPUT, MAX_PAYLOAD
from rwf.model.states import (
    TERMINAL_WORKFLOWS,
    CompletionStatus,
    OperatorStatus,
    RecoveryAction,
    RecoveryScope,
    SignalStatus,
    WorkflowState,
)
from rwf.model.views import (
    AwaitView,
    CallbackView,
    ClaimedStep,
    CommandResult,
    DispatchReport,
    DoctorReport,
    Event,
    EvidenceView,
    GraphView,
    HeartbeatReport,
    MigrationReport,
    PartialList,
    PruneReport,
    QueueView,
    RebuildReport,
    ReconcileReport,
    RecoveryResult,
    ResultView,
    SignalPage,
    SignalView,
    StepExplanation,
    StepView,
    WorkflowExplanation,
    WorkflowPage,
    WorkflowView,
)
from rwf.ops import (
    acknowledge,
    callbacks,
    cancel,
    claims,
    complete,
    explain,
    insert,
    kept,
    listing,
    queues,
    reads,
    recover,
    retaining,
    signals,
)
from rwf.ops.base import OpContext
from rwf.ops.callbacks import Dispatch, Handler, blocking
from rwf.ops.complete import Batch, Completion
from rwf.ops.prune import Progress, Pruning
from rwf.protocol.requests import Op
from rwf.reachability import Away
from rwf.repair import rebuild, reconcile
from rwf.repair.rebuild import Listener
from rwf.transport import events
from rwf.transport.connecting import MAX_CONNECTIONS
from rwf.transport.drivers import SyncStore
from rwf.transport.session import DEFAULT_TIMEOUT, Session
from rwf.waiting import Endings

T = TypeVar("T")
_WEEK = timedelta(days=7)


class Client:
    """A service's access to its workflows; safe to share between threads.

    Sections named in these docstrings are those of ``docs/contract.md``.

    Connecting is lazy: the first use verifies the server, loads the library where it is missing and
    reads the namespace's record. Every method may raise :class:`~rwf.StoreUnavailable`,
    :class:`~rwf.StoreMisconfigured` or :class:`~rwf.NamespaceMismatch`; one that reads,
    :class:`~rwf.NotFound`; a command, :class:`~rwf.CommandRejected`.
    """

    def __init__(
        self, store: SyncStore, session: Session, *, max_payload: int, max_input: int = MAX_INPUT
    ) -> None:
        self._store = store
        self._session = session
        self._ctx = OpContext(
            session.keys, max_payload, max_input, Away(several_nodes=session.cluster)
        )
        self._endings = Endings(self._hints)

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        namespace: str = "rwf",
        durability: str = "server",
        require_aof: bool = False,
        partitions: int | None = None,
        max_payload: int = MAX_PAYLOAD,
        max_input: int = MAX_INPUT,
        max_connections: int = MAX_CONNECTIONS,
        socket_timeout: float = DEFAULT_TIMEOUT,
    ) -> Self:
        """A client for ``redis://``, ``rediss://``, ``unix://``, ``redis+cluster://``,
        ``redis+sentinel://host:port,host:port/service`` or ``embedded:///folder``.

        ``durability`` says what must have a write before it is acknowledged: ``server``, ``aof``
        (WAITAOF) or ``replicas:N`` (WAIT). ``partitions`` is how many the namespace gets when it is
        created; if it exists with another number, NamespaceMismatch is raised. ``max_payload`` is
        in bytes, as is ``max_input``: how large the input of a claimed step may be with the results
        that it refers to.

        ``max_connections`` is how many connections the client has at most, to each node of a
        cluster; a call waits for a free one. ``socket_timeout`` is in seconds, for that, for
        connecting, and for each reply: a server that has not answered by then is given up, with
        :class:`~rwf.StoreUnavailable`. One that refuses connections, is loading or is a replica is
        tried again for about two seconds, and no call takes longer than twice ``socket_timeout``.
        Raises CommandRejected (``invalid_argument``).
        """
        store = SyncStore(url=url, max_connections=max_connections, timeout=socket_timeout)
        return cls._on(
            store, namespace, durability, require_aof, partitions, max_payload, max_input
        )

    @classmethod
    def from_redis(
        cls,
        redis_client: Any,
        *,
        namespace: str = "rwf",
        durability: str = "server",
        require_aof: bool = False,
        partitions: int | None = None,
        max_payload: int = MAX_PAYLOAD,
        max_input: int = MAX_INPUT,
    ) -> Self:
        """A client on a redis-py client of yours, which stays open when this one is closed. The
        options are those of :meth:`from_url`."""
        return cls._on(
            SyncStore(redis_client),
            namespace,
            durability,
            require_aof,
            partitions,
            max_payload,
            max_input,
        )

    @classmethod
    def fake(cls, *, namespace: str = "rwf") -> Self:
        """A client on a fakeredis server of its own, for unit tests (``pip install rwf[fake]``)."""
        from rwf.testing import fake_redis

        session = Session(
            namespace=namespace,
            durability="server",
            require_aof=False,
            partitions=None,
            cluster=False,
            checked=False,
        )
        return cls(SyncStore(fake_redis()), session, max_payload=MAX_PAYLOAD)

    @classmethod
    def _on(
        cls,
        store: SyncStore,
        namespace: str,
        durability: str,
        require_aof: bool,
        partitions: int | None,
        max_payload: int,
        max_input: int,
    ) -> Self:
        session = Session(
            namespace=namespace,
            durability=durability,
            require_aof=require_aof,
            partitions=partitions,
            cluster=store.cluster,
            timeout=store.limits.timeout,
        )
        return cls(store, session, max_payload=max_payload, max_input=max_input)

    def _run(self, op: Op[T]) -> T:
        return self._store.run(self._session, op)

    def close(self) -> None:
        """Closes the connections that this client has opened."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- commands

    def insert(
        self,
        workflow: Workflow,
        *,
        key: str | None = None,
        retention: timedelta | None = _WEEK,
        replace: str | None = None,
        actor: str | None = None,
    ) -> WorkflowView:
        """Validates a workflow and persists it, visible all at once (contract §3).

        The same ``key`` (1 to 512 characters) again returns the first insert's workflow, with
        ``duplicate`` true. ``retention`` is how long it is kept once it has finished, None for
        ever. With ``replace="ended_badly"`` the key goes over to this workflow when the one that
        has it ended other than completed; that one stays. An ``actor`` is recorded as evidence.
        Raises :class:`~rwf.WorkflowInvalid`, and CommandRejected with ``key_conflict`` and the
        ``workflow_id`` when the key's workflow has another definition.
        """
        op = insert.insert(self._ctx, workflow, key, retention, replace, actor)
        return self._run(op)

    def insert_many(
        self,
        workflows: Iterable[Workflow],
        *,
        keys: Iterable[str] | None = None,
        retention: timedelta | None = _WEEK,
        replace: str | None = None,
        actor: str | None = None,
    ) -> builtins.list[WorkflowView]:
        """Inserts workflows as :meth:`insert` does; returns their views in the order given.

        With ``durability="server"`` 64 travel in a round trip, otherwise each by itself. All are
        validated first. They appear one by one: if the server goes away meanwhile, some are
        inserted, and the same call again inserts the rest, provided each has a key in ``keys``. A
        ``key_conflict`` of one is raised after all others have been inserted. Raises what
        :meth:`insert` raises.
        """
        op = insert.insert_many(self._ctx, workflows, keys, retention, replace, actor)
        return self._run(op)

    def complete_step(
        self,
        workflow_id: str,
        step: str,
        status: CompletionStatus | str = CompletionStatus.COMPLETED,
        *,
        payload: Any = None,
        summary: str | None = None,
        lease: str | None = None,
        retry_in: float | timedelta | None = None,
        actor: str | None = None,
        force: bool = False,
        command_id: str | None = None,
        count: bool = True,
        traceback: str | None = None,
    ) -> CommandResult:
        """Records how a step ended, and releases or cancels the steps that follow (contract §4).

        ``status`` is completed, retryable, failed, discarded or cancelled. ``payload`` is JSON
        data; ``retry_in`` is in seconds, for retryable only. ``lease`` is the token of a claim;
        without it, ``force`` completes an executing step. ``command_id`` makes a repetition of this
        command a duplicate. ``count=False``, for retryable without a payload, makes the step run
        again without counting an attempt (polling): only the latest such report is kept.
        ``traceback`` is the text of an exception's; its last 16 KiB are kept, in ``ResultView``.
        Raises CommandRejected.
        """
        item = Completion(
            workflow_id=workflow_id,
            step=step,
            status=status,
            payload=payload,
            summary=summary,
            lease=lease,
            retry_in=retry_in,
            actor=actor,
            force=force,
            command_id=command_id,
            count=count,
            traceback=traceback,
        )
        return self._run(complete.complete_step(self._ctx, item))

    def complete(
        self,
        claim: ClaimedStep,
        status: CompletionStatus | str = CompletionStatus.COMPLETED,
        *,
        payload: Any = None,
        summary: str | None = None,
        retry_in: float | timedelta | None = None,
        actor: str | None = None,
        command_id: str | None = None,
        count: bool = True,
        traceback: str | None = None,
    ) -> CommandResult:
        """Reports how a claimed step ended, under its lease; see :meth:`complete_step`."""
        return self.complete_step(
            claim.workflow_id,
            claim.step,
            status,
            payload=payload,
            summary=summary,
            lease=claim.lease,
            retry_in=retry_in,
            actor=actor,
            command_id=command_id,
            count=count,
            traceback=traceback,
        )

    def complete_many(
        self,
        completions: Iterable[Completion],
        *,
        claim_next: int = 0,
        queues: Iterable[str] = ("default",),
        worker_id: str = "",
        lease: float | timedelta = 30.0,
    ) -> Batch:
        """Reports many steps, up to 64 of a partition in a round trip. The answer holds each one's
        result or refusal (a CommandRejected, not raised), in the order given.

        ``claim_next`` claims up to that many next steps in the same round trips, in the partitions
        that these visit; they are in the answer's ``claimed``. ``queues``, ``worker_id`` and
        ``lease`` are those of :meth:`claim`.
        """
        claimer = claims.claimer_for(claim_next, queues, worker_id, lease)
        op = complete.complete_many(self._ctx, completions, claimer, claim_next)
        return self._run(op)

    def claim(
        self,
        queues: Iterable[str],
        *,
        worker_id: str,
        limit: int = 1,
        lease: float | timedelta = 30.0,
    ) -> PartialList[ClaimedStep]:
        """Hands out up to ``limit`` (1,000) available steps of these queues, each to one worker.

        Highest priority first; within a priority oldest first, with workflows taking turns (section
        8). ``lease`` is in seconds: when it has passed, others may claim the step. A claim counts
        an attempt, except the one that follows a resolved wait. ``unreachable`` of the list names
        partitions that did not answer. Raises CommandRejected.
        """
        return self._run(claims.claim(self._ctx, queues, worker_id, limit, lease))

    def heartbeat(
        self, claimed: Iterable[ClaimedStep], *, lease: float | timedelta = 30.0
    ) -> HeartbeatReport:
        """Extends leases to end ``lease`` seconds from now; tells which are lost, and of which the
        workflow is asked to end (contract §8).
        """
        return self._run(claims.heartbeat(self._ctx, claimed, lease))

    def release(self, claimed: Iterable[ClaimedStep]) -> int:
        """Gives steps back that were not begun, without counting the attempt; returns how many of
        the leases still stood."""
        return self._run(claims.release(self._ctx, claimed))

    def await_step(
        self,
        workflow_id: str,
        step: str,
        *,
        signal: str,
        correlation_key: str,
        deadline: datetime | timedelta | None = None,
        lease: str | None = None,
        actor: str | None = None,
    ) -> AwaitView:
        """Puts an available or executing step into a wait for a signal (contract §5).

        ``signal`` is a name, ``correlation_key`` any text of up to 512 characters. ``deadline`` is
        a timedelta from now by the server's clock, or a datetime with a timezone; one that has
        passed expires the step at once. ``lease`` is the token of a claim, which ends with this. A
        step that already waits for a signal waits for this one instead. A signal that was kept for
        it is consumed before this returns. ``actor`` is recorded as evidence. Raises
        CommandRejected.
        """
        return self._run(
            signals.await_step(
                self._ctx, workflow_id, step, signal, correlation_key, deadline, lease, actor
            )
        )

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
        """Takes a signal back that no wait has consumed; returns it as it was, ``withdrawn``.

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

    def reconcile(self, workflow_id: str) -> ReconcileReport:
        """Finishes and repairs one workflow from stored state; writes nothing on a healthy one."""
        return self._run(reconcile.reconcile(self._ctx, workflow_id))

    def rebuild(self, *, progress: Listener | None = None) -> RebuildReport:
        """Restores every derived key of all partitions from the records alone (contract §10).

        Works while others do, in bounded calls; it can be stopped at any time and run again.
        ``progress`` is called with a :class:`~rwf.RebuildProgress` now and then. A workflow that
        cannot be read is named in the report, and holds up no other.
        """
        return self._run(rebuild.rebuild(self._ctx, progress))

    def dispatch_callbacks(
        self, handler: Handler, *, limit: int = 25, lease: float = 30.0
    ) -> DispatchReport:
        """Calls the handler with each callback that is due, at most ``limit`` (contract §6).

        Up to 100 callbacks are handled at once, each in a thread; those of one workflow in order,
        each once the one before it is delivered or dead. A callback counts as delivered when the
        handler returns, and as failed when it raises; it then comes again after a backoff, and is
        dead after 20 failures. ``lease`` is for how many seconds no other dispatcher takes it. When
        a handler takes longer, or its process dies, the callback comes again, so a handler must be
        safe to repeat. An AsyncClient's handler may be a coroutine function; it runs in the event
        loop, and is cancelled at the end of its lease.
        """
        dispatch = Dispatch(self._ctx, handler, limit, lease)
        deliver(self._run, dispatch, blocking(handler), CALLBACKS_AT_ONCE)
        return dispatch.report()

    def resend_callback(self, callback_id: str, *, actor: str | None = None) -> CallbackView:
        """Sends a callback once more that is dead or delivered; its attempts count from 0 again.

        ``callback_id`` is that of :meth:`callbacks` or of an envelope. Raises CommandRejected:
        ``illegal_transition`` for one that is still to be delivered.
        """
        return self._run(callbacks.resend(self._ctx, callback_id, actor))

    def prune(self, *, progress: Progress | None = None) -> PruneReport:
        """Removes finished workflows after their retention, and signals that no workflow took
        within 7 days (contract §6).

        If callbacks have ever been dispatched in the namespace, a workflow stays until each of its
        callbacks is delivered or dead; one that is undelivered 7 days after the retention has ended
        becomes dead.

        A daemon does this by itself. ``progress`` is called with the report so far after each
        slice. The next run continues one that was interrupted.
        """
        pruning = Pruning(self._ctx, progress)
        while not pruning.done:
            self._run(pruning.page())
            pruning.tell()
        return pruning.report()

    # --- the server

    def migrate(self) -> MigrationReport:
        """Loads the library where it is missing, and creates the namespace if it does not exist.

        Raises StoreMisconfigured when the user may not load functions."""
        return self._store.drive(diagnose.migrate(self._session))

    def doctor(self) -> DoctorReport:
        """Checks the server, the user's rights and what waits, and reports what is wrong; changes
        nothing.

        A misconfigured server is reported, not raised; one that does not answer raises
        :class:`~rwf.StoreUnavailable`, and one that refuses the login
        :class:`~rwf.StoreMisconfigured`.
        """
        return self._store.drive(diagnose.doctor(self._session))

    # --- reads

    def get(self, workflow_id: str) -> WorkflowView:
        """Returns one workflow; raises NotFound."""
        return self._run(reads.get(self._ctx, workflow_id))

    def wait(self, workflow_id: str, *, timeout: float | timedelta | None = None) -> WorkflowView:
        """Waits until a workflow has ended, however it did, and returns it as it is then.

        ``timeout`` is in seconds, None for ever; raises TimeoutError when it has passed. A hint
        wakes it at once; without hints it looks about once a second. While it sleeps it takes no
        connection from the pool; one for hints is shared by all waits of the client. Raises
        NotFound, also when the workflow is removed meanwhile.
        """
        pauses = waiting.pauses(workflow_id, waiting.checked_timeout(timeout))
        view = self.get(workflow_id)
        if view.state in TERMINAL_WORKFLOWS:
            return view
        with self._endings.heard(workflow_id) as told:
            while view.state not in TERMINAL_WORKFLOWS:
                told.wait(next(pauses))
                told.clear()
                view = self.get(workflow_id)
        return view

    def find(self, key: str) -> WorkflowView:
        """Returns the workflow of an insert key.

        Raises NotFound when no workflow has the key: none was inserted with it, or it was removed.
        """
        return self._run(insert.find(self._ctx, key))

    def list(
        self,
        *,
        state: WorkflowState | str | None = None,
        operator_status: OperatorStatus | str | None = None,
        name: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> WorkflowPage:
        """Returns a page of workflows, newest first; ``limit`` is at most 500.

        A filter that matches little may end a page early, with a ``cursor`` to go on from.
        """
        return self._run(
            listing.list_workflows(self._ctx, state, operator_status, name, limit, cursor)
        )

    def steps(
        self, workflow_id: str, *, limit: int | None = None, offset: int = 0
    ) -> builtins.list[StepView]:
        """The steps of a workflow in topological order."""
        return self._run(reads.steps(self._ctx, workflow_id, limit, offset))

    def step(self, workflow_id: str, step: str) -> StepView:
        """One step."""
        return self._run(reads.step(self._ctx, workflow_id, step))

    def result(
        self, workflow_id: str, step: str, *, attempt: int | None = None
    ) -> ResultView | None:
        """Returns what an attempt of a step reported, the latest attempt by default; None when it
        reported nothing."""
        return self._run(reads.result(self._ctx, workflow_id, step, attempt))

    def results(self, workflow_id: str, *, step: str | None = None) -> builtins.list[ResultView]:
        """All results of a workflow, or of one of its steps, by step and attempt."""
        return self._run(reads.results(self._ctx, workflow_id, step))

    def evidence(
        self, workflow_id: str | None = None, *, step: str | None = None
    ) -> PartialList[EvidenceView]:
        """The records of accepted, refused and repeated commands, oldest first (contract §11).

        Without an id, of what concerns no workflow: commands on unknown ones, and signals that came
        again while nobody had taken them.
        """
        return self._run(reads.evidence(self._ctx, workflow_id, step))

    def callbacks(self, workflow_id: str) -> builtins.list[CallbackView]:
        """A workflow's callbacks and where they stand, oldest first (contract §6)."""
        return self._run(callbacks.callbacks(self._ctx, workflow_id))

    def signals(
        self,
        signal: str | None = None,
        correlation_key: str | None = None,
        *,
        status: SignalStatus | str | None = None,
        cursor: str | None = None,
    ) -> SignalPage:
        """A page of at most 100 signals that no wait has consumed, the oldest of each topic first.

        A topic is a signal's name and a correlation key: with both it is that one alone, else all
        that match, in no order among themselves. ``status`` is unmatched, ambiguous, late or
        recorded. A filter that matches little may end a page early, with a ``cursor`` to go on
        from. A signal that is kept all the while is listed; one that comes or goes meanwhile may
        be.
        """
        return self._run(kept.list_signals(self._ctx, signal, correlation_key, status, cursor))

    def queues(self) -> PartialList[QueueView]:
        """Lists the queues that hold an available step, or were asked for steps in the last 30 days
        (contract §8)."""
        return self._run(queues.queues(self._ctx))

    def graph(self, workflow_id: str) -> GraphView:
        """A workflow with all steps and edges."""
        return self._run(reads.graph(self._ctx, workflow_id))

    def explain_step(self, workflow_id: str, step: str) -> StepExplanation:
        """Why a step is where it is (contract §7)."""
        return self._run(explain.explain_step(self._ctx, workflow_id, step))

    def explain(self, workflow_id: str) -> WorkflowExplanation:
        """Why a workflow is where it is (contract §7)."""
        return self._run(explain.explain(self._ctx, workflow_id))

    def events(self) -> Iterator[Event]:
        """Hints of what changes, as they come, for ever: lost, doubled or late ones change nothing
        but latency (contract §9)."""
        return (event for event in self._hints() if event is not None)

    def _hints(self) -> Generator[Event | None, None, None]:
        return events.hints(self._store, self._run(reads.channels(self._ctx)))
