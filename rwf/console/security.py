"""Protection of browsers that show the console: headers, CSRF tokens, the origin check.

Nothing here decides who somebody is or may do; that is ``authorize``'s.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE: Final = "rwf_csrf"
_MAX_BODY: Final = 1_048_576
"""Bytes of a form; a payload of 256 KiB may take three bytes a character."""
_MAX_FIELDS: Final = 32
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}")

_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


class Hardened:
    """Gives each answer the headers above, unless it brings another value of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, hardened if scope["type"] == "http" else send)


def allow_origin(response: Response) -> None:
    """Lets forms of this page tell where they come from: under ``no-referrer`` a browser sends
    ``Origin: null``. No other host gets a referrer either way."""
    response.headers["Referrer-Policy"] = "same-origin"


def form_token(request: Request) -> str:
    """The token that a form must send back: the value of a cookie that other sites can neither read
    nor set; a new one where there is none yet."""
    found = request.cookies.get(COOKIE, "")
    return found if _TOKEN.fullmatch(found) else secrets.token_urlsafe(32)


def set_form_token(request: Request, response: Response, token: str) -> None:
    """Sets the cookie, unless the browser has it."""
    if request.cookies.get(COOKIE) != token:
        set_cookie(request, response, COOKIE, token, samesite="strict")


def set_cookie(
    request: Request,
    response: Response,
    name: str,
    value: str,
    *,
    samesite: str = "lax",
    seconds: int | None = None,
) -> None:
    """Sets a cookie that no script reads and, where the page came over TLS, only TLS carries."""
    parts = [f"{name}={value}", f"Path={request.scope.get('root_path') or '/'}", "HttpOnly"]
    parts.append(f"SameSite={samesite.capitalize()}")
    if seconds is not None:
        parts.append(f"Max-Age={seconds}")
    if request.scope["scheme"] == "https":
        parts.append("Secure")
    response.headers.append("Set-Cookie", "; ".join(parts))


async def checked_form(request: Request) -> dict[str, str]:
    """The fields of a form that one of this console's own pages has sent.

    Raises HTTPException: 403 for one of another origin or without the token, 413, 415, 400.
    """
    _check_origin(request)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise HTTPException(415, "send a form")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY:
            raise HTTPException(413, f"a form has at most {_MAX_BODY} bytes")
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            max_num_fields=_MAX_FIELDS,
            errors="strict",
        )
    except ValueError:
        raise HTTPException(400, "this is no form") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise HTTPException(400, "a field is there twice")
    cookie, sent = request.cookies.get(COOKIE, ""), fields.pop(COOKIE, "")
    if not cookie or not hmac.compare_digest(cookie.encode(), sent.encode()):
        raise HTTPException(403, "this form is not from a page of yours: open the page again")
    return fields


def _check_origin(request: Request) -> None:
    """Refuses what another site's page has sent.

    Browsers tell it in one of two headers, which no page can forge. The scheme is not compared: a
    proxy in front may have ended TLS.
    """
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site not in (None, "same-origin"):
        raise HTTPException(403, "sent by a page of another site")
    if origin in (None, "null"):
        if site is None:
            raise HTTPException(403, "sent by no page that says which it is")
        return
    try:
        sender = urlsplit(origin).netloc
    except ValueError:
        sender = None
    if sender is None or sender != request.headers.get("host"):
        raise HTTPException(403, "sent by a page of another site")
