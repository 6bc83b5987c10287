"""Contract §6: callbacks as signed POSTs, against a real HTTP server."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from rwf import AsyncClient, Client, Webhook, WebhookFailed, verify_signature
from rwf.model.views import WorkflowTerminal
from tests.support.daemons import serving
from tests.support.outbox import ended, stat
from tests.support.servers import Server
from tests.support.waiting import until

SECRET = "a secret of ours"
ENVELOPE = WorkflowTerminal.model_validate(
    {
        "callback_id": "0-aaaaaaaaaaaaaaaa/1",
        "event": "workflow.terminal",
        "workflow_id": "0-aaaaaaaaaaaaaaaa",
        "name": "sync",
        "key": "order-7",
        "tags": {"account": "42"},
        "semantics_version": 2,
        "envelope_version": 1,
        "occurred_at": "2026-01-02T03:04:05.678Z",
        "state": "failed",
        "terminal_cause": "step_failed",
        "skipped_step_count": 0,
    }
)


class Receiver(ThreadingHTTPServer):
    """Keeps the requests that it gets, and answers as told."""

    daemon_threads = True
    status = 204
    headers: dict[str, str]
    trickle: bytes | None = None
    released: threading.Event
    hang = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.headers = {}
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.hang_for: set[str] = set()
        self.ports: set[int] = set()
        self.connections: list[socket.socket] = []
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def close_all(self) -> None:
        """Ends all connections."""
        while self.connections:
            with suppress(OSError):
                self.connections.pop().shutdown(socket.SHUT_RDWR)


class _Answer(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, dict(self.headers), body))
        self.server.ports.add(self.client_address[1])
        self.server.connections.append(self.connection)
        if self.server.hang or json.loads(body)["workflow_id"] in self.server.hang_for:
            self.server.released.wait(30)
        if self.server.trickle is not None:
            self._trickle(self.server.trickle)
            return
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _trickle(self, start: bytes) -> None:
        """An answer that never ends, and never pauses for long."""
        try:
            self.wfile.write(start)
            while not self.server.released.wait(0.02):
                self.wfile.write(b"H")
        except OSError:
            pass

    do_GET = do_POST

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


def test_what_is_sent(receiver: Receiver) -> None:
    Webhook(f"{receiver.url}/hooks/rwf?a=1#part", SECRET)(ENVELOPE)
    [(path, headers, body)] = receiver.got
    assert path == "/hooks/rwf?a=1"
    assert json.loads(body) == ENVELOPE.model_dump(mode="json")
    assert headers["Content-Type"] == "application/json"
    assert headers["Host"] == f"127.0.0.1:{receiver.server_port}"
    moment, digest = re.fullmatch(r"t=(\d+),v1=(\w+)", headers["X-Rwf-Signature"]).groups()  # type: ignore[union-attr]
    signed = moment.encode() + b"." + body
    assert digest == hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    assert abs(int(moment) - time.time()) < 60
    assert "Authorization" not in headers


BODY = b'{"a":1}'
NOW = 1_700_000_000


def signed(secret: bytes = b"key", *, at: int = NOW, body: bytes = BODY) -> str:
    """A signature as the contract has it, made without rwf."""
    return hmac.new(secret, b"%d.%b" % (at, body), hashlib.sha256).hexdigest()


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rwf.webhook.time.time", lambda: float(NOW))


GOOD = f"t={NOW},v1={signed()}"


@pytest.mark.usefixtures("now")
def test_the_receiver_takes_what_is_genuine_and_fresh() -> None:
    assert verify_signature(BODY, GOOD, "key")
    assert verify_signature(BODY, GOOD, b"key", tolerance=0)
    assert not verify_signature(BODY, GOOD, "other")
    assert not verify_signature(BODY + b" ", GOOD, "key")


@pytest.mark.usefixtures("now")
@pytest.mark.parametrize("off", [-300, -299, 299, 300])
def test_the_receiver_takes_what_is_nearly_now(off: int) -> None:
    assert verify_signature(BODY, f"t={NOW + off},v1={signed(at=NOW + off)}", "key")


@pytest.mark.usefixtures("now")
@pytest.mark.parametrize("off", [-86_400, -301, 301, 86_400, 100_000_000_000])
def test_the_receiver_refuses_what_is_old_or_of_the_future(off: int) -> None:
    header = f"t={NOW + off},v1={signed(at=NOW + off)}"
    assert not verify_signature(BODY, header, "key")
    assert verify_signature(BODY, header, "key", tolerance=1e9) == (abs(off) < 1e9)


@pytest.mark.usefixtures("now")
def test_the_time_is_signed_with_the_body() -> None:
    """So nobody can send an old body with a new time."""
    assert not verify_signature(BODY, f"t={NOW + 1},v1={signed()}", "key")
    assert not verify_signature(b"0." + BODY, f"t={NOW},v1={signed()}", "key")


@pytest.mark.usefixtures("now")
def test_one_right_signature_of_several_is_enough() -> None:
    """So a sender can change its secret while receivers still have the old one."""
    header = f"t={NOW},v1={signed(b'new')},v1={signed(b'old')}"
    assert verify_signature(BODY, header, "old")
    assert verify_signature(BODY, header, "new")
    assert not verify_signature(BODY, header, "neither")
    assert verify_signature(BODY, f"t={NOW},v2=00ff,v1={signed()}", "key")


MALFORMED = [
    None, "", "t=,v1=", f"v1={signed()}", f"t={NOW}", f"t={NOW},v1=", f"v1={signed()},t={NOW}",
    GOOD[:-1], GOOD.upper(), f" {GOOD}", f"{GOOD} ", f"{GOOD}\n", f"{GOOD},",
    GOOD.replace(",", ", "), f"sha256={signed()}", f"t={NOW},v2={signed()}",
    f"t=-{NOW},v1={signed()}", f"t={NOW}.0,v1={signed()}", f"t={NOW},t={NOW},v1={signed()}",
    f"t=0x{NOW:x},v1={signed()}", f"t={'9' * 5000},v1={signed()}",
    f"t={NOW}{f',v1={signed()}' * 17}", "é", "\udc80", f"t={NOW},v1={'é' * 64}",
    f"t=\u0661,v1={signed()}",
]  # fmt: skip


@pytest.mark.usefixtures("now")
@pytest.mark.parametrize("header", MALFORMED, ids=range(len(MALFORMED)))
def test_the_receiver_refuses_malformed_signatures(header: str | None) -> None:
    assert not verify_signature(BODY, header, "key")


def test_a_check_that_cannot_be_meant() -> None:
    with pytest.raises(ValueError, match="secret"):
        verify_signature(BODY, GOOD, "")
    for tolerance in (-1, float("nan"), "300"):
        with pytest.raises(ValueError, match="tolerance"):
            verify_signature(BODY, GOOD, "key", tolerance)  # type: ignore[arg-type]


# --- connections are used again ---------------------------------------------------------------


@pytest.fixture
def lasting(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Receiver:
    """A receiver that keeps connections open, and records from which port each request came."""
    monkeypatch.setattr(_Answer, "protocol_version", "HTTP/1.1")
    receiver.headers["Content-Length"] = "0"
    return receiver


def test_a_connection_is_used_again(lasting: Receiver) -> None:
    webhook = Webhook(lasting.url, SECRET)
    for _ in range(5):
        webhook(ENVELOPE)
    assert len(lasting.got) == 5
    assert len(lasting.ports) == 1
    lasting.status = 503
    with pytest.raises(WebhookFailed, match="503"):
        webhook(ENVELOPE)
    lasting.status = 204
    webhook(ENVELOPE)
    assert len(lasting.ports) == 1


def test_a_connection_that_the_receiver_has_closed_is_replaced(lasting: Receiver) -> None:
    webhook = Webhook(lasting.url, SECRET)
    for _ in range(3):
        webhook(ENVELOPE)
        lasting.close_all()
    assert len(lasting.got) == 3
    assert len(lasting.ports) == 3


def test_a_connection_unused_for_long_is_not_used_again(
    lasting: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhook = Webhook(lasting.url, SECRET)
    webhook(ENVELOPE)
    monkeypatch.setattr("rwf.webhook._IDLE", 0.0)
    webhook(ENVELOPE)
    assert len(lasting.ports) == 2


@pytest.mark.parametrize("headers", [{"Content-Length": "70000"}, {"Transfer-Encoding": "chunked"}])
def test_an_answer_that_is_long_or_of_no_length_is_not_read(
    lasting: Receiver, headers: dict[str, str]
) -> None:
    lasting.headers.clear()
    lasting.headers.update(headers)
    lasting.status = 200
    webhook = Webhook(lasting.url, SECRET)
    for _ in range(2):
        webhook(ENVELOPE)
    assert len(lasting.ports) == 2


def test_a_body_that_does_not_come_is_a_delivery_all_the_same(lasting: Receiver) -> None:
    lasting.headers["Content-Length"] = "5"
    lasting.status = 200
    webhook = Webhook(lasting.url, SECRET, timeout=0.3)
    for _ in range(2):
        webhook(ENVELOPE)
    assert len(lasting.ports) == 2


def test_closing_it_closes_what_it_keeps(lasting: Receiver) -> None:
    webhook = Webhook(lasting.url, SECRET)
    webhook(ENVELOPE)
    webhook.close()
    [connection] = lasting.connections
    until(lambda: connection.fileno() == -1, what="the receiver to see the end")
    webhook(ENVELOPE)
    assert len(lasting.got) == 2


def test_many_threads_share_a_webhook(lasting: Receiver) -> None:
    webhook = Webhook(lasting.url, SECRET)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(webhook, [ENVELOPE] * 200))
    assert len(lasting.got) == 200
    assert len(lasting.ports) <= 8


def test_a_login_in_the_url(receiver: Receiver) -> None:
    Webhook(receiver.url.replace("//", "//me:p%40ss@"), SECRET)(ENVELOPE)
    [(path, headers, _)] = receiver.got
    assert (path, headers["Authorization"]) == ("/", "Basic bWU6cEBzcw==")


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_taken(receiver: Receiver, status: int) -> None:
    receiver.status = status
    Webhook(receiver.url, SECRET)(ENVELOPE)
    assert len(receiver.got) == 1


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308, 400, 401, 404, 429, 500, 503])
def test_not_taken(receiver: Receiver, status: int) -> None:
    """And a redirect is not followed: the receiver sees one request."""
    receiver.status = status
    receiver.headers["Location"] = f"{receiver.url}/elsewhere"
    with pytest.raises(WebhookFailed, match=f"^the receiver answered {status}$"):
        Webhook(receiver.url, SECRET)(ENVELOPE)
    assert len(receiver.got) == 1


def _hang(receiver: Receiver) -> None:
    receiver.hang = True


def _trickle(receiver: Receiver) -> None:
    receiver.trickle = b""


def _trickle_headers(receiver: Receiver) -> None:
    receiver.trickle = b"HTTP/1.1 200 OK\r\nX-Slow: "


@pytest.mark.parametrize("slow", [_hang, _trickle, _trickle_headers])
def test_a_receiver_that_takes_too_long(
    receiver: Receiver, slow: Callable[[Receiver], None]
) -> None:
    slow(receiver)
    started = time.monotonic()
    with pytest.raises(WebhookFailed, match=r"^no answer from the receiver within 0\.2 s$"):
        Webhook(receiver.url, SECRET, timeout=0.2)(ENVELOPE)
    assert time.monotonic() - started < 5


def test_a_body_without_an_end_is_not_waited_for(receiver: Receiver) -> None:
    receiver.trickle = b"HTTP/1.1 200 OK\r\n\r\n"
    started = time.monotonic()
    Webhook(receiver.url, SECRET)(ENVELOPE)
    assert time.monotonic() - started < 5


def test_nobody_there() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        with pytest.raises(WebhookFailed, match=r"\(ConnectionRefusedError\)$"):
            Webhook(url, SECRET)(ENVELOPE)


def test_an_answer_that_is_not_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"SSH-2.0-server\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(WebhookFailed, match=r"\(BadStatusLine\)$"):
            Webhook(f"http://127.0.0.1:{listening.getsockname()[1]}", SECRET)(ENVELOPE)
        thread.join()


def test_https_checks_whom_it_talks_to() -> None:
    webhook = Webhook("https://example.org/hook", SECRET)
    assert repr(webhook) == "<Webhook https://example.org:443>"
    context = webhook._context
    assert context is not None
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_https_does_not_fall_back(receiver: Receiver) -> None:
    with pytest.raises(WebhookFailed, match="SSL"):
        Webhook(receiver.url.replace("http:", "https:"), SECRET)(ENVELOPE)
    assert receiver.got == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org/hook",
        "//example.org",
        "ftp://me:hunter2@example.org",
        "file:///etc/passwd",
        "unix:///hunter2",
        "http://",
        "http:///hunter2",
        "http://me:hunter2@",
        "http://example.org:hunter2/",
        "http://example.org:99999/",
        "http://[::1/",
        "http://example.org/a hunter2",
        "http://example.org/\r\nX: hunter2",
        "http://exämple.org/",
        None,
        b"http://example.org",
    ],
)
def test_bad_urls(url: Any) -> None:
    with pytest.raises(ValueError, match="URL") as caught:
        Webhook(url, SECRET)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("secret", ["", b"", None, 7])
def test_bad_secrets(secret: Any) -> None:
    with pytest.raises(ValueError, match="secret"):
        Webhook("http://example.org", secret)


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), "10", None])
def test_bad_timeouts(timeout: Any) -> None:
    with pytest.raises(ValueError, match="timeout"):
        Webhook("http://example.org", SECRET, timeout=timeout)


def test_an_ipv6_address() -> None:
    assert repr(Webhook("http://[::1]/", SECRET)) == "<Webhook http://[::1]:80>"
    try:
        listening = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with listening:
        webhook = Webhook(f"http://[::1]:{listening.getsockname()[1]}/", SECRET, timeout=0.1)
        with pytest.raises(WebhookFailed, match="within"):
            webhook(ENVELOPE)


# --- together with a dispatch -----------------------------------------------------------------


def test_dispatching(fake_client: Client, receiver: Receiver) -> None:
    workflow_id = ended(fake_client)
    assert fake_client.dispatch_callbacks(Webhook(receiver.url, SECRET)).delivered == 1
    [(_, headers, body)] = receiver.got
    assert verify_signature(body, headers["X-Rwf-Signature"], SECRET)
    envelope = json.loads(body)
    assert envelope.pop("occurred_at").endswith("Z")
    assert envelope == {
        "callback_id": f"{workflow_id}/1",
        "event": "workflow.terminal",
        "workflow_id": workflow_id,
        "name": "flow",
        "key": None,
        "tags": {},
        "semantics_version": 2,
        "envelope_version": 1,
        "state": "completed",
        "terminal_cause": "completed",
        "skipped_step_count": 0,
    }


def test_a_daemon_posts_to_the_url_in_its_environment(
    one_client: Client, one_server: Server, receiver: Receiver
) -> None:
    workflow_id = ended(one_client)
    environment = {
        **os.environ, "RWF_WEBHOOK_URL": f"{receiver.url}/hook", "RWF_WEBHOOK_SECRET": SECRET,
    }  # fmt: skip
    command = [sys.executable, "-m", "rwf", "reconciler", "--url", one_server.url]
    command += ["--metrics", "off"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as daemon:
        until(lambda: receiver.got, timeout=60, what="the callback")
        daemon.terminate()
        assert daemon.wait(timeout=60) == 0
    [(path, headers, body)] = receiver.got
    assert path == "/hook"
    assert json.loads(body)["workflow_id"] == workflow_id
    assert verify_signature(body, headers["X-Rwf-Signature"], SECRET)
    assert one_client.callbacks(workflow_id)[0].status == "delivered"


def test_a_daemon_whose_receiver_hangs_for_some_delivers_the_others(
    one_client: Client, receiver: Receiver
) -> None:
    """Each delivery that hangs is given up after the webhook's timeout."""
    receiver.hang_for = {ended(one_client) for _ in range(5)}
    others = {ended(one_client) for _ in range(40)}
    webhook = Webhook(receiver.url, SECRET, timeout=1.0)
    with serving(one_client, callbacks=webhook, concurrency=8, interval=0.05):
        failed = "cb|workflow.terminal|failed"
        until(lambda: stat(one_client, "gc|delivered") == 40, timeout=60, what="the others")
        until(lambda: stat(one_client, failed) >= 5, timeout=60, what="the failures")
    delivered = {one for one in others if one_client.callbacks(one)[0].status == "delivered"}
    assert delivered == others


def test_dispatching_on_asyncio(one_server: Server, receiver: Receiver) -> None:
    with Client.from_url(one_server.url) as client:
        ended(client)

    async def run() -> int:
        async with AsyncClient.from_url(one_server.url) as other:
            return (await other.dispatch_callbacks(Webhook(receiver.url, SECRET))).delivered

    assert asyncio.run(run()) == 1
    assert len(receiver.got) == 1


@pytest.mark.parametrize("status", [302, 503, 0])
def test_no_password_and_no_secret_is_told(
    fake_client: Client, receiver: Receiver, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.status = status
    workflow_id = ended(fake_client)
    url = receiver.url.replace("//", "//me:hunter2@") + "/hunter2?token=hunter2"
    if status == 0:
        receiver.hang = True
    webhook = Webhook(url, "hunter2 too", timeout=0.1)
    with caplog.at_level(logging.DEBUG):
        assert fake_client.dispatch_callbacks(webhook).failed == 1
    shown = caplog.text + repr(webhook) + str(webhook)
    shown += repr(fake_client.callbacks(workflow_id)) + repr(fake_client.evidence(workflow_id))
    assert "hunter2" not in shown
    assert "WebhookFailed: " in caplog.text
