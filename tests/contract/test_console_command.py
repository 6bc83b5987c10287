"""``rwf console`` as a user runs it."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from rwf import Client
from tests.support.commandline import Cli, run
from tests.support.consoles import running
from tests.support.flows import flow
from tests.support.servers import AnyServer
from tests.support.waiting import until


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_told_to_end(
    one_client: Client, one_server: AnyServer, how: signal.Signals
) -> None:
    view = one_client.insert(flow("a"))
    with running(one_server.url, "--actor", "night shift") as (place, process):
        assert view.id in httpx.get(f"{place}/workflows").text
        assert "night shift" in httpx.get(f"{place}/workflows").text
        with httpx.stream("GET", f"{place}/live") as stream:  # which blocks nothing
            assert stream.status_code == 200
            process.send_signal(how)
            assert process.wait(20) == 0
        assert process.stderr is not None
        lines = [json.loads(line) for line in process.stderr]
        assert [line["level"] for line in lines if line["level"] != "warning"] == []


def answers(place: str) -> bool:
    """Whether it has room for a request now: without, it refuses it, or hangs up."""
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{place}/healthz").status_code == 200
    return False


def test_connections_that_never_ask_leave_room_for_others(one_server: AnyServer) -> None:
    with running(one_server.url) as (place, _), contextlib.ExitStack() as open_:
        address = ("127.0.0.1", int(place.rpartition(":")[2]))
        for number in range(310):
            connection = open_.enter_context(socket.create_connection(address))
            connection.sendall(b"GET /he" if number % 2 else b"POST /login HTTP/1.1\r\nHo")
        until(lambda: answers(place), what="room")


def test_a_connection_that_takes_long_over_its_request_is_closed(one_server: AnyServer) -> None:
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n12"
    with running(one_server.url) as (place, _), contextlib.ExitStack() as open_:
        address = ("127.0.0.1", int(place.rpartition(":")[2]))
        connections = [
            open_.enter_context(socket.create_connection(address, timeout=20)) for _ in range(3)
        ]
        for connection, said in zip(connections, (b"", b"GET /hea", head), strict=True):
            connection.sendall(said)
        for connection in connections:
            while connection.recv(10_000):  # an early refusal of the last one
                pass


def test_with_a_token_visitors_log_in(one_server: AnyServer) -> None:
    with running(one_server.url, RWF_CONSOLE_TOKEN="correct-horse-battery") as (place, _):
        assert httpx.get(place).status_code == 303
        assert "Token" in httpx.get(place, follow_redirects=True).text


def test_it_needs_a_token_off_loopback_and_a_long_one(cli: Cli) -> None:
    assert "no loopback address: set RWF_CONSOLE_TOKEN" in cli.refused(
        2, "console", "--listen", "0.0.0.0:0"
    )
    assert "at least 16" in cli.refused(2, "console", "--token", "short")
    assert "HOST:PORT" in cli.refused(2, "console", "--listen", "9465")
    assert "scheme" in cli.refused(2, "console", "--listen", "127.0.0.1:0", "--url", "http://x")


def test_a_port_that_is_taken_is_one_line(one_server: AnyServer) -> None:
    with running(one_server.url) as (place, _):
        port = place.rpartition(":")[2]
        found = run("console", "--listen", f"127.0.0.1:{port}", "--url", one_server.url)
    assert (found.returncode, found.stdout) == (1, b"")
    assert found.stderr.count(b"\n") == 1


def test_without_the_extra_it_says_what_to_install(one_server: AnyServer, tmp_path: Path) -> None:
    (tmp_path / "starlette").mkdir()
    (tmp_path / "starlette" / "__init__.py").write_text(
        "raise ModuleNotFoundError(name='starlette')"
    )
    environment: dict[str, Any] = {"PYTHONPATH": str(tmp_path)}
    found = run("console", "--url", one_server.url, env=environment)
    assert (found.returncode, found.stderr) == (
        1, b"rwf: extra_missing: pip install 'rwf[console]'\n",
    )  # fmt: skip
