"""Who sees the console and who acts (contract §18), and what an intruder's page cannot do."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Mount

import rwf.console
from rwf import AsyncClient, Client
from rwf.console.access import LoopbackAccess, TokenAccess, is_loopback
from rwf.console.actions import COMMANDS
from rwf.console.filters import FILTERS
from tests.support.consoles import Page, Visitor, console, served
from tests.support.flows import chain, fan_out
from tests.support.servers import AnyServer
from tests.support.waiting import until

TOKEN = "correct-horse-battery"
PAGES = ("/", "/workflows", "/bulk", "/queues", "/signals", "/workers", "/health", "/find?q=x")


@pytest.fixture
def visitor(one_server: AnyServer) -> Iterator[Visitor]:
    with console(one_server.url) as found:
        yield found


def paths_of(client: Client) -> list[str]:
    """Every page there is, in a namespace with content on each."""
    view = client.insert(fan_out(30))
    client.complete_step(view.id, "root", "failed", payload=[1], summary="no")
    client.deliver_signal("paid", "k", payload={"a": 1})
    own = [f"/workflows/{view.id}{rest}" for rest in (
        "", "?unfold=c1", "?why=1", "/steps", "/evidence", "/callbacks",
        "/step?name=root", "/step?name=c1",
    )]  # fmt: skip
    session = client.cancel_many({"name": "nobody"}, actor="ann", reason="none")
    return [*PAGES, *own, f"/bulk/{session.id}"]


# --- headers and markup


def test_every_answer_has_the_headers(one_client: Client, visitor: Visitor) -> None:
    for path in (*paths_of(one_client), "/static/console.js", "/nothing", "/live", "/healthz"):
        with visitor.http.stream("GET", path) as answer:
            headers = answer.headers
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy == {
            "default-src": "'none'", "script-src": "'self'", "style-src": "'self'",
            "img-src": "'self'", "connect-src": "'self'", "form-action": "'self'",
            "base-uri": "'none'", "frame-ancestors": "'none'",
        }, path  # fmt: skip
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert "server" not in headers
        assert headers["cache-control"] == (
            "public, max-age=604800, immutable" if "static" in path else "no-store"
        )


def test_no_page_has_inline_code_or_asks_another_host(one_client: Client, visitor: Visitor) -> None:
    for path in paths_of(one_client):
        page = Page(visitor.get(path).text)
        assert page.scripts == []
        assert "javascript:" not in page.html
        for tag, attrs in page.tags:
            assert tag not in ("style", "iframe", "object", "embed", "base")
            assert not [name for name in attrs if name.startswith("on") or name == "style"]
            for name in ("href", "src", "action", "data-live", "data-load"):
                place = attrs.get(name) or "/"
                assert re.match("/(?!/)|#", place), (path, tag, place)
                if urlsplit(place).path.startswith("/static/"):
                    assert visitor.get(place).status_code == 200


def test_the_style_and_the_script_ask_no_other_host(visitor: Visitor) -> None:
    for name in ("console.css", "console.js", "icon.svg"):
        text = visitor.get(f"/static/{name}").text.replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|url\(|@import|innerHTML = |eval\(|document\.write", text)


ACTED_ON: Final = (
    "workflow",
    "step",
    "do",
    "scope",
    "signal",
    "session",
    "on",
    "name",
    "tag",
    "since",
)
ODD: Final = (
    "", "0", "-1", "1e9", "9" * 400, "None", "null", "true", "..", "/", "\\", "%", "%00", "\x00",
    "\r\nX: y", "\ud7ff\ue000", "\u202e", "'\"><script>", "{{7*7}}", "a" * 5_000, "[]", "*",
    "0-aaaaaaaaaaaaaaaa", "99999-aaaaaaaaaaaaaaaa", "00000000000|0000000|", "\N{PILE OF POO}" * 200,
)  # fmt: skip


def test_no_value_of_a_parameter_breaks_a_page(one_client: Client, one_server: AnyServer) -> None:
    view = one_client.insert(fan_out(3))
    asked = [
        ("/workflows", (*FILTERS, "cursor")),
        ("/find", ("q",)),
        ("/signals", ("signal", "key", "status", "cursor")),
        (f"/workflows/{view.id}", ("focus", "unfold", "why")),
        (f"/workflows/{view.id}/steps", ("offset",)), (f"/workflows/{view.id}/step", ("name",)),
        *((f"/act/{action}", ACTED_ON) for action in COMMANDS),
    ]  # fmt: skip
    with console(one_server.url, allow_actions=True) as visitor:
        for path, names in asked:
            fixed = {"workflow": view.id, "step": "root", "do": "retry"} if "act" in path else {}
            for odd in ODD:
                answer = visitor.http.get(path, params=fixed | dict.fromkeys(names, odd))
                assert answer.status_code < 500, (path, odd, answer.text)
                assert "<script>" not in answer.text
            for name in names:
                answer = visitor.http.get(path, params=fixed | {name: ODD[-1]})
                assert answer.status_code < 500, (path, name, answer.text)


# --- reading


def test_who_may_not_read_sees_nothing(one_client: Client, one_server: AnyServer) -> None:
    asked: list[str] = []

    def nobody(_request: Request, action: str) -> None:
        asked.append(action)

    paths = [*paths_of(one_client), "/live"]
    with console(one_server.url, authorize=nobody, allow_actions=True) as visitor:
        for path in paths:
            assert "you may not see this" in visitor.page(path, 403).text
    assert set(asked) == {"read"}


def test_authorize_may_be_a_coroutine_and_may_lead_elsewhere(one_server: AnyServer) -> None:
    async def ann(request: Request, _action: str) -> str | None:
        if "logged-in" not in request.headers:
            raise HTTPException(303, headers={"Location": "/sso"})
        return "ann"

    with console(one_server.url, authorize=ann) as visitor:
        answer = visitor.get("/")
        assert (answer.status_code, answer.headers["location"]) == (303, "/sso")
        assert visitor.get("/", **{"logged-in": "yes"}).status_code == 200


def test_mounted_in_another_app_its_links_and_cookies_stay_below_its_place(
    one_client: Client, one_server: AnyServer
) -> None:
    paths = paths_of(one_client)

    def ann(_request: Request, _action: str) -> str:
        return "ann"

    def make(client: AsyncClient) -> Any:
        inner = rwf.console.app(client, authorize=ann)
        return Starlette(routes=[Mount("/ops/rwf", app=inner)])

    with served(lambda: AsyncClient.from_url(one_server.url), make) as origin:
        visitor = Visitor(origin)
        with visitor.http:
            assert visitor.get("/").status_code == 404
            for path in paths:
                page = Page(visitor.get(f"/ops/rwf{path}").text)
                for _, attrs in page.tags:
                    for name in ("href", "src", "action", "data-live"):
                        place = attrs.get(name) or "/ops/rwf/"
                        assert place.startswith(("/ops/rwf/", "#")), (path, place)
                current = [a["href"] for _, a in page.tags if a.get("aria-current") == "page"]
                assert len(current) <= 2
            assert '"page">Overview' in visitor.get("/ops/rwf/").text


def test_a_name_that_leads_to_loopback_is_no_way_in(visitor: Visitor) -> None:
    """A page of another site may have its own name resolve to 127.0.0.1."""
    for host in (
        "evil.example",
        "evil.example:9465",
        "127.0.0.1.evil.example",
        "[",
        "",
        "10.0.0.1",
    ):
        assert visitor.get("/", host=host).status_code in (400, 403), host
    for host in ("localhost", "127.0.0.1", "LOCALHOST:80", "[::1]:9465", "127.8.8.8"):
        assert visitor.get("/", host=host).status_code == 200, host


@pytest.mark.parametrize(
    ("host", "found"),
    [("127.0.0.1", True), ("::1", True), ("[::1]", True), ("localhost", True), ("0.0.0.0", False),
     ("::", False), ("10.0.0.1", False), ("example.com", False), ("", False)],
)  # fmt: skip
def test_what_loopback_is(host: str, found: bool) -> None:
    assert is_loopback(host) is found


# --- a token


@pytest.fixture
def guarded(one_server: AnyServer) -> Iterator[Visitor]:
    with console(one_server.url, login=TokenAccess(TOKEN)) as found:
        yield found


def log_in(visitor: Visitor, token: str = TOKEN, actor: str = "ann", place: str = "") -> Any:
    fields = visitor.page(f"/login?next={place}").fields("/login")
    return visitor.post("/login", {**fields, "token": token, "actor": actor})


def test_a_token_opens_every_page_under_a_name(guarded: Visitor) -> None:
    for path in (*PAGES, "/workflows/x"):
        answer = guarded.get(path)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/login?next=")
    answer = log_in(guarded, place="/queues")
    assert (answer.status_code, answer.headers["location"]) == (303, "/queues")
    assert "ann" in guarded.page("/queues").text
    fields = guarded.page("/queues").fields("/logout")
    assert guarded.post("/logout", fields).headers["location"] == "/login"
    assert guarded.get("/queues").status_code == 303


def test_the_session_is_no_script_s_and_is_signed(guarded: Visitor) -> None:
    cookie = log_in(guarded).headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
    session = guarded.http.cookies["rwf_session"]
    until, name, signature = session.split(".")
    for forged in (
        f"9{until}.{name}.{signature}", f"{until}.cm9vdA.{signature}", f"{until}.{name}.",
        f"{until}.{name}", "..", "", "\xff",
    ):  # fmt: skip
        with httpx.Client(base_url=guarded.origin) as other:
            header = {b"cookie": b"rwf_session=" + forged.encode("latin-1")}
            assert other.get("/queues", headers=header).status_code == 303, forged


def test_a_session_ends_and_another_token_s_is_none(
    monkeypatch: pytest.MonkeyPatch, guarded: Visitor, one_server: AnyServer
) -> None:
    log_in(guarded)
    session = guarded.http.cookies["rwf_session"]
    with console(one_server.url, login=TokenAccess(TOKEN)) as replica:
        header = {"cookie": f"rwf_session={session}"}
        assert replica.get("/queues", **header).status_code == 200
    with console(one_server.url, login=TokenAccess(f"{TOKEN}2")) as other:
        assert other.get("/queues", **header).status_code == 303
    now = int(session.split(".")[0])
    monkeypatch.setattr("rwf.console.access.time.time", lambda: float(now + 1))
    assert guarded.get("/queues").status_code == 303


def test_wrong_tokens_are_refused_and_soon_not_even_looked_at(guarded: Visitor) -> None:
    for _ in range(10):
        answer = log_in(guarded, token="wrong")
        assert (answer.status_code, "rwf_session" in guarded.http.cookies) == (403, False)
    answer = log_in(guarded)
    assert (answer.status_code, "rwf_session" in guarded.http.cookies) == (429, False)


@pytest.mark.parametrize("actor", ["", "  ", "a\nb", "\x1b[31m", "x" * 129])
def test_a_login_needs_a_name(guarded: Visitor, actor: str) -> None:
    assert log_in(guarded, actor=actor).status_code == 400


@pytest.mark.parametrize(
    "place",
    ["//evil.example", "/\\evil.example", "https://evil.example", "evil",
     "javascript:alert(1)", "/é"],
)  # fmt: skip
def test_a_login_leads_to_no_other_site(guarded: Visitor, place: str) -> None:
    answer = log_in(guarded, place=place)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_a_login_from_another_site_is_none(guarded: Visitor) -> None:
    fields = guarded.page("/login").fields("/login") | {"token": TOKEN, "actor": "ann"}
    for headers in (
        {"origin": "https://evil.example", "sec_fetch_site": "cross-site"},
        {"origin": "https://evil.example", "sec_fetch_site": None},
        {"origin": "null", "sec_fetch_site": None},
        {"origin": None, "sec_fetch_site": None},
        {"origin": "http://[", "sec_fetch_site": "same-origin"},
    ):
        assert guarded.post("/login", fields, **headers).status_code == 403
    assert guarded.post("/login", fields | {"rwf_csrf": "x" * 43}).status_code == 403
    assert guarded.post("/login", fields).status_code == 303


def test_one_address_that_guesses_locks_nobody_else_out() -> None:
    access = TokenAccess(TOKEN)

    def asked(host: str, token: str) -> int:
        scope = {"type": "http", "client": (host, 1), "headers": [], "scheme": "http"}
        try:
            return access.log_in(Request(scope), token, "ann", "/").status_code
        except HTTPException as error:
            return error.status_code

    assert [asked("10.0.0.1", "wrong") for _ in range(12)] == [403] * 10 + [429] * 2
    assert (asked("10.0.0.1", TOKEN), asked("10.0.0.2", TOKEN)) == (429, 303)
    assert {asked(f"10.1.{n // 200}.{n % 200}", "wrong") for n in range(1_100)} == {403}
    assert len(access._failures) == 1_000


def test_an_error_of_the_server_shows_no_password(one_server: AnyServer, impatient: None) -> None:
    place = one_server.url.replace("redis://", "redis://somebody:hunter2@")
    with console(place) as visitor:
        for path in ("/", "/health", "/workflows"):
            answer = visitor.get(path)
            assert answer.status_code in (200, 503)
            assert "hunter2" not in answer.text


def test_a_short_token_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16"):
        TokenAccess("short")


def test_loopback_is_one_actor() -> None:
    scope = {"type": "http", "headers": [(b"host", b"localhost")], "method": "GET", "path": "/"}
    assert LoopbackAccess("ann").authorize(Request(scope), "read") == "ann"


# --- the app itself


def test_the_package_ships_what_it_serves() -> None:
    folder = Path(rwf.console.__file__).parent
    assert {path.name for path in (folder / "static").iterdir()} == {
        "console.css", "console.js", "icon.svg",
    }  # fmt: skip


def test_hints_of_a_workflow_reach_its_viewers(one_client: Client, visitor: Visitor) -> None:
    view = one_client.insert(chain(200))
    heard: list[str] = []

    def listen() -> None:
        with visitor.http.stream("GET", f"/live?workflow={view.id}") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            for line in answer.iter_lines():
                heard.append(line)
                if line == "event: changed":
                    return

    listener = threading.Thread(target=listen)
    listener.start()
    until(lambda: heard, what="the stream to be open")

    def changed() -> bool:  # the subscription may come after the first changes
        [claim] = one_client.claim(["default"], worker_id="w")
        one_client.complete(claim)
        listener.join(0.05)
        return not listener.is_alive()

    until(changed, what="a hint")
    assert heard[0].startswith("retry: ")


def test_viewers_are_bounded(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rwf.console.live.VIEWERS", 1)
    with visitor.http.stream("GET", "/live") as first:
        assert first.status_code == 200
        with visitor.http.stream("GET", "/live") as second:
            assert second.status_code == 503
    until(lambda: streams(visitor), what="the place of the first to be free")


def streams(visitor: Visitor) -> bool:
    with visitor.http.stream("GET", "/live") as answer:
        return answer.status_code == 200
