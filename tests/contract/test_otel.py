"""Traces (contract §18): from the request that inserts a workflow to its last step, one trace."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rwf import AsyncClient, Await, Client, Fail, Retry, Worker, otel
from tests.support.commandline import Cli
from tests.support.consoles import console
from tests.support.flows import flow
from tests.support.servers import AnyServer
from tests.support.waiting import until
from tests.support.workers import CLIENTS, at_work, client_of


class Traces:
    """A provider of tracers, and the spans that have ended."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("test")

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        [span] = self.spans(name)
        return span


@pytest.fixture
def traces() -> Iterator[Traces]:
    found = Traces()
    yield found
    found.provider.shutdown()


def trace_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.trace_id)


def is_child(span: ReadableSpan, parent: ReadableSpan) -> bool:
    assert parent.context is not None
    return span.parent is not None and span.parent.span_id == parent.context.span_id


@CLIENTS
def test_one_trace_goes_from_the_request_to_the_last_step(
    one_client: Client, one_server: AnyServer, traces: Traces, kind: str
) -> None:
    otel.instrument(one_client, traces.provider)
    worker = Worker(client_of(kind, one_server))
    seen: list[int] = []

    @worker.step("plain")
    def plain() -> str:
        seen.append(trace.get_current_span().get_span_context().span_id)
        with traces.tracer.start_as_current_span("own"):
            return "done"

    @worker.step("asynchronous")
    async def asynchronous() -> None:
        await asyncio.sleep(0)

    otel.instrument_worker(worker, traces.provider)
    workflow = flow("a", worker="plain").add("b", worker="asynchronous", deps=["a"])
    with traces.tracer.start_as_current_span("request") as request:
        view = one_client.insert(workflow)
    with at_work(worker):
        until(lambda: one_client.get(view.id).finished_at, what="the end")
        until(lambda: len(traces.spans("rwf.attempt")) == 2, what="both attempts")
    insert = traces.one("rwf.insert")
    assert is_child(insert, traces.one("request"))
    assert view.traceparent is not None
    assert view.traceparent.split("-")[1] == f"{request.get_span_context().trace_id:032x}"
    assert one_client.get(view.id).traceparent == view.traceparent
    attempts = traces.spans("rwf.attempt")
    for attempt in attempts:
        assert is_child(attempt, insert)
        [mine] = [span for span in traces.spans("rwf.handler") if is_child(span, attempt)]
        for name in ("rwf.claim", "rwf.complete"):
            assert sum(is_child(span, attempt) for span in traces.spans(name)) == 1
        if attempt.attributes and attempt.attributes["rwf.step"] == "a":
            assert mine.context is not None
            assert [mine.context.span_id] == seen
            assert is_child(traces.one("own"), mine)
        assert attempt.attributes is not None
        assert attempt.attributes["rwf.outcome"] == "completed"
    for name in ("rwf.insert", "rwf.attempt", "rwf.claim", "rwf.handler", "rwf.complete", "own"):
        assert {trace_of(span) for span in traces.spans(name)} == {trace_of(insert)}


def test_attempts_link_to_the_one_before_and_tell_failures(
    one_client: Client, one_server: AnyServer, traces: Traces
) -> None:
    otel.instrument(one_client, traces.provider)
    worker = Worker(client_of("sync", one_server))

    @worker.step("again")
    def again(ctx: object) -> None:
        if len(traces.spans("rwf.attempt")) == 0:
            raise Retry("not yet", in_=0)
        if len(traces.spans("rwf.attempt")) == 1:
            raise RuntimeError("broken")
        raise Fail("no")

    otel.instrument_worker(worker, traces.provider)
    view = one_client.insert(flow("a", worker="again", backoff=0.01))
    with at_work(worker):
        until(lambda: one_client.get(view.id).finished_at, what="the end")
        until(lambda: len(traces.spans("rwf.attempt")) == 3, what="three attempts")
    first, second, third = traces.spans("rwf.attempt")
    assert [len(first.links), len(second.links), len(third.links)] == [0, 1, 1]
    assert second.links[0].context == first.context
    assert third.links[0].context == second.context
    handlers = traces.spans("rwf.handler")
    # Outcomes that are raised are none of the handler's errors.
    assert [span.status.is_ok for span in handlers] == [True, False, True]
    assert [len(span.events) for span in handlers] == [0, 1, 0]
    assert [span.status.is_ok for span in (first, second, third)] == [True, True, False]
    assert len({trace_of(span) for span in (first, second, third)}) == 1


def test_waits_and_steps_without_a_trace(
    one_client: Client, one_server: AnyServer, traces: Traces
) -> None:
    worker = Worker(client_of("sync", one_server))

    @worker.step("wait")
    def wait() -> None:
        raise Await(signal="go", correlation_key="k")

    otel.instrument_worker(worker, traces.provider)
    view = one_client.insert(flow("a", worker="wait"))
    assert view.traceparent is None
    with at_work(worker):
        until(lambda: traces.spans("rwf.attempt"), what="the attempt")
    attempt = traces.one("rwf.attempt")
    assert attempt.parent is None
    assert attempt.attributes is not None
    assert attempt.attributes["rwf.outcome"] == "awaiting_signal"


def test_executors_of_ones_own_are_traced_by_the_client(
    one_server: AnyServer, traces: Traces
) -> None:
    async def run() -> None:
        async with AsyncClient.from_url(one_server.url) as client:
            otel.instrument(client, traces.provider)
            view = await client.insert(flow("a b"))
            claims = await client.claim(["default"], worker_id="w", limit=2)
            assert {claim.traceparent for claim in claims} == {view.traceparent}
            await client.complete(claims[0])
            await client.get(view.id)
            many = await client.insert_many([flow("a"), flow("a")])
            assert len({one.traceparent for one in many}) == 1
            assert None not in {one.traceparent for one in many}

    asyncio.run(run())
    for name in ("rwf.insert", "rwf.claim", "rwf.complete_step", "rwf.insert_many"):
        assert traces.one(name).parent is None
    assert len(traces.spans("rwf.get")) == 0


def test_trace_ids_are_shown(
    one_client: Client, one_server: AnyServer, traces: Traces, cli: Cli
) -> None:
    otel.instrument(one_client, traces.provider)
    view = one_client.insert(flow("a"), key="k")
    assert one_client.insert(flow("a"), key="k").traceparent == view.traceparent
    assert view.traceparent is not None
    assert f"  trace {view.traceparent}\n" in cli.ok("show", view.id)
    with console(one_server.url) as visitor:
        assert view.traceparent.split("-")[1] in visitor.page(f"/workflows/{view.id}").text
