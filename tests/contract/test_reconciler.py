"""The reconciler as a whole: its options, its loops, and how it ends (contract §10)."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from pkgutil import resolve_name
from typing import Any
from urllib.request import urlopen

import pytest

from rwf import AsyncClient, Client, Reconciler, StoreMisconfigured
from rwf.model.views import Callback
from tests.conftest import connect
from tests.support.commandline import Cli
from tests.support.daemons import backlog, derived, serving, swept, ticked
from tests.support.flows import (
    fan_out,
    first_call_only,
    flow,
    raw,
    refused,
    states,
    stored,
)
from tests.support.outbox import Failing, ended, ignore, stat
from tests.support.proxy import Proxy
from tests.support.reconciler_cases import SHORT
from tests.support.servers import ALWAYS, AnyServer, Server
from tests.support.waiting import until
from tests.support.workers import client_of

# --- options


@pytest.mark.parametrize("name", ["interval", "sweep_interval"])
@pytest.mark.parametrize(
    "value", [0, -1, float("nan"), float("inf"), True, "1", None, timedelta(0), 1e10]
)
def test_bad_intervals_are_refused(one_client: Client, name: str, value: Any) -> None:
    with refused("invalid_argument"):
        Reconciler(one_client, **{name: value})


def test_other_bad_options_are_refused(one_client: Client) -> None:
    handler: Any = "no handler"
    with refused("invalid_argument"):
        Reconciler(one_client, callbacks=handler)
    with pytest.raises(TypeError, match="a reconciler needs a Client"):
        Reconciler(raw(one_client))
    Reconciler(one_client, interval=timedelta(seconds=1), sweep_interval=1)


# --- its work


def test_an_async_client_does_as_well(server: AnyServer, client: Client) -> None:
    view = client.insert(flow("a"))
    client.complete_step(view.id, "a", "retryable", retry_in=0.1)

    async def serve() -> None:
        partitions = 16 if server.kind == "cluster" else None
        async with AsyncClient.from_url(server.url, partitions=partitions) as other:
            daemon = Reconciler(other, **SHORT)
            served = asyncio.create_task(daemon.serve())
            await asyncio.to_thread(
                until, lambda: client.step(view.id, "a").state == "available", what="the retry"
            )
            daemon.stop()
            await served
            await daemon.tick()
            assert await daemon.sweep() == []

    asyncio.run(serve())


def test_a_backlog_of_one_partition_holds_up_no_other(
    one_server: AnyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each round carries out a page of each partition."""
    rounds: list[list[int]] = []
    with Client.from_url(one_server.url, partitions=2) as client:
        client.list()
        for partition, count in ((0, 900), (1, 250)):
            timers = dict.fromkeys(backlog(partition, count), 1)
            raw(client).zadd(f"rwf:{{{partition}}}:timers", timers)
        looked = Reconciler._read_pages

        async def counted(self: Reconciler, partitions: Any) -> None:
            rounds.append([raw(client).zcard(f"rwf:{{{n}}}:timers") for n in range(2)])
            await looked(self, partitions)

        monkeypatch.setattr(Reconciler, "_read_pages", counted)
        ticked(client)
    assert rounds[1] == [700, 50]
    assert rounds[2] == [600, 0]


AT_THE_BEGINNING = "rwf.runtime.Runtime.hints"
EVERY_LOOP = [
    "rwf.reconciler.daemon.Due.pages",
    "rwf.reconciler.daemon.fire",
    "rwf.reconciler.daemon.sweep",
    "rwf.reconciler.daemon.daemons.join",
    "rwf.dispatching.Deliveries.turn",
    AT_THE_BEGINNING,
]


