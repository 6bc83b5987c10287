"""Traces by OpenTelemetry (``rwf[otel]``): from the request that inserts a workflow to its last
step, one trace (contract §18).

:func:`instrument` traces a client's inserts, claims and completions. The trace context of an insert
is stored with its workflow, and :func:`instrument_worker` has each attempt of its steps go on with
it, in whatever process.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    TracerProvider,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from rwf import internals
from rwf.aio import AsyncClient
from rwf.client import Client
from rwf.model.states import CompletionStatus
from rwf.model.views import ClaimedStep
from rwf.worker import StepContext, Worker
from rwf.worker.observer import Observer, Refusal
from rwf.worker.outcomes import Outcome

_TRACED: Final[Mapping[str, SpanKind]] = {
    "insert": SpanKind.PRODUCER,
    "insert_many": SpanKind.PRODUCER,
    "claim": SpanKind.CLIENT,
    "complete_step": SpanKind.CLIENT,
    "complete_many": SpanKind.CLIENT,
}
_FAILED: Final = frozenset({CompletionStatus.FAILED, CompletionStatus.DISCARDED})
_REMEMBERED: Final = 10_000
"""Attempts whose next one links to them, in this process."""
_W3C: Final = TraceContextTextMapPropagator()

_Step = tuple[str, str]


def instrument(client: Client | AsyncClient, tracer_provider: TracerProvider | None = None) -> None:
    """Traces a client: a span for each insert, claim and completion, within the present one. The
    trace context of an insert is stored with its workflow (``WorkflowView.traceparent``).

    Without a provider it is the global one. Harmless when repeated. Releases before 0.2 cannot read
    workflows that were inserted so: upgrade them first.
    """
    tracer = _tracer(tracer_provider)

    def around(operation: str) -> AbstractContextManager[object]:
        kind = _TRACED.get(operation)
        if kind is None:
            return nullcontext()
        return tracer.start_as_current_span(f"rwf.{operation}", kind=kind)

    tracing = internals.context_of(client).tracing
    tracing.around, tracing.traceparent = around, _traceparent


def instrument_worker(worker: Worker, tracer_provider: TracerProvider | None = None) -> None:
    """Traces a worker: for each attempt a span ``rwf.attempt`` within the trace of its workflow's
    insert, and in it ``rwf.claim``, ``rwf.handler``, during which the handler runs, and
    ``rwf.complete``, until the server has the report. An attempt links to the one before it, where
    this process has run that.

    To be called once, before the worker starts; it registers a middleware, which stands within
    those that are there already. Spans of a handler's own belong to ``rwf.handler``.
    """
    attempts = _Attempts(_tracer(tracer_provider))
    worker.observe("otel", attempts)
    worker.middleware(attempts.around_handler)


def _tracer(provider: TracerProvider | None) -> Tracer:
    return trace.get_tracer("rwf", tracer_provider=provider)


def _traceparent() -> str:
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    return carrier.get("traceparent", "")


@dataclass(slots=True)
class _Attempt:
    """The open spans of an attempt."""

    whole: Span
    completing: Span | None = None


class _Attempts(Observer):
    """The spans of a worker's attempts."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._open: dict[tuple[str, str, str], _Attempt] = {}
        self._before: OrderedDict[_Step, SpanContext] = OrderedDict()

    def claimed(self, claim: ClaimedStep) -> None:
        """Begins the attempt's span, in the trace of the workflow's insert."""
        step = (claim.workflow_id, claim.step)
        before = self._before.pop(step, None)
        whole = self._tracer.start_span(
            "rwf.attempt",
            context=_stored(claim),
            kind=SpanKind.CONSUMER,
            attributes={
                "rwf.workflow_id": claim.workflow_id,
                "rwf.step": claim.step,
                "rwf.worker": claim.worker,
                "rwf.queue": claim.queue,
                "rwf.attempt": claim.attempt,
            },
            links=[Link(before)] if before is not None else [],
        )
        self._before[step] = whole.get_span_context()
        if len(self._before) > _REMEMBERED:
            self._before.popitem(last=False)
        self._open[_key(claim)] = _Attempt(whole)
        now = time.time_ns()
        self._tracer.start_span("rwf.claim", _within(whole), start_time=now).end(now)

    def around_handler(self, context: StepContext) -> Iterator[None]:
        """A middleware: the handler runs in a span of its own."""
        attempt = self._open.get(_key(context.claim))
        parent = _within(attempt.whole) if attempt else None
        with self._tracer.start_as_current_span(
            "rwf.handler", parent, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield
            except Outcome:
                raise
            except BaseException as error:
                span.record_exception(error)
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                raise

    def ended(self, claim: ClaimedStep, outcome: str, seconds: float) -> None:
        """Begins the completion's span."""
        attempt = self._open.get(_key(claim))
        if attempt is None:
            return
        attempt.whole.set_attribute("rwf.outcome", outcome)
        if outcome in _FAILED:
            attempt.whole.set_status(Status(StatusCode.ERROR, outcome))
        if outcome in set(CompletionStatus) or outcome == "awaiting_signal":
            attempt.completing = self._tracer.start_span("rwf.complete", _within(attempt.whole))
        else:  # it reports nothing
            del self._open[_key(claim)]
            attempt.whole.end()

    def reported(self, claim: ClaimedStep, refusal: Refusal | None) -> None:
        """Ends both spans."""
        attempt = self._open.pop(_key(claim), None)
        if attempt is None:
            return
        for span in (attempt.completing, attempt.whole):
            if span is not None:
                if refusal is not None:
                    span.set_status(Status(StatusCode.ERROR, str(refusal)))
                span.end()


def _key(claim: ClaimedStep) -> tuple[str, str, str]:
    return claim.workflow_id, claim.step, claim.lease


def _stored(claim: ClaimedStep) -> Context:
    """The trace context that is stored with a workflow."""
    carrier = {} if claim.traceparent is None else {"traceparent": claim.traceparent}
    return _W3C.extract(carrier, Context())


def _within(span: Span) -> Context:
    return trace.set_span_in_context(span, Context())
