"""A TCP proxy between clients and one server that loses requests and replies on demand.

It reads whole requests and whole replies (RESP2 and RESP3), so a test can say exactly where a
connection breaks: before a request reaches the server, after the server ran it but before any byte
of the reply, or in the middle of the reply.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from io import BufferedIOBase
from types import TracebackType
from typing import Self, TypeAlias

Match: TypeAlias = bytes | Callable[[bytes], bool]
"""The matching requests: those that contain these bytes, or for which the predicate is true."""


class Cut(Enum):
    """Where the connection breaks."""

    REQUEST = auto()
    REPLY = auto()
    MID_REPLY = auto()


def read_frame(stream: BufferedIOBase) -> bytes:
    """The bytes of the next request or reply, whole; empty when the stream ends before that."""
    parts = []
    missing = 1
    while missing:
        line = stream.readline()
        if not line.endswith(b"\r\n"):
            return b""
        parts.append(line)
        missing -= 1
        match line[:1]:
            case b"$" | b"=" | b"!" if (size := int(line[1:])) >= 0:
                body = stream.read(size + 2)
                if len(body) < size + 2:
                    return b""
                parts.append(body)
            case b"*" | b"~" | b">":
                missing += max(int(line[1:]), 0)
            case b"%":
                missing += 2 * int(line[1:])
            case b"|":  # attributes, and then the value that they belong to
                missing += 2 * int(line[1:]) + 1
    return b"".join(parts)


def _read_some(stream: BufferedIOBase) -> bytes:
    """Reads whatever has arrived, at least a byte; empty when the stream ends."""
    return stream.read1(65536)


@dataclass
class _Rule:
    cut: Cut
    match: Match
    times: int

    def applies(self, request: bytes) -> bool:
        if callable(self.match):
            return self.match(request)
        return self.match in request


@dataclass(eq=False)
class _Connection:
    """The two sockets of one client, and the rules for the replies still due."""

    client: socket.socket
    server: socket.socket
    due: deque[Cut | None] = field(default_factory=deque)
    forgotten: bool = False

    def cut(self) -> None:
        for side in (self.client, self.server):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.client.close()
        self.server.close()


class Proxy:
    """``with Proxy(server.port) as proxy``: clients connect to ``127.0.0.1:proxy.port``.

    Rules are tried in the order in which they were given, each for its number of requests, counted
    over all connections; everything else passes. ``connections``, ``replies`` and ``cuts`` count;
    ``sent`` counts requests. With ``framed=False`` bytes pass as they come, as between a replica
    and its primary, and there are no requests to which a rule could apply.
    """

    def __init__(self, server_port: int, *, framed: bool = True) -> None:
        self.connections = 0
        self.replies = 0
        self.cuts = 0
        self._server_port = server_port
        self._read = read_frame if framed else _read_some
        self._requests: list[bytes] = []
        self._rules: list[_Rule] = []
        self._delay = 0.0
        self._lock = threading.Lock()
        self._open: set[_Connection] = set()
        self._threads: list[threading.Thread] = []
        self._flows = threading.Event()
        self._flows.set()
        self._severed = False
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._run(self._accept)

    @property
    def url(self) -> str:
        """The URL for rwf, through the proxy."""
        return f"redis://127.0.0.1:{self.port}/0"

    def cut_request(self, match: Match = b"", times: int = 1) -> None:
        """Break the connection before the server sees the next ``times`` matching requests."""
        self._add(Cut.REQUEST, match, times)

    def cut_reply(self, match: Match = b"", times: int = 1) -> None:
        """Break it once the server ran the request, before any byte of the reply goes back."""
        self._add(Cut.REPLY, match, times)

    def cut_mid_reply(self, match: Match = b"", times: int = 1) -> None:
        """Break it after the first half of the reply."""
        self._add(Cut.MID_REPLY, match, times)

    def delay(self, seconds: float) -> None:
        """Hold back each request for this long from now on; 0 ends it."""
        self._delay = seconds

    def lead_to(self, server_port: int) -> None:
        """Lead new connections to another server; existing ones stay where they are."""
        self._server_port = server_port

    def partition(self) -> None:
        """Let nothing through either way. Connections stay open, new ones get no answer."""
        self._flows.clear()

    def forget(self) -> None:
        """Drop everything on the existing connections, either way, without ending them, as if the
        other ends had vanished. New connections are not touched."""
        with self._lock:
            for connection in self._open:
                connection.forgotten = True

    def sever(self) -> None:
        """Break all connections, and new ones as soon as they come."""
        self._severed = True
        with self._lock:
            for connection in self._open:
                connection.cut()

    def heal(self) -> None:
        """End a partition or a severing; data held back in a partition goes on, as with TCP."""
        self._severed = False
        self._flows.set()

    def sent(self, match: Match = b"") -> int:
        """How many matching requests clients sent, including those that were cut."""
        rule = _Rule(Cut.REQUEST, match, 0)
        with self._lock:
            return sum(rule.applies(request) for request in self._requests)

    def close(self) -> None:
        """Break everything and wait for the threads. Harmless when repeated."""
        self._closing.set()
        self._flows.set()
        with contextlib.suppress(OSError):  # wakes accept()
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        while True:
            with self._lock:
                for connection in self._open:
                    connection.cut()
                threads, self._threads = self._threads, []
            if not threads:
                return
            for thread in threads:
                thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _add(self, cut: Cut, match: Match, times: int) -> None:
        with self._lock:
            self._rules.append(_Rule(cut, match, times))

    def _run(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        with self._lock:
            self._threads.append(thread)
            thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._run(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._server_port))
        except OSError:  # the server is down: the client sees its connection end
            client.close()
            return
        for side in (client, server):
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection(client, server)
        with self._lock:
            self.connections += 1
            self._open.add(connection)
        if self._severed or self._closing.is_set():
            connection.cut()
        back = threading.Thread(target=self._replies, args=(connection,), daemon=True)
        back.start()
        self._forward(connection)
        back.join()
        with self._lock:
            self._open.discard(connection)
        connection.close()

    def _forward(self, connection: _Connection) -> None:
        with connection.client.makefile("rb") as stream, contextlib.suppress(OSError):
            while request := self._read(stream):
                cut = self._judge(request)
                if self._delay:
                    self._closing.wait(self._delay)
                if not self._passes() or cut is Cut.REQUEST:
                    break
                connection.due.append(cut)
                if not connection.forgotten:
                    connection.server.sendall(request)
        connection.cut()

    def _replies(self, connection: _Connection) -> None:
        with connection.server.makefile("rb") as stream, contextlib.suppress(OSError):
            while reply := self._read(stream):
                # Messages that a server sends unasked (RESP3 pushes, RESP2 messages) answer no
                # request.
                unasked = reply[:1] == b">" or not connection.due
                cut = None if unasked else connection.due.popleft()
                with self._lock:
                    self.replies += 1
                if not self._passes() or cut is Cut.REPLY:
                    break
                if cut is Cut.MID_REPLY:
                    connection.client.sendall(reply[: len(reply) // 2])
                    break
                if not connection.forgotten:
                    connection.client.sendall(reply)
        connection.cut()

    def _passes(self) -> bool:
        # Waits for the end of a partition; a proxy that closes lets nothing more through.
        self._flows.wait()
        return not self._closing.is_set()

    def _judge(self, request: bytes) -> Cut | None:
        with self._lock:
            self._requests.append(request)
            for rule in self._rules:
                if rule.times and rule.applies(request):
                    rule.times -= 1
                    self.cuts += 1
                    return rule.cut
        return None
