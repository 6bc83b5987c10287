"""The console in tests, without a browser: requests as a browser sends them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette

from rwf import AsyncClient
from rwf.console.access import Authorize, LoopbackAccess, TokenAccess
from rwf.console.application import build
from rwf.console.serving import configured
from tests.support.waiting import until


class Page(HTMLParser):
    """A page as it was sent: its text, its tags with their attributes, and its forms' fields."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._texts: list[str] = []
        self._inside: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._texts.append(" ")
        if tag in ("script", "style", "title"):
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self._texts.append(" ")
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if self._inside and self._inside[-1] in ("script", "style"):
            self.scripts.append(data)
        else:
            self._texts.append(data)

    @property
    def text(self) -> str:
        """The visible text, with single spaces."""
        return " ".join("".join(self._texts).split())

    @property
    def links(self) -> list[str]:
        return [str(attrs["href"]) for tag, attrs in self.tags if tag == "a" and "href" in attrs]

    def fields(self, action: str) -> dict[str, str]:
        """The fields of the form that POSTs to an address, as they are filled in."""
        found: dict[str, str] = {}
        inside = False
        for tag, attrs in self.tags:
            if tag == "form":
                inside = attrs.get("method") == "post" and attrs.get("action") == action
            if inside and tag == "input" and attrs.get("type") != "checkbox":
                found[str(attrs["name"])] = attrs.get("value") or ""
        assert found, f"no form posts to {action}"
        return found


class Visitor:
    """A browser's requests, with its cookies, and the headers that a browser sends with a form."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.http = httpx.Client(base_url=origin, timeout=30)

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.http.get(path, headers=headers)

    def page(self, path: str, status: int = 200) -> Page:
        """A page that must be answered with this status."""
        answer = self.get(path)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        return Page(answer.text)

    def post(self, path: str, fields: dict[str, str], **headers: str | None) -> httpx.Response:
        """Sends a form as a page of the console does; a header that is None is left out."""
        given = {"origin": self.origin, "sec_fetch_site": "same-origin", **headers}
        some = {name.replace("_", "-"): value for name, value in given.items() if value is not None}
        return self.http.post(path, data=fields, headers=some)


@contextmanager
def served(connect: Callable[[], AsyncClient], make: Callable[[AsyncClient], Any]) -> Iterator[str]:
    """Serves an app on a client, each made in the event loop that runs them; yields its origin."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        servers: list[uvicorn.Server] = []

        async def run() -> None:
            async with connect() as client:
                servers.append(uvicorn.Server(configured(make(client))))
                await servers[0].serve(sockets=[listener])

        thread = threading.Thread(target=lambda: asyncio.run(run()))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            until(lambda: servers and servers[0].started, what="the console to be up")
            servers[0].should_exit = True
            thread.join()


@contextmanager
def console(
    url: str,
    *,
    authorize: Authorize | None = None,
    allow_actions: bool = False,
    login: TokenAccess | None = None,
    **options: Any,
) -> Iterator[Visitor]:
    """A console on a server, and a visitor on this machine."""
    access = login or LoopbackAccess("ann")

    def make(client: AsyncClient) -> Starlette:
        rule = authorize or access.authorize
        return build(client, rule, allow_actions=allow_actions, login=login)

    with served(lambda: AsyncClient.from_url(url, **options), make) as origin:
        visitor = Visitor(origin)
        with visitor.http:
            yield visitor


def commands(page: Page) -> list[str]:
    """The command lines that a page shows for pasting."""
    return re.findall(r'<code class="command">(.*?)</code>', page.html)


@contextmanager
def running(url: str, *args: str, **env: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """``rwf console`` on a free port: its address and process."""
    command = [sys.executable, "-m", "rwf", "console", "--listen", "127.0.0.1:0", "--url", url]
    with subprocess.Popen(
        [*command, *args, "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | env,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["url"], process
        finally:
            process.kill()
