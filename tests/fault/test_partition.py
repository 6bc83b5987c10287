"""A network that comes apart: the old primary is on one side, with one client; everybody else, the
Sentinels and the replica are on the other.

The lone client's acknowledged writes are lost when the network comes together. The state in which
the others go on is an earlier one: a prefix of the acknowledged writes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

import pytest

from rwf import Client, StoreUnavailable, Workflow
from tests.conftest import connect
from tests.fault.outages import at_hand, insisting, sent_again
from tests.support import invariants
from tests.support.daemons import serving
from tests.support.sentinels import Sentinels
from tests.support.servers import ask
from tests.support.waiting import until
from tests.support.workers import at_work, until_ended

pytestmark = pytest.mark.usefixtures("cut_off")

STEPS: Final = 10_000
WHOLE = (pytest.mark.long, pytest.mark.whole)


class Insider:
    """A client of the old primary that completes the steps of a workflow of its own in turn."""

    def __init__(self, client: Client) -> None:
        workflow = Workflow("inside")
        workflow.add_many(
            {"name": f"s{number}", "worker": "nobody", "queue": "inside"} for number in range(STEPS)
        )
        self.id = client.insert(workflow).id
        self.acknowledged: list[float] = []
        """When each step was completed, in order."""
        self.refusal = ""
        self._client = client
        self._over = threading.Event()

    def report(self) -> None:
        for number in range(STEPS):
            if self._over.is_set() or self.refusal:
                return
            try:
                self._client.complete_step(self.id, f"s{number}")
                self.acknowledged.append(time.monotonic())
            except StoreUnavailable as error:
                self.refusal = str(error)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        with ThreadPoolExecutor(1) as threads:
            reporting = threads.submit(self.report)
            try:
                yield
            finally:
                self._over.set()
            reporting.result()

    def completed(self, client: Client) -> list[int]:
        """The numbers of the completed steps, as a client sees them."""
        steps = client.steps(self.id)
        return [int(step.name[1:]) for step in steps if step.state == "completed"]


@pytest.mark.parametrize(
    ("kind", "how", "guarded"),
    [
        pytest.param("valkey91", "held", False, marks=pytest.mark.long),
        pytest.param("valkey91", "cut", False, marks=WHOLE),
        pytest.param("valkey91", "held", True, marks=WHOLE),
        pytest.param("valkey91", "cut", True, marks=WHOLE),
        pytest.param("redis70", "held", False, marks=WHOLE),
        pytest.param("redis70", "cut", True, marks=WHOLE),
    ],
)
def test_a_primary_on_the_wrong_side(
    kind: str,
    how: str,
    guarded: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With min-replicas-to-write it refuses, once its replica has been silent for a second."""
    with (
        Sentinels.start(kind, linked=True) as topology,
        connect(topology, socket_timeout=0.5) as client,
        connect(topology, socket_timeout=0.5) as other,
        Client.from_url(topology.nodes[0].url) as alone,
    ):
        topology.be_patient()
        old, link = topology.primary, topology.link
        if guarded:
            ask(old, "CONFIG SET", "min-replicas-max-lag", 1)
            ask(old, "CONFIG SET", "min-replicas-to-write", 1)
        inserted: dict[str, str] = {}

        def insert(*numbers: int) -> None:
            for number in numbers:
                inserted[f"k{number}"] = sent_again(client, f"k{number}")

        inside = Insider(alone)
        with (
            at_work(at_hand(topology, "async", inserted, socket_timeout=0.5)),
            serving(other, interval=0.2),
        ):
            with inside.at_work():
                insert(*range(20))
                topology.be_patient(False)
                (link.partition if how == "held" else link.sever)()
                until(lambda: topology.primary is not old, timeout=60, what="a new primary")
                kept = insisting(lambda: inside.completed(client))
                insert(*range(20, 40))
                if guarded:
                    until(lambda: inside.refusal, what="the old primary's refusal")
            link.heal()
            topology.wait()
            topology.be_patient()
            assert kept == inside.completed(client) == list(range(len(kept)))
            insert(*range(40))
            for workflow_id in inserted.values():
                until_ended(client, workflow_id)
        lost = inside.acknowledged[len(kept) :]
        with capsys.disabled():
            ms = (lost[-1] - lost[0]) * 1000 if lost else 0
            print(f"\n{kind}, {how}, guarded {guarded}: {len(lost)} lost in {ms:.0f} ms", end="")
        assert ("NOREPLICAS" in inside.refusal) is guarded
        assert {client.get(one).state for one in inserted.values()} == {"completed"}
        assert client.complete_step(inside.id, f"s{len(kept)}").outcome == "accepted"
        assert invariants.check(topology.client()) == []


@pytest.mark.long
@pytest.mark.whole
@pytest.mark.parametrize("kind", ["redis70", "valkey91"])
def test_a_replica_that_has_lost_its_primary(kind: str) -> None:
    """It takes over all the same, when the primary dies some time after their link."""
    with (
        Sentinels.start(kind, linked=True) as topology,
        connect(topology, socket_timeout=0.5) as client,
        Client.from_url(topology.nodes[0].url) as alone,
    ):
        topology.be_patient()
        old, inside = topology.primary, Insider(alone)
        with inside.at_work():
            until(lambda: len(inside.acknowledged) > 50, what="some writes")
            topology.link.cut_request(b"PSYNC", times=STEPS)
            ask(old, "CLIENT KILL", "TYPE", "replica")
            before = len(inside.acknowledged)
            until(lambda: len(inside.acknowledged) > before + 50, what="more of them")
            old.kill()
            topology.be_patient(False)
            until(lambda: topology.primary is not old, timeout=60, what="a new primary")
        kept = insisting(lambda: inside.completed(client))
        assert kept == list(range(len(kept)))
        assert 50 <= len(kept) <= before + 10
        topology.revive()
        topology.be_patient()
        for number in range(len(kept), len(inside.acknowledged)):
            assert client.complete_step(inside.id, f"s{number}").outcome == "accepted"
        assert invariants.check(topology.client()) == []
