"""The console as an ASGI app: its routes, and how errors are shown."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from rwf.aio import AsyncClient
from rwf.console.access import READ, Authorize, TokenAccess
from rwf.console.acting import Acting
from rwf.console.live import Hub
from rwf.console.pages import bulk, fleet, overview, step, workflow, workflows
from rwf.console.security import Hardened, checked_form
from rwf.console.visit import STATIC, Console, Visit, page
from rwf.errors import (
    CommandRejected,
    NotFound,
    RecordUnreadable,
    RwfError,
    StoreUnavailable,
    WorkflowInvalid,
)
from rwf.model.states import Reason

log = logging.getLogger("rwf.console")

_PAGE_SECONDS: Final = 30.0
"""How long a page may take, the wait for its turn included."""
_LONGEST_ID: Final = 64
_WEEK: Final = "public, max-age=604800, immutable"

_STATUSES: Final = {
    Reason.WORKFLOW_NOT_FOUND: 404,
    Reason.STEP_NOT_FOUND: 404,
    Reason.SIGNAL_NOT_FOUND: 404,
    Reason.INVALID_ARGUMENT: 400,
    Reason.NON_SERIALIZABLE_PAYLOAD: 400,
    Reason.PAYLOAD_TOO_LARGE: 400,
}
"""The HTTP statuses of refused commands; all other refusals are answered with 409."""

Page = Callable[[Visit], Awaitable[Response]]
Answer = Callable[[Request], Awaitable[Response]]

_PAGES: Final[tuple[tuple[str, Page], ...]] = (
    ("/", overview.overview),
    ("/workflows", workflows.workflows),
    ("/find", workflows.find),
    ("/workflows/{id}", workflow.workflow),
    ("/workflows/{id}/steps", workflow.steps),
    ("/workflows/{id}/evidence", workflow.evidence),
    ("/workflows/{id}/callbacks", workflow.callbacks),
    ("/workflows/{id}/step", step.step),
    ("/bulk", bulk.sessions),
    ("/bulk/{id}", bulk.session),
    ("/queues", fleet.queues),
    ("/signals", fleet.signals),
    ("/workers", fleet.workers),
    ("/health", fleet.health),
)


def app(client: AsyncClient, *, authorize: Authorize, allow_actions: bool = False) -> Starlette:
    """The console of a client's namespace, to be served by itself or mounted in another app.

    ``authorize(request, action)`` returns who asks, as is recorded with what they do, or None when
    they may not; it may be a coroutine function. It is asked with ``"read"`` for each page and each
    stream of hints, and for each action with its name: ``"recover_step"``, ``"request_cancel"``...
    (:class:`rwf.model.states.Action`), and on many workflows ``"recover_many"``, ``"cancel_many"``,
    ``"stop_bulk"``. Without ``allow_actions`` there are pages only.
    """
    return build(client, authorize, allow_actions=allow_actions)


def build(
    client: AsyncClient,
    authorize: Authorize,
    *,
    allow_actions: bool,
    login: TokenAccess | None = None,
) -> Starlette:
    """Builds the console; with ``login`` it has a login page for visitors with a token."""
    console = Console(client, authorize, allow_actions, log_out=login is not None, hub=Hub(client))
    routes = [Route(path, _page(console, show), methods=["GET"]) for path, show in _PAGES]
    routes += [
        Route("/live", _live(console), methods=["GET"]),
        Route("/static/{name}", _static, methods=["GET"]),
        Route("/healthz", _healthz, methods=["GET"]),
    ]
    if allow_actions:
        act = _page(console, Acting(console).answer)
        routes.append(Route("/act/{action}", act, methods=["GET", "POST"]))
    if login is not None:
        routes += _login_routes(console, login)
    found = Starlette(
        routes=routes,
        middleware=[Middleware(Hardened)],
        exception_handlers={
            HTTPException: _refused(console),
            RwfError: _failed(console),
            Exception: _broken(console),
        },
    )
    found.state.hub = console.hub
    return found


def _page(console: Console, show: Page) -> Answer:
    async def answer(request: Request) -> Response:
        visit = request.state.visit = await console.visit(request)
        try:
            async with asyncio.timeout(_PAGE_SECONDS), console.shared.turns:
                return await show(visit)
        except TimeoutError:
            raise HTTPException(503, f"this took more than {_PAGE_SECONDS:.0f} s") from None

    return answer


def _live(console: Console) -> Answer:
    async def answer(request: Request) -> Response:
        if await console.actor(request, READ) is None:
            raise HTTPException(403, "you may not see this")
        if console.hub.full:
            raise HTTPException(503, "too many viewers; the page is read now and then")
        events = console.hub.stream(request.query_params.get("workflow", "")[:_LONGEST_ID] or None)
        return StreamingResponse(events, media_type="text/event-stream")

    return answer


async def _static(request: Request) -> Response:
    found = STATIC.get(request.path_params["name"])
    if found is None:
        raise HTTPException(404, "no such file")
    data, kind = found
    return Response(data, media_type=kind, headers={"Cache-Control": _WEEK})


async def _healthz(_request: Request) -> Response:
    return PlainTextResponse("ok\n")


def _login_routes(console: Console, login: TokenAccess) -> list[Route]:
    def form(request: Request, place: str, message: str = "", status: int = 200) -> Response:
        values = {"next": place, "message": message, "has_form": True}
        return page(console, request, "login.html", status, **values)

    async def log_in(request: Request) -> Response:
        if request.method != "POST":
            return form(request, request.query_params.get("next", ""))
        fields = await checked_form(request)
        place = fields.get("next", "")
        try:
            return login.log_in(request, fields.get("token", ""), fields.get("actor", ""), place)
        except HTTPException as error:
            log.warning("a login was refused: %s", error.detail)
            return form(request, place, error.detail, error.status_code)

    async def log_out(request: Request) -> Response:
        await checked_form(request)
        return login.log_out(request)

    return [
        Route("/login", log_in, methods=["GET", "POST"]),
        Route("/logout", log_out, methods=["POST"]),
    ]


# --- errors


def _refused(console: Console) -> Callable[[Request, Exception], Response]:
    def answer(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headings = {403: "Not allowed", 404: "Not found", 405: "Not that way"}
        heading = headings.get(error.status_code, "Refused")
        response = _told(console, request, error.status_code, heading, error.detail)
        response.headers.update(error.headers or {})
        return response

    return answer


def _failed(console: Console) -> Callable[[Request, Exception], Response]:
    def answer(request: Request, error: Exception) -> Response:
        match error:
            case NotFound():
                return _told(console, request, 404, "Not found", str(error))
            case CommandRejected():
                status = _STATUSES.get(error.reason_code, 409)
                code = f"{error.reason_code}; next: {', '.join(error.legal_next_steps)}"
                return _told(console, request, status, "Refused", error.message, code)
            case WorkflowInvalid():
                return _told(console, request, 400, "Refused", error.message, error.code)
            case RecordUnreadable():
                return _told(console, request, 500, "What is stored cannot be read", str(error))
            case StoreUnavailable():
                text = "The server cannot be reached"
            case _:
                text = "The server is not as it must be"
        log.warning("%s: %s", text, error)
        return _told(console, request, 503, text, str(error))

    return answer


def _broken(console: Console) -> Callable[[Request, Exception], Response]:
    def answer(request: Request, error: Exception) -> Response:
        # Its message may quote what must not be shown; the log of the server has it.
        text = f"An unexpected {type(error).__name__}; the console's log has more."
        return _told(console, request, 500, "The console has failed", text)

    return answer


def _told(
    console: Console, request: Request, status: int, heading: str, message: str, code: str = ""
) -> Response:
    """A page that says what is wrong; with the way to all others for who may see them."""
    values = {"heading": heading, "message": message, "code": code, "advice": ""}
    visit: Visit | None = getattr(request.state, "visit", None)
    if visit is not None:
        return visit.page("error.html", status, **values)
    return page(console, request, "error.html", status, **values)
