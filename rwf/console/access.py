"""Who may see the console that ``rwf console`` serves, and who acts: on loopback, or by a token."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from rwf.console.security import set_cookie

READ: Final = "read"
"""The action that ``authorize`` is asked about for each page."""

Authorize = Callable[[Request, str], "str | Awaitable[str | None] | None"]
"""Returns the actor when a request may do an action, else None. It may be a coroutine function, and
may raise starlette's HTTPException, as to send somebody to a login page."""

SHORTEST_TOKEN: Final = 16
"""The fewest characters that a token may have."""
_SESSION: Final = "rwf_session"
_SESSION_SECONDS: Final = 12 * 3600
_TRIES: Final = 10
"""Wrong tokens a minute of one address; then none of it is looked at for the rest of the minute."""
_MINUTE: Final = 60.0
_ADDRESSES: Final = 1_000
"""The number of addresses whose wrong tokens are counted; the one that failed the longest ago is
forgotten first."""
_ACTOR: Final = re.compile(r"[^\x00-\x1f\x7f]{1,128}")
_LOCAL_PATH: Final = re.compile(r"/(?![/\\])[!-~]{0,2000}")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine's own name or address, which no other machine can reach."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class LoopbackAccess:
    """Everybody on this machine may do everything, as one actor.

    The browser must have asked for a loopback address: else a page of another site could have its
    own name lead here, and read what it gets.
    """

    def __init__(self, actor: str) -> None:
        self._actor = actor

    def authorize(self, request: Request, _action: str) -> str | None:
        """The actor, if the browser has asked for this machine by a name of its own."""
        try:
            host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
        except ValueError:
            return None
        return self._actor if is_loopback(host) else None


class TokenAccess:
    """Whoever knows the token may do everything, under the name that they give.

    A session is a signed cookie, so that several processes with the same token share it.
    """

    def __init__(self, token: str) -> None:
        if len(token) < SHORTEST_TOKEN:
            raise ValueError(f"a token has at least {SHORTEST_TOKEN} characters")
        self._token = token.encode()
        self._key = hashlib.sha256(b"rwf console session\0" + self._token).digest()
        self._failures: OrderedDict[str, list[float]] = OrderedDict()

    def authorize(self, request: Request, _action: str) -> str | None:
        """The actor of a session; sends who has none to the login page."""
        actor = self._actor(request.cookies.get(_SESSION, ""))
        if actor is None and request.method in ("GET", "HEAD"):
            base = request.scope.get("root_path", "")
            query = request.scope["query_string"].decode("latin-1")
            here = quote(request.scope["path"]) + (f"?{query}" if query else "")
            place = f"{base}/login?{urlencode({'next': here})}"
            raise HTTPException(303, "log in", headers={"Location": place})
        return actor

    def log_in(self, request: Request, token: str, actor: str, place: str) -> Response:
        """A session for who knows the token; raises HTTPException 403 or 429 else, 400 without a
        name."""
        address, now = request.client.host if request.client else "", time.monotonic()
        failures = [at for at in self._failures.get(address, ()) if now - at < _MINUTE]
        if len(failures) >= _TRIES:
            raise HTTPException(429, "too many wrong tokens: try again in a minute")
        if not hmac.compare_digest(token.encode(), self._token):
            self._failures[address] = [*failures, now]
            self._failures.move_to_end(address)
            while len(self._failures) > _ADDRESSES:
                self._failures.popitem(last=False)
            raise HTTPException(403, "this is not the token")
        if not _ACTOR.fullmatch(actor.strip()):
            raise HTTPException(400, "give a name of 1 to 128 characters")
        home = request.scope.get("root_path", "") or "/"
        response = RedirectResponse(place if _LOCAL_PATH.fullmatch(place) else home, 303)
        signed = self._signed(actor.strip(), int(time.time()) + _SESSION_SECONDS)
        set_cookie(request, response, _SESSION, signed, seconds=_SESSION_SECONDS)
        return response

    @staticmethod
    def log_out(request: Request) -> Response:
        """Takes the session from this browser."""
        response = RedirectResponse(f"{request.scope.get('root_path', '')}/login", 303)
        set_cookie(request, response, _SESSION, "", seconds=0)
        return response

    def _signed(self, actor: str, until: int) -> str:
        text = f"{until}.{base64.urlsafe_b64encode(actor.encode()).decode().rstrip('=')}"
        return f"{text}.{hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()}"

    def _actor(self, cookie: str) -> str | None:
        text, _, signature = cookie.rpartition(".")
        right = hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(right.encode(), signature.encode()):
            return None
        until, _, name = text.partition(".")
        if int(until) < time.time():
            return None
        return base64.urlsafe_b64decode(name + "=" * (-len(name) % 4)).decode()
