"""A real browser for tests: Debian's Chromium, or Chrome, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser; without it the running test is skipped, and says so. With
    ``RWF_REQUIRE_SERVERS=1`` in the environment the test fails instead."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        reason = "no chromium on this machine"
        if os.environ.get("RWF_REQUIRE_SERVERS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        # As root it has no sandbox; it opens our own pages only.
        found = playwright.chromium.launch(
            executable_path=program, chromium_sandbox=os.geteuid() != 0
        )
        yield found
        found.close()


class Watched:
    """A page that records everything that goes wrong: ``faults`` has messages on the console,
    errors, dialogs, and requests to other hosts."""

    def __init__(self, browser: Browser, origin: str, **options: Any) -> None:
        self._context = browser.new_context(base_url=origin, **options)
        self.page: Page = self._context.new_page()
        self.page.set_default_timeout(10_000)
        self.faults: list[str] = []
        self.page.on("console", lambda one: self.faults.append(f"{one.type}: {one.text}"))
        self.page.on("pageerror", lambda one: self.faults.append(f"error: {one}"))
        self.page.on("dialog", lambda one: self._refuse(one))
        self.page.on("request", lambda one: self._requested(one.url, origin))

    def _refuse(self, dialog: Any) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _requested(self, url: str, origin: str) -> None:
        if not url.startswith(f"{origin}/"):
            self.faults.append(f"request: {url}")

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()

    def violations(self) -> list[str]:
        """The violations of accessibility rules that axe finds, with the elements."""
        found = Axe().run(self.page).response["violations"]
        return [
            f"{one['id']}: {node['html'][:200]} {node['failureSummary'][:300]}"
            for one in found
            for node in one["nodes"]
        ]
