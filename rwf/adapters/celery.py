"""Steps as tasks of a Celery app (contract §15): ``pip install rwf[celery]``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery import Celery
from kombu.exceptions import ChannelError

from rwf.adapters import dispatcher
from rwf.adapters.steps import ProcessSteps
from rwf.client import Client
from rwf.model.views import Ticket
from rwf.worker.handlers import Handlers

TASK = "rwf.run_step"
_PRIORITIES = 9
_NOT_FOUND = "404"


class Dispatcher(dispatcher.Dispatcher):
    """Sends steps to the queues of a Celery app, as messages of the task ``rwf.run_step``, which it
    registers; to be made in a module that the app's workers import.

    A message is acknowledged when its step has been run. A step's priority decides the order of
    sending, and is passed on as far as the broker has one: on RabbitMQ above 0 (0 to 9), on
    Redis, where 0 is the highest, below it. Options as in
    :class:`rwf.adapters.dispatcher.Dispatcher`.
    """

    executor = "celery"

    def __init__(self, app: Celery, client: Client, handlers: Handlers, **options: Any) -> None:
        super().__init__(client, handlers, **options)
        self._app = app
        steps = ProcessSteps(client, handlers)

        def run_step(ticket: str) -> str:
            return steps.run(ticket)

        register = app.task(name=TASK, acks_late=True, max_retries=0, ignore_result=True)
        self._task = register(run_step)
        with app.connection_for_write() as connection:
            self._highest_is_zero = connection.transport.driver_type == "redis"

    def waiting(self, queue: str) -> int:
        """The length of the broker's queue; 0 for one that does not exist yet."""
        with self._app.pool.acquire(block=True) as connection:
            try:
                found = connection.default_channel.queue_declare(queue, passive=True)
            except ChannelError as error:
                if str(error.reply_code) != _NOT_FOUND:
                    raise
                return 0
            waiting: int = found.message_count
            return waiting

    def send(self, queue: str, tickets: Sequence[Ticket]) -> None:
        """Sends the tickets on one connection."""
        with self._app.producer_pool.acquire(block=True) as producer:
            for ticket in tickets:
                self._task.apply_async(
                    (str(ticket),),
                    queue=queue,
                    priority=self._priority(ticket.priority),
                    producer=producer,
                    retry=False,
                )

    def _priority(self, priority: int) -> int:
        return min(max(-priority if self._highest_is_zero else priority, 0), _PRIORITIES)
