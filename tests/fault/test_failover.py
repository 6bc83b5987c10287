"""Failover in the middle of work: everybody goes on by themselves, and all converges.

Acknowledged writes may be lost with durability ``server``: the state is then an earlier one, of one
partition or of several (contract §9).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest

from rwf import Client, StoreUnavailable
from rwf.protocol.keys import home_partition, partition_of, topic_digest
from tests.conftest import Topology, connect
from tests.fault.loss import LINKS, WRITERS, followed, measure, tiers
from tests.fault.outages import at_hand, insisting, sent_again
from tests.support import invariants
from tests.support.daemons import serving, swept
from tests.support.flows import fan_out, flow, own_key, raw, states
from tests.support.servers import AnyServer, ask, role
from tests.support.waiting import until
from tests.support.workers import at_work, blocking, until_ended

pytestmark = pytest.mark.usefixtures("cut_off")

# --- a partition that falls back to an earlier state


@contextmanager
def fallen_back(client: Client, partition: int) -> Iterator[None]:
    """Undoes all writes of the block in a partition at its end, as a failover may lose a primary's
    last writes."""
    redis, pattern = raw(client), f"rwf:{{{partition}}}:*"
    before = {key: redis.dump(key) for key in redis.scan_iter(match=pattern, count=1000)}
    yield
    for key in set(redis.scan_iter(match=pattern, count=1000)) - set(before):
        redis.delete(key)
    for key, dump in before.items():
        redis.restore(key, 0, dump, replace=True)


@pytest.fixture
def parted(one_server: AnyServer) -> Iterator[Client]:
    """A client of a namespace with 8 partitions."""
    with Client.from_url(one_server.url, partitions=8) as client:
        client.list()
        yield client
        assert invariants.check(client) == []


def away_from_home(client: Client, signal: str, key: str) -> tuple[str, int]:
    """A new workflow, ``a b:a``, in another partition than a topic; its id and partition."""
    home = home_partition(topic_digest(signal, key), client._ctx.keys.home_partitions)
    while True:
        workflow_id = client.insert(flow("a b:a")).id
        if (partition := partition_of(workflow_id)) != home:
            assert partition is not None
            return workflow_id, partition
        client.request_cancel(workflow_id)


def test_a_workflow_that_forgot_its_signal_gets_it_again(parted: Client) -> None:
    workflow_id, partition = away_from_home(parted, "go", "k")
    parted.await_step(workflow_id, "a", signal="go", correlation_key="k")
    with fallen_back(parted, partition):
        assert parted.deliver_signal("go", "k", payload=[1]).status == "consumed"
        parted.complete_step(workflow_id, "a")
    assert states(parted, workflow_id) == "a=awaiting_signal b=pending"
    assert ("handoff_unfinished", "a") in swept(parted)
    [claim] = parted.claim(["default"], worker_id="w")
    assert claim.signal is not None
    assert (claim.step, claim.signal.payload) == ("a", [1])
    assert parted.deliver_signal("go", "k").status == "consumed"


def test_a_workflow_that_forgot_its_wait_has_it_again(parted: Client) -> None:
    """The wait that begins anew has the number of the one that the signal has resolved."""
    workflow_id, partition = away_from_home(parted, "go", "k")
    with fallen_back(parted, partition):
        parted.await_step(workflow_id, "a", signal="go", correlation_key="k")
        parted.deliver_signal("go", "k")
    assert states(parted, workflow_id) == "a=available b=pending"
    parted.await_step(workflow_id, "a", signal="go", correlation_key="k")
    swept(parted)
    assert states(parted, workflow_id) == "a=available b=pending"


@pytest.mark.parametrize("end", ["abandoned", "replaced", "elsewhere"])
def test_a_wait_that_is_open_again_is_registered_again(parted: Client, end: str) -> None:
    workflow_id, partition = away_from_home(parted, "go", "k")
    parted.await_step(workflow_id, "a", signal="go", correlation_key="k")
    with fallen_back(parted, partition):
        if end == "abandoned":
            parted.complete_step(workflow_id, "a")
        else:
            key = "k" if end == "replaced" else "other"
            parted.await_step(workflow_id, "a", signal="go", correlation_key=key)
    swept(parted)
    found = parted.deliver_signal("go", "k")
    assert (found.status, found.workflow_id) == ("consumed", workflow_id)
    assert parted.complete_step(workflow_id, "a").released == ("b",)
    parted.rebuild()  # another topic's state


# --- failover amid work


def end_primary(topology: Topology, key: str, how: str) -> None:
    """Ends the primary of a key or moves it, and waits until another has taken its place.

    Only this primary's silence counts as its death: a loaded machine pauses the others at times.
    """
    old = topology.primary_of(key)
    if how == "killed":
        old.kill()
        topology.be_patient(False)
    else:
        topology.fail_over(key)
    until(lambda: topology.primary_of(key) is not old, timeout=60, what="a new primary")


def whole_again(topology: Topology) -> None:
    """Brings back servers that were ended; the silence of others no longer counts as their
    death."""
    topology.revive()
    topology.be_patient()


WAYS = pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("killed", "async"),
        pytest.param("killed", "sync", marks=(pytest.mark.long, pytest.mark.whole)),
        pytest.param("ack_wait_notices", "async", marks=(pytest.mark.long, pytest.mark.whole)),
        pytest.param("ack_wait_notices", "sync", marks=(pytest.mark.long, pytest.mark.whole)),
    ],
)


@WAYS
def test_a_failover_amid_work(topology: Topology, how: str, kind: str) -> None:
    topology.be_patient()
    with connect(topology) as client, connect(topology) as other:
        inserted: dict[str, str] = {}

        def insert(numbers: Iterable[int]) -> None:
            for number in numbers:
                inserted[f"k{number}"] = sent_again(client, f"k{number}")

        worker = at_hand(topology, kind, inserted)
        with at_work(worker), serving(other, interval=0.2, sweep_interval=1.0):
            insert(range(30))
            thread = threading.Thread(target=insert, args=(range(30, 60),))
            thread.start()
            end_primary(topology, "rwf:{0}:meta", how)
            thread.join()
            whole_again(topology)
            insert(range(60))  # nobody knows which of them were lost
            for workflow_id in inserted.values():
                until_ended(client, workflow_id)
        assert {client.get(one).state for one in inserted.values()} == {"completed"}
        client.rebuild()
        assert invariants.check(topology.client()) == []


# --- how safe a write is


@pytest.mark.long
@pytest.mark.whole
@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize(
    ("kind", "durability"),
    [(kind, durability) for kind in ("redis70", "valkey91") for durability in tiers(kind)],
)
def test_what_a_failover_costs(
    kind: str, durability: str, link: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The primary dies amid work."""
    found = measure(kind, durability, link)
    with capsys.disabled():
        print(f"\n{kind}, {durability}, link {link}: {found}", end="")
    if durability == "replicas:1":
        assert found.lost == 0
    elif link != "healthy":
        # A replica has nothing of its primary's file. A call under way may be on either side.
        assert abs(found.lost - found.acknowledged) <= WRITERS


