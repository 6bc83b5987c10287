"""The first page: what needs somebody now, the gravest first."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from starlette.responses import Response

from rwf.aio import AsyncClient
from rwf.console.visit import Visit
from rwf.errors import NotFound, RecordUnreadable
from rwf.model.states import OperatorStatus, WorkflowState
from rwf.model.views import RootCause, WorkflowPage, WorkflowView

_LISTED: Final = 50
_EXPLAINED: Final = 20
"""Workflows of which the root cause is shown."""
_SMALL: Final = 500
"""Steps of a workflow that is explained here; a larger one is on its own page."""
_SHOWN: Final = 5
"""Workflows of a group that are named."""


@dataclass(slots=True)
class Trouble:
    """Workflows that need review for the same reason, the newest first."""

    name: str
    cause: RootCause | None
    workflows: list[WorkflowView] = field(default_factory=list)

    @property
    def shown(self) -> Sequence[WorkflowView]:
        return self.workflows[:_SHOWN]


@dataclass(frozen=True, slots=True)
class Attention:
    """Workflows that need review, and open ones that have a cancel request."""

    troubles: Sequence[Trouble]
    review: WorkflowPage
    blocked: WorkflowPage


async def overview(visit: Visit) -> Response:
    """The overview: workflows that need review, unserved queues, kept signals, findings."""
    client, shared = visit.client, visit.console.shared
    attention, queues, signals, report, stats = await asyncio.gather(
        shared.get("attention", 2, lambda: _attention(client)),
        shared.get("queues", 2, client.queues),
        shared.get("signals", 5, client.signals),
        shared.get("doctor", 10, client.doctor),
        shared.get("stats", 5, client.stats),
    )
    return visit.page(
        "overview.html",
        stats=stats,
        live="",
        attention=attention,
        deserted=[queue for queue in queues if queue.available and not queue.served],
        signals=signals,
        findings=[check for check in report.checks if check.status != "ok"],
        unreachable=sorted({*attention.review.unreachable, *queues.unreachable}),
    )


async def _attention(client: AsyncClient) -> Attention:
    review, blocked = await asyncio.gather(
        client.list(status=OperatorStatus.NEEDS_REVIEW, limit=_LISTED),
        client.list(
            state=WorkflowState.CANCEL_REQUESTED,
            status=OperatorStatus.BLOCKED,
            limit=_LISTED,
        ),
    )
    return Attention(await _troubles(client, review.workflows), review, blocked)


async def _troubles(client: AsyncClient, workflows: Sequence[WorkflowView]) -> list[Trouble]:
    """The workflows by why they need review; the reason that most have comes first."""
    causes = await asyncio.gather(*(_cause(client, view) for view in workflows[:_EXPLAINED]))
    found: dict[object, Trouble] = {}
    for place, view in enumerate(workflows):
        cause = causes[place] if place < len(causes) else None
        key = (view.name, cause and (cause.step, cause.code, cause.summary))
        found.setdefault(key, Trouble(view.name, cause)).workflows.append(view)
    return sorted(found.values(), key=lambda trouble: -len(trouble.workflows))


async def _cause(client: AsyncClient, view: WorkflowView) -> RootCause | None:
    """The first of a workflow's root causes, of one that is small enough and still there."""
    if view.step_count > _SMALL:
        return None
    try:
        why = await client.explain(view.id)
    except (NotFound, RecordUnreadable):
        return None
    return next(iter(why.root_causes), None)
