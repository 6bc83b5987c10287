"""The real client beside the reference model, over random histories, on every kind of server.

``RWF_TEST_SCALE=long`` runs 5,000 histories of up to 50 commands in all, else 200.
"""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from rwf import Client
from tests.conftest import SCALE, Pool
from tests.model.machine import MACHINE_SETTINGS, Machine, System
from tests.model.system import ClientSystem
from tests.support import invariants
from tests.support.servers import KINDS

HISTORIES = {"long": 5000, "slice": 400}.get(SCALE, 200)
PLACES = [*KINDS, "cluster"]
_numbers = itertools.count()


class CheckedSystem(ClientSystem):
    """A client on a namespace of its own, whose keys must agree with each other at the end."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._own = client

    def close(self) -> None:
        with self._own:
            assert invariants.check(self._own) == []


@pytest.mark.scaled
@pytest.mark.parametrize("place", PLACES)
def test_histories_agree_with_the_model(place: str, pool: Pool) -> None:
    server = pool.get(place)

    class Real(Machine):
        def make_system(self) -> System:
            server.flush()
            partitions = 16 if place == "cluster" else None
            namespace = f"h{next(_numbers)}"
            client = Client.from_url(server.url, namespace=namespace, partitions=partitions)
            return CheckedSystem(client)

    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        Real,
        settings=settings(
            MACHINE_SETTINGS,
            max_examples=HISTORIES // len(PLACES),
            suppress_health_check=quiet,
        ),
    )
