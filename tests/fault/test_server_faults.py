"""Servers that cannot serve, that rwf must not run on, or that come back."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from rwf import Client, Completion, NotFound, RwfError, StoreMisconfigured, StoreUnavailable
from rwf.ops.complete import complete_step
from rwf.protocol.library import library
from rwf.protocol.requests import Call
from tests.conftest import Pool, connect
from tests.support import invariants
from tests.support.flows import fan_out, flow, one_call, raw, refused
from tests.support.proxy import Proxy
from tests.support.servers import ALWAYS, KINDS, AnyServer, Cluster, Server, free_port
from tests.support.waiting import until

SOON = 10.0
"""Seconds within which a server that does not answer has to be reported."""


@contextlib.contextmanager
def configured(server: AnyServer, **settings: str | int) -> Iterator[None]:
    """Sets options for a while, on every node."""
    nodes: list[Any] = [node.client() for node in getattr(server, "nodes", [server])]
    names = {name.replace("_", "-"): value for name, value in settings.items()}
    before = [{name: node.config_get(name)[name] for name in names} for node in nodes]
    try:
        for node in nodes:
            for name, value in names.items():
                node.config_set(name, value)
        yield
    finally:
        for node, values in zip(nodes, before, strict=True):
            for name, value in values.items():
                node.config_set(name, value)


# --- out of memory


def test_out_of_memory_refuses_writes_and_serves_reads(server: AnyServer, client: Client) -> None:
    view = client.insert(flow("a b:a"), key="k")
    with configured(server, maxmemory=1):
        for write in (
            lambda: client.complete_step(view.id, "a"),
            lambda: client.insert(flow("x")),
            lambda: client.insert(flow("a b:a"), key="k"),
        ):
            with pytest.raises(StoreUnavailable) as caught:
                write()
            assert "OOM" in str(caught.value)
        assert client.get(view.id) == view
        assert [found.id for found in client.list().workflows] == [view.id]
        assert client.explain_step(view.id, "b").root_causes[0].step == "a"
        assert client.step(view.id, "a").state == "available"
        assert client.evidence(view.id) == []
    assert client.complete_step(view.id, "a").outcome == "accepted"
    assert len(client.list().workflows) == 1


def test_a_new_client_reads_from_a_server_out_of_memory(server: AnyServer, client: Client) -> None:
    """That is when somebody has to look."""
    view = client.insert(flow("a"))
    with configured(server, maxmemory=1), connect(server) as later:
        assert later.get(view.id) == view


def test_memory_that_runs_out_amid_an_insert(one_server: AnyServer, one_client: Client) -> None:
    one_client.list()
    used = int(raw(one_client).info("memory")["used_memory"])
    wf = flow(" ".join(f"s{n}" for n in range(4000)), input="x" * 2000)
    with (
        configured(one_server, maxmemory=used + 3_000_000),
        pytest.raises(StoreUnavailable),
    ):
        one_client.insert(wf, key="k")
    assert one_client.list().workflows == ()
    view = one_client.insert(wf, key="k")
    assert (view.runnable_step_count, view.duplicate) == (4000, False)


# --- replicas


@pytest.fixture
def replica(one_server: AnyServer) -> Iterator[Server]:
    """A replica of ``one_server``, in step with it."""
    assert isinstance(one_server, Server)
    extra = ("--replicaof", "127.0.0.1", str(one_server.port), "--repl-diskless-sync-delay", "0")
    with (
        configured(one_server, repl_diskless_sync_delay=0),
        Server.start("valkey91", extra=extra) as second,
    ):
        until(lambda: _linked(second), timeout=60, what="a replica in step")
        yield second


def _linked(server: Server) -> bool:
    link: Any = server.client().info("replication")
    return bool(link["master_link_status"] == "up")


def test_a_read_only_replica(replica: Server, one_client: Client) -> None:
    view = one_client.insert(flow("a b:a"))
    until(lambda: _has(replica, view.id), what="the replica to have it")
    begun = time.monotonic()
    with Client.from_url(replica.url) as client:
        with pytest.raises(StoreUnavailable) as caught:
            client.complete_step(view.id, "a")
        assert "READONLY" in str(caught.value)
        with pytest.raises(StoreUnavailable):
            client.insert(flow("x"))
    assert time.monotonic() - begun < 3 * SOON
    assert one_client.step(view.id, "a").state == "available"


def test_a_client_reads_from_a_replica(replica: Server, one_client: Client) -> None:
    view = one_client.insert(flow("a b:a"))
    until(lambda: _has(replica, view.id), what="the replica to have it")
    with Client.from_url(replica.url) as client:
        assert client.get(view.id) == view


def _has(server: Server, workflow_id: str) -> bool:
    return bool(server.client().exists(f"rwf:{{0}}:w:{workflow_id}"))


def test_a_server_that_becomes_a_replica(
    replica: Server, one_server: AnyServer, one_client: Client
) -> None:
    """A failover by hand: the old primary refuses, and the new one goes on."""
    view = one_client.insert(flow("a b:a"))
    until(lambda: _has(replica, view.id), what="the replica to have it")
    old, new = one_server.client(), replica.client()
    with Client.from_url(replica.url) as client:
        new.replicaof("no", "one")
        try:
            old.replicaof("127.0.0.1", str(replica.port))
            with pytest.raises(StoreUnavailable):
                one_client.complete_step(view.id, "a")
            assert client.complete_step(view.id, "a").released == ("b",)
            assert invariants.check(client) == []
        finally:
            old.replicaof("no", "one")


# --- durability


def test_replicas_acknowledge(
    replica: Server, one_server: AnyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client.from_url(one_server.url, durability="replicas:1") as client:
        view = client.insert(flow("a b:a"))
        assert _has(replica, view.id)
        assert client.complete_step(view.id, "a").outcome == "accepted"
    monkeypatch.setattr("rwf.transport.durability._LONGEST_MS", 150)
    with Client.from_url(one_server.url, durability="replicas:2") as client:
        assert client.get(view.id).state == "available"  # reading asks for no acknowledgement
        with pytest.raises(StoreUnavailable, match="2 replicas"):
            client.complete_step(view.id, "b")
        assert client.step(view.id, "b").state == "completed"  # it was inserted


def test_a_replica_that_hangs_acknowledges_nothing(
    replica: Server, one_server: AnyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rwf.transport.durability._LONGEST_MS", 150)
    with Client.from_url(one_server.url, durability="replicas:1") as client:
        view = client.insert(flow("a b:a"))
        os.kill(replica.pid, signal.SIGSTOP)
        try:
            with pytest.raises(StoreUnavailable):
                client.complete_step(view.id, "a")
        finally:
            os.kill(replica.pid, signal.SIGCONT)


def test_a_repeat_is_not_acknowledged_before_the_first_is_safe(
    replica: Server, one_server: AnyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rwf.transport.durability._LONGEST_MS", 150)
    assert isinstance(one_server, Server)
    with (
        Proxy(one_server.port) as proxy,
        Client.from_url(proxy.url, durability="replicas:1") as client,
    ):
        view = client.insert(flow("a b:a"))
        os.kill(replica.pid, signal.SIGSTOP)
        try:
            proxy.cut_reply(b"_complete\r\n")
            with pytest.raises(StoreUnavailable):
                client.complete_step(view.id, "a")
        finally:
            os.kill(replica.pid, signal.SIGCONT)


@pytest.fixture(scope="module", params=["redis82", "valkey81", "valkey91"])
def with_aof(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server.start(request.param, aof=True, extra=ALWAYS) as server:
        yield server


def test_the_append_only_file_acknowledges(with_aof: Server) -> None:
    with_aof.flush()
    with Client.from_url(with_aof.url, durability="aof", require_aof=True) as client:
        view = client.insert(fan_out(600))
        assert client.complete_step(view.id, "root").released_count == 600
    with_aof.kill()
    with_aof.restart()
    with Client.from_url(with_aof.url) as client:
        assert client.get(view.id).runnable_step_count == 600
        assert invariants.check(client) == []


@pytest.mark.parametrize("kind", ["redis82", "valkey81", "valkey91", "cluster"])
def test_a_repeat_waits_for_the_file_too(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a connection of its own, and though the first try has left it nothing to write."""
    monkeypatch.setattr("rwf.transport.durability._LONGEST_MS", 150)
    start = Cluster.start if kind == "cluster" else functools.partial(Server.start, kind)
    with start(aof=True, extra=ALWAYS) as server:

        def fresh() -> Client:
            return Client.from_url(server.url, durability="aof")

        with fresh() as client:
            view = client.insert(flow("a b:a"))
            item = Completion(workflow_id=view.id, step="a")
            call = next(complete_step(client._ctx, item))
            assert isinstance(call, Call)
            with configured(server, appendfsync="no"), pytest.raises(StoreUnavailable):
                client._run(one_call(call))
        with (
            fresh() as client,
            configured(server, appendfsync="no"),
            pytest.raises(StoreUnavailable, match="append-only"),
        ):
            client._run(one_call(call.repeated()))
        with fresh() as client:
            [[outcome, *_]], *_ = client._run(one_call(call.repeated()))
            assert outcome == b"accepted"
            assert len(client.results(view.id)) == 1
            assert invariants.check(client) == []


