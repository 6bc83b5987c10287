"""Reads: workflows, their steps, results and evidence, and why they are where they are."""

from __future__ import annotations

import builtins
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import datetime, timedelta

from rwf import waiting
from rwf.aio.base import AsyncBase
from rwf.model.states import TERMINAL_WORKFLOWS, OperatorStatus, SignalStatus, WorkflowState
from rwf.model.views import (
    CallbackView,
    Event,
    EvidenceView,
    GraphView,
    PartialList,
    ResultView,
    SignalPage,
    StepExplanation,
    StepView,
    Timeline,
    WorkflowCount,
    WorkflowExplanation,
    WorkflowPage,
    WorkflowView,
)
from rwf.ops import callbacks, explain, insert, kept, listing, reads, timeline
from rwf.transport.aio.concurrency import wait_for


class AsyncReads(AsyncBase):
    """Reads, which change nothing."""

    async def get(self, workflow_id: str) -> WorkflowView:
        """Returns one workflow; raises NotFound."""
        return await self._run(reads.get(self._ctx, workflow_id))

    async def wait(
        self,
        workflow_id: str,
        *,
        timeout: float | timedelta | None = None,  # noqa: ASYNC109 - as the blocking client has it
    ) -> WorkflowView:
        """Waits until a workflow has ended, however it did, and returns it as it is then.

        ``timeout`` is in seconds, None for ever; raises TimeoutError when it has passed. A hint
        wakes it at once; without hints it polls about once a second. Meanwhile it takes no
        connection from the pool; all waits of the client share one for hints. Raises
        NotFound, also when the workflow is removed meanwhile.
        """
        pauses = waiting.pauses(workflow_id, waiting.checked_timeout(timeout))
        view = await self.get(workflow_id)
        if view.state in TERMINAL_WORKFLOWS:
            return view
        async with self._waits.heard(workflow_id) as told:
            while view.state not in TERMINAL_WORKFLOWS:
                await wait_for(told, next(pauses))
                told.clear()
                view = await self.get(workflow_id)
        return view

    async def find(self, key: str) -> WorkflowView:
        """Returns the workflow of an insert key.

        Raises NotFound when no workflow has the key: none was inserted with it, or it was removed.
        """
        return await self._run(insert.find(self._ctx, key))

    async def list(
        self,
        *,
        tags: Mapping[str, str] | None = None,
        name: str | None = None,
        state: WorkflowState | str | None = None,
        status: OperatorStatus | str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        failed_step: str | None = None,
        parent: str | None = None,
        order: str = "newest",
        limit: int = 50,
        cursor: str | None = None,
    ) -> WorkflowPage:
        """Returns a page of the workflows that all the filters hold of (contract §17).

        ``tags``: they have these. ``status``: their operator status. ``since``, ``until``: inserted
        at ``since`` or later, and before ``until``. ``failed_step``: their step of this name has
        failed, was discarded, or expired. ``parent``: the children of this workflow. ``order``: by
        insertion, the ``newest`` or the ``oldest`` first. ``limit`` is at most 500; a filter that
        holds of few may end a page early, with a ``cursor`` to go on from.

        Raises CommandRejected, ``invalid_argument``.
        """
        given = {
            "tags": tags,
            "name": name,
            "state": state,
            "status": status,
            "since": since,
            "until": until,
            "failed_step": failed_step,
            "parent": parent,
        }
        return await self._run(listing.list_workflows(self._ctx, given, order, limit, cursor))

    async def count(
        self,
        *,
        tags: Mapping[str, str] | None = None,
        name: str | None = None,
        state: WorkflowState | str | None = None,
        status: OperatorStatus | str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        failed_step: str | None = None,
        parent: str | None = None,
    ) -> WorkflowCount:
        """Counts the workflows that all the filters of :meth:`list` hold of.

        A tag alone, a terminal state alone, and times are counted by an index; other filters by a
        look at each workflow, 100,000 at most: then the count is a lower bound, and not ``exact``.

        Raises CommandRejected, ``invalid_argument``.
        """
        given = {
            "tags": tags,
            "name": name,
            "state": state,
            "status": status,
            "since": since,
            "until": until,
            "failed_step": failed_step,
            "parent": parent,
        }
        return await self._run(listing.count(self._ctx, given))

    async def steps(
        self,
        workflow_id: str,
        *,
        limit: int | None = None,
        offset: int = 0,
        payloads: bool = True,
    ) -> builtins.list[StepView]:
        """The steps of a workflow in topological order; without ``payloads`` their inputs and
        contexts, which may be large, are left out (None)."""
        return await self._run(reads.steps(self._ctx, workflow_id, limit, offset, payloads))

    async def step(self, workflow_id: str, step: str) -> StepView:
        """One step."""
        return await self._run(reads.step(self._ctx, workflow_id, step))

    async def result(
        self, workflow_id: str, step: str, *, attempt: int | None = None
    ) -> ResultView | None:
        """Returns what an attempt of a step reported, the latest attempt by default; None when it
        reported nothing."""
        return await self._run(reads.result(self._ctx, workflow_id, step, attempt))

    async def results(
        self, workflow_id: str, *, step: str | None = None
    ) -> builtins.list[ResultView]:
        """All results of a workflow, or of one of its steps, by step and attempt."""
        return await self._run(reads.results(self._ctx, workflow_id, step))

    async def evidence(
        self, workflow_id: str | None = None, *, step: str | None = None
    ) -> PartialList[EvidenceView]:
        """The records of accepted, refused and repeated commands, oldest first (contract §11).

        Without an id, of what concerns no workflow: commands on unknown ones, and signals that came
        again before a workflow consumed them.
        """
        return await self._run(reads.evidence(self._ctx, workflow_id, step))

    async def callbacks(self, workflow_id: str) -> builtins.list[CallbackView]:
        """A workflow's callbacks and where they stand, oldest first (contract §6)."""
        return await self._run(callbacks.callbacks(self._ctx, workflow_id))

    async def signals(
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
        from. A signal that comes or goes during the listing may be missing from it.
        """
        return await self._run(
            kept.list_signals(self._ctx, signal, correlation_key, status, cursor)
        )

    async def graph(self, workflow_id: str, *, payloads: bool = True) -> GraphView:
        """A workflow with all steps and edges; ``payloads`` as for :meth:`steps`."""
        return await self._run(reads.graph(self._ctx, workflow_id, payloads))

    async def timeline(self, workflow_id: str) -> Timeline:
        """When each attempt of each step became available, was claimed, by whom, and ended; and the
        chain of steps that the end waited for (contract §17)."""
        return await self._run(timeline.timeline(self._ctx, workflow_id))

    async def explain_step(self, workflow_id: str, step: str) -> StepExplanation:
        """Why a step is where it is (contract §7)."""
        return await self._run(explain.explain_step(self._ctx, workflow_id, step))

    async def explain(self, workflow_id: str) -> WorkflowExplanation:
        """Why a workflow is where it is (contract §7)."""
        return await self._run(explain.explain(self._ctx, workflow_id))

    async def events(self) -> AsyncGenerator[Event]:
        """Hints of what changes, as they come, until the client is closed: lost, doubled or late
        ones change nothing but latency (contract §9)."""
        closings = self._closings
        async with aclosing(self._hints()) as found:
            async for event in found:
                if self._closings != closings:
                    return
                if event is not None:
                    yield event
