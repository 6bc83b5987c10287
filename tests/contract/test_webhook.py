"""SPEC section 6: callbacks as signed POSTs, against a real HTTP server."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from rwf import AsyncClient, Client, Webhook, WebhookFailed
from rwf.model.views import WorkflowTerminal
from rwf.webhook import verify
from tests.contract.outbox import ended
from tests.servers import Server

SECRET = "a secret of ours"
ENVELOPE = WorkflowTerminal.model_validate(
    {
        "callback_id": "0-aaaaaaaaaaaaaaaa/1",
        "event": "workflow.terminal",
        "workflow_id": "0-aaaaaaaaaaaaaaaa",
        "semantics_version": 2,
        "envelope_version": 1,
        "occurred_at": "2026-01-02T03:04:05.678Z",
        "state": "failed",
        "terminal_cause": "step_failed",
    }
)


class Receiver(ThreadingHTTPServer):
    """Keeps what it gets, and answers as it is told."""

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
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answer(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, dict(self.headers), body))
        if self.server.hang:
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
    digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    assert headers["X-Rwf-Signature"] == f"sha256={digest}"
    assert "Authorization" not in headers


def test_the_receivers_check() -> None:
    body = b'{"a":1}'
    good = "sha256=" + hmac.new(b"key", body, hashlib.sha256).hexdigest()
    assert verify("key", body, good)
    assert verify(b"key", body, good)
    assert not verify("other", body, good)
    assert not verify("key", body + b" ", good)
    for wrong in (None, "", good[:-1], good.upper(), good[7:], "sha1=" + good[7:], "é", "\udc80"):
        assert not verify("key", body, wrong)
    with pytest.raises(ValueError, match="secret"):
        verify("", body, good)


def test_a_login_in_the_url(receiver: Receiver) -> None:
    Webhook(receiver.url.replace("//", "//me:p%40ss@"), SECRET)(ENVELOPE)
    [(path, headers, _)] = receiver.got
    assert (path, headers["Authorization"]) == ("/", "Basic bWU6cEBzcw==")


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_taken(receiver: Receiver, status: int) -> None:
    receiver.status = status
    Webhook(receiver.url, SECRET)(ENVELOPE)


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
    assert verify(SECRET, body, headers["X-Rwf-Signature"])
    envelope = json.loads(body)
    assert envelope.pop("occurred_at").endswith("Z")
    assert envelope == {
        "callback_id": f"{workflow_id}/1",
        "event": "workflow.terminal",
        "workflow_id": workflow_id,
        "semantics_version": 2,
        "envelope_version": 1,
        "state": "completed",
        "terminal_cause": "completed",
    }


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
