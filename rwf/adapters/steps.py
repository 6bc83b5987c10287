"""Running the steps of tickets in the processes of an executor whose tasks block."""

from __future__ import annotations

import os
import threading

from rwf.client import Client
from rwf.worker.handlers import Handlers
from rwf.worker.tickets import StepRunner


class ProcessSteps:
    """Runs steps with one runner for each process: executors fork."""

    def __init__(self, client: Client, handlers: Handlers) -> None:
        if not isinstance(client, Client):
            raise TypeError("tasks of this executor block, so they need a Client")
        self._client = client
        self._handlers = handlers
        self._lock = threading.Lock()
        self._runner: StepRunner | None = None
        self._process = 0

    def run(self, ticket: str) -> str:
        """Runs the step of a ticket, under a run id of this delivery's own: the state that it left
        the step in, or why it was not run. Raises what :func:`rwf.run_step` raises."""
        with self._lock:
            if self._runner is None or self._process != os.getpid():
                self._runner = StepRunner(self._client, self._handlers)
                self._process = os.getpid()
        return self._runner.run(ticket).outcome
