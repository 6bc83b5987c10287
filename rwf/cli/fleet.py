"""Commands on a whole namespace: who works, and on what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import click

from rwf import Client
from rwf.cli.common import Output, dumped, on_client
from rwf.cli.text import length, table
from rwf.model.names import escaped
from rwf.model.views import StatsView, WorkerView


@click.command()
@on_client
def workers(client: Client, out: Output) -> None:
    """List the workers: what they serve, how much they run, and whether they are well.

    Each tells of itself every 3 s. One that ends says so and leaves the list; one that was killed
    is gone after 10 s, and leaves the list after an hour.
    """
    found = client.workers()
    out.without(found.unreachable)
    if out.as_json:
        out.document([dumped(view) for view in found])
        return
    head = ("WORKER", "STATE", "RUNNING", "FOR", "SEEN", "QUEUES", "HANDLERS")
    rows = [
        (
            view.id,
            state_of(view),
            f"{view.running}/{view.concurrency}",
            length(view.started_at, view.seen_at),
            view.seen_at,
            _names(view.queues, view.queue_count),
            _names(view.handlers, view.handler_count),
        )
        for view in found
    ]
    out.lines(table(head, rows) or ["no worker has been seen in the last hour"])
    for view in found:
        if view.alive and view.trouble is not None:
            out.lines([f"{escaped(view.id)}: {escaped(view.trouble)}"])


def state_of(worker: WorkerView) -> str:
    """A worker's state in a word: ok, in trouble, or gone."""
    if not worker.alive:
        return "gone"
    return "ok" if worker.trouble is None else "in trouble"


def _names(names: Sequence[str], count: int) -> str:
    more = [f"and {count - len(names)} more"] if count > len(names) else []
    return ", ".join([*names, *more]) or "none"


@click.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@on_client
def running(client: Client, out: Output, *, limit: int) -> None:
    """List the steps that somebody has in hand, those first that were claimed first."""
    found = client.running(limit=limit)
    out.without(found.unreachable)
    if out.as_json:
        out.document(dumped(found))
        return
    now = datetime.now(UTC)
    head = ("FOR", "STEP", "ATTEMPT", "WORKER", "QUEUE", "WORKFLOW", "NAME")
    rows = [
        (
            length(step.claimed_at, now),
            step.step,
            step.attempt,
            f"{step.worker_id} (dispatched)" if step.dispatched else step.worker_id,
            step.queue,
            step.workflow_id,
            step.workflow_name,
        )
        for step in found.steps
    ]
    out.lines(table(head, rows, whole=("WORKFLOW",)) or ["no step is running"])
    if found.count > len(found.steps):
        out.lines([f"{len(found.steps)} of {found.count} steps: --limit shows up to 1000"])


@click.command()
@on_client
def stats(client: Client, out: Output) -> None:
    """Count workflows and steps by state, and for each queue what waits, runs and ends."""
    found = client.stats()
    out.without(found.unreachable)
    if out.as_json:
        out.document(dumped(found))
        return
    out.lines(_stats_lines(found))


def _stats_lines(stats: StatsView) -> Iterator[str]:
    opened = {status: count for status, count in stats.open.items() if count}
    for what, counts in (
        ("open", opened),
        ("workflows", stats.workflows),
        ("steps", stats.steps),
        ("callbacks", stats.callbacks),
    ):
        told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        yield f"{what}: {told or 'none'}"
    head = ("QUEUE", "READY", "OLDEST", "RUNNING", "ENDED/MIN", "ENDED", "SERVED")
    rows = [
        (
            queue.name,
            queue.available,
            queue.oldest_at,
            queue.running,
            f"{queue.per_minute:.1f}",
            queue.ended,
            "yes" if queue.served else "no",
        )
        for queue in stats.queues
    ]
    yield from table(head, rows)


COMMANDS = (workers, running, stats)
