"""Metrics: exact, equal from every daemon, and without labels that users choose."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
import urllib.error
import urllib.request
from collections import Counter
from contextlib import ExitStack
from typing import cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import invariant, run_state_machine_as_test
from prometheus_client import CollectorRegistry, generate_latest

from rwf import AsyncClient, Client, CommandRejected, metrics
from rwf.model.views import Callback
from tests.conftest import Pool
from tests.model.machine import MACHINE_SETTINGS, Machine, System
from tests.model.plain import Taken
from tests.model.system import ClientSystem
from tests.support.counted import Counts, Watched, counted, present_gauges, sample, samples
from tests.support.flows import flow, own_key, partition_key, raw, until_past
from tests.support.metrics_cases import fetched, scrape
from tests.support.servers import ALWAYS, AnyServer, Server, free_port
from tests.support.waiting import until

_numbers = itertools.count()


class CountedSystem(ClientSystem):
    """A client of a namespace of its own, and a ledger; at the end the metrics agree with it."""

    def __init__(self, server: AnyServer) -> None:
        self._namespace = f"m{next(_numbers)}"
        self._server = server
        self._own = self.connect()
        self._counts: Counts = Counter()
        self._watched = Watched(self._own, self._counts)
        super().__init__(cast(Client, self._watched))

    def connect(self) -> Client:
        return Client.from_url(self._server.url, namespace=self._namespace, partitions=3)

    def claim_any(self, as_tickets: bool = False) -> Taken:
        """Steps whose conditions do not hold are taken like others, and skipped then."""
        pending = self._watched.pending()
        taken = super().claim_any(as_tickets)
        for _ in taken.unmet if as_tickets else ():
            self._counts[sample("rwf_tickets_total", {"status": "issued"})] += 1
        for _ in pending.intersection(taken.unmet):
            labels = {"scope": "dependency", "state": "available", "semantics_version": "3"}
            self._counts[sample("rwf_steps_unblocked_total", labels)] += 1
        return taken

    def prune(self, deliver: bool) -> int:
        got: list[Callback] = []
        while deliver and self._own.dispatch_callbacks(got.append).delivered:
            pass
        for envelope in got:
            labels = {"event": envelope.event, "outcome": "delivered"}
            self._counts[sample("rwf_callbacks_total", labels)] += 1
        return self._own.prune().workflows

    def close(self) -> None:
        with self._own, self.connect() as other:
            self._watched.catch_up()  # a history may end with a pause, which is no client's command
            found, expected = counted(scrape(other)), self._counts + present_gauges(self._own)
            assert (found - expected, expected - found) == (Counter(), Counter())


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
        settings=settings(
            MACHINE_SETTINGS,
            max_examples=15,
            suppress_health_check=quiet,
        ),
    )


def test_leases_retries_and_callbacks(one_client: Client) -> None:
    """Claims and the outbox, which random histories leave out."""
    counts: Counts = Counter()
    watched = cast(Client, Watched(one_client, counts))
    for _ in range(3):
        watched.insert(flow("a b:a", max_attempts=2))
    for _ in range(2):
        claims = watched.claim(["default"], worker_id="w", limit=2, lease=0.001)
        assert len(claims) == 2
        for claim in claims:
            until_past(one_client, claim.lease_expires_at)
            repairs = watched.reconcile(claim.workflow_id).repairs
            assert [repair.kind for repair in repairs] == ["lease_expired"]
            counts[sample("rwf_lease_expired_total", {})] += 1
    last = watched.claim(["default"], worker_id="w", limit=3)[-1]
    watched.complete(last)
    with pytest.raises(CommandRejected, match="already_terminal"):
        watched.complete(last, "failed")

    watched.request_cancel(last.workflow_id)

    def handler(envelope: Callback) -> None:
        if envelope.workflow_id == last.workflow_id:
            raise ValueError("not now")

    report = watched.dispatch_callbacks(handler)
    assert report.delivered
    assert report.failed
    for outcome in ("delivered", "failed"):
        labels = {"event": "workflow.terminal", "outcome": outcome}
        counts[sample("rwf_callbacks_total", labels)] += getattr(report, outcome)
    assert counted(scrape(one_client)) == counts + present_gauges(one_client)


def test_a_step_that_a_recovery_cancels_again_has_ended_once(one_client: Client) -> None:
    counts: Counts = Counter()
    watched = cast(Client, Watched(one_client, counts))
    view = watched.insert(flow("a b c:a,b"))
    for step in ("a", "b"):
        watched.complete_step(view.id, step, "failed")
    watched.recover_step(view.id, "a", "retry", scope="downstream")
    assert one_client.step(view.id, "c").state == "cancelled"
    found = counted(scrape(one_client))
    assert found == counts + present_gauges(one_client)
    (cascades,) = (found[key] for key in found if key[0] == "rwf_cascade_cancelled_total")
    assert cascades == 1


def test_another_cause_is_another_end(one_client: Client) -> None:
    """As for callbacks: each of the two ends is counted."""
    view = one_client.insert(flow("a b:a"))
    one_client.request_cancel(view.id)
    one_client.recover_step(view.id, "a", "skip", scope="step", reopen=True)
    found = counted(scrape(one_client))
    ends = {
        dict(labels)["terminal_cause"]: count
        for (name, labels), count in found.items()
        if name == "rwf_workflows_terminal_total"
    }
    assert ends == {"operator_cancelled": 1, "step_cancelled": 1}
    told = [one for one in one_client.callbacks(view.id) if one.event == "workflow.terminal"]
    assert len(told) == sum(ends.values())


def test_dead_callbacks(one_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    view = one_client.insert(flow("a"))
    one_client.complete_step(view.id, "a")

    def handler(envelope: Callback) -> None:
        raise ValueError

    for _ in range(20):
        raw(one_client).zadd(partition_key(view.id, "outbox"), {f"{view.id}|1": 0})
        number = raw(one_client).hget(own_key(view.id), "@1").split(b",")
        number[4] = b"0"
        raw(one_client).hset(own_key(view.id), "@1", b",".join(number))
        assert one_client.dispatch_callbacks(handler).failed == 1
    found = counted(scrape(one_client))
    tried = {"event": "workflow.terminal"}
    assert found[sample("rwf_callbacks_total", {**tried, "outcome": "failed"})] == 20
    assert found[sample("rwf_callbacks_total", {**tried, "outcome": "dead"})] == 1
    assert found[sample("rwf_callbacks", {"status": "dead"})] == 1


def test_the_same_from_every_daemon_and_after_restarts() -> None:
    with Server.start("valkey91", aof=True, extra=ALWAYS) as server:
        with Client.from_url(server.url, partitions=4) as client:
            for _ in range(8):
                view = client.insert(flow("a b:a"))
                client.complete_step(view.id, "a")
            with metrics.serve(client, port=0) as one, metrics.serve(client, port=0) as two:
                first = counted(fetched(one.port))
                assert counted(fetched(two.port)) == first
                assert first[sample("rwf_steps", {"state": "completed"})] == 8
                server.kill()
                server.restart()
                assert counted(fetched(one.port)) == first
        with Client.from_url(server.url) as later:
            assert counted(scrape(later)) == first


def test_partitions_that_were_added_meanwhile(one_client: Client) -> None:
    registry = CollectorRegistry()
    registry.register(metrics.FleetCollector(one_client))
    assert counted(generate_latest(registry).decode()) == Counter()
    raw(one_client).hset("rwf:{0}:meta", "partitions", 2)
    raw(one_client).hset("rwf:{1}:stats", "le", 7)
    assert counted(generate_latest(registry).decode()) == {sample("rwf_lease_expired_total", {}): 7}
    raw(one_client).delete("rwf:{1}:stats")


HOSTILE = 'a"} 1\nevil{x="'


def test_no_label_that_somebody_chose(one_client: Client, broken_on_purpose: None) -> None:
    one_client.insert(
        flow("secret-step", name="secret.flow", queue="secret-queue", worker="evil{}")
    )
    one_client.deliver_signal("secret-signal", HOSTILE, payload=HOSTILE)
    with pytest.raises(CommandRejected):
        one_client.recover_step("0-" + "a" * 16, HOSTILE, "retry", actor=HOSTILE)
    fields = [f"{code}|{HOSTILE}" for code in ("gs", "gw", "gc", "cr|insert", "rr", "sg", HOSTILE)]
    fields += ["sc|completed|completed|3", "sc|completed", "wt|running|running|completed|2", ""]
    raw(one_client).hset("rwf:{0}:stats", mapping=dict.fromkeys(fields, 1))
    text = scrape(one_client)
    assert "secret" not in text
    assert "evil" not in text
    allowed: dict[str, set[str]] = {}
    for family in (*metrics.COUNTERS, *metrics.GAUGES):
        for label, values in family.labels.items():
            allowed.setdefault(label, set()).update(map(str, values))
    assert {label for (_, labels) in samples(text) for label, _ in labels} <= set(allowed)
    for _, labels in samples(text):
        for label, value in labels:
            assert value in allowed[label]


def test_ages(one_client: Client, broken_on_purpose: None) -> None:
    def ages() -> dict[str, float]:
        found = samples(scrape(one_client))
        return {name: value for (name, _), value in found.items() if name.endswith("_age_seconds")}

    assert ages() == {metrics.READY_AGE: 0}
    now = int(raw(one_client).time()[0]) * 1000

    def order(age: int) -> str:
        return f"{0:010x}{(now - age * 1000) * 1000:013x}0001"

    members = [f"q{n}:{900 + n}|{order(n)}|0-x|s" for n in range(450)]
    raw(one_client).zadd("rwf:{0}:ready", dict.fromkeys(members, 0))
    raw(one_client).hset("rwf:{0}:sweep", "open:ended", now - 60_000)
    assert ages()[metrics.READY_AGE] == pytest.approx(449, abs=20)
    assert ages()[metrics.SWEEP_AGE] == pytest.approx(60, abs=20)
    taken = f"q:1000|{order(900)}|0-x|s"
    raw(one_client).zadd("rwf:{0}:reserved", {taken: now})
    assert ages()[metrics.READY_AGE] == pytest.approx(900, abs=20)


def test_calls_are_measured(one_server: AnyServer, one_client: Client) -> None:
    registry, other = CollectorRegistry(), CollectorRegistry()
    for each in (registry, other, registry):
        metrics.instrument(one_client, each)
    view = one_client.insert(flow("a"))
    one_client.complete_step(view.id, "a")

    async def run() -> None:
        async with AsyncClient.from_url(one_server.url) as client:
            metrics.instrument(client, registry)
            await client.set_retention(view.id, None)

    asyncio.run(run())
    found = samples(generate_latest(registry).decode())
    calls = {
        dict(labels)["function"]: value
        for (name, labels), value in found.items()
        if name == f"{metrics.DURATION}_count"
    }
    assert calls == {"insert": 1, "complete": 1, "set_retention": 1}
    first = samples(generate_latest(other).decode())
    assert first[sample(f"{metrics.DURATION}_count", {"function": "insert"})] == 1
    assert {name.removeprefix(metrics.DURATION) for name, _ in found} == {
        "_bucket",
        "_count",
        "_sum",
        "_created",
    }


class Daemon:
    partitions = (0, 2, 5)
    tick_age: float | None = None


def test_the_server(one_client: Client) -> None:
    daemon = Daemon()
    with metrics.serve(one_client, port=0, reconciler=daemon) as server:
        assert server.host == "127.0.0.1"
        found = samples(fetched(server.port))
        assert found[sample("rwf_partitions_owned", {})] == 3
        function = {"function": "stats"}
        assert samples(fetched(server.port))[sample(f"{metrics.DURATION}_count", function)] >= 1
        assert fetched(server.port, "/healthz") == "ok\n"
        daemon.tick_age = 3.0
        assert fetched(server.port, "/healthz") == "ok\n"
        daemon.tick_age = 300.0
        paths = (("/", None, 404), ("/metrics", b"x", 405), ("/healthz", None, 503))
        for path, data, status in paths:
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", data, timeout=20)
            with caught.value as error:
                assert error.code == status
        with pytest.raises(OSError, match="in use"):
            metrics.serve(one_client, port=server.port)
        port = server.port
    server.close()
    with pytest.raises(urllib.error.URLError, match="refused"):
        fetched(port, "/healthz")


def test_slow_connections_hold_up_nobody(one_client: Client) -> None:
    """However many connections there are, few are kept, and every request is answered."""
    with metrics.serve(one_client, port=0) as server, ExitStack() as slow:
        before = threading.active_count()
        for _ in range(300):
            one = slow.enter_context(socket.create_connection(("127.0.0.1", server.port), 20))
            one.sendall(b"GET /metrics HTTP/1.1\r\n")
        assert fetched(server.port, "/healthz") == "ok\n"
        assert "rwf_steps" in fetched(server.port)
        until(
            lambda: threading.active_count() - before < 100,
            timeout=4,  # less than a request may take
            what="those cut off to end",
        )


def test_a_count_that_was_spoilt(one_client: Client, broken_on_purpose: None) -> None:
    """It is reported, and blocks neither transitions nor the doctor."""
    view = one_client.insert(flow("a b:a"))
    raw(one_client).hset(partition_key(view.id, "stats"), "gs|available", "spoilt")
    with metrics.serve(one_client, port=0) as server:
        with pytest.raises(urllib.error.HTTPError) as caught:
            fetched(server.port)
        with caught.value as error:
            assert error.code == 503
            assert "no whole number" in error.read().decode()
    assert "no whole number" in one_client.doctor().checks[-1].found
    assert one_client.complete_step(view.id, "a").released == ("b",)
    one_client.rebuild()
    assert counted(scrape(one_client))[sample("rwf_steps", {"state": "available"})] == 1


def test_a_count_of_a_fixed_set_begins_at_0(one_client: Client) -> None:
    """A series whose first sample is 1 has not risen, as Prometheus sees it."""
    found = samples(scrape(one_client))
    assert found[sample("rwf_reconcile_repairs_total", {"kind": "index_entry_missing"})] == 0


def test_the_server_beside_an_async_client(one_server: AnyServer) -> None:
    async def run() -> str:
        async with AsyncClient.from_url(one_server.url) as client:
            await client.insert(flow("a"))
            with metrics.serve(client, port=0) as server:
                return await asyncio.to_thread(fetched, server.port)

    assert counted(asyncio.run(run()))[sample("rwf_steps", {"state": "available"})] == 1


def test_a_store_that_is_gone() -> None:
    url = f"redis://bob:hunter2@127.0.0.1:{free_port()}/0"
    with Client.from_url(url) as client, metrics.serve(client, port=0) as server:
        with pytest.raises(urllib.error.HTTPError) as caught:
            fetched(server.port)
        with caught.value as error:
            assert error.code == 503
            assert "hunter2" not in error.read().decode()
        assert fetched(server.port, "/healthz") == "ok\n"


def test_each_kind_of_server(client: Client) -> None:
    counts: Counts = Counter()
    watched = cast(Client, Watched(client, counts))
    for _ in range(4):
        view = watched.insert(flow("a b:a c:+b"))
        watched.complete_step(view.id, "a", "failed")
        with pytest.raises(CommandRejected):
            watched.complete_step(view.id, "b")
    found = scrape(client)
    assert counted(found) == counts + present_gauges(client)
    assert 0 < samples(found)[sample(metrics.READY_AGE, {})] < 60


def test_on_a_fake_server(fake_client: Client) -> None:
    fake_client.insert(flow("a"))
    assert counted(scrape(fake_client))[sample("rwf_steps", {"state": "available"})] == 1
    assert fake_client.doctor().healthy
