"""Workflows: the list with its filters, and finding one by its id or key."""

from __future__ import annotations

from typing import Final

from starlette.responses import RedirectResponse, Response

from rwf.console.filters import FILTERS, filter_of, given_of
from rwf.console.visit import Visit, url
from rwf.errors import CommandRejected, NotFound, RwfError
from rwf.model.states import OperatorStatus, WorkflowState

_PAGE: Final = 50


async def workflows(visit: Visit) -> Response:
    """A page of workflows, newest first."""
    given = given_of(visit.request.query_params)
    found = await visit.client.list(**filter_of(given), limit=_PAGE, cursor=visit.query("cursor"))
    return visit.page(
        "workflows.html",
        live=None if visit.query("cursor") else "",
        found=list(zip(found.workflows, found.operator_statuses, strict=True)),
        cursor=found.cursor,
        unreachable=found.unreachable,
        filters=dict.fromkeys(FILTERS, "") | given,
        is_filtered=bool(given),
        statuses=[*OperatorStatus],
        states=[*WorkflowState],
    )


async def find(visit: Visit) -> Response:
    """Leads to the workflow of an id, or of an insert key."""
    text = (visit.query("q") or "").strip()
    if text:
        for read in (visit.client.get, visit.client.find):
            try:
                view = await read(text)
            except (NotFound, CommandRejected):
                continue
            return RedirectResponse(url(visit.request, f"/workflows/{view.id}"), 303)
    raise NotFound(f"no workflow has this id or key: {text}") if text else _nothing()


def _nothing() -> RwfError:
    return NotFound("give a workflow's id or key")
