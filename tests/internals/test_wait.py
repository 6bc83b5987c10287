"""White-box cases beside those of ``contract/test_wait.py``."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from rwf import Client
from tests.support.flows import flow
from tests.support.wait_cases import LONG, later, subscribed
from tests.support.waiting import until


def test_a_wait_works_when_hints_may_not_be_heard(
    one_client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no rights")

    monkeypatch.setattr("rwf.transport.events.subscriptions", fail)
    view = one_client.insert(flow("a"))
    with later(lambda: one_client.complete_step(view.id, "a")):
        assert one_client.wait(view.id, timeout=LONG).state == "completed"
    assert "waits go on without hints" in caplog.text


def test_a_hint_wakes_it_long_before_the_next_look(
    one_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With looks an hour apart only a hint can end it."""
    view = one_client.insert(flow("a"))
    monkeypatch.setattr("rwf.waiting._FIRST_PAUSES", (3600.0,))
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(one_client.wait(view.id)), daemon=True)
    thread.start()
    until(lambda: subscribed(one_client), what="the subscription")
    one_client.complete_step(view.id, "a")
    thread.join(LONG)
    assert [one.state for one in found] == ["completed"]
