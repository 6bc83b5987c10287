"""Looking on at a worker's attempts, for metrics and traces."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Final

from rwf.errors import CommandRejected, WorkflowInvalid
from rwf.model.views import ClaimedStep

_log = logging.getLogger("rwf.worker")

Refusal = CommandRejected | WorkflowInvalid
GIVEN_BACK: Final = "given_back"
SUSPENDED: Final = "awaiting_signal"


class Observer:
    """Is told of each attempt, in the worker's event loop. Its methods must be quick."""

    def claimed(self, claim: ClaimedStep) -> None:
        """An attempt is about to begin."""

    def ended(self, claim: ClaimedStep, outcome: str, seconds: float) -> None:
        """Its handler is over: the status that it reports, ``awaiting_signal`` where it waits, or
        ``given_back``; and how long it took, with the wait for a thread."""

    def reported(self, claim: ClaimedStep, refusal: Refusal | None) -> None:
        """The server has its report, or has refused it."""


class Observers:
    """Those who look on. What one of them raises is logged, and holds up nothing."""

    def __init__(self, observers: Collection[Observer]) -> None:
        self._observers = observers

    def claimed(self, claim: ClaimedStep) -> None:
        self._tell(lambda one: one.claimed(claim))

    def ended(self, claim: ClaimedStep, outcome: str, seconds: float) -> None:
        self._tell(lambda one: one.ended(claim, outcome, seconds))

    def reported(self, claim: ClaimedStep, refusal: Refusal | None = None) -> None:
        self._tell(lambda one: one.reported(claim, refusal))

    def _tell(self, call: Callable[[Observer], None]) -> None:
        for observer in list(self._observers):
            try:
                call(observer)
            except Exception:
                _log.exception("an observer has failed; the worker goes on")
