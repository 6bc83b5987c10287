"""White-box cases beside those of ``contract/test_run_until_idle.py``."""

from __future__ import annotations

import logging

import pytest

from rwf import (
    Client,
)
from rwf.testing import run_until_idle
from tests.support.flows import flow
from tests.support.run_until_idle_cases import handlers_of


@pytest.fixture(autouse=True)
def silent(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="rwf.worker")


@pytest.mark.usefixtures("broken_on_purpose")
def test_a_step_whose_input_cannot_be_read_is_left(fake_client: Client) -> None:
    view = fake_client.insert(flow("a", input={"x": 1}))
    redis = fake_client._store.given_client
    redis.hset(fake_client._ctx.keys.payloads(view.id), "i:a", b"{")
    assert run_until_idle(fake_client, handlers_of(work=lambda: None)) == []
    (blocker,) = fake_client.explain_step(view.id, "a").blockers
    assert blocker.code == "input_unreadable"
