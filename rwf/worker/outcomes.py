"""Exceptions by which a handler reports an outcome, and what it may return beside data; any other
exception is ``retryable``."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, ClassVar

from rwf.model.builder import Workflow
from rwf.model.fragment import Fragment
from rwf.model.states import CompletionStatus, OnTimeout


class Outcome(Exception):
    """Base of the outcomes that a handler may raise; they end the attempt, and are no errors."""


class Ended(Outcome):
    """``summary`` is kept with the result (cut at 4,096 characters), ``payload`` is JSON data."""

    status: ClassVar[CompletionStatus]

    def __init__(self, summary: str | None = None, *, payload: Any = None) -> None:
        super().__init__(summary or "")
        self.summary = summary
        self.payload = payload


class Fail(Ended):
    """The step has failed for good: ``failed`` (contract §8)."""

    status = CompletionStatus.FAILED


class Discard(Ended):
    """Running it again is pointless: ``discarded``."""

    status = CompletionStatus.DISCARDED


class Cancel(Ended):
    """The step is not to be done: ``cancelled``."""

    status = CompletionStatus.CANCELLED


class Skip(Outcome):
    """The step is not needed: it ends ``completed`` with cause ``skipped`` and a null result.

    Its children run; with ``branch`` those are skipped in turn that depend on nothing which has
    really completed (contract §13). ``reason`` is kept as the result's summary.
    """

    def __init__(self, reason: str | None = None, *, branch: bool = False) -> None:
        super().__init__(reason or "")
        self.reason = reason
        self.branch = branch


class Append:
    """The value that a handler returns to complete its step with a result, and to append steps to
    its workflow in the same transition (contract §14).

    ``result`` is what the handler would else return. What waits for the step waits for the steps of
    ``fragment``, too, unless ``join`` is false.
    """

    def __init__(self, fragment: Fragment, *, result: Any = None, join: bool = True) -> None:
        self.fragment = fragment
        self.result = result
        self.join = join


class Retry(Outcome):
    """Run it again: after ``in_`` seconds or a timedelta, or after its backoff.

    With ``count=False`` the run counts as no attempt, so a handler may poll as often as it likes.
    """

    def __init__(
        self,
        summary: str | None = None,
        *,
        in_: float | timedelta | None = None,
        count: bool = True,
    ) -> None:
        super().__init__(summary or "")
        self.summary = summary
        self.in_ = in_
        self.count = count


class Suspension(Outcome):
    """Base of the outcomes that end no attempt: its step waits, without a lease."""


class Await(Suspension):
    """Wait for a signal; the handler is called again, with it, once it has come (contract §5).

    The parameters are those of :meth:`rwf.Client.await_step`.
    """

    def __init__(
        self,
        *,
        signal: str,
        correlation_key: str,
        deadline: datetime | timedelta | None = None,
        on_timeout: OnTimeout | str = OnTimeout.EXPIRE,
    ) -> None:
        super().__init__(signal)
        self.signal = signal
        self.correlation_key = correlation_key
        self.deadline = deadline
        self.on_timeout = on_timeout


class RunWorkflow(Suspension):
    """Run a workflow as a child of this step, which waits for its end (contract §14).

    When the child has completed, so has the step, with the results of the child's last steps; any
    other end fails it. The handler is not called again. The parameters are those of
    :meth:`rwf.Client.start_child`.
    """

    def __init__(self, workflow: Workflow, key: str | None = None) -> None:
        super().__init__(getattr(workflow, "name", ""))
        self.workflow = workflow
        self.key = key
