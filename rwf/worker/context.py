"""The view of a step that its handler is given."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from rwf.model.views import ClaimedStep, WakingSignal

T = TypeVar("T")

_current: Final[ContextVar[StepContext | None]] = ContextVar("rwf_current_step", default=None)
_FAKE_LEASE: Final = timedelta(seconds=30)


def current_step() -> StepContext | None:
    """The context of the handler that runs here; None outside of handlers.

    It is a context variable, set for plain and coroutine handlers, their middleware, and the
    asyncio tasks that they make. A thread that a handler starts has it only if it runs in a copy of
    the handler's context, as ``asyncio.to_thread`` does.
    """
    return _current.get()


class StepContext:
    """One attempt of a step, as its handler sees it (contract §8).

    A parameter that is annotated with this class, or that has no annotation and is named ``ctx``,
    receives it.
    """

    def __init__(
        self,
        claim: ClaimedStep,
        beat: Callable[[StepContext], Any],
        read_parents: Callable[[StepContext], Any],
    ) -> None:
        self._claim = claim
        self._beat = beat
        self._read_parents = read_parents
        self._cancel_requested = False
        self._lost = False
        self.deadline: datetime | None = None
        """When the attempt times out (UTC, by this machine's clock): so long after its handler
        began as the step's timeout is; None without a timeout."""

    @classmethod
    def fake(
        cls,
        *,
        workflow_id: str = "0-fake",
        step: str = "step",
        worker: str | None = None,
        queue: str = "default",
        attempt: int = 1,
        max_attempts: int = 5,
        lease: str = "1-fake",
        timeout: float | None = None,
        input: Any = None,
        context: Any = None,
        workflow_context: Any = None,
        signal: WakingSignal | None = None,
        timed_out: bool = False,
        parents: Mapping[str, Any] | None = None,
        cancel_requested: bool = False,
        lost: bool = False,
    ) -> StepContext:
        """A context for unit tests that call a handler's function themselves; no server knows it.

        ``worker`` is the step's name unless it is given. Its heartbeats only tell that the lease
        stands, or that it is ``lost``. For handlers that are run by their names, with their input
        validated and their outcomes recorded, see ``rwf.testing.run_until_idle``.
        """
        claim = ClaimedStep(
            workflow_id=workflow_id,
            step=step,
            worker=worker or step,
            queue=queue,
            attempt=attempt,
            max_attempts=max_attempts,
            lease=lease,
            lease_expires_at=datetime.now(UTC) + _FAKE_LEASE,
            timeout=timeout,
            input=input,
            context=context,
            workflow_context=workflow_context,
            signal=signal,
            timed_out=timed_out,
        )
        ended = dict(parents or {})
        made = cls(claim, lambda one: immediate(not one.lost), lambda _: immediate(ended))
        made._begins()
        made._cancel_requested, made._lost = cancel_requested, lost
        return made

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
    def timed_out(self) -> bool:
        """Whether the step runs because its wait's deadline has passed, and no signal came."""
        return self._claim.timed_out

    @property
    def parents(self) -> Any:
        """How each parent of the step has ended, by name: ``{"state", "cause", "summary",
        "payload"}``, as :func:`rwf.outcome` tells it of one.

        It is read when it is asked for, of at most 1,000 parents. In a coroutine function it is
        awaited (``await ctx.parents``); in a plain one it blocks and is the dict.
        """
        return self._read_parents(self)

    @property
    def cancel_requested(self) -> bool:
        """Whether the workflow is asked to end, as of the last heartbeat."""
        return self._cancel_requested

    @property
    def lost(self) -> bool:
        """Whether the lease is gone: others may run the step, and this outcome is refused."""
        return self._lost

    def heartbeat(self) -> Any:
        """Extends the lease now, beside the worker's own heartbeats; returns whether it is valid.

        In a coroutine function it is awaited; in a plain one it blocks and returns the bool. While
        the server is unreachable it tries again until the lease has passed, and then returns False.
        """
        return self._beat(self)

    def _becomes_current(self) -> None:
        """Makes :func:`current_step` return it in the present context."""
        _current.set(self)

    def _begins(self) -> None:
        if self._claim.timeout is not None:
            self.deadline = datetime.now(UTC) + timedelta(seconds=self._claim.timeout)

    def _renewed(self, claim: ClaimedStep, cancel_requested: bool) -> None:
        self._claim = claim
        self._cancel_requested = cancel_requested

    def _taken_away(self) -> None:
        self._lost = True


def immediate(answer: T) -> Any:
    """An answer that is known already: awaitable where an event loop runs."""
    return answer if asyncio._get_running_loop() is None else _awaited(answer)


async def _awaited(answer: T) -> T:
    return answer
