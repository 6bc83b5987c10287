"""The view of a step that its handler is given."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from rwf.model.views import ClaimedStep, WakingSignal


class StepContext:
    """One attempt of a step, as its handler sees it (contract §8).

    A parameter that is annotated with this class, or that has no annotation and is named ``ctx``,
    receives it.
    """

    def __init__(self, claim: ClaimedStep, beat: Callable[[StepContext], Any]) -> None:
        self._claim = claim
        self._beat = beat
        self._cancel_requested = False
        self._lost = False
        self.deadline: datetime | None = None
        """When the attempt times out (UTC, by this machine's clock): so long after its handler
        began as the step's timeout is; None without a timeout."""

    @property
    def claim(self) -> ClaimedStep:
        """The claim that it runs under, with the lease's end as last known."""
        return self._claim

    @property
    def workflow_id(self) -> str:
        return self._claim.workflow_id

    @property
    def step(self) -> str:
        return self._claim.step

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return self._claim.attempt

    @property
    def max_attempts(self) -> int:
        return self._claim.max_attempts

    @property
    def input(self) -> Any:
        """The input as it was claimed, not validated, with results filled in."""
        return self._claim.input

    @property
    def context(self) -> Any:
        return self._claim.context

    @property
    def workflow_context(self) -> Any:
        return self._claim.workflow_context

    @property
    def signal(self) -> WakingSignal | None:
        """The signal that last woke the step, with its payload; None when none did."""
        return self._claim.signal

    @property
    def cancel_requested(self) -> bool:
        """Whether the workflow is asked to end, as of the last heartbeat."""
        return self._cancel_requested

    @property
    def lost(self) -> bool:
        """Whether the lease is gone: others may run the step, and this outcome is refused."""
        return self._lost

    def heartbeat(self) -> Any:
        """Extends the lease now, beside the worker's own heartbeats; tells whether it still stands.

        In a coroutine function it is awaited; in a plain one it blocks and returns the bool. While
        the server is away it waits and tries again, until the lease has passed: then it is False.
        """
        return self._beat(self)

    def _begins(self) -> None:
        if self._claim.timeout is not None:
            self.deadline = datetime.now(UTC) + timedelta(seconds=self._claim.timeout)

    def _renewed(self, claim: ClaimedStep, cancel_requested: bool) -> None:
        self._claim = claim
        self._cancel_requested = cancel_requested

    def _taken_away(self) -> None:
        self._lost = True
