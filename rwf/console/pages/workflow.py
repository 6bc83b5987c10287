"""A workflow: why it is where it is, its graph, timeline, steps, evidence and callbacks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from rwf.console.graph import picture
from rwf.console.timeline import WIDTH, bars
from rwf.console.visit import Visit
from rwf.model.operator_status import (
    blocked_by_themselves,
    held_by_retries,
    status_of,
    workflow_status,
)
from rwf.model.states import OperatorStatus
from rwf.model.views import GraphView, WorkflowExplanation

LARGE: Final = 5_000
"""Steps beyond which no graph is drawn."""
_AT_ONCE: Final = 1_000
"""Steps beyond which why comes after the rest of the page, as all of them are read for it."""
_CAUSES: Final = 10
_FIRST_STEPS: Final = 25
_STEPS: Final = 100
_EVIDENCE: Final = 200


async def workflow(visit: Visit) -> Response:
    """Why, what can be done, the graph, and the steps that matter most."""
    workflow_id: str = visit.request.path_params["id"]
    view = await visit.client.get(workflow_id)
    if view.step_count > _AT_ONCE and not visit.query("why"):
        return visit.page(
            "workflow.html", live=workflow_id, view=view, status=workflow_status(view), why=None
        )
    if view.step_count > LARGE:
        async with visit.console.shared.turn(large=True):
            why = await visit.client.explain(workflow_id)
        return visit.page("workflow.html", **_explained(view.id, why), view=view, graph=None)
    why, graph, timeline = await asyncio.gather(
        visit.client.explain(workflow_id),
        visit.client.graph(workflow_id, payloads=False),
        visit.client.timeline(workflow_id),
    )
    statuses = step_statuses(graph, why)
    roots = [cause.step for cause in why.root_causes]
    ranks = [*OperatorStatus]
    urgent = sorted(graph.steps, key=lambda step: ranks.index(statuses[step.name]))
    return visit.page(
        "workflow.html",
        **_explained(view.id, why),
        view=graph.workflow,
        graph=picture(
            graph,
            statuses,
            roots,
            focus=_known(graph, visit.query("focus")),
            unfold=_known(graph, visit.query("unfold")),
        ),
        steps=urgent[:_FIRST_STEPS],
        statuses=statuses,
        summaries={cause.step: cause.summary for cause in why.root_causes},
        bars=bars(timeline),
        bar_width=WIDTH,
    )


def _explained(workflow_id: str, why: WorkflowExplanation) -> dict[str, Any]:
    return {
        "live": workflow_id,
        "status": why.operator_status,
        "why": why,
        "causes": why.root_causes[:_CAUSES],
    }


def _known(graph: GraphView, name: str | None) -> str | None:
    return name if any(step.name == name for step in graph.steps) else None


def step_statuses(graph: GraphView, why: WorkflowExplanation) -> Mapping[str, OperatorStatus]:
    """The operator status of each step."""
    held, blocked = held_by_retries(graph), blocked_by_themselves(why)
    return {step.name: status_of(step, graph.workflow, held, blocked) for step in graph.steps}


async def steps(visit: Visit) -> Response:
    """A page of the steps, in topological order."""
    workflow_id: str = visit.request.path_params["id"]
    view = await visit.client.get(workflow_id)
    offset = visit.number("offset", view.step_count)
    some = await visit.client.steps(workflow_id, limit=_STEPS, offset=offset, payloads=False)
    statuses = {step.name: status_of(step, view, (), {}) for step in some}
    return visit.page(
        "steps.html",
        live=workflow_id,
        view=view,
        status=workflow_status(view),
        steps=some,
        statuses=statuses,
        offset=offset,
        before=max(offset - _STEPS, 0) if offset else None,
        behind=offset + len(some) if offset + len(some) < view.step_count else None,
    )


async def evidence(visit: Visit) -> Response:
    """The latest evidence, newest first."""
    workflow_id: str = visit.request.path_params["id"]
    view = await visit.client.get(workflow_id)
    async with visit.console.shared.turn(large=view.step_count > LARGE):
        found = await visit.client.evidence(workflow_id)
    return visit.page(
        "evidence.html",
        live=workflow_id,
        view=view,
        status=workflow_status(view),
        entries=found[: -_EVIDENCE - 1 : -1],
        count=len(found),
    )


async def callbacks(visit: Visit) -> Response:
    """The callbacks, oldest first, and where each stands."""
    workflow_id: str = visit.request.path_params["id"]
    view, found = await asyncio.gather(
        visit.client.get(workflow_id), visit.client.callbacks(workflow_id)
    )
    return visit.page(
        "callbacks.html",
        live=workflow_id,
        view=view,
        status=workflow_status(view),
        entries=found[-_EVIDENCE:],
    )
