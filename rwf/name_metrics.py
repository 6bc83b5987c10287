"""Metrics with labels that users choose: queues, workflow names, handlers (contract §17).

Each label has 200 values at most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol, TypeVar

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client import Counter as PrometheusCounter
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from rwf.model.views import ClaimedStep, QueueStats
from rwf.ops.base import OpContext
from rwf.ops.stats import fleet
from rwf.ops.summary import stats
from rwf.protocol.requests import Op
from rwf.worker.observer import Observer

T = TypeVar("T")


class Run(Protocol):
    """Carries out an operation, from another thread."""

    def __call__(self, op: Op[T], /) -> T: ...


_HANDLER_BUCKETS: Final = (
    0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class QueueFamily:
    """A metric by queue: its value of a queue; ``joined`` makes one of those of several."""

    name: str
    kind: type[CounterMetricFamily | GaugeMetricFamily]
    help: str
    value: Callable[[QueueStats, datetime], float]
    joined: Callable[[Iterable[float]], float] = sum


def _oldest_age(queue: QueueStats, now: datetime) -> float:
    return 0.0 if queue.oldest_at is None else max((now - queue.oldest_at).total_seconds(), 0.0)


QUEUES: Final = (
    QueueFamily(
        "rwf_queue_available", GaugeMetricFamily, "Steps that wait in a queue.",
        lambda queue, _: queue.available,
    ),
    QueueFamily(
        "rwf_queue_oldest_age_seconds", GaugeMetricFamily,
        "How long the first of them has been waiting.", _oldest_age, max,
    ),
    QueueFamily(
        "rwf_queue_running", GaugeMetricFamily, "Steps of a queue that somebody has in hand.",
        lambda queue, _: queue.running,
    ),
    QueueFamily(
        "rwf_queue_served", GaugeMetricFamily,
        "Whether anybody has asked for steps of a queue within the last minute.",
        lambda queue, _: queue.served, min,
    ),
    QueueFamily(
        "rwf_queue_ended", CounterMetricFamily,
        "Steps of a queue that have ended, other than cancelled.", lambda queue, _: queue.ended,
    ),
)  # fmt: skip
WORKFLOWS_ENDED: Final = "rwf_workflow_ended"
HANDLER_SECONDS: Final = "rwf_handler_duration_seconds"
HANDLER_ATTEMPTS: Final = "rwf_handler_attempts"
LABELS: Final = 200
"""How many values a label has that users choose; the rest are ``other``."""
_OTHER: Final = "other"


class NamesCollector(Collector):
    """Metrics by queue and by workflow name: at most 200 of each, those of which most has ended.
    Read from the server for each scrape."""

    def __init__(self, run: Run, ctx: OpContext) -> None:
        self._run = run
        self._ctx = ctx

    def describe(self) -> list[Metric]:
        """Nothing, so that registering the collector asks no server."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The metrics by queue and by workflow name."""
        found = self._run(stats(self._ctx))
        now = datetime.now(UTC)
        ranked = sorted(found.queues, key=lambda one: (-one.ended, -one.available, one.name))
        for family in QUEUES:
            metric = family.kind(family.name, family.help, labels=["queue"])
            for queue in ranked[:LABELS]:
                metric.add_metric([queue.name], family.value(queue, now))
            if rest := [family.value(queue, now) for queue in ranked[LABELS:]]:
                metric.add_metric([_OTHER], family.joined(rest))
            yield metric
        ended = self._run(fleet(self._ctx.keys)).workflows
        yield _by_name(ended)


def _by_name(ended: Mapping[tuple[str, str], int]) -> Metric:
    """Ends of workflows by name and state."""
    metric = CounterMetricFamily(
        WORKFLOWS_ENDED, "Workflows of a name that have ended, by how.", labels=["name", "state"]
    )
    totals: Counter[str] = Counter()
    for (name, _), count in ended.items():
        totals[name] += count
    shown = {name for name, _ in totals.most_common(LABELS)}
    sums: Counter[tuple[str, str]] = Counter()
    for (name, state), count in ended.items():
        sums[name if name in shown else _OTHER, state] += count
    for (name, state), count in sorted(sums.items()):
        metric.add_metric([name, state], count)
    return metric


class HandlerMetrics(Observer):
    """How long a worker's handlers take, and what their attempts come to, by handler."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            HANDLER_SECONDS, "Attempts by handler.", ["handler"], registry=registry,
            buckets=_HANDLER_BUCKETS,
        )  # fmt: skip
        self._attempts = PrometheusCounter(
            HANDLER_ATTEMPTS, "Attempts by handler and outcome.", ["handler", "outcome"],
            registry=registry,
        )  # fmt: skip
        self._known: set[str] = set()

    def ended(self, claim: ClaimedStep, outcome: str, seconds: float) -> None:
        name = claim.worker
        if name not in self._known:
            if len(self._known) < LABELS:
                self._known.add(name)
            else:
                name = _OTHER
        self._seconds.labels(name).observe(seconds)
        self._attempts.labels(name, outcome).inc()
