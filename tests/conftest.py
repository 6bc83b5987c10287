"""Fixtures: real servers, started once a pytest worker, at their first use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import pytest
from hypothesis import settings

from rwf import Client
from tests.support import coarse_clock, invariants
from tests.support.commandline import Cli
from tests.support.faces import FACES, OnAsyncio
from tests.support.sentinels import Sentinels
from tests.support.servers import KINDS, AnyServer, Cluster, Server, ask
from tests.support.waiting import until

settings.register_profile("ci", deadline=None, derandomize=False, print_blob=True)
settings.load_profile("ci")


# Tests of random histories run in `make test` with few of them, and in `make test-long` with many.
SCALE = os.environ.get("RWF_TEST_SCALE", "")


_WHOLE: Final = (pytest.mark.long, pytest.mark.whole)
# These tests are mostly about Python's reading of the records. `make test` runs these files on the
# oldest server and on a cluster of the newest alone, `make test-long` on the others too.
_ALL: Final = (*KINDS, "cluster")
_FEW: Final = ("redis70", "cluster")
_ON_FEW: Final = frozenset(
    {
        *("test_child_workers", "test_child_workflows", "test_bulk", "test_finding", "test_tags"),
        *("test_callbacks", "test_events", "test_explain", "test_fairness", "test_fleet"),
        *("test_hints",),
        *("test_insert_many", "test_listing", "test_metrics", "test_parity", "test_plain_reads"),
        *("test_prune", "test_rebuild", "test_reconcile", "test_reconciler", "test_sweep"),
        *("test_timeline", "test_timers", "test_unreadable", "test_worker", "test_worker_life"),
        *("test_handoffs", "test_interleavings", "test_killed_inserts", "test_lost_replies"),
        *("test_pruning",),
    }
)
# These files test the methods of a client. They run with both clients: with the one on asyncio on a
# cluster, and on one server where they take a single one.
_ON_BOTH: Final = frozenset(
    {
        *("test_acknowledge", "test_callbacks", "test_cancel"),
        *("test_claim_wait", "test_claims", "test_completion"),
        *("test_completion_many", "test_evidence", "test_explain", "test_insert"),
        *("test_insert_keys", "test_insert_many", "test_kept_signals", "test_leases"),
        *("test_bulk", "test_finding", "test_fleet", "test_tags"),
        *("test_listing", "test_plain_reads", "test_prune", "test_queues", "test_reconcile"),
        *("test_recovery", "test_retention", "test_signals", "test_tickets", "test_timeouts"),
        *("test_server_faults", "test_wait"),
    }
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs tests of both clients with each of them."""
    if "face" in metafunc.fixturenames and metafunc.definition.path.stem in _ON_BOTH:
        alone = metafunc.definition.get_closest_marker("one_face")
        metafunc.parametrize("face", FACES[:1] if alone else FACES)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks as long: with a scale given, the tests that it scales; some files' tests on some kinds
    of servers. Marks the tests that start servers."""
    for item in items:
        if "pool" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.server)
        if SCALE and item.get_closest_marker("scaled"):
            item.add_marker(pytest.mark.long)
        few = _FEW if item.path.stem in _ON_FEW else _ALL
        kinds = ("cluster",) if _param(item, "face") == "asyncio" else few
        if _param(item, "server") not in (None, *kinds):
            for mark in _WHOLE:
                item.add_marker(mark)


def _param(item: pytest.Item, name: str) -> object:
    """The parameters of a fixture for a test, such as kinds of servers for ``server``."""
    spec = getattr(item, "callspec", None)
    return spec.params.get(name) if spec else None


Topology: TypeAlias = Sentinels | Cluster
"""The topologies that fail over: a primary or several, with a replica each."""


class Pool:
    """One running server of each kind; ``get`` starts it at first use, and empties it."""

    def __init__(self) -> None:
        self._servers: dict[str, AnyServer] = {}
        self._topologies: dict[tuple[str, str], Topology] = {}

    def get(self, kind: str) -> AnyServer:
        """The empty server of ``kind``, or of ``cluster``, to which nobody listens. Function
        libraries stay loaded."""
        if kind not in self._servers:
            self._servers[kind] = Cluster.start() if kind == "cluster" else Server.start(kind)
        server = self._servers[kind]
        server.flush()
        until(lambda: not _is_listened_to(server), what="the end of earlier tests' subscriptions")
        return server

    def topology(self, name: str, kind: str) -> Topology:
        """The empty ``sentinel``, or ``cluster`` with replicas, of servers of a kind."""
        if (name, kind) not in self._topologies:
            self._topologies[name, kind] = (
                Sentinels.start(kind) if name == "sentinel" else Cluster.start(kind, replicas=True)
            )
        found = self._topologies[name, kind]
        found.be_patient(False)
        found.flush()
        return found

    def stop(self) -> None:
        for server in (*self._servers.values(), *self._topologies.values()):
            server.stop()


def _is_listened_to(server: AnyServer) -> bool:
    nodes = server.nodes if isinstance(server, Cluster) else [cast(Server, server)]
    listed = [
        ask(node, f"PUBSUB {kind}")
        for node in nodes
        if node.alive
        for kind in ("CHANNELS", "SHARDCHANNELS")
    ]
    return any(listed)


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    """The servers of this pytest worker."""
    servers = Pool()
    yield servers
    servers.stop()


@pytest.fixture(params=_ALL)
def server(request: pytest.FixtureRequest, pool: Pool) -> AnyServer:
    """An empty server of each supported kind in turn: ``.url``, ``.kind``, ``.client()``."""
    return pool.get(request.param)


@pytest.fixture(params=[coarse_clock.NEWEST, "cluster"])
def one_or_cluster(request: pytest.FixtureRequest, pool: Pool) -> AnyServer:
    """An empty server of the newest Valkey, and a cluster of it: for tests of clients where nothing
    depends on how a server runs Lua."""
    return pool.get(request.param)


@pytest.fixture
def one_server(pool: Pool) -> AnyServer:
    """An empty server of the newest Valkey alone, for tests that no server kind can change."""
    return pool.get(coarse_clock.NEWEST)


@pytest.fixture(
    params=[
        pytest.param((name, kind), marks=() if kind == "valkey91" else _WHOLE)
        for name in ("sentinel", "cluster")
        for kind in reversed(KINDS)
    ],
    ids="-".join,
)
def topology(request: pytest.FixtureRequest, pool: Pool) -> Topology:
    """A topology that can fail over, empty, and whole at the start of the test."""
    return pool.topology(*request.param)


@pytest.fixture
def broken_on_purpose() -> None:
    """For tests that leave stored keys in disorder: their client is not checked at the end."""


@pytest.fixture
def face() -> str:
    """Which client ``client`` and ``one_client`` are: the blocking one, or the asyncio one with
    methods that block."""
    return "blocking"


@pytest.fixture
def client(server: AnyServer, face: str, request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client on an empty server of each kind in turn, with 16 partitions on the cluster.

    At the end of the test all stored keys must agree with each other
    (``tests.support.invariants``).
    """
    yield from _checked(connect(server, face), request)


@pytest.fixture
def one_client(
    one_server: AnyServer, face: str, request: pytest.FixtureRequest
) -> Iterator[Client]:
    """A client on ``one_server``, checked in the same way."""
    yield from _checked(connect(one_server, face), request)


@pytest.fixture
def cli(one_server: AnyServer, tmp_path: Path) -> Cli:
    """The command line on ``one_server``."""
    return Cli(one_server.url, tmp_path)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that gives up at once when its server is away."""
    monkeypatch.setattr("rwf.transport.patience._PAUSES", (0.0,))


@pytest.fixture
def fake_client(request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client on fakeredis, checked in the same way."""
    yield from _checked(Client.fake(), request)


def connect(server: AnyServer, face: str = "blocking", **options: Any) -> Client:
    """A client as the fixtures have it; options as for ``from_url``."""
    partitions = 16 if server.kind == "cluster" else None
    made = Client if face == "blocking" else OnAsyncio
    return made.from_url(server.url, **{"partitions": partitions, **options})


def _checked(opened: Client, request: pytest.FixtureRequest) -> Iterator[Client]:
    with opened as client:
        yield client
        if "broken_on_purpose" not in request.fixturenames:
            assert invariants.check(client) == []