def test_with_an_append_only_file_there_is_no_warning(
    with_aof: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with Client.from_url(with_aof.url) as client:
        client.list()
    assert caplog.records == []


def test_no_append_only_file(server: AnyServer, caplog: pytest.LogCaptureFixture) -> None:
    with connect(server) as client:
        client.list()
        client.list()
    loud = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(loud) == 1
    assert "append-only" in loud[0].getMessage()
    for strict in (
        Client.from_url(server.url, require_aof=True),
        Client.from_url(server.url, durability="aof"),
    ):
        with strict, pytest.raises(StoreMisconfigured):
            strict.list()


@pytest.mark.parametrize("kind", ["redis82", "valkey81", "valkey91"])
def test_an_append_only_file_that_is_switched_off(kind: str) -> None:
    with (
        Server.start(kind, aof=True) as server,
        Client.from_url(server.url, durability="aof") as client,
    ):
        client.list()
        server.client().config_set("appendonly", "no")
        with pytest.raises(StoreMisconfigured, match=r"the write was made.*appendonly yes"):
            client.insert(flow("a"))
        with Client.from_url(server.url) as other:
            assert len(other.list().workflows) == 1


def test_redis_70_cannot_acknowledge_its_file() -> None:
    with Server.start("redis70", aof=True) as server:
        with (
            Client.from_url(server.url, durability="aof") as client,
            pytest.raises(StoreMisconfigured, match="WAITAOF"),
        ):
            client.list()
        with Client.from_url(server.url, require_aof=True) as client:
            assert client.list().workflows == ()


# --- servers that rwf must not run on


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl", "allkeys-random"])
def test_a_server_that_evicts(server: AnyServer, policy: str) -> None:
    with (
        configured(server, maxmemory_policy=policy),
        connect(server) as client,
        pytest.raises(StoreMisconfigured, match=policy),
    ):
        client.list()
    with connect(server) as client:
        assert client.list().workflows == ()


def test_a_server_that_is_too_old() -> None:
    with Server.start("redis62") as server:
        for _ in range(2):
            with Client.from_url(server.url) as client:
                with pytest.raises(StoreMisconfigured, match=r"6\.2.*too old"):
                    client.list()
                with pytest.raises(StoreMisconfigured):
                    client.insert(flow("a"))
        assert server.client().dbsize() == 0


def test_a_server_that_is_no_cluster(one_server: AnyServer) -> None:
    assert isinstance(one_server, Server)
    url = f"redis+cluster://127.0.0.1:{one_server.port}"
    with Client.from_url(url) as client, pytest.raises(StoreMisconfigured):
        client.list()


# --- rights


def test_passwords() -> None:
    with Server.start("valkey91") as server:
        port = server.port
        server.client().config_set("requirepass", "hunter2-right")
        right = f"redis://:hunter2-right@127.0.0.1:{port}/0"
        with Client.from_url(right) as client:
            view = client.insert(flow("a"))
        wrong = [
            f"redis://127.0.0.1:{port}/0",
            f"redis://:hunter2-wrong@127.0.0.1:{port}/0",
            f"redis://nobody:hunter2-wrong@127.0.0.1:{port}/0",
        ]
        for url in wrong:
            with Client.from_url(url) as client, pytest.raises(StoreMisconfigured) as caught:
                client.get(view.id)
            assert "hunter2" not in str(caught.value)
            assert "hunter2" not in repr(client)


RIGHTS = ["on", ">hunter2", "~rwf:*", "&rwf:*", "+fcall", "+fcall_ro", "+info", "+auth", "+hello"]
RIGHTS += ["+time", "+@hash", "+@list", "+@sortedset", "+unlink", "+publish"]


@contextlib.contextmanager
def user(server: AnyServer, *rights: str) -> Iterator[str]:
    """The URL of a user with these rights and no others."""
    assert isinstance(server, Server)
    admin: Any = server.client()
    admin.execute_command("ACL", "SETUSER", "worker", "reset", *rights)
    try:
        yield server.url.replace("redis://", "redis://worker:hunter2@")
    finally:
        admin.execute_command("ACL", "DELUSER", "worker")


@pytest.mark.parametrize("kind", KINDS)
def test_a_user_without_the_right_to_load(pool: Pool, kind: str) -> None:
    server = pool.get(kind)
    admin: Any = server.client()
    admin.execute_command("FUNCTION", "FLUSH")
    with user(server, *RIGHTS) as url:
        with Client.from_url(url) as client:
            with pytest.raises(StoreMisconfigured, match="migrate") as caught:
                client.list()
            assert "hunter2" not in str(caught.value)
        with connect(server) as owner:
            owner.list()
        with Client.from_url(url) as client:
            view = client.insert(fan_out(600), key="k")
            assert client.complete_step(view.id, "root").released_count == 600
            assert client.explain(view.id).state == "available"
            assert client.reconcile(view.id).repairs == ()
        with (
            Client.from_url(url, namespace="other") as client,
            pytest.raises(StoreMisconfigured),
        ):
            client.list()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lacking", ["-fcall", "-hset", "-time", "-zadd", "resetkeys"])
def test_a_user_who_lacks_a_right_is_told_so(pool: Pool, kind: str, lacking: str) -> None:
    server = pool.get(kind)
    with connect(server) as owner:
        before = owner.insert(flow("a"))
    with user(server, *RIGHTS, lacking) as url, Client.from_url(url) as client:
        with pytest.raises(StoreMisconfigured) as caught:
            client.insert(flow("a"))
        assert "right" in str(caught.value)
    with connect(server) as owner:
        assert owner.list().workflows == (before,)


# --- the library


def test_functions_that_are_gone_come_back(server: AnyServer, client: Client) -> None:
    nodes: list[Any] = [node.client() for node in getattr(server, "nodes", [server])]

    def forget() -> None:
        for node in nodes:
            node.execute_command("FUNCTION", "FLUSH")

    forget()
    view = client.insert(flow("a b:a"))
    forget()
    assert client.get(view.id) == view
    forget()
    assert client.complete_step(view.id, "a").released == ("b",)
    forget()
    assert client.explain_step(view.id, "b").state == "available"
    forget()
    assert client.reconcile(view.id).repairs == ()
    assert client.complete_step(view.id, "a").outcome == "duplicate"


def test_another_release_of_the_library_is_left_alone(one_server: AnyServer) -> None:
    redis_: Any = one_server.client()
    name = "rwf_0123456789ab"
    text = (
        f"#!lua name={name}\nredis.register_function('{name}_show', function() return 'other' end)"
    )
    redis_.execute_command("FUNCTION", "LOAD", text)
    try:
        with connect(one_server) as client:
            view = client.insert(flow("a"))
            assert client.get(view.id) == view
        assert redis_.execute_command("FCALL", f"{name}_show", 0) == b"other"
        loaded = str(redis_.execute_command("FUNCTION", "LIST", "LIBRARYNAME", "rwf_*"))
        assert name in loaded
        assert library().name in loaded
    finally:
        redis_.execute_command("FUNCTION", "DELETE", name)


def test_a_clients_library_comes_back_after_another_flushes_amid_a_large_insert(
    one_server: AnyServer, one_client: Client
) -> None:
    one_client.list()
    stop = threading.Event()
    redis_: Any = redis.Redis(port=getattr(one_server, "port", 0))
    seen: list[int] = []

    def calls() -> int:
        """How many calls of functions the server has carried out."""
        found = redis_.info("commandstats").get("cmdstat_fcall", {})
        return int(found["calls"] - found["failed_calls"] - found["rejected_calls"]) if found else 0

    def flush() -> None:
        seen.append(calls())
        while not stop.wait(0.01):
            if (now := calls()) > seen[-1]:  # else a slow client would only load it again and again
                seen.append(now)
                redis_.execute_command("FUNCTION", "FLUSH")

    thread = threading.Thread(target=flush)
    thread.start()
    try:
        view = one_client.insert(fan_out(4000))
        result = one_client.complete_step(view.id, "root")
    finally:
        stop.set()
        thread.join()
        redis_.close()
    assert result.released_count == 4000
    assert len(seen) > 2


# --- down, loading, restarted


@pytest.mark.parametrize("kind", ["redis", "redis+cluster"])
def test_a_server_that_is_down(kind: str) -> None:
    begun = time.monotonic()
    with (
        Client.from_url(f"{kind}://:hunter2@127.0.0.1:{free_port()}") as client,
        pytest.raises(StoreUnavailable) as caught,
    ):
        client.list()
    assert time.monotonic() - begun < SOON
    assert "hunter2" not in str(caught.value)


def test_a_server_that_restarts_in_between(server: AnyServer) -> None:
    """Without AOF nothing is kept, and a client goes on with the empty server."""
    with connect(server) as client:
        view = client.insert(flow("a"))
        server.restart()
        with pytest.raises(NotFound):
            client.get(view.id)
        with refused("workflow_not_found"):
            client.complete_step(view.id, "a")
        again = client.insert(flow("a b:a"))
        assert client.complete_step(again.id, "a").released == ("b",)


@pytest.mark.parametrize("kind", ["redis70", "valkey91"])
def test_a_server_that_restarts_with_its_file(kind: str) -> None:
    with (
        Server.start(kind, aof=True, extra=ALWAYS) as server,
        Client.from_url(server.url) as client,
    ):
        view = client.insert(fan_out(700), key="k")
        client.complete_step(view.id, "root", payload=[1])
        client.complete_step(view.id, "c1", "retryable", retry_in=600)
        server.kill()
        with pytest.raises(StoreUnavailable):
            client.get(view.id)
        server.restart()
        assert client.insert(fan_out(700), key="k").id == view.id
        assert client.get(view.id).runnable_step_count == 699
        assert client.complete_step(view.id, "c2").outcome == "accepted"
        assert client.complete_step(view.id, "root", payload=[1]).released_count == 700
        assert client.reconcile(view.id).repairs == ()
        assert invariants.check(client) == []


def test_a_server_that_comes_back_while_a_call_waits(one_server: AnyServer) -> None:
    assert isinstance(one_server, Server)
    with connect(one_server) as client:
        client.list()
        one_server.kill()
        answers: list[object] = []
        thread = threading.Thread(target=lambda: answers.append(client.insert(flow("a"))))
        thread.start()
        one_server.restart()
        thread.join()
        assert len(answers) == 1
        assert len(client.list().workflows) == 1


class Speaker:
    """A server that gives one answer to every command."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://:hunter2@127.0.0.1:{self._listener.getsockname()[1]}/0"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        self._open: list[socket.socket] = []

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                thread = threading.Thread(target=self._answer_all, args=(connection,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _answer_all(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := connection.recv(65536):
                # One answer a command: each begins with its number of parts.
                commands = data.count(b"\r\n*") + data.startswith(b"*")
                connection.sendall(self._answer * commands)

    def __enter__(self) -> Speaker:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        for thread in self._threads:
            thread.join()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"-LOADING Redis is loading the dataset in memory\r\n", StoreUnavailable),
        (b"-MASTERDOWN Link with MASTER is down\r\n", StoreUnavailable),
        (b"-BUSY Redis is busy running a script\r\n", StoreUnavailable),
        (b"-MISCONF Redis is configured to save RDB snapshots\r\n", StoreUnavailable),
        (b"-CLUSTERDOWN The cluster is down\r\n", StoreUnavailable),
        (b"-ERR max number of clients reached\r\n", StoreUnavailable),
        (b"-NOAUTH Authentication required.\r\n", StoreMisconfigured),
        (b"-WRONGPASS invalid username-password pair\r\n", StoreMisconfigured),
        (b"-NOPERM this user has no permissions\r\n", StoreMisconfigured),
        (b"-ERR unknown command 'X'\r\n", RwfError),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", RwfError),
        (b"+OK\r\n", RwfError),
        (b"", StoreUnavailable),
    ],
    ids=lambda value: value[:12].decode() if isinstance(value, bytes) else value.__name__,
)
def test_what_a_strange_server_says(
    answer: bytes, error: type[RwfError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rwf.transport.patience._PAUSES", (0.01, 0.01))
    with (
        Speaker(answer) as speaker,
        Client.from_url(speaker.url, socket_timeout=0.2) as client,
        pytest.raises(error) as caught,
    ):
        client.list()
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_loading_is_waited_for(one_server: AnyServer) -> None:
    """LOADING means that nothing was run, and passes."""
    assert isinstance(one_server, Server)
    slow = ("--key-load-delay", "50", "--loading-process-events-interval-bytes", "1024")
    with Server.start("valkey91", aof=True, extra=slow) as server:
        pipeline = server.client().pipeline(transaction=False)
        for number in range(6_000):
            pipeline.set(f"key{number}", "x")
        pipeline.execute()
        server.client().bgrewriteaof()
        until(
            lambda: not server.client().info("persistence")["aof_rewrite_in_progress"],
            what="the file",
        )
        with Client.from_url(server.url) as client:
            view = client.insert(flow("a"))
            # Loading takes about a second, and the tests' restart waits for its end: so in a
            # thread.
            server.kill()
            thread = threading.Thread(target=server.restart)
            thread.start()
            try:
                until(lambda: _loading(server.port), what="a server that loads")
                assert client.get(view.id) == view
            finally:
                thread.join()


def _loading(port: int) -> bool:
    with redis.Redis(port=port, retry=Retry(NoBackoff(), 0)) as probe:
        try:
            probe.ping()
        except redis.BusyLoadingError:
            return True
        except redis.RedisError:
            return False
    return False


def test_a_connection_that_a_users_pool_had_lost(one_server: AnyServer) -> None:
    own: Any = redis.Redis(port=getattr(one_server, "port", 0))
    with own, Client.from_redis(own) as client:
        view = client.insert(flow("a"))
        one_server.client().client_kill_filter(_type="normal", skipme=True)
        assert client.get(view.id) == view


def test_a_closed_client_leaves_no_connection(server: AnyServer) -> None:
    nodes: list[Any] = [node.client() for node in getattr(server, "nodes", [server])]

    def connections() -> list[int]:
        return [len(node.client_list(_type="normal")) for node in nodes]

    before = connections()
    client = connect(server)
    client.list()
    assert connections() != before
    client.close()
    until(lambda: connections() == before, what="the end of its connections")


@pytest.mark.parametrize("options", [{"decode_responses": True}, {"protocol": 3}, {"protocol": 2}])
def test_a_users_own_redis_client_of_any_kind(
    one_server: AnyServer, options: dict[str, Any]
) -> None:
    own: Any = redis.Redis(port=getattr(one_server, "port", 0), **options)
    with own:
        with Client.from_redis(own) as client:
            view = client.insert(fan_out(900), key="k")
            done = client.complete_step(view.id, "root", payload={"b": "ü☃"})
            assert done.released_count == 900
            row = client.result(view.id, "root")
            assert row is not None
            assert row.payload_bytes == '{"b":"ü☃"}'.encode()
            assert client.explain(view.id).state == "available"
            assert len(client.graph(view.id).edges) == 900
            assert client.insert(fan_out(900), key="k").duplicate
            assert client.reconcile(view.id).repairs == ()
        assert own.ping()  # closing the one leaves the other open