@pytest.mark.parametrize("where", EVERY_LOOP)
def test_an_unexpected_error_ends_no_loop(
    one_client: Client,
    where: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is logged with its traceback, and the loop goes on once it is over."""
    broken, came = threading.Event(), threading.Event()
    owner, _, name = where.rpartition(".")
    called = getattr(resolve_name(owner), name)

    def failing(*args: Any, **options: Any) -> Any:
        if broken.is_set():
            came.set()
            raise TypeError("nobody has foreseen this")
        return called(*args, **options)

    monkeypatch.setattr(where, failing)
    told: list[str] = []

    def handler(envelope: Callback) -> None:
        told.append(envelope.workflow_id)

    if where == AT_THE_BEGINNING:
        broken.set()
    with serving(one_client, **SHORT, callbacks=handler) as daemon:
        until(lambda: daemon.sweep_age is not None, what="a whole round")
        broken.set()
        view = one_client.insert(flow("a"))
        one_client.complete_step(view.id, "a", "retryable", retry_in=0)
        until(came.is_set, what="the error")
        broken.clear()
        until(lambda: states(one_client, view.id) == "a=available", what="the retry")
        one_client.complete_step(view.id, "a")
        until(lambda: told == [view.id], what="the callback")
        raw(one_client).delete("rwf:{0}:index")
        until(lambda: raw(one_client).zcard("rwf:{0}:index"), timeout=60, what="another round")
    (record, *_) = (one for one in caplog.records if "unexpected" in one.getMessage())
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "nobody has foreseen this"


def test_a_killed_clients_release_is_finished_within_two_ticks(one_client: Client) -> None:
    view = one_client.insert(fan_out(5000))
    first_call_only(one_client, view.id, "root", "completed")
    with serving(one_client):
        until(
            lambda: one_client.get(view.id).runnable_step_count == 5000,
            timeout=6,
            what="the rest of the release",
        )


def test_stopping_before_it_serves(one_client: Client) -> None:
    daemon = Reconciler(one_client)
    daemon.stop()
    daemon.run()
    assert daemon.partitions == ()


def test_being_cancelled_ends_it(one_client: Client) -> None:
    async def cancelled() -> None:
        daemon = Reconciler(one_client, **SHORT)
        served = asyncio.create_task(daemon.serve())
        await asyncio.to_thread(until, lambda: daemon.partitions, what="its partitions")
        served.cancel()
        with pytest.raises(asyncio.CancelledError):
            await served

    asyncio.run(cancelled())


def test_an_asyncio_clients_connections_end_with_the_daemon(
    one_client: Client, one_server: AnyServer
) -> None:
    one_client.list()
    before = len(one_server.client().client_list())
    own = client_of("async", one_server)
    with serving(own, **SHORT) as daemon:
        until(lambda: daemon.tick_age is not None, what="a tick")
        assert len(one_server.client().client_list()) > before
    until(lambda: len(one_server.client().client_list()) <= before, what="closed connections")


# --- callbacks


class Seen:
    """A handler that keeps the envelopes that it was given."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.threads: set[int] = set()

    def __call__(self, envelope: Callback) -> None:
        self.ids.append(envelope.workflow_id)
        self.threads.add(threading.get_ident())


def test_callbacks_are_handed_over(client: Client) -> None:
    seen = Seen()
    before = ended(client)
    with serving(client, callbacks=seen, **SHORT):
        until(lambda: before in seen.ids, what="the callback from before")
        meanwhile = ended(client)
        until(lambda: meanwhile in seen.ids, what="the next one")
        until(lambda: stat(client, "gc|delivered") == 2, what="both to be acknowledged")
    assert sorted(seen.ids) == sorted([before, meanwhile])


def test_a_hint_has_them_handed_over_at_once(one_client: Client) -> None:
    """Far sooner than the interval."""
    seen = Seen()
    with serving(one_client, callbacks=seen, interval=60.0):
        until(lambda: raw(one_client).pubsub_numsub("rwf:{0}:events")[0][1] == 1, what="a listener")
        workflow_id = ended(one_client)
        until(lambda: workflow_id in seen.ids, what="the callback")


def test_without_a_handler_they_stay(one_client: Client) -> None:
    ended(one_client)
    ticked(one_client)
    assert raw(one_client).zcard("rwf:{0}:outbox") == 1


def test_a_coroutine_function_handles_them_too(one_client: Client) -> None:
    seen: list[str] = []

    async def handle(envelope: Callback) -> None:
        await asyncio.sleep(0)
        seen.append(envelope.workflow_id)

    workflow_id = ended(one_client)
    asyncio.run(Reconciler(one_client, callbacks=handle).tick())
    assert seen == [workflow_id]


def test_a_handler_that_fails_fails_its_callback_alone(one_client: Client) -> None:
    failing = Failing()
    ids = {ended(one_client) for _ in range(3)}
    asyncio.run(Reconciler(one_client, callbacks=failing).tick())
    assert failing.calls == len(ids)
    assert stat(one_client, "cb|workflow.terminal|failed") == 3


def test_a_callback_that_cannot_be_read_holds_up_no_other(
    one_client: Client, broken_on_purpose: None
) -> None:
    seen, spoiled = Seen(), ended(one_client)
    good = ended(one_client)
    raw(one_client).hset(f"rwf:{{0}}:w:{spoiled}", "@1", "nonsense")
    asyncio.run(Reconciler(one_client, callbacks=seen).tick())
    assert seen.ids == [good]


# --- hints that are lost, servers that go away


def test_without_any_hint_all_is_the_same(one_client: Client, one_server: AnyServer) -> None:
    """Every message is lost: all ends as usual, later by a tick at most."""
    assert isinstance(one_server, Server)
    seen = Seen()
    with Proxy(one_server.port) as proxy, Client.from_url(proxy.url) as deaf:
        proxy.cut_request(b"SUBSCRIBE", times=10**9)
        with serving(deaf, callbacks=seen, **SHORT):
            view = one_client.insert(flow("a b:a"))
            one_client.complete_step(view.id, "a", "retryable", retry_in=0.1)
            until(lambda: one_client.step(view.id, "a").state == "available", what="the retry")
            one_client.complete_step(view.id, "a")
            one_client.complete_step(view.id, "b")
            until(lambda: seen.ids == [view.id], what="the callback")


def test_it_goes_on_when_the_server_is_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "rwf")
    with (
        Server.start("valkey91", aof=True, extra=ALWAYS) as server,
        Client.from_url(server.url) as client,
    ):
        view = client.insert(flow("a"))
        client.complete_step(view.id, "a", "retryable", retry_in=0.1)
        with Client.from_url(server.url) as own, serving(own, **SHORT) as daemon:
            until(lambda: daemon.sweep_age is not None, what="a round")
            server.kill()
            until(lambda: "the server is unavailable" in caplog.text, what="word of it")
            server.restart()
            until(lambda: "the server is back" in caplog.text, what="word of its return")
            client.complete_step(view.id, "a", "retryable", retry_in=0.1)
            until(lambda: client.step(view.id, "a").state == "available", what="the retry")
        assert caplog.text.count("the server is unavailable") == 1
        assert caplog.text.count("the server is back") == 1


