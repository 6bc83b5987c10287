"""Operations on a whole namespace, and repairs, for daemons and operators."""

from __future__ import annotations

from rwf import doctor as diagnose
from rwf.aio.base import AsyncBase
from rwf.dispatching import deliver_async
from rwf.model.limits import CALLBACKS_AT_ONCE
from rwf.model.views import (
    CallbackView,
    DispatchReport,
    DoctorReport,
    MigrationReport,
    PruneReport,
    RebuildReport,
    ReconcileReport,
)
from rwf.ops import callbacks
from rwf.ops.callbacks import Dispatch, Handler
from rwf.ops.prune import Progress, Pruning
from rwf.repair import rebuild, reconcile
from rwf.repair.rebuild import Listener


class AsyncOperations(AsyncBase):
    """Methods for daemons and operators."""

    async def migrate(self) -> MigrationReport:
        """Loads the library where it is missing, and creates the namespace if it does not exist.

        Raises StoreMisconfigured when the user may not load functions."""
        return await self._store.drive(diagnose.migrate(self._session))

    async def doctor(self) -> DoctorReport:
        """Checks the server, the user's rights and waiting work, and reports what is wrong; changes
        nothing.

        A misconfigured server is reported, not raised; one that does not answer raises
        :class:`~rwf.StoreUnavailable`, and one that refuses the login
        :class:`~rwf.StoreMisconfigured`.
        """
        return await self._store.drive(diagnose.doctor(self._session))

    async def reconcile(self, workflow_id: str) -> ReconcileReport:
        """Finishes and repairs one workflow from stored state; writes nothing on a healthy one."""
        return await self._run(reconcile.reconcile(self._ctx, workflow_id))

    async def rebuild(self, *, progress: Listener | None = None) -> RebuildReport:
        """Restores every derived key of all partitions from the records alone (contract §10).

        Works while others do, in bounded calls; it can be stopped at any time and run again.
        ``progress`` is called with a :class:`~rwf.RebuildProgress` now and then. A workflow that
        cannot be read is named in the report; all others are restored.
        """
        return await self._run(rebuild.rebuild(self._ctx, progress))

    async def prune(self, *, progress: Progress | None = None) -> PruneReport:
        """Removes finished workflows after their retention, and signals that no workflow consumed
        within 7 days (contract §6).

        If callbacks have ever been dispatched in the namespace, a workflow stays until each of its
        callbacks is delivered or dead; one that is undelivered 7 days after the retention has ended
        becomes dead.

        A daemon does this by itself. ``progress`` is called with the report so far after each
        slice. The next run continues one that was interrupted.
        """
        pruning = Pruning(self._ctx, progress)
        while not pruning.done:
            await self._run(pruning.page())
            pruning.tell()
        return pruning.report()

    async def dispatch_callbacks(
        self, handler: Handler, *, limit: int = 25, lease: float = 30.0
    ) -> DispatchReport:
        """Calls the handler with each callback that is due, at most ``limit`` (contract §6).

        Up to 100 callbacks are handled at once; those of one workflow in order, each once the one
        before it is delivered or dead. A callback counts as delivered when the handler returns, and
        as failed when it raises; it then comes again after a backoff, and is dead after 20
        failures. For ``lease`` seconds no other dispatcher takes it. When a handler takes longer,
        or its process dies, the callback comes again, so a handler must be safe to repeat.

        A plain handler is called in a thread. A coroutine function runs in the event loop, and is
        cancelled at the end of its lease.
        """
        dispatch = Dispatch(self._ctx, handler, limit, lease)
        await deliver_async(self._run, dispatch, handler, CALLBACKS_AT_ONCE)
        return dispatch.report()

    async def resend_callback(self, callback_id: str, *, actor: str | None = None) -> CallbackView:
        """Sends a dead or delivered callback once more; its attempts count from 0 again.

        ``callback_id`` is that of :meth:`callbacks` or of an envelope. Raises CommandRejected:
        ``illegal_transition`` for one that is still to be delivered.
        """
        return await self._run(callbacks.resend(self._ctx, callback_id, actor))
