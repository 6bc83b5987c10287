"""Metrics: the namespace's stored counts, and how long a process's own calls take (contract §10).

The counts are kept by the transitions themselves, so that each daemon serves those of the whole
fleet: ask any of them, as all tell the same. A service has its own calls measured
with :func:`instrument`.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Final, Protocol, Self
from weakref import WeakKeyDictionary
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Histogram
from prometheus_client.exposition import ThreadingWSGIServer, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from rwf import internals
from rwf.aio import AsyncClient
from rwf.client import Client
from rwf.errors import RwfError
from rwf.model.states import (
    SEMANTICS_VERSIONS,
    TERMINAL_STEPS,
    TERMINAL_WORKFLOWS,
    Action,
    CallbackEvent,
    CallbackOutcome,
    CallbackStatus,
    MoveScope,
    Reason,
    RepairKind,
    SignalStatus,
    StepCause,
    StepState,
    TicketStatus,
    WorkflowCause,
    WorkflowState,
)
from rwf.name_metrics import HandlerMetrics, NamesCollector, Run
from rwf.ops.stats import fleet
from rwf.worker.observer import Observer

PORT: Final = 9464
DURATION: Final = "rwf_call_duration_seconds"
READY_AGE: Final = "rwf_ready_oldest_age_seconds"
SWEEP_AGE: Final = "rwf_sweep_age_seconds"
SWEEP_ROUND: Final = "rwf_sweep_round_seconds"
OWNED: Final = "rwf_partitions_owned"
UNREACHABLE: Final = "rwf_partitions_unreachable"

_BUCKETS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
_REQUEST_SECONDS: Final = 5.0
"""How long a connection may take over its request."""
_ANSWER_SECONDS: Final = 15.0
"""How long it may take over all, its answer included."""
_CONNECTIONS: Final = 64
"""How many there may be; one more takes the place of the oldest that has not yet asked."""
_SCRAPE_SECONDS: Final = 5.0
"""How long a scrape waits for the counts."""
_STANDSTILL: Final = 60.0
"""Seconds without a tick (one that waits for a server which does not answer takes about 30), or in
which handlers keep a worker from its work."""
_PLAIN: Final = "text/plain; charset=utf-8"
_VERSIONS: Final = tuple(map(str, SEMANTICS_VERSIONS))


@dataclass(frozen=True, slots=True)
class Family:
    """A metric that is stored: fields ``code|value|value`` of the partitions' statistics.

    ``labels`` has, for each of these values, the label's name and all that it may be. Nothing else
    ever becomes a label: a field of another form, such as one of a later release, is left out.
    """

    name: str
    code: str
    help: str
    labels: Mapping[str, Iterable[str]]

    def zeros(self) -> dict[str, int]:
        """A count of 0 for each value of its one label, or for itself without one; with more labels
        most pairs never are. Of a count that begins at 1, Prometheus sees no increase."""
        if len(self.labels) > 1:
            return {}
        fields = [f"{self.code}|{value}" for values in self.labels.values() for value in values]
        return dict.fromkeys(fields or [self.code], 0)

    def samples(self, counts: Mapping[str, int]) -> Iterator[tuple[list[str], int]]:
        """The values of the labels, and the count, of each of the fields that are its own."""
        for field, count in sorted(counts.items()):
            code, *values = field.split("|")
            if code == self.code and len(values) == len(self.labels):
                known = zip(values, self.labels.values(), strict=True)
                if all(value in set(allowed) for value, allowed in known):
                    yield values, count


COUNTERS: Final = (
    Family(
        "rwf_steps_completed", "sc", "Steps that have ended, other than by a cascade.",
        {"outcome": TERMINAL_STEPS, "terminal_cause": StepCause, "semantics_version": _VERSIONS},
    ),
    Family(
        "rwf_steps_unblocked", "su", "Steps that became available: no dependency holds them now.",
        {"scope": MoveScope, "state": StepState, "semantics_version": _VERSIONS},
    ),
    Family(
        "rwf_cascade_cancelled", "cc", "Steps that the end of a parent has cancelled.",
        {
            "scope": MoveScope, "outcome": TERMINAL_STEPS, "terminal_cause": StepCause,
            "semantics_version": _VERSIONS,
        },
    ),
    Family(
        "rwf_workflows_terminal", "wt", "Ends of workflows; one that was revived ends again.",
        {
            "state": TERMINAL_WORKFLOWS, "outcome": TERMINAL_WORKFLOWS,
            "terminal_cause": WorkflowCause, "semantics_version": _VERSIONS,
        },
    ),
    Family(
        "rwf_commands_rejected", "cr", "Commands that the server has refused.",
        {"action": Action, "reason_code": Reason},
    ),
    Family(
        "rwf_signals", "sg", "Signals by status at delivery; again if consumed later.",
        {"status": SignalStatus},
    ),
    Family(
        "rwf_callbacks", "cb", "Attempts to deliver callbacks; a dead one counts as failed, too.",
        {"event": CallbackEvent, "outcome": CallbackOutcome},
    ),
    Family("rwf_lease_expired", "le", "Leases that have expired.", {}),
    Family(
        "rwf_tickets", "tk", "Tickets that were issued, started, or not started in time.",
        {"status": TicketStatus},
    ),
    Family(
        "rwf_reconcile_repairs", "rr", "Repairs of stored data that differed from the records.",
        {"kind": RepairKind},
    ),
)  # fmt: skip

_COUNTED_CALLBACKS: Final = [one for one in CallbackStatus if one is not CallbackStatus.LEASED]
GAUGES: Final = (
    Family("rwf_steps", "gs", "Stored steps by state.", {"state": StepState}),
    Family("rwf_workflows", "gw", "Stored workflows by state.", {"state": WorkflowState}),
    Family(
        "rwf_callbacks", "gc", "Stored callbacks by status; pending while leased.",
        {"status": _COUNTED_CALLBACKS},
    ),
)  # fmt: skip


class Daemon(Protocol):
    """The parts of a reconciler or a dispatcher that its metrics read."""

    @property
    def partitions(self) -> Sequence[int]:
        """The partitions that it looks after just now."""

    @property
    def tick_age(self) -> float | None:
        """How many seconds ago it last did its work; None before the first time."""


class Condition(Protocol):
    """The part of a worker's health that is asked for."""

    @property
    def stuck_seconds(self) -> float:
        """For how long its handlers have kept it from running anything."""


