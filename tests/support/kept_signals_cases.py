"""Shared by the tests of ``test_kept_signals.py`` in ``contract/`` and ``internals/``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rwf import Client, SignalView


def deliver(client: Client, key: str, dedupe: str, **options: Any) -> SignalView:
    return client.deliver_signal("go", key, dedupe_key=dedupe, **options)


def wait(client: Client, workflow_id: str, key: str = "k", **options: Any) -> str:
    return client.await_step(workflow_id, "a", signal="go", correlation_key=key, **options).status


def every(client: Client, *asked: str, **options: Any) -> list[SignalView]:
    """All kept signals, page by page."""
    return [view for page in pages(client, *asked, **options) for view in page]


def pages(client: Client, *asked: str, **options: Any) -> Iterator[tuple[SignalView, ...]]:
    cursor = None
    while True:
        page = client.signals(*asked, cursor=cursor, **options)
        yield page.signals
        cursor = page.cursor
        if cursor is None:
            return