@pytest.mark.parametrize(("name", "kind"), [("sweep", b"hash"), ("daemons", b"zset")])
def test_its_own_notes_may_be_overwritten(one_client: Client, name: str, kind: bytes) -> None:
    key = f"rwf:{{0}}:{name}"
    one_client.insert(flow("a"))
    raw(one_client).set(key, "spoilt")
    with serving(one_client, **SHORT) as daemon:
        until(lambda: daemon.sweep_age is not None, what="a round")
        assert raw(one_client).type(key) == kind


def test_the_time_of_a_round_may_be_spoilt(one_client: Client) -> None:
    raw(one_client).hset("rwf:{0}:sweep", "open:began", "spoilt")
    with serving(one_client, **SHORT) as daemon:
        until(lambda: daemon.sweep_age is not None, what="a round")


def test_it_waits_for_a_server_that_is_not_there_yet(caplog: pytest.LogCaptureFixture) -> None:
    with Server.start("valkey91") as server:
        server.kill()
        with Client.from_url(server.url) as client, serving(client, **SHORT) as daemon:
            until(lambda: "the server is unavailable" in caplog.text, what="word of it")
            server.restart()
            until(lambda: daemon.partitions == (0,), what="its partition")


def test_a_server_that_is_misconfigured_ends_it(tmp_path: Path) -> None:
    extra = ("--maxmemory-policy", "allkeys-lru", "--maxmemory", "100mb")
    with Server.start("valkey91", extra=extra) as server:
        with Client.from_url(server.url) as client, pytest.raises(StoreMisconfigured):
            Reconciler(client).run()
        assert "maxmemory-policy" in Cli(server.url, tmp_path).refused(3, "reconciler")


