"""A step: why it is where it is, what can be done, what it was given and what it reported."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.responses import Response

from rwf.console.graph import picture
from rwf.console.pages.workflow import LARGE, step_statuses
from rwf.console.visit import Visit
from rwf.errors import NotFound

_ATTEMPTS: Final = 5
_EVIDENCE: Final = 50
_LISTED: Final = 20


async def step(visit: Visit) -> Response:
    """One step of a workflow."""
    client, name = visit.client, visit.query("name")
    workflow_id: str = visit.request.path_params["id"]
    if name is None:
        raise NotFound("give a step's name")
    view = await client.get(workflow_id)
    async with visit.console.shared.turn(large=view.step_count > LARGE):
        found, why = await asyncio.gather(
            client.step(workflow_id, name), client.explain_step(workflow_id, name)
        )
    numbers = range(found.attempt, max(found.attempt - _ATTEMPTS, 0), -1)
    results = await asyncio.gather(
        *(client.result(workflow_id, name, attempt=number) for number in numbers)
    )
    near, entries = None, None
    if view.step_count <= LARGE:
        graph, all_of, entries = await asyncio.gather(
            client.graph(workflow_id, payloads=False),
            client.explain(workflow_id),
            client.evidence(workflow_id, step=name),
        )
        roots = [cause.step for cause in all_of.root_causes]
        near = picture(graph, step_statuses(graph, all_of), roots, focus=name, near=True)
    return visit.page(
        "step.html",
        live=workflow_id,
        view=view,
        step=found,
        why=why,
        # That it has failed is said above, with what it reported.
        blockers=[blocker for blocker in why.blockers if blocker.code != "step_failed"],
        causes=[cause for cause in why.root_causes if cause.step != name][:_LISTED],
        dependencies=why.dependencies[:_LISTED],
        results=[result for result in results if result is not None],
        earlier=max(found.attempt - _ATTEMPTS, 0),
        graph=near,
        entries=None if entries is None else entries[: -_EVIDENCE - 1 : -1],
    )
