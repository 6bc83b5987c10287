"""Commands on all workflows that a filter holds of."""

from __future__ import annotations

from rwf.aio.base import AsyncBase
from rwf.model.states import RecoveryAction, RecoveryScope
from rwf.model.views import BulkSession
from rwf.ops import bulk
from rwf.ops.bulk import BulkRun, Progress
from rwf.ops.filters import WorkflowFilter
from rwf.transport.aio.concurrency import sleep


class AsyncBulk(AsyncBase):
    """Bulk sessions: contract §17."""

    async def recover_many(
        self,
        filter: WorkflowFilter,
        action: RecoveryAction | str,
        *,
        step: str | None = None,
        scope: RecoveryScope | str = RecoveryScope.BLOCKED,
        dry_run: bool = False,
        actor: str,
        reason: str,
        progress: Progress | None = None,
    ) -> BulkSession:
        """Recovers a step of each workflow that the filter holds of, and returns what came of it.

        ``filter`` has the filters of :meth:`list`, at least one of them. ``step`` is by default the
        filter's ``failed_step`` or, without one, each failed step (the first 100). ``action`` and
        ``scope`` are as ``recover_step`` takes them. This makes a durable session: when the process
        dies, a daemon goes on with it, or :meth:`continue_bulk`. ``progress`` is called with the
        session after each slice of 50. ``dry_run`` plans it for the oldest 100 workflows, and
        writes nothing.

        Raises CommandRejected, ``invalid_argument`` and ``unsupported_recovery_action``, and
        StoreUnavailable when a partition does not answer: the session stays, to be continued.
        """
        command = bulk.checked_command(filter, action, step, scope, actor, reason)
        return await self._carried_out(command, dry_run, progress)

    async def cancel_many(
        self,
        filter: WorkflowFilter,
        *,
        dry_run: bool = False,
        actor: str,
        reason: str,
        progress: Progress | None = None,
    ) -> BulkSession:
        """Asks each workflow that the filter holds of to end, as ``request_cancel`` does; all else
        is as with :meth:`recover_many`."""
        command = bulk.checked_command(filter, None, None, None, actor, reason)
        return await self._carried_out(command, dry_run, progress)

    async def _carried_out(
        self, command: bulk.Command, dry_run: bool, progress: Progress | None
    ) -> BulkSession:
        if dry_run:
            return await self._run(bulk.dry_run(self._ctx, command))
        session_id = await self._run(bulk.begin(self._ctx, command))
        return await self.continue_bulk(session_id, progress=progress)

    async def continue_bulk(
        self, session_id: str, *, progress: Progress | None = None
    ) -> BulkSession:
        """Goes on with a session until it is done, and returns it. While another does so, it waits
        for that one. Raises NotFound, and StoreUnavailable when a partition does not answer."""
        runner = BulkRun(self._ctx, session_id)
        while not runner.done:
            await sleep(await self._run(runner.slice()))
            if progress is not None:
                progress(await self.bulk(session_id))
        return await self.bulk(session_id)

    async def bulk(self, session_id: str) -> BulkSession:
        """Returns a session; raises NotFound. It is kept for 30 days once it is done."""
        return await self._run(bulk.session(self._ctx, session_id))

    async def bulks(self) -> list[BulkSession]:
        """Returns the latest sessions, at most 100, those that are open first."""
        return await self._run(bulk.latest(self._ctx))

    async def stop_bulk(self, session_id: str, *, actor: str, reason: str) -> BulkSession:
        """Ends a session before its end: nothing more is selected. Raises NotFound."""
        return await self._run(bulk.stop(self._ctx, session_id, actor, reason))