class Working(Protocol):
    """The parts of a worker that its metrics use."""

    @property
    def health(self) -> Condition:
        """Its condition now."""

    def observe(self, owner: object, observer: Observer) -> None:
        """Has an observer look on."""


class FleetCollector(Collector):
    """The namespace's counts, read from the server for each scrape.

    A counter and a gauge share the name ``rwf_callbacks``, which the OpenMetrics format has no way
    to tell: use the text format, as :func:`serve` does. Collecting raises what reading raises. With
    an ``AsyncClient`` it is made in the client's loop, and collects in another thread.
    """

    def __init__(self, client: Client | AsyncClient, daemon: Daemon | None = None) -> None:
        self._run = _runner(client)
        self._keys = internals.context_of(client).keys
        self._daemon = daemon

    def describe(self) -> list[Metric]:
        """Nothing, so that registering the collector asks no server."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All metrics but the histogram."""
        found = self._run(fleet(self._keys))
        for kind, families in ((CounterMetricFamily, COUNTERS), (GaugeMetricFamily, GAUGES)):
            yield from (_metric(kind, family, found.counts) for family in families)
        help_ = "How long the oldest step at the head of a queue has been available."
        yield GaugeMetricFamily(READY_AGE, help_, found.ready_seconds)
        if found.sweep_seconds is not None:
            help_ = "Time since the last sweep ended, in the partition where that is longest ago."
            yield GaugeMetricFamily(SWEEP_AGE, help_, found.sweep_seconds)
            help_ = "How long a sweep takes, in the partition where it takes longest."
            yield GaugeMetricFamily(SWEEP_ROUND, help_, found.round_seconds)
        help_ = "Partitions that did not answer this scrape; the other metrics do not include them."
        yield GaugeMetricFamily(UNREACHABLE, help_, len(found.unreachable))
        if self._daemon is not None:
            help_ = "Partitions that this daemon looks after."
            yield GaugeMetricFamily(OWNED, help_, len(self._daemon.partitions))