# --- several


def test_one_without_a_partition_of_its_own_waits(
    one_client: Client, one_server: AnyServer
) -> None:
    """It asks no more often than the others, and takes over from them."""
    redis = raw(one_client)

    def last_seen() -> dict[bytes, float]:
        return dict(redis.zrange("rwf:{0}:daemons", 0, -1, withscores=True))

    with (
        connect(one_server) as first,
        connect(one_server) as second,
        serving(first) as one,
        serving(second) as two,
    ):
        until(lambda: len(last_seen()) == 2, what="both to run")
        until(lambda: len(one.partitions + two.partitions) == 1, what="one to be without")
        redis.config_resetstat()
        before = last_seen()
        until(
            lambda: all(now >= before[who] + 2000 for who, now in last_seen().items()),
            what="two more ticks of both",
        )
        assert redis.info("commandstats")["cmdstat_fcall"]["calls"] < 40
        idle, busy = (one, two) if two.partitions else (two, one)
        busy.stop()
        until(lambda: idle.partitions == (0,), what="the other to take over")


def test_everything_derived_is_lost_under_a_running_daemon(client: Client) -> None:
    """Except listings and orphans, which the repair of a single workflow cannot restore."""
    ids = [client.insert(flow("a b:a late")).id for _ in range(30)]
    for workflow_id in ids:
        client.complete_step(workflow_id, "late", "retryable", retry_in=600)
        client.await_step(
            workflow_id, "a", signal="go", correlation_key=workflow_id, deadline=timedelta(hours=1)
        )
    finished = [ended(client) for _ in range(5)]
    before = derived(client)
    with serving(client, **SHORT):
        redis = raw(client)
        redis.delete(*[key for key in before if not key.endswith(b":index")])
        until(
            lambda: derived(client) == before,
            timeout=60,
            what="all to be restored",
        )
        for workflow_id in ids:
            assert client.deliver_signal("go", workflow_id).status == "consumed"
    assert swept(client) == set()
    assert len(finished) == 5


def test_a_clock_that_was_set_back_holds_up_nothing(one_client: Client) -> None:
    """As after a failover to a server with another clock."""
    one_client.insert(flow("a"))
    far = 10**14
    raw(one_client).zadd("rwf:{0}:daemons", {"dead": far})
    raw(one_client).hset("rwf:{0}:sweep", "open:began", far)
    raw(one_client).delete("rwf:{0}:ready")
    with serving(one_client, **SHORT) as daemon:
        until(lambda: raw(one_client).zcard("rwf:{0}:ready"), what="the repair")
        assert daemon.partitions == (0,)


def test_a_sweep_beside_other_work_finds_nothing(one_client: Client, one_server: AnyServer) -> None:
    with connect(one_server) as other, serving(other, interval=0.05, sweep_interval=0.05):
        for _ in range(10):
            view = one_client.insert(fan_out(60))
            one_client.complete_step(view.id, "root")
            for claim in one_client.claim(["default"], worker_id="w", limit=60):
                one_client.complete(claim)
    found = raw(one_client).hgetall("rwf:{0}:stats")
    assert [name for name in found if name.startswith(b"rr|")] == []


# --- callbacks


def test_a_daemon_delivers_many_callbacks_at_once(client: Client) -> None:
    ids = {ended(client) for _ in range(30)}
    together = threading.Barrier(30)

    def handler(envelope: Callback) -> None:
        together.wait(30)  # raises unless all of them are here
        got.append(envelope.workflow_id)

    got: list[str] = []
    with serving(client, callbacks=handler, concurrency=30, **SHORT):
        until(lambda: len(got) == 30, timeout=60, what="all callbacks")
    assert set(got) == ids
    assert stat(client, "gc|delivered") == 30


