# Made of rwf/aio/base.py by tools/blocking.py: do not edit.
"""The base of the client: its connections, and how operations are run on them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import TypeVar

from rwf.client.waits import Waits
from rwf.model.limits import MAX_INPUT
from rwf.model.views import Event
from rwf.ops import reads
from rwf.ops.base import OpContext
from rwf.protocol.requests import Op
from rwf.reachability import Away
from rwf.transport.blocking.drivers import Store
from rwf.transport.blocking.hints import hints
from rwf.transport.session import Session

T = TypeVar("T")


class Base:
    """A store, the session there, and what operations take of both."""

    def __init__(
        self, store: Store, session: Session, *, max_payload: int, max_input: int = MAX_INPUT
    ) -> None:
        self._store = store
        self._session = session
        self._ctx = OpContext(
            session.keys, max_payload, max_input, Away(several_nodes=session.cluster)
        )
        self._waits = Waits(self._hints)
        self._closings = 0

    def _run(self, op: Op[T]) -> T:
        with self._ctx.tracing.around(getattr(op, "__name__", "")):
            return self._store.run(self._session, op)

    def _hints(self) -> Generator[Event | None]:
        """Hints for ever, and None now and then while none comes."""
        channels = self._run(reads.channels(self._ctx))
        with closing(hints(self._store, channels)) as heard:
            for hint in heard:
                yield hint
