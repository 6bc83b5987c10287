"""Sentinels that several clients ask at once, replaced by sockets that answer here."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import socketserver
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BufferedIOBase
from typing import Any

import pytest

from rwf import AsyncClient, Client
from tests.support.proxy import read_frame
from tests.support.servers import Server
from tests.support.waiting import until

HELLO = b"%1\r\n$5\r\nproto\r\n:3\r\n"


class Stub(socketserver.ThreadingTCPServer):
    """Answers as a Sentinel that watches one primary, ``main``, at a port."""

    daemon_threads = True

    def __init__(self, primary: int, flags: str, together: int = 1) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.flags = flags
        self.asked = 0
        self.connections: list[socket.socket] = []
        self._primary = primary
        self._together = threading.Barrier(together)
        threading.Thread(target=self.serve_forever, args=(0.01,)).start()

    def masters(self) -> dict[str, str]:
        """Its answer; those that ask get the first one together."""
        self.asked += 1
        with contextlib.suppress(threading.BrokenBarrierError):
            self._together.wait(5)
        self._together.abort()
        return {
            "name": "main",
            "ip": "127.0.0.1",
            "port": str(self._primary),
            "flags": self.flags,
            "num-other-sentinels": "1",
        }

    def end(self) -> None:
        self.shutdown()
        self.server_close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def port(self) -> int:
        return int(self.server_address[1])


def _request(stream: BufferedIOBase) -> bytes:
    with contextlib.suppress(OSError):
        return read_frame(stream)
    return b""


class _Answers(socketserver.StreamRequestHandler):
    server: Stub

    def handle(self) -> None:
        requests: Any = self.rfile
        maps = False
        self.server.connections.append(self.connection)
        while request := _request(requests):
            if b"HELLO" in request:
                maps = True
                self.wfile.write(HELLO)
            elif b"SENTINEL" in request:
                self._tell(self.wfile, maps)
            else:
                self.wfile.write(b"+OK\r\n")

    def _tell(self, stream: BufferedIOBase, maps: bool) -> None:
        known = self.server.masters()
        texts = [text.encode() for pair in known.items() for text in pair]
        start = b"*1\r\n%%%d\r\n" % len(known) if maps else b"*1\r\n*%d\r\n" % len(texts)
        with contextlib.suppress(OSError):
            stream.write(start + b"".join(b"$%d\r\n%s\r\n" % (len(t), t) for t in texts))


@pytest.fixture
def pair(one_server: Server) -> Iterator[tuple[Stub, Stub]]:
    """A Sentinel that takes the primary for dead, and one that answers two requests at a time."""
    first, second = Stub(one_server.port, "master,s_down"), Stub(one_server.port, "master", 2)
    yield first, second
    for one in (first, second):
        one.end()


def url_of(*stubs: Stub) -> str:
    return f"redis+sentinel://{','.join(f'127.0.0.1:{one.port}' for one in stubs)}/main"


def gone_over(first: Stub, second: Stub) -> None:
    """The second ends, and the first sees the primary."""
    assert first.asked >= 2
    assert second.asked >= 2
    second.end()
    first.flags = "master"


def test_a_sentinel_is_not_forgotten_when_two_threads_ask_at_once(
    one_server: Server, pair: tuple[Stub, Stub]
) -> None:
    with Client.from_url(url_of(*pair)) as client, ThreadPoolExecutor(2) as threads:
        for found in [threads.submit(client._store.client().ping) for _ in range(2)]:
            assert found.result(20) is True
        gone_over(*pair)
        one_server.client().client_kill_filter(_type="normal", skipme=True)
        assert until_served(client)
        gc.collect()


def until_served(client: Client) -> bool:
    until(lambda: client.list().workflows == (), what="an answer")
    return True


@pytest.mark.filterwarnings("error")
async def _asked_at_once(one_server: Server, first: Stub, second: Stub) -> None:
    async with AsyncClient.from_url(url_of(first, second)) as client:
        redis = await client._store.client()
        assert all(await asyncio.gather(redis.ping(), redis.ping()))
        await asyncio.to_thread(gone_over, first, second)
        one_server.client().client_kill_filter(_type="normal", skipme=True)
        assert (await client.list()).workflows == ()
    gc.collect()


def test_a_sentinel_is_not_forgotten_when_two_tasks_ask_at_once(
    one_server: Server, pair: tuple[Stub, Stub]
) -> None:
    asyncio.run(_asked_at_once(one_server, *pair))