def test_handlers_that_hang_hold_up_no_other_callback(client: Client) -> None:
    hanging = {ended(client) for _ in range(3)}
    others = {ended(client) for _ in range(20)}
    released = threading.Event()
    got: set[str] = set()

    def handler(envelope: Callback) -> None:
        if envelope.workflow_id in hanging:
            released.wait(60)
        got.add(envelope.workflow_id)

    with serving(client, callbacks=handler, concurrency=5, **SHORT):
        until(lambda: got == others, timeout=60, what="the others' callbacks")
        later = ended(client)
        until(lambda: later in got, timeout=60, what="a later callback")
        released.set()
    # The work that it had begun was finished at the end.
    assert got == {*hanging, *others, later}
    assert stat(client, "gc|delivered") == 24


def test_a_handler_that_ends_its_thread_has_failed(one_client: Client) -> None:
    def handler(envelope: Callback) -> None:
        sys.exit(3)

    ended(one_client)
    with serving(one_client, callbacks=handler, **SHORT) as daemon:
        failed = "cb|workflow.terminal|failed"
        until(lambda: stat(one_client, failed) >= 2, timeout=60, what="a second try")
        assert daemon.tick_age is not None


@pytest.mark.parametrize("concurrency", [0, -1, 501, True, 2.5, "8", None])
def test_a_bad_concurrency_is_refused(one_client: Client, concurrency: Any) -> None:
    with refused("invalid_argument"):
        Reconciler(one_client, callbacks=ignore, concurrency=concurrency)


# --- the command line


def test_the_command(one_client: Client, one_server: AnyServer) -> None:
    view = one_client.insert(flow("a"))
    raw(one_client).delete("rwf:{0}:ready")
    command = [sys.executable, "-m", "rwf", "reconciler", "--url", one_server.url, "--json"]
    command += ["--interval", "0.1", "--sweep-interval", "0.5", "--metrics", "off"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as daemon:
        until(lambda: raw(one_client).zcard("rwf:{0}:ready"), timeout=60, what="the repair")
        daemon.send_signal(signal.SIGTERM)
        out, err = daemon.communicate(timeout=60)
    assert (daemon.returncode, err) == (0, b"")
    told = [json.loads(line) for line in out.splitlines()]
    messages = [one["message"] for one in told if one["level"] == "info"]
    assert messages == [
        "looks after partitions (1): 0",
        f"workflow {view.id}: repaired ready_entry_missing",
    ]


def test_the_command_serves_metrics(one_client: Client, one_server: AnyServer) -> None:
    one_client.insert(flow("a b"))
    command = [sys.executable, "-m", "rwf", "reconciler", "--url", one_server.url]
    command += ["--metrics", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        address = daemon.stdout.readline().split()[-1]
        with urlopen(address) as answer:
            text = answer.read().decode()
        assert 'rwf_steps{state="available"} 2.0' in text
        assert "rwf_partitions_owned" in text
        daemon.terminate()
        daemon.communicate(timeout=60)
    assert daemon.returncode == 0


def test_what_the_command_refuses(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RWF_WEBHOOK_SECRET", raising=False)
    for seconds in ("0", "nan", "inf", "soon"):
        assert "--interval" in cli.refused(2, "reconciler", "--interval", seconds)
    for address in ("9464", ":9464", "host:port", "127.0.0.1:99999"):
        assert "HOST:PORT" in cli.refused(2, "reconciler", "--metrics", address)
    assert "RWF_WEBHOOK_SECRET" in cli.refused(2, "reconciler", "--webhook", "http://x/")
    with monkeypatch.context() as variables:
        variables.setenv("RWF_WEBHOOK_URL", "http://x/")
        assert "RWF_WEBHOOK_SECRET" in cli.refused(2, "reconciler")
    monkeypatch.setenv("RWF_WEBHOOK_SECRET", "s")
    assert "--webhook" in cli.refused(2, "reconciler", "--webhook", "ftp://x/")
    for seconds in ("0", "nan", "soon"):
        assert "--webhook-timeout" in cli.refused(2, "reconciler", "--webhook-timeout", seconds)


def test_a_sweep_of_nothing_leaves_nothing_but_its_own(one_client: Client) -> None:
    one_client.list()
    before = stored(one_client)
    ticked(one_client)
    assert swept(one_client) == set()
    assert set(stored(one_client)) - set(before) == {b"rwf:{0}:sweep"}
