"""Sending callbacks to a URL, signed, and checking the signature on arrival (contract §6)."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import io
import re
import socket
import ssl
import time
from base64 import b64encode
from collections import deque
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import orjson

from rwf.errors import WebhookFailed
from rwf.model.retry import seconds
from rwf.model.views import Callback

SIGNATURE_HEADER: Final = "X-Rwf-Signature"

_SIGNATURE: Final = re.compile(r"t=([0-9]{1,12})((?:,v[0-9]{1,3}=[0-9a-f]{1,256}){1,16})")
_SCHEME: Final = ",v1="
# A response's body is read, to keep its connection, up to this size; nothing in it is used.
_MOST_READ: Final = 65_536
# For how many seconds an unused connection is kept: what stands in between forgets it some time.
_IDLE: Final = 30.0


class Webhook:
    """A handler for ``dispatch_callbacks`` that POSTs each envelope as JSON to one URL.

    ``X-Rwf-Signature: t=<seconds since 1970>,v1=<hex>`` goes with it, the HMAC-SHA256 of
    ``<t>.<body>`` under ``secret``; the receiver checks it with :func:`rwf.verify_signature`. A
    user and a password in the URL are sent as HTTP basic authentication. ``timeout`` is how many
    seconds a delivery may take, connecting included. Anything but an answer of 2xx raises
    :class:`~rwf.WebhookFailed`; redirects are not followed, nor proxies of the environment used.
    Raises ValueError for a URL that is not http or https.

    It may be called by many threads at once. Connections are kept open and used again.
    """

    def __init__(self, url: str, secret: str | bytes, *, timeout: float = 10.0) -> None:
        self._idle: deque[tuple[float, _Connection]] = deque()
        # Errors in a URL are reported without quoting it: it may hold a password.
        if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url:
            raise ValueError("the URL must be a string of printable ASCII without spaces")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ValueError("the URL cannot be parsed") from None
        if parts.scheme not in ("http", "https") or not host:
            raise ValueError("the URL must begin with http:// or https:// and name a host")
        self.timeout = seconds(timeout, "timeout")
        if not self.timeout:
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

    def close(self) -> None:
        """Closes the connections that are kept; it can be used all the same."""
        with suppress(IndexError):
            while True:
                self._idle.popleft()[1].close()

    def __del__(self) -> None:
        self.close()

    def __call__(self, envelope: Callback) -> None:
        body = orjson.dumps(envelope.model_dump(mode="json"))
        headers = {**self._headers, SIGNATURE_HEADER: _signature(self._secret, body)}
        # Raised from here, the error has no other in its context that may tell more than it should.
        if problem := self._post(body, headers):
            raise WebhookFailed(problem)

    def _post(self, body: bytes, headers: dict[str, str]) -> str | None:
        """Sends the request; the failure, or None."""
        deadline = time.monotonic() + self.timeout
        try:
            status = self._status(body, headers, deadline)
        except (OSError, http.client.HTTPException) as error:
            late = isinstance(error, TimeoutError)
            why = f"within {self.timeout:g} s" if late else f"({type(error).__name__})"
            return f"no answer from the receiver {why}"
        return None if 200 <= status < 300 else f"the receiver answered {status}"

    def _status(self, body: bytes, headers: dict[str, str], deadline: float) -> int:
        """The status that the receiver answered."""
        if connection := self._kept():
            # One that the receiver has closed meanwhile shows that only when it is used.
            with suppress(ConnectionError):
                return self._exchange(connection, body, headers, deadline)
        connection = _Connection(self._host, self._port, self._context)
        return self._exchange(connection, body, headers, deadline)

    def _exchange(
        self, connection: _Connection, body: bytes, headers: dict[str, str], deadline: float
    ) -> int:
        keep = False
        try:
            status, keep = connection.post(self._target, body, headers, deadline)
        finally:
            if keep:
                self._idle.append((time.monotonic(), connection))
            else:
                connection.close()
        return status

    def _kept(self) -> _Connection | None:
        """The connection that was used last, if that was not long ago."""
        with suppress(IndexError):  # others take from here as well
            last_used, connection = self._idle.pop()
            if time.monotonic() - last_used < _IDLE:
                return connection
            connection.close()
            self.close()  # all others were used even earlier
        return None


class _Connection:
    """A connection to the receiver, for one exchange at a time."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext | None) -> None:
        self._http = (
            http.client.HTTPConnection(host, port)
            if context is None
            else http.client.HTTPSConnection(host, port, context=context)
        )
        self._socket: _TimedSocket | None = None

    def post(
        self, target: str, body: bytes, headers: dict[str, str], deadline: float
    ) -> tuple[int, bool]:
        """The status of the answer, and whether the connection can be used again.

        Raises OSError or HTTPException; TimeoutError once the deadline (of the monotonic clock) has
        passed, however busy the receiver is.
        """
        if self._socket is None:
            self._http.timeout = _left(deadline)
            self._http.connect()
            self._socket = _TimedSocket(self._http.sock)
            self._http.sock = self._socket
        self._socket.deadline = deadline
        self._http.request("POST", target, body, headers)
        response = self._http.getresponse()
        return response.status, _is_read(response)

    def close(self) -> None:
        self._http.close()
        if self._socket is not None:
            self._socket.close()


