"""The base of the client: its connections, and how operations are run on them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

from rwf.aio.waits import AsyncWaits
from rwf.model.limits import MAX_INPUT
from rwf.model.views import Event
from rwf.ops import reads
from rwf.ops.base import OpContext
from rwf.protocol.requests import Op
from rwf.reachability import Away
from rwf.transport.aio.drivers import AsyncStore
from rwf.transport.aio.hints import hints
from rwf.transport.session import Session

T = TypeVar("T")


class AsyncBase:
    """A store, the session there, and what operations take of both."""

    def __init__(
        self, store: AsyncStore, session: Session, *, max_payload: int, max_input: int = MAX_INPUT
    ) -> None:
        self._store = store
        self._session = session
        self._ctx = OpContext(
            session.keys, max_payload, max_input, Away(several_nodes=session.cluster)
        )
        self._waits = AsyncWaits(self._hints)
        self._closings = 0

    async def _run(self, op: Op[T]) -> T:
        with self._ctx.tracing.around(getattr(op, "__name__", "")):
            return await self._store.run(self._session, op)

    async def _hints(self) -> AsyncGenerator[Event | None]:
        """Hints for ever, and None now and then while none comes."""
        channels = await self._run(reads.channels(self._ctx))
        async with aclosing(hints(self._store, channels)) as heard:
            async for hint in heard:
                yield hint
