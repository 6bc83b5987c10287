"""Queues, workers and daemons, signals that nobody took, and health."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from starlette.responses import Response

from rwf.aio import AsyncClient
from rwf.console.visit import Visit
from rwf.errors import NotFound, RecordUnreadable
from rwf.model.states import SignalStatus, StepState, WorkflowState
from rwf.model.views import StepView

_LOOKED_AT: Final = 40
"""Running workflows, the newest, whose steps in hand are shown."""
_STEPS: Final = 200
"""Of each of them, so many steps are looked at."""
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


@dataclass(slots=True)
class Holder:
    """A worker, by the leases that it holds."""

    name: str
    steps: list[tuple[str, StepView]] = field(default_factory=list)

    @property
    def oldest(self) -> datetime | None:
        return min((step.started_at for _, step in self.steps if step.started_at), default=None)


@dataclass(frozen=True, slots=True)
class InHand:
    """The steps that run, by who runs them; ``looked_at`` is how many workflows were."""

    holders: Sequence[Holder]
    looked_at: int
    more: bool


async def workers(visit: Visit) -> Response:
    """Who runs which steps, who has asked for some, and what daemons have done."""
    client, shared = visit.client, visit.console.shared
    in_hand, queues_, report = await asyncio.gather(
        shared.get("in hand", 2, lambda: _in_hand(client)),
        shared.get("queues", 2, client.queues),
        shared.get("doctor", 10, client.doctor),
    )
    return visit.page(
        "workers.html",
        live="",
        in_hand=in_hand,
        queues=[queue for queue in queues_ if queue.asked_at is not None],
        checks=[check for check in report.checks if check.name in _DAEMONS],
    )


async def _in_hand(client: AsyncClient) -> InHand:
    pages = await asyncio.gather(
        *(
            client.list(state=state, limit=_LOOKED_AT)
            for state in (WorkflowState.RUNNING, WorkflowState.AVAILABLE)
        )
    )
    found = sorted(
        (view for page in pages for view in page.workflows), key=lambda view: view.inserted_at
    )
    some = found[-_LOOKED_AT:]
    holders: dict[str, Holder] = {}
    for view_id, steps in await asyncio.gather(*(_steps(client, view.id) for view in some)):
        for step in steps:
            if step.state is StepState.EXECUTING:
                name = step.leased_by or ""
                holders.setdefault(name, Holder(name)).steps.append((view_id, step))
    more = len(found) > len(some) or any(page.cursor for page in pages)
    ordered = sorted(holders.values(), key=lambda holder: holder.name)
    return InHand(ordered, len(some), more)


async def _steps(client: AsyncClient, workflow_id: str) -> tuple[str, list[StepView]]:
    try:
        return workflow_id, await client.steps(workflow_id, limit=_STEPS, payloads=False)
    except (NotFound, RecordUnreadable):
        return workflow_id, []