def _metric(
    kind: type[CounterMetricFamily | GaugeMetricFamily], family: Family, counts: Mapping[str, int]
) -> Metric:
    metric = kind(family.name, family.help, labels=list(family.labels))
    for values, count in family.samples({**family.zeros(), **counts}):
        metric.add_metric(values, count)
    return metric


# Two clients of one process share the histogram of a registry.
_histograms: Final[WeakKeyDictionary[CollectorRegistry, Histogram]] = WeakKeyDictionary()


def instrument(client: Client | AsyncClient, registry: CollectorRegistry = REGISTRY) -> None:
    """Measures each server call of a client, in ``rwf_call_duration_seconds{function}``.

    From sending to the reply, with all that is sent again; failed calls count as well. Harmless
    when repeated, and other registries of the same client go on. The fleet's counts are the
    daemons' to serve, and not added.
    """
    if registry not in _histograms:
        _histograms[registry] = Histogram(
            DURATION, "Server calls by function.", ["function"], registry=registry, buckets=_BUCKETS
        )
    histogram = _histograms[registry]
    internals.observe(client, histogram, lambda name, took: histogram.labels(name).observe(took))


def serve(
    client: Client | AsyncClient,
    host: str = "127.0.0.1",
    port: int = PORT,
    reconciler: Daemon | None = None,
    worker: Working | None = None,
    by_name: bool = False,
) -> MetricsServer:
    """Serves ``/metrics`` and ``/healthz`` over HTTP until the server is closed.

    With a ``reconciler`` the metrics tell how many partitions it owns, and ``/healthz`` answers 503
    when it has not ticked for a minute; with a ``worker``, when its handlers have kept it from
    running anything for a minute. An unreachable server does not cause that. With ``by_name`` there
    are metrics by queue, by workflow name and, of a worker, by handler. A scrape that
    the server does not answer within 5 s is answered 503. Connections are bounded in number (64)
    and time (5 s for the request): slow ones make room, and hold up neither. Port 0 takes any that
    is free. With an ``AsyncClient`` it must be called, and closed, in the client's loop. Raises
    OSError when the address cannot be had.
    """
    registry = CollectorRegistry()
    registry.register(FleetCollector(client, reconciler))
    if by_name:
        registry.register(NamesCollector(_runner(client), internals.context_of(client)))
        if worker is not None:
            worker.observe("metrics", HandlerMetrics(registry))
    instrument(client, registry)
    return MetricsServer(registry, reconciler, worker, host, port)


def _runner(client: Client | AsyncClient) -> Run:
    """How another thread has an operation carried out."""
    if isinstance(client, Client):
        return partial(internals.run, client)
    loop = asyncio.get_running_loop()
    return lambda op: asyncio.run_coroutine_threadsafe(
        internals.run_async(client, op), loop
    ).result()


