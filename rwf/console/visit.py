"""One visit to a page: who comes, what they may do, and how the page is made."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Final
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from rwf.aio import AsyncClient
from rwf.console import words
from rwf.console.access import READ, Authorize
from rwf.console.actions import COMMANDS
from rwf.console.live import Hub
from rwf.console.security import COOKIE, allow_origin, form_token, set_cookie, set_form_token
from rwf.console.shared import Shared
from rwf.model.signs import STATE_SIGNS, STATUS_SIGNS

DONE: Final = "rwf_done"
"""The cookie that tells the next page which action was carried out."""
_DONE_SECONDS: Final = 30
STATIC: Final[Mapping[str, tuple[bytes, str]]] = {
    name: (files("rwf.console").joinpath("static", name).read_bytes(), kind)
    for name, kind in (
        ("console.css", "text/css; charset=utf-8"),
        ("console.js", "text/javascript; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    )
}
_RELEASE: Final = hashlib.sha256(b"".join(data for data, _ in STATIC.values())).hexdigest()[:12]


def templates() -> Environment:
    """The templates: all that is printed is escaped, first what is not printable, then HTML."""
    found = Environment(
        loader=PackageLoader("rwf.console"),
        autoescape=True,
        finalize=words.printable,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    for function in (
        *(words.ago, words.moment, words.payload, words.plain, words.plural, words.slug),
        words.with_commands,
    ):
        found.filters[function.__name__] = function
    found.globals.update(ADVICE=words.ADVICE, STATE_SIGNS=STATE_SIGNS, STATUS_SIGNS=STATUS_SIGNS)
    return found


@dataclass(frozen=True, slots=True)
class Console:
    """State shared by all visits. ``log_out``: whether there are sessions to log out of."""

    client: AsyncClient
    authorize: Authorize
    allow_actions: bool
    log_out: bool
    hub: Hub
    shared: Shared = field(default_factory=Shared)
    templates: Environment = field(default_factory=templates)

    async def actor(self, request: Request, action: str) -> str | None:
        """Who does this, if they may."""
        if action != READ and not self.allow_actions:
            return None
        found = self.authorize(request, action)
        return await found if inspect.isawaitable(found) else found

    async def visit(self, request: Request) -> Visit:
        """A visitor who may see pages; raises HTTPException 403 for anybody else."""
        actor = await self.actor(request, READ)
        if actor is None:
            raise HTTPException(403, "you may not see this")
        allowed = [action for action in COMMANDS if await self.actor(request, action) is not None]
        return Visit(self, request, actor, frozenset(allowed))


@dataclass(frozen=True, slots=True)
class Visit:
    """A request for a page, by somebody who may see it; ``allowed`` are the actions they may do."""

    console: Console
    request: Request
    actor: str
    allowed: frozenset[str]

    @property
    def client(self) -> AsyncClient:
        return self.console.client

    def query(self, name: str) -> str | None:
        """A parameter of the address; None where it is missing or empty."""
        return self.request.query_params.get(name) or None

    def number(self, name: str, largest: int) -> int:
        """A parameter that is a number from 0 on; 0 where it is none."""
        text = self.query(name) or ""
        return min(int(text), largest) if re.fullmatch("[0-9]{1,9}", text) else 0

    def page(self, template: str, http_status: int = 200, /, **values: Any) -> Response:
        """The page of a template."""
        return page(
            self.console,
            self.request,
            template,
            http_status,
            visit=self,
            may=self.allowed,
            **values,
        )


def url(request: Request, path: str, **query: object) -> str:
    """The address of a page of this console, wherever it is mounted."""
    given = {name: str(value) for name, value in query.items() if value not in (None, "")}
    found = f"{request.scope.get('root_path', '').rstrip('/')}{path}"
    return f"{found}?{urlencode(given)}" if given else found


def page(
    console: Console, request: Request, template: str, http_status: int = 200, /, **values: Any
) -> Response:
    """A page for anybody; ``has_form``, if given and true, gives its form what it needs."""
    has_form = bool(values.get("has_form"))
    token = form_token(request) if has_form or console.log_out else ""
    given: dict[str, Any] = {"visit": None, "may": frozenset(), "live": None, **values}
    text = console.templates.get_template(template).render(
        console=console,
        release=_RELEASE,
        path=request.scope["path"].removeprefix(request.scope.get("root_path", "")) or "/",
        url=lambda path, **query: url(request, path, **query),
        token=token,
        token_field=COOKIE,
        done=request.cookies.get(DONE),
        **given,
    )
    response = HTMLResponse(text, http_status)
    if token:
        set_form_token(request, response, token)
    if has_form or console.log_out:
        allow_origin(response)
    if request.cookies.get(DONE):
        set_cookie(request, response, DONE, "", seconds=0)
    return response


def tell_done(request: Request, response: Response, what: str) -> None:
    """Makes the next page say what was carried out."""
    set_cookie(request, response, DONE, what, seconds=_DONE_SECONDS)
