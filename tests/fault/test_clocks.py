"""Clients whose clocks are an hour off: they work as usual, and all stored times are the server's.

The kill campaign has processes with such clocks too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, Final

import pytest
from pydantic import BaseModel

from rwf import Client
from tests.fault.campaign.clocks import put_clock_off
from tests.fault.histories import HISTORIES, Stepped
from tests.support import invariants
from tests.support.flows import server_time
from tests.support.servers import AnyServer

HOUR: Final = 3600
TOLD: Final = ("releases", "claims", "signals", "cancels", "recoveries")
AHEAD: Final = {"lease_expires_at", "retry_at", "deadline", "next_attempt_at"}
"""Times that lie ahead; all others are in the past."""
RANDOM: Final = {"id", "workflow_id", "signal_id", "callback_id", "metadata", "data", "message"}


def views(client: Client) -> Iterable[BaseModel]:
    """Every view of every workflow."""
    for found in client.list(limit=100).workflows:
        yield found
        yield from client.steps(found.id)
        yield from client.results(found.id)
        yield from client.evidence(found.id)
        yield from client.callbacks(found.id)


def fields(view: BaseModel) -> Iterator[tuple[str, Any]]:
    """The fields that are equal in all runs, nested views taken apart."""
    for name in type(view).model_fields:
        value = getattr(view, name)
        if isinstance(value, BaseModel):
            yield from fields(value)
        elif name not in RANDOM:
            yield name, value


def outcome(server: AnyServer, history: str) -> list[list[tuple[str, Any]]]:
    """The views after the history; times in minutes since its beginning, rounded down."""
    server.flush()
    with Stepped.from_url(server.url, partitions=1) as client:
        began = server_time(client)
        began -= timedelta(microseconds=began.microsecond % 1000)  # stored times are no finer
        HISTORIES[history](client)
        ended = server_time(client)
        assert invariants.check(client) == []
        left = []
        for view in views(client):
            told = []
            for name, value in fields(view):
                if isinstance(value, datetime):
                    assert name in AHEAD or began <= value <= ended, name
                    value = math.floor((value - began).total_seconds() / 60)
                told.append((name, value))
            left.append(told)
        return sorted(left, key=repr)


@pytest.mark.parametrize("history", TOLD)
def test_clocks_that_are_off(
    one_server: AnyServer, history: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = outcome(one_server, history)
    assert len(right) > 0
    for seconds in (HOUR, -HOUR):
        with monkeypatch.context() as patch:
            put_clock_off(seconds, patch.setattr)
            assert outcome(one_server, history) == right