def test_what_replicas_have_acknowledged_survives(monkeypatch: pytest.MonkeyPatch) -> None:
    """The link between primary and replica is cut, and comes back."""
    monkeypatch.setattr("rwf.transport.durability._LONGEST_MS", 150)
    with (
        followed() as (primary, replica, link),
        Client.from_url(primary.url, durability="replicas:1") as client,
    ):
        view = client.insert(flow("a b:a"))
        link.partition()
        with pytest.raises(StoreUnavailable, match="1 replicas"):
            client.complete_step(view.id, "a")
        link.heal()
        assert insisting(lambda: client.complete_step(view.id, "a")).outcome == "duplicate"
        primary.kill()
        ask(replica, "REPLICAOF", "NO", "ONE")
        with Client.from_url(replica.url) as later:
            assert states(later, view.id) == "a=completed b=available"


def refusal(client: Client, workflow_id: str) -> str:
    """The reason why a write could not be acknowledged."""
    with pytest.raises(StoreUnavailable) as caught:
        client.complete_step(workflow_id, "c499")
    return str(caught.value)


@WAYS
def test_no_acknowledged_write_is_lost_with_replicas(
    topology: Topology, how: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rwf.transport.durability._LONGEST_MS", 500)
    topology.be_patient()
    with connect(topology) as reader, blocking(kind, topology, durability="replicas:1") as client:
        view = client.insert(fan_out(500))
        client.complete_step(view.id, "root")
        acknowledged: list[str] = []
        over = threading.Event()

        def report() -> None:
            for number in range(500):
                with contextlib.suppress(StoreUnavailable):
                    client.complete_step(view.id, f"c{number}")
                    acknowledged.append(f"c{number}")
                if over.is_set():
                    return

        thread = threading.Thread(target=report)
        thread.start()
        until(lambda: len(acknowledged) > 20, what="some writes")
        end_primary(topology, own_key(view.id), how)
        over.set()
        thread.join()
        if how == "killed":
            until(
                lambda: "did not reach 1 replicas" in refusal(client, view.id),
                what="the new primary, which has no replica",
            )
        whole_again(topology)
        insisting(lambda: client.complete_step(view.id, "c499"))
        found = insisting(lambda: reader.steps(view.id))
        done = {step.name for step in found if step.state == "completed"}
        assert set(acknowledged) <= done
        reader.rebuild()
        assert invariants.check(topology.client()) == []


def test_a_new_primary_without_the_library_gets_it(topology: Topology) -> None:
    topology.be_patient()
    with connect(topology) as client:
        view = client.insert(flow("a b:a"))
        key = own_key(view.id)
        end_primary(topology, key, "ack_wait_notices")
        # An election that fails is held again only after twice the Sentinels' failover-timeout.
        new_primary = lambda: role(topology.primary_of(key)) == "master"  # noqa: E731
        until(new_primary, timeout=90, what="the new primary")
        ask(topology.primary_of(key), "FUNCTION FLUSH")
        assert insisting(lambda: client.complete_step(view.id, "a")).step.state == "completed"
        assert insisting(lambda: client.get(view.id)).completed_step_count == 1
        assert invariants.check(client) == []
