"""Metrics: exact, the same from every daemon, and without a label that somebody chose."""

from __future__ import annotations

import itertools
import urllib.error
import urllib.request
from collections import Counter
from typing import cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import invariant, run_state_machine_as_test
from prometheus_client import CollectorRegistry, generate_latest

from rwf import Client, metrics
from tests.conftest import Pool
from tests.contract.counted import Counts, Watched, counted, standing
from tests.model.machine import MACHINE_SETTINGS, Machine, System
from tests.model.system import ClientSystem
from tests.servers import AnyServer

_numbers = itertools.count()


def fetched(port: int, path: str = "/metrics") -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
        return cast(bytes, answer.read()).decode()


def scrape(client: Client) -> str:
    registry = CollectorRegistry()
    registry.register(metrics.FleetCollector(client))
    return generate_latest(registry).decode()


class CountedSystem(ClientSystem):
    """A client of a namespace of its own, and a ledger; at the end the metrics say the same."""

    def __init__(self, server: AnyServer) -> None:
        self._namespace = f"m{next(_numbers)}"
        self._server = server
        self._own = self.connect()
        self._counts: Counts = Counter()
        super().__init__(cast(Client, Watched(self._own, self._counts)))

    def connect(self) -> Client:
        return Client.from_url(self._server.url, namespace=self._namespace, partitions=3)

    def close(self) -> None:
        with self._own, self.connect() as other:
            assert counted(scrape(other)) == self._counts + standing(self._own)


@pytest.mark.scaled
def test_random_histories_are_counted_exactly(pool: Pool) -> None:
    server = pool.get("valkey91")

    class Real(Machine):
        def make_system(self) -> System:
            server.flush()
            return CountedSystem(server)

        @invariant()
        def same_records(self) -> None:
            """Other tests compare these."""

    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        Real,
        settings=settings(MACHINE_SETTINGS, max_examples=15, suppress_health_check=quiet),
    )
