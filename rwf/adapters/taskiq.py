"""Steps as tasks of a taskiq broker (contract §15): ``pip install rwf[taskiq]``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError
from taskiq import AsyncBroker
from taskiq_redis import ListQueueBroker, RedisStreamBroker

from rwf.adapters import dispatcher
from rwf.aio import AsyncClient
from rwf.model.views import Ticket
from rwf.worker.handlers import Handlers
from rwf.worker.tickets import AsyncStepRunner

TASK = "rwf.run_step"


class Dispatcher(dispatcher.Dispatcher):
    """Sends steps to the queues of a taskiq broker, as messages of the task ``rwf.run_step``, which
    it registers; to be made in a module that taskiq's workers import. Coroutines run in the event
    loop of the worker, plain handlers in threads.

    The step's queue is the label ``queue_name``; its priority decides the order of sending.
    taskiq-redis's brokers tell how many messages wait: with another one, override :meth:`waiting`.
    Options as in :class:`rwf.adapters.dispatcher.Dispatcher`.
    """

    executor = "taskiq"

    def __init__(
        self, broker: AsyncBroker, client: AsyncClient, handlers: Handlers, **options: Any
    ) -> None:
        if not isinstance(client, AsyncClient):
            raise TypeError("tasks of taskiq run in an event loop, so they need an AsyncClient")
        super().__init__(client, handlers, **options)
        self._broker = broker
        self._client = client
        self._runners: dict[asyncio.AbstractEventLoop, AsyncStepRunner] = {}

        async def run_step(ticket: str) -> str:
            return await self._run_step(ticket)

        self._task = broker.register_task(run_step, TASK)

    async def _run_step(self, ticket: str) -> str:
        loop = asyncio.get_running_loop()
        runner = self._runners.get(loop)
        if runner is None:  # the first step of this process
            runner = self._runners[loop] = AsyncStepRunner(self._client, self.handlers)
        return (await runner.run(ticket)).outcome

    @asynccontextmanager
    async def session(self) -> AsyncIterator[None]:
        """The broker's connections, and the consumer groups of its streams."""
        await self._broker.startup()
        try:
            yield
        finally:
            await self._broker.shutdown()

    async def waiting(self, queue: str) -> int:
        """How many messages of the queue nobody has taken yet."""
        broker = self._broker
        if isinstance(broker, RedisStreamBroker):
            return await _behind(broker, queue)
        if isinstance(broker, ListQueueBroker):
            async with Redis(connection_pool=broker.connection_pool) as connection:
                return int(await connection.llen(queue))
        raise TypeError(f"waiting() is to be overridden for {type(broker).__name__}")

    async def send(self, queue: str, tickets: Sequence[Ticket]) -> None:
        """Sends the tickets one after the other."""
        kicker = self._task.kicker().with_labels(queue_name=queue)
        for ticket in tickets:
            await kicker.kiq(str(ticket))


async def _behind(broker: RedisStreamBroker, stream: str) -> int:
    """How many messages the group of taskiq's workers has not read; 0 without the stream."""
    async with Redis(connection_pool=broker.connection_pool) as connection:
        try:
            groups = await connection.xinfo_groups(stream)
        except ResponseError:
            return 0
    name = broker.consumer_group_name.encode()
    return next((int(group["lag"] or 0) for group in groups if group["name"] == name), 0)
