"""Steps as messages of dramatiq (contract §15): ``pip install rwf[dramatiq]``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dramatiq import actor
from dramatiq.brokers.redis import RedisBroker

from rwf.adapters import dispatcher
from rwf.adapters.steps import ProcessSteps
from rwf.client import Client
from rwf.model.views import Ticket
from rwf.worker.handlers import Handlers

ACTOR = "rwf.run_step"


class Dispatcher(dispatcher.Dispatcher):
    """Sends steps to the queues of dramatiq's broker on Redis, as messages of the actor
    ``rwf.run_step``, which it registers; to be made in a module that dramatiq's workers import.

    dramatiq has no priorities of messages: a step's own decides the order of sending. Options as in
    :class:`rwf.adapters.dispatcher.Dispatcher`.
    """

    executor = "dramatiq"

    def __init__(
        self, broker: RedisBroker, client: Client, handlers: Handlers, **options: Any
    ) -> None:
        super().__init__(client, handlers, **options)
        self._broker = broker
        register = actor(
            actor_name=ACTOR,
            queue_name=self.queues[0],
            broker=broker,
            max_retries=0,
            time_limit=math.inf,
        )
        self._actor = register(ProcessSteps(client, handlers).run)
        for queue in self.queues:
            broker.declare_queue(queue)

    def waiting(self, queue: str) -> int:
        """The length of the list that workers take messages from."""
        waiting: int = self._broker.client.llen(f"{self._broker.namespace}:{queue}")
        return waiting

    def send(self, queue: str, tickets: Sequence[Ticket]) -> None:
        """Sends the tickets one after the other."""
        for ticket in tickets:
            message = self._actor.message(str(ticket))
            self._broker.enqueue(message.copy(queue_name=queue))
