"""The asyncio client: the same methods as ``rwf.client.Client``, awaited.

What each does, raises and rests on is said there, once; the docstrings are taken from it.
"""

from __future__ import annotations

import builtins
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

from rwf import doctor as diagnose
from rwf import waiting
from rwf.client import Client
from rwf.dispatching import deliver_async
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
from rwf.ops.callbacks import Dispatch, Handler
from rwf.ops.complete import Batch, Completion
from rwf.ops.prune import Progress, Pruning
from rwf.protocol.requests import Op
from rwf.reachability import Away
from rwf.repair import rebuild, reconcile
from rwf.repair.rebuild import Listener
from rwf.transport import events
from rwf.transport.connecting import MAX_CONNECTIONS
from rwf.transport.drivers_aio import AsyncStore
from rwf.transport.session import DEFAULT_TIMEOUT, Session
from rwf.waiting import AsyncEndings

T = TypeVar("T")
_WEEK = timedelta(days=7)


class AsyncClient:
    """A service\'s way to its workflows, on asyncio; see :class:`rwf.Client`.

    Use it from one event loop.
    """

    def __init__(
        self, store: AsyncStore, session: Session, *, max_payload: int, max_input: int = MAX_INPUT
    ) -> None:
        self._store = store
        self._session = session
        self._ctx = OpContext(
            session.keys, max_payload, max_input, Away(several_nodes=session.cluster)
        )
        self._endings = AsyncEndings(self._hints)

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
        store = AsyncStore(url=url, max_connections=max_connections, timeout=socket_timeout)
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
        return cls._on(
            AsyncStore(redis_client),
            namespace,
            durability,
            require_aof,
            partitions,
            max_payload,
            max_input,
        )

    @classmethod
    def fake(cls, *, namespace: str = "rwf") -> Self:
        from rwf.testing import fake_async_redis

        session = Session(
            namespace=namespace,
            durability="server",
            require_aof=False,
            partitions=None,
            cluster=False,
            checked=False,
        )
        return cls(AsyncStore(fake_async_redis()), session, max_payload=MAX_PAYLOAD)

    @classmethod
    def _on(
        cls,
        store: AsyncStore,
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

    async def _run(self, op: Op[T]) -> T:
        return await self._store.run(self._session, op)

    async def close(self) -> None:
        await self._endings.close()
        await self._store.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    # --- commands

    async def insert(
        self,
        workflow: Workflow,
        *,
        key: str | None = None,
        retention: timedelta | None = _WEEK,
        replace: str | None = None,
        actor: str | None = None,
    ) -> WorkflowView:
        op = insert.insert(self._ctx, workflow, key, retention, replace, actor)
        return await self._run(op)

    async def insert_many(
        self,
        workflows: Iterable[Workflow],
        *,
        keys: Iterable[str] | None = None,
        retention: timedelta | None = _WEEK,
        replace: str | None = None,
        actor: str | None = None,
    ) -> builtins.list[WorkflowView]:
        op = insert.insert_many(self._ctx, workflows, keys, retention, replace, actor)
        return await self._run(op)

    async def complete_step(
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
        return await self._run(complete.complete_step(self._ctx, item))

    async def complete(
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
        return await self.complete_step(
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

    async def complete_many(
        self,
        completions: Iterable[Completion],
        *,
        claim_next: int = 0,
        queues: Iterable[str] = ("default",),
        worker_id: str = "",
        lease: float | timedelta = 30.0,
    ) -> Batch:
        claimer = claims.claimer_for(claim_next, queues, worker_id, lease)
        op = complete.complete_many(self._ctx, completions, claimer, claim_next)
        return await self._run(op)

    async def claim(
        self,
        queues: Iterable[str],
        *,
        worker_id: str,
        limit: int = 1,
        lease: float | timedelta = 30.0,
    ) -> PartialList[ClaimedStep]:
        return await self._run(claims.claim(self._ctx, queues, worker_id, limit, lease))

    async def heartbeat(
        self, claimed: Iterable[ClaimedStep], *, lease: float | timedelta = 30.0
    ) -> HeartbeatReport:
        return await self._run(claims.heartbeat(self._ctx, claimed, lease))

    async def release(self, claimed: Iterable[ClaimedStep]) -> int:
        return await self._run(claims.release(self._ctx, claimed))

    async def await_step(
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
        return await self._run(
            signals.await_step(
                self._ctx, workflow_id, step, signal, correlation_key, deadline, lease, actor
            )
        )

    async def deliver_signal(
        self,
        signal: str,
        correlation_key: str,
        *,
        payload: Any = None,
        dedupe_key: str | None = None,
        actor: str | None = None,
    ) -> SignalView:
        return await self._run(
            signals.deliver_signal(self._ctx, signal, correlation_key, payload, dedupe_key, actor)
        )

    async def withdraw_signal(
        self, signal_id: str, *, actor: str | None = None, reason: str | None = None
    ) -> SignalView:
        return await self._run(kept.withdraw_signal(self._ctx, signal_id, actor, reason))

    async def request_cancel(
        self,
        workflow_id: str,
        *,
        actor: str | None = None,
        reason: str | None = None,
        force: bool = False,
    ) -> WorkflowView:
        op = cancel.request_cancel(self._ctx, workflow_id, actor, reason, force)
        return await self._run(op)

    async def set_retention(
        self, workflow_id: str, retention: timedelta | None, *, actor: str | None = None
    ) -> WorkflowView:
        op = retaining.set_retention(self._ctx, workflow_id, retention, actor)
        return await self._run(op)

    async def acknowledge(self, workflow_id: str, *, actor: str, reason: str) -> WorkflowView:
        return await self._run(acknowledge.acknowledge(self._ctx, workflow_id, actor, reason))

    async def recover_step(
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
        return await self._run(recover.recover_step(self._ctx, asked, dry_run))

    async def reconcile(self, workflow_id: str) -> ReconcileReport:
        return await self._run(reconcile.reconcile(self._ctx, workflow_id))

    async def rebuild(self, *, progress: Listener | None = None) -> RebuildReport:
        return await self._run(rebuild.rebuild(self._ctx, progress))

    async def dispatch_callbacks(
        self, handler: Handler, *, limit: int = 25, lease: float = 30.0
    ) -> DispatchReport:
        dispatch = Dispatch(self._ctx, handler, limit, lease)
        await deliver_async(self._run, dispatch, handler, CALLBACKS_AT_ONCE)
        return dispatch.report()

    async def resend_callback(self, callback_id: str, *, actor: str | None = None) -> CallbackView:
        return await self._run(callbacks.resend(self._ctx, callback_id, actor))

    async def prune(self, *, progress: Progress | None = None) -> PruneReport:
        pruning = Pruning(self._ctx, progress)
        while not pruning.done:
            await self._run(pruning.page())
            pruning.tell()
        return pruning.report()

    # --- the server

    async def migrate(self) -> MigrationReport:
        return await self._store.drive(diagnose.migrate(self._session))

    async def doctor(self) -> DoctorReport:
        return await self._store.drive(diagnose.doctor(self._session))

    # --- reads

    async def get(self, workflow_id: str) -> WorkflowView:
        return await self._run(reads.get(self._ctx, workflow_id))

    async def wait(
        self,
        workflow_id: str,
        *,
        timeout: float | timedelta | None = None,  # noqa: ASYNC109 - as the blocking client has it
    ) -> WorkflowView:
        pauses = waiting.pauses(workflow_id, waiting.checked_timeout(timeout))
        view = await self.get(workflow_id)
        if view.state in TERMINAL_WORKFLOWS:
            return view
        async with self._endings.heard(workflow_id) as told:
            while view.state not in TERMINAL_WORKFLOWS:
                await waiting.sleep(told, next(pauses))
                told.clear()
                view = await self.get(workflow_id)
        return view

    async def find(self, key: str) -> WorkflowView:
        return await self._run(insert.find(self._ctx, key))

    async def list(
        self,
        *,
        state: WorkflowState | str | None = None,
        operator_status: OperatorStatus | str | None = None,
        name: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> WorkflowPage:
        return await self._run(
            listing.list_workflows(self._ctx, state, operator_status, name, limit, cursor)
        )

    async def steps(
        self, workflow_id: str, *, limit: int | None = None, offset: int = 0
    ) -> builtins.list[StepView]:
        return await self._run(reads.steps(self._ctx, workflow_id, limit, offset))

    async def step(self, workflow_id: str, step: str) -> StepView:
        return await self._run(reads.step(self._ctx, workflow_id, step))

    async def result(
        self, workflow_id: str, step: str, *, attempt: int | None = None
    ) -> ResultView | None:
        return await self._run(reads.result(self._ctx, workflow_id, step, attempt))

    async def results(
        self, workflow_id: str, *, step: str | None = None
    ) -> builtins.list[ResultView]:
        return await self._run(reads.results(self._ctx, workflow_id, step))

    async def evidence(
        self, workflow_id: str | None = None, *, step: str | None = None
    ) -> PartialList[EvidenceView]:
        return await self._run(reads.evidence(self._ctx, workflow_id, step))

    async def callbacks(self, workflow_id: str) -> builtins.list[CallbackView]:
        return await self._run(callbacks.callbacks(self._ctx, workflow_id))

    async def signals(
        self,
        signal: str | None = None,
        correlation_key: str | None = None,
        *,
        status: SignalStatus | str | None = None,
        cursor: str | None = None,
    ) -> SignalPage:
        return await self._run(
            kept.list_signals(self._ctx, signal, correlation_key, status, cursor)
        )

    async def queues(self) -> PartialList[QueueView]:
        return await self._run(queues.queues(self._ctx))

    async def graph(self, workflow_id: str) -> GraphView:
        return await self._run(reads.graph(self._ctx, workflow_id))

    async def explain_step(self, workflow_id: str, step: str) -> StepExplanation:
        return await self._run(explain.explain_step(self._ctx, workflow_id, step))

    async def explain(self, workflow_id: str) -> WorkflowExplanation:
        return await self._run(explain.explain(self._ctx, workflow_id))

    async def events(self) -> AsyncGenerator[Event, None]:
        async with aclosing(self._hints()) as found:
            async for event in found:
                if event is not None:
                    yield event

    async def _hints(self) -> AsyncGenerator[Event | None, None]:
        channels = await self._run(reads.channels(self._ctx))
        async with aclosing(events.async_hints(self._store, channels)) as found:
            async for event in found:
                yield event


def _document() -> None:
    for name, method in vars(Client).items():
        twin = getattr(AsyncClient, name, None)
        if not name.startswith("_") and twin is not None:
            getattr(twin, "__func__", twin).__doc__ = getattr(method, "__func__", method).__doc__


_document()
