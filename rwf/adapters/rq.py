"""Steps as jobs of RQ (contract §15): ``pip install rwf[rq]``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import redis
from rq import Queue
from rq.utils import import_attribute

from rwf.adapters import dispatcher
from rwf.adapters.steps import ProcessSteps
from rwf.client import Client
from rwf.model.views import Ticket
from rwf.worker.handlers import Handlers

_FAILED_SECONDS = 86_400
"""How long RQ keeps a job that could not report."""


class Dispatcher(dispatcher.Dispatcher):
    """Sends steps to queues of RQ on a redis-py client.

    ``path`` is where RQ's workers find it, such as ``app.dispatcher`` for the variable of that name
    in ``app.py``. RQ has no priorities: a step's own decides the order of sending, and that of the
    worker's queues the rest. Options as in :class:`rwf.adapters.dispatcher.Dispatcher`.
    """

    executor = "rq"

    def __init__(
        self,
        connection: redis.Redis,
        client: Client,
        handlers: Handlers,
        *,
        path: str,
        **options: Any,
    ) -> None:
        super().__init__(client, handlers, **options)
        self._path = path
        self._queues = {name: Queue(name, connection=connection) for name in self.queues}
        self._steps = ProcessSteps(client, handlers)

    def run_step(self, ticket: str) -> str:
        """Runs a step, as the function of RQ's jobs."""
        return self._steps.run(ticket)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[None]:
        """Raises ValueError where ``path`` leads elsewhere: no worker would find it."""
        found: object = import_attribute(self._path)
        if found is not self:
            raise ValueError(f"path={self._path!r} is not where this dispatcher is")
        yield

    def waiting(self, queue: str) -> int:
        """The length of the queue."""
        return self._queues[queue].count

    def send(self, queue: str, tickets: Sequence[Ticket]) -> None:
        """Sends the tickets in one pipeline. Jobs have no time limit but their steps'."""
        self._queues[queue].enqueue_many(
            [
                Queue.prepare_data(
                    f"{self._path}.run_step",
                    args=[str(ticket)],
                    timeout=-1,
                    result_ttl=0,
                    failure_ttl=_FAILED_SECONDS,
                    description=f"{ticket.worker}: {ticket.step} of {ticket.workflow_id}",
                )
                for ticket in tickets
            ]
        )