class MetricsServer:
    """A running HTTP server; ``host`` and ``port`` are where it listens."""

    def __init__(
        self,
        registry: CollectorRegistry,
        daemon: Daemon | None,
        worker: Working | None,
        host: str,
        port: int,
    ) -> None:
        self._scrapes = _Scrapes(registry)
        self._daemon = daemon
        self._worker = worker
        kind = _SixServer if ":" in host else _Server
        self._server = make_server(host, port, self._answer, kind, handler_class=_Handler)
        self.host = str(self._server.server_address[0])
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops listening; harmless when repeated."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _answer(self, request: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        status, kind, body = self._found(request)
        start(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [b"" if request["REQUEST_METHOD"] == "HEAD" else body]

    def _found(self, request: dict[str, Any]) -> tuple[str, str, bytes]:
        if request["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return "405 Method Not Allowed", _PLAIN, b"only GET\n"
        match request["PATH_INFO"]:
            case "/metrics":
                return self._metrics()
            case "/healthz":
                return self._health()
        return "404 Not Found", _PLAIN, b"/metrics or /healthz\n"

    def _metrics(self) -> tuple[str, str, bytes]:
        try:
            return "200 OK", CONTENT_TYPE_LATEST, self._scrapes.latest()
        except TimeoutError:
            why = f"the server did not return its counts within {_SCRAPE_SECONDS:g} s"
        except RwfError as error:
            why = str(error)
        return "503 Service Unavailable", _PLAIN, f"{why}\n".encode()

    def _health(self) -> tuple[str, str, bytes]:
        age = self._daemon.tick_age if self._daemon else None
        if age is not None and age > _STANDSTILL:
            return "503 Service Unavailable", _PLAIN, b"the daemon has stopped ticking\n"
        if self._worker is not None and self._worker.health.stuck_seconds > _STANDSTILL:
            return "503 Service Unavailable", _PLAIN, b"handlers keep the worker from its work\n"
        return "200 OK", _PLAIN, b"ok\n"


class _Scrapes:
    """Reads the registry in a thread of its own, once for all who ask while that takes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._lock = threading.Lock()
        self._latest: Future[bytes] | None = None

    def latest(self) -> bytes:
        """The metrics as text; raises what reading raises, and TimeoutError."""
        with self._lock:
            reading = self._latest
            if reading is None or reading.done():
                reading = self._latest = Future()
                threading.Thread(target=self._read, args=[reading], daemon=True).start()
        return reading.result(_SCRAPE_SECONDS)

    def _read(self, reading: Future[bytes]) -> None:
        try:
            reading.set_result(generate_latest(self._registry))
        except BaseException as error:
            reading.set_exception(error)


class _Connections:
    """The connections of a server, the oldest first, and which of them have asked for something."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: dict[Any, float] = {}
        self._asked: set[Any] = set()

    def admit(self, connection: Any) -> None:
        """One more; where there are too many, one of the others is cut off."""
        with self._lock:
            if len(self._begun) >= _CONNECTIONS:
                silent = (one for one in self._begun if one not in self._asked)
                self._cut(next(silent, next(iter(self._begun))))
            self._begun[connection] = time.monotonic()

    def asks(self, connection: Any) -> None:
        """Its request is read."""
        with self._lock:
            if connection in self._begun:
                self._asked.add(connection)

    def over(self, connection: Any) -> None:
        """Takes a closed connection off the count."""
        with self._lock:
            self._forget(connection)

    def cut_slow(self) -> None:
        """Cuts off those whose time is over, however they spread what they send."""
        with self._lock:
            now = time.monotonic()
            for one, begun in list(self._begun.items()):
                if now - begun > (_ANSWER_SECONDS if one in self._asked else _REQUEST_SECONDS):
                    self._cut(one)

    def _cut(self, connection: Any) -> None:
        """Ends the thread that waits for this connection."""
        self._forget(connection)
        with suppress(OSError):  # it is closed already
            connection.shutdown(socket.SHUT_RDWR)

    def _forget(self, connection: Any) -> None:
        self._begun.pop(connection, None)
        self._asked.discard(connection)


class _Server(ThreadingWSGIServer):
    request_queue_size = 128

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.connections = _Connections()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.admit(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.over(request)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Is called twice a second, and after each new connection."""
        self.connections.cut_slow()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: it would print a traceback for each that connects and sends no request."""


class _SixServer(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = _REQUEST_SECONDS
    server: _Server

    def get_environ(self) -> dict[str, Any]:
        self.server.connections.asks(self.connection)
        return super().get_environ()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a line for each scrape helps nobody."""
