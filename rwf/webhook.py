"""Sending callbacks to a URL, signed, and checking the signature where they arrive (section 6)."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final
from urllib.parse import unquote, urlsplit

import orjson

from rwf.errors import WebhookFailed
from rwf.model.retry import seconds
from rwf.model.views import Callback

SIGNATURE_HEADER: Final = "X-Rwf-Signature"

_PREFIX: Final = "sha256="


class Webhook:
    """A handler for ``dispatch_callbacks`` that POSTs each envelope as JSON to one URL.

    The body's HMAC-SHA256 under ``secret`` goes with it as ``X-Rwf-Signature: sha256=<hex>``. A
    user and a password in the URL are sent as HTTP basic authentication. ``timeout`` is in seconds,
    for connecting and again for the exchange. Anything but an answer of 2xx raises
    :class:`~rwf.WebhookFailed`; redirects are not followed, nor proxies of the environment used.
    Raises ValueError for a URL that is not http or https.
    """

    def __init__(self, url: str, secret: str | bytes, *, timeout: float = 10.0) -> None:
        # What is wrong with a URL is told without quoting it: it may hold a password.
        if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url:
            raise ValueError("the URL must be a string of printable ASCII without spaces")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ValueError("the URL cannot be parsed") from None
        if parts.scheme not in ("http", "https") or not host:
            raise ValueError("the URL must begin with http:// or https:// and name a host")
        self._timeout = seconds(timeout, "timeout")
        if not self._timeout:
            raise ValueError("timeout must be more than 0")
        self._secret = _key(secret)
        self._context = ssl.create_default_context() if parts.scheme == "https" else None
        self._host, self._port = host, port or (80 if self._context is None else 443)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._headers = {"Content-Type": "application/json", "User-Agent": "rwf"}
        if parts.username is not None or parts.password is not None:
            login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {b64encode(login.encode()).decode()}"

    def __repr__(self) -> str:
        # A path or a query may be as secret as a password.
        scheme = "http" if self._context is None else "https"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"<Webhook {scheme}://{host}:{self._port}>"

    def __call__(self, envelope: Callback) -> None:
        body = orjson.dumps(envelope.model_dump(mode="json"))
        headers = {**self._headers, SIGNATURE_HEADER: _signature(self._secret, body)}
        # Raised from here, the error has no other in its context that may tell more than it should.
        if problem := self._post(body, headers):
            raise WebhookFailed(problem)

    def _post(self, body: bytes, headers: dict[str, str]) -> str | None:
        """What went wrong, or None."""
        connection = self._connection()
        over = threading.Event()
        try:
            connection.connect()
            with _deadline(connection.sock, self._timeout, over):
                connection.request("POST", self._target, body, headers)
                status = connection.getresponse().status
            if over.is_set():
                raise TimeoutError  # headers that were cut short look like whole ones
        except (OSError, http.client.HTTPException) as error:
            late = over.is_set() or isinstance(error, TimeoutError)
            why = f"within {self._timeout:g} s" if late else f"({type(error).__name__})"
            return f"no answer from the receiver {why}"
        finally:
            connection.close()
        return None if 200 <= status < 300 else f"the receiver answered {status}"

    def _connection(self) -> http.client.HTTPConnection:
        if self._context is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=self._timeout, context=self._context
        )


@contextmanager
def _deadline(sock: socket.socket, timeout: float, over: threading.Event) -> Iterator[None]:
    """Ends a connection, and sets ``over``, when its time is over, however busy it is: a socket's
    own timeout begins anew with each byte."""

    def end() -> None:
        over.set()
        with suppress(OSError):  # it may have ended by itself
            # Not a TLS socket's own method, which is not for a second thread.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)

    timer = threading.Timer(timeout, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def verify(secret: str | bytes, body: bytes, signature: str | None) -> bool:
    """Whether a received body has this ``X-Rwf-Signature``, None when it came without one.

    ``body`` is what was received, byte for byte. All wrong signatures take the same time.
    """
    given = (signature or "").encode(errors="replace")
    return hmac.compare_digest(_signature(_key(secret), body).encode(), given)


def _signature(key: bytes, body: bytes) -> str:
    return _PREFIX + hmac.new(key, body, hashlib.sha256).hexdigest()


def _key(secret: str | bytes) -> bytes:
    key = secret.encode(errors="surrogatepass") if isinstance(secret, str) else secret
    if not isinstance(key, bytes) or not key:
        raise ValueError("the secret must be text or bytes, and not empty")
    return key
