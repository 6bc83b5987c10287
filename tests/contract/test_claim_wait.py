"""A claim that waits for steps (contract §8)."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta
from typing import Any

import pytest

from rwf import AsyncClient, Client
from tests.support.flows import flow, refused
from tests.support.servers import AnyServer
from tests.support.wait_cases import LONG, later, subscribed
from tests.support.waiting import until


def claim(client: Client, wait: Any = LONG, **options: Any) -> list[str]:
    found = client.claim(["default", "other"], worker_id="w", wait=wait, **options)
    return [held.step for held in found]


def test_steps_that_are_there_are_claimed_at_once(one_client: Client) -> None:
    one_client.insert(flow("a b"))
    assert claim(one_client, limit=5) == ["a", "b"]


@pytest.mark.parametrize("wait", [0, 0.2, timedelta(seconds=0.2)])
def test_a_wait_without_steps_returns_none(one_client: Client, wait: Any) -> None:
    began = time.monotonic()
    assert claim(one_client, wait) == []
    assert (wait != 0) <= (time.monotonic() - began >= 0.2)


def test_a_step_that_comes_ends_the_wait(one_client: Client) -> None:
    with later(lambda: one_client.insert(flow("a", queue="other"))):
        assert claim(one_client) == ["a"]


def test_a_hint_wakes_it_long_before_the_next_look(
    one_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With looks an hour apart only a hint can end it; and not that of another queue."""
    monkeypatch.setattr("rwf.waiting._FIRST_PAUSES", (3600.0,))
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.extend(claim(one_client, 60)), daemon=True)
    thread.start()
    until(lambda: subscribed(one_client), what="the subscription")
    one_client.insert(flow("x", queue="elsewhere"))
    one_client.insert(flow("a"))
    thread.join(LONG)
    assert found == ["a"]


def test_it_works_without_hints(one_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rwf.transport.events.hint_in", lambda message: None)
    with later(lambda: one_client.insert(flow("a"))):
        assert claim(one_client) == ["a"]


def test_of_many_that_wait_each_step_goes_to_one(one_server: AnyServer) -> None:
    async def claimed() -> list[str]:
        async with AsyncClient.from_url(one_server.url) as client:
            waits = [
                asyncio.create_task(client.claim(["default"], worker_id=f"w{n}", wait=2))
                for n in range(8)
            ]
            await asyncio.sleep(0)
            await client.insert(flow("a b c d e"))
            return sorted(held.step for some in await asyncio.gather(*waits) for held in some)

    assert asyncio.run(claimed()) == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize("wait", [-1, "1", True, float("nan"), None])
def test_bad_waits(one_client: Client, wait: Any) -> None:
    with refused("invalid_argument"):
        claim(one_client, wait)