def _is_read(response: http.client.HTTPResponse) -> bool:
    """Whether an answer has been read to its end, so that another can follow. One without a length
    is left unread: it may have no end."""
    if response.will_close or response.length is None or response.length > _MOST_READ:
        return False
    try:
        response.read()
    except (OSError, http.client.HTTPException):
        return False
    return True


class _TimedSocket:
    """A socket with a deadline for a whole exchange. A socket's own timeout starts again with each
    byte that comes."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.deadline = 0.0

    def sendall(self, data: Any) -> None:
        self._sock.settimeout(_left(self.deadline))
        self._sock.sendall(data)

    def recv_into(self, buffer: Any) -> int:
        self._sock.settimeout(_left(self.deadline))
        return self._sock.recv_into(buffer)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Incoming(self))

    def close(self) -> None:
        self._sock.close()


class _Incoming(io.RawIOBase):
    """The bytes that such a socket receives, as a file."""

    def __init__(self, sock: _TimedSocket) -> None:
        super().__init__()
        self._sock = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._sock.recv_into(buffer)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def verify_signature(
    body: bytes,
    header: str | None,
    secret: str | bytes,
    tolerance: float | timedelta = 300.0,
) -> bool:
    """Whether a callback that was received over HTTP is genuine and fresh.

    ``body`` is what was received, byte for byte; ``header`` its ``X-Rwf-Signature``, None when it
    came without one; ``secret`` what the sender signs with. ``tolerance`` is by how many seconds,
    or by which timedelta, the time of the signature may differ from this machine's clock, in either
    direction. True when one of the header's ``v1`` signatures is right; False for any other header,
    malformed ones included. Wrong signatures of all kinds take the same time. Raises ValueError for
    an empty secret or a tolerance that is no length of time.
    """
    key, most = _key(secret), seconds(tolerance, "tolerance")
    match = _SIGNATURE.fullmatch(header or "")
    if match is None:
        return False
    right = f"{_SCHEME}{_digest(key, match[1], body)}"
    given = [f",{part}" for part in match[2].split(",")[1:]]
    # All of them are compared, whichever is right.
    genuine = sum(hmac.compare_digest(right, one) for one in given)
    return genuine > 0 and abs(time.time() - int(match[1])) <= most


def _signature(key: bytes, body: bytes) -> str:
    now = str(int(time.time()))
    return f"t={now}{_SCHEME}{_digest(key, now, body)}"


def _digest(key: bytes, moment: str, body: bytes) -> str:
    return hmac.new(key, b"%b.%b" % (moment.encode(), body), hashlib.sha256).hexdigest()


def _key(secret: str | bytes) -> bytes:
    key = secret.encode(errors="surrogatepass") if isinstance(secret, str) else secret
    if not isinstance(key, bytes) or not key:
        raise ValueError("the secret must be text or bytes, and not empty")
    return key
