"""Queues, workers and daemons, signals that nobody took, and health."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.responses import Response

from rwf.console.visit import Visit
from rwf.model.states import SignalStatus

_STEPS: Final = 100
"""Steps in hand that are shown."""
_DAEMONS: Final = frozenset({"sweep", "callbacks", "partitions", "work"})
"""The doctor's checks that concern daemons."""


async def queues(visit: Visit) -> Response:
    """The queues: those first that hold steps and are served by nobody."""
    found = await visit.console.shared.get("queues", 2, visit.client.queues)
    ordered = sorted(found, key=lambda one: (one.served or not one.available, -one.available))
    return visit.page("queues.html", live="", queues=ordered, unreachable=found.unreachable)


async def signals(visit: Visit) -> Response:
    """Signals that no wait has consumed."""
    status = visit.query("status")
    found = await visit.client.signals(
        visit.query("signal"), visit.query("key"), status=status, cursor=visit.query("cursor")
    )
    return visit.page(
        "signals.html",
        live=None if visit.query("cursor") else "",
        found=found,
        filters={name: visit.query(name) for name in ("signal", "key", "status")},
        statuses=[SignalStatus.UNMATCHED, SignalStatus.AMBIGUOUS, SignalStatus.LATE],
    )


async def health(visit: Visit) -> Response:
    """The doctor's findings, the worst first."""
    report = await visit.console.shared.get("doctor", 10, visit.client.doctor)
    order = ("failed", "warning", "ok")
    checks = sorted(report.checks, key=lambda check: order.index(check.status))
    return visit.page("health.html", live="", report=report, checks=checks)


async def workers(visit: Visit) -> Response:
    """Who works and on what, who is in trouble or gone, and what daemons have done."""
    client, shared = visit.client, visit.console.shared
    known, running, report = await asyncio.gather(
        shared.get("workers", 2, client.workers),
        shared.get("running", 2, lambda: client.running(limit=_STEPS)),
        shared.get("doctor", 10, client.doctor),
    )
    return visit.page(
        "workers.html",
        live="",
        # Who needs somebody first, then who works.
        workers=sorted(known, key=lambda one: (one.alive, one.trouble is None)),
        running=running,
        unreachable=sorted({*known.unreachable, *running.unreachable}),
        checks=[check for check in report.checks if check.name in _DAEMONS],
    )
