"""Least privilege: each role works with the rights of ``deploy/users.acl``, and no more."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rwf import Client, CommandRejected, Completion, StoreMisconfigured, Workflow
from rwf.ops.timer_pages import PassedOver
from rwf.repair.timers import fire_due
from tests.support import invariants
from tests.support.commandline import Cli
from tests.support.consoles import console
from tests.support.daemons import serving, swept
from tests.support.deploying import PASSWORD, ROLES, start, url_of
from tests.support.flows import flow
from tests.support.servers import KINDS, AnyServer
from tests.support.waiting import until

KIND_NAMES = [*KINDS, "cluster"]


@pytest.fixture(scope="module", params=KIND_NAMES)
def guarded(request: pytest.FixtureRequest) -> Iterator[AnyServer]:
    """A server, or a cluster, that knows the users, with rwf's library."""
    server = start(request.param)
    with Client.from_url(url_of(server, "migrate"), partitions=4) as migrating:
        migrating.migrate()
    yield server
    server.stop()


@pytest.fixture
def quiet(guarded: AnyServer) -> Iterator[AnyServer]:
    """A guarded server; at the end it must have refused nothing to anybody."""
    for node in nodes(guarded):
        node.execute_command("ACL", "LOG", "RESET")
    yield guarded
    assert refusals(guarded) == []
    with Client.from_url(guarded.url) as anybody:
        assert invariants.check(anybody) == []


def nodes(server: AnyServer) -> list[Any]:
    return [node.client() for node in getattr(server, "nodes", [server])]


def refusals(server: AnyServer) -> list[str]:
    return [
        f"{entry['username']}: {entry['reason']} {entry['object']}"
        for node in nodes(server)
        for entry in node.acl_log()
    ]


def opened(server: AnyServer, role: str) -> Client:
    return Client.from_url(url_of(server, role))


def test_a_client(quiet: AnyServer) -> None:
    with opened(quiet, "client") as client:
        view = client.insert(flow("a b:a c:+b d"), key="order-1")
        assert client.insert(flow("a b:a c:+b d"), key="order-1").duplicate
        client.complete_step(view.id, "a", payload={"n": 1}, command_id="one")
        with pytest.raises(CommandRejected, match="already_terminal"):
            client.complete_step(view.id, "a", "failed")
        client.complete_many([Completion(workflow_id=view.id, step="b", status="failed")])
        assert client.await_step(view.id, "d", signal="go", correlation_key="k").status == "waiting"
        assert client.deliver_signal("go", "k", payload=[1]).status == "consumed"
        kept = client.deliver_signal("go", "nobody")
        assert client.signals("go").signals == client.signals().signals == (kept,)
        assert client.withdraw_signal(kept.id).status == "withdrawn"
        client.recover_step(view.id, "b", "retry", scope="downstream", actor="ann")
        client.request_cancel(view.id, reason="enough")
        assert client.dispatch_callbacks(lambda envelope: None).delivered
        for callback in client.callbacks(view.id):
            client.resend_callback(callback.callback_id)
        bad = client.insert(flow("a"))
        client.complete_step(bad.id, "a", "failed")
        assert client.acknowledge(bad.id, actor="ann", reason="known").acknowledged_by == "ann"
        client.reconcile(view.id)
        for read in (client.get, client.steps, client.results, client.evidence, client.graph):
            assert read(view.id)
        assert client.explain(view.id).diagnosis
        assert client.explain_step(view.id, "c").diagnosis
        assert client.list(limit=5).workflows
        client.queues()


def test_large_graphs(quiet: AnyServer) -> None:
    """Operations that take several calls: an insert, a cascade, a cancel request."""
    with opened(quiet, "client") as client:
        view = client.insert(flow("root " + " ".join(f"c{n}:root" for n in range(900))))
        client.complete_step(view.id, "root", "failed")
        client.recover_step(view.id, "root", "retry")
        assert client.request_cancel(view.id).state == "cancelled"


def test_a_worker(quiet: AnyServer) -> None:
    with opened(quiet, "worker") as worker:
        for _ in range(4):
            worker.insert(flow("a b:a"))
        claims = worker.claim(["default"], worker_id="w", limit=3)
        assert worker.heartbeat(claims).lost == ()
        worker.release(claims[1:])
        worker.complete(claims[0], payload="done")
        worker.complete_many([], claim_next=2, queues=["default"], worker_id="w")


def test_events(quiet: AnyServer) -> None:
    with opened(quiet, "worker") as worker, opened(quiet, "client") as client:
        heard = worker._hints()
        found: list[Any] = []

        def hint() -> bool:
            client.insert(flow("a", queue=f"q{len(found)}"))  # each queue turns from empty to not
            found.append(next(heard))
            return found[-1] is not None

        until(hint, timeout=60, what="an event")
        heard.close()


def test_a_daemon(quiet: AnyServer) -> None:
    with opened(quiet, "client") as client:
        view = client.insert(flow("a"))
        client.complete_step(view.id, "a", "retryable", retry_in=0)
    with opened(quiet, "daemon") as daemon:
        for partition in range(4):
            daemon._run(fire_due(daemon._ctx, partition, PassedOver()))
        assert daemon.step(view.id, "a").state == "available"
        daemon.reconcile(view.id)
        assert swept(daemon) == set()


def test_only_who_migrates_loads_the_library(guarded: AnyServer) -> None:
    """The server cannot tell whose library one replaces; so nobody else may."""
    for node in nodes(guarded):
        node.execute_command("FUNCTION", "FLUSH")
    for role in ("client", "worker", "daemon"):
        with (
            opened(guarded, role) as client,
            pytest.raises(StoreMisconfigured, match="run `rwf migrate` as one who may"),
        ):
            client.list()
    with opened(guarded, "migrate") as migrating:
        assert migrating.migrate().loaded
    with opened(guarded, "daemon") as daemon:
        assert daemon.list() is not None


def test_an_operator(guarded: AnyServer, tmp_path: Path) -> None:
    with opened(guarded, "client") as client:
        view = client.insert(flow("a b:a"))
        kept = client.deliver_signal("go", view.id)
    cli = Cli(url_of(guarded, "operator"), tmp_path)
    for reading in (
        ("ls",),
        ("show", view.id),
        ("explain", view.id),
        ("explain", view.id, "b"),
        ("graph", view.id),
        ("evidence", view.id),
        ("queues",),
        ("signals",),
    ):
        assert cli.ok(*reading), reading
    doctor = cli("doctor")
    assert doctor.exit_code == 0, doctor.output
    assert "rwf-operator may read, and nothing else" in doctor.stdout
    for writing in (
        ("complete", view.id, "a"),
        ("cancel", view.id),
        ("recover", view.id, "a", "skip"),
        ("signal", "go", "k"),
        ("withdraw", kept.id),
    ):
        line = cli.refused(3, *writing)
        assert "store_misconfigured: the server's user lacks a right: " in line
        assert "fcall" in line
        assert PASSWORD not in line
    with opened(guarded, "client") as client:
        assert client.step(view.id, "a").state == "available"


def test_a_console(guarded: AnyServer) -> None:
    """Every page, and hints."""
    for node in nodes(guarded):
        node.execute_command("ACL", "LOG", "RESET")
    with opened(guarded, "client") as client, console(url_of(guarded, "console")) as visitor:
        view = client.insert(flow("a b:a c"))
        client.complete_step(view.id, "c", "failed", summary="no")
        client.deliver_signal("go", "k")
        for path in ("/", "/workflows", "/queues", "/signals", "/workers", "/health"):
            visitor.page(path)
        for rest in ("", "/steps", "/evidence", "/callbacks", "/step?name=b"):
            visitor.page(f"/workflows/{view.id}{rest}")
        health = visitor.page("/health").text
        assert "rwf-console may read" in health
        with visitor.http.stream("GET", "/live") as stream:
            assert stream.status_code == 200
            until(lambda: subscribed(guarded), what="the subscription")
    # The doctor tries to read the configuration, which no role may.
    assert {refusal.partition("config|get")[1] for refusal in refusals(guarded)} <= {"config|get"}


def subscribed(server: AnyServer) -> bool:
    channels = (
        [
            *node.execute_command("PUBSUB", "CHANNELS"),
            *node.execute_command("PUBSUB", "SHARDCHANNELS"),
        ]
        for node in nodes(server)
    )
    return any(channels)


def test_a_console_that_may_only_read_is_refused_actions(guarded: AnyServer) -> None:
    with opened(guarded, "client") as client:
        view = client.insert(flow("a"))
    with console(url_of(guarded, "console"), allow_actions=True) as visitor:
        shown = visitor.page(f"/act/request_cancel?workflow={view.id}")
        fields = shown.fields("/act/request_cancel") | {"reason": "x"}
        answer = visitor.post("/act/request_cancel", fields)
    assert answer.status_code == 503
    assert "lacks a right" in answer.text
    assert PASSWORD not in answer.text


@pytest.mark.parametrize("role", ROLES)
def test_no_role_does_more(guarded: AnyServer, role: str) -> None:
    node = nodes(guarded)[0]
    forbidden = [
        ("FLUSHALL",), ("FLUSHDB",), ("KEYS", "*"), ("CONFIG", "GET", "*"), ("SHUTDOWN",),
        ("CONFIG", "SET", "save", ""), ("ACL", "LIST"), ("ACL", "SETUSER", "x"), ("DEBUG", "x"),
        ("FUNCTION", "FLUSH"), ("FUNCTION", "DELETE", "x"), ("EVAL", "return 1", "0"),
        ("CLIENT", "KILL", "1"), ("CLIENT", "LIST"), ("REPLICAOF", "no", "one"), ("MONITOR",),
        ("GET", "rwf:{0}:meta"), ("DEL", "rwf:{0}:meta"), ("HGET", "other", "x"),
        ("PUBLISH", "other", "x"), ("SCRIPT", "FLUSH"), ("SAVE",), ("BGREWRITEAOF",),
        ("CLIENT", "TRACKING", "ON"), ("CLIENT", "CACHING", "YES"), ("CLIENT", "PAUSE", "1"),
        ("CLIENT", "REPLY", "OFF"), ("SUBSCRIBE", "other"), ("PSUBSCRIBE", "*"),
        ("FUNCTION", "DUMP"), ("FUNCTION", "RESTORE", "x"), ("FUNCTION", "KILL"),
        ("FCALL_RO", "x", "1", "other"), ("FCALL", "x", "1", "other:{0}:meta"),
        ("HSET", "other", "a", "b"), ("UNLINK", "other"), ("RENAME", "rwf:{0}:meta", "other"),
        ("COPY", "rwf:{0}:meta", "other"), ("MIGRATE", "h", "1", "rwf:{0}:meta", "0", "1"),
        ("CLUSTER", "RESET"), ("CLUSTER", "FAILOVER"), ("SWAPDB", "0", "1"), ("SORT", "rwf:x"),
    ]  # fmt: skip
    if role != "daemon":
        forbidden += [("SCAN", "0")]
    if role != "migrate":
        forbidden += [("FUNCTION", "LOAD", "x"), ("FUNCTION", "LOAD", "REPLACE", "x")]
    else:
        forbidden += [
            ("FCALL", "x", "1", "rwf:{0}:ready"), ("HGETALL", "rwf:{0}:meta"),
            ("HSET", "rwf:{1}:stats", "a", "b"), ("PUBLISH", "rwf:{0}:events", "x"),
        ]  # fmt: skip
    if role in ("operator", "console"):
        forbidden += [
            ("FCALL", "x", "1", "rwf:{0}:meta"), ("HSET", "rwf:{0}:meta", "a", "b"),
            ("PUBLISH", "rwf:{0}:events", "x"), ("SPUBLISH", "rwf:{0}:events", "x"),
        ]  # fmt: skip
    for command in forbidden:
        said = node.execute_command("ACL", "DRYRUN", f"rwf-{role}", *command)
        assert b"no permissions" in said, (role, command, said)


@pytest.mark.parametrize("guarded", ["redis70", "cluster"], indirect=True)
@pytest.mark.parametrize("role", ["client", "worker", "daemon"])
def test_the_doctor_of_a_role(guarded: AnyServer, role: str) -> None:
    with opened(guarded, role) as client:
        report = client.doctor()
    assert report.healthy, report
    (rights,) = (check.found for check in report.checks if check.name == "rights")
    assert rights == f"rwf-{role} may do all that rwf does"


@pytest.mark.parametrize("guarded", ["redis70", "cluster"], indirect=True)
def test_the_doctor_names_a_right_that_is_missing(guarded: AnyServer) -> None:
    """For example, one on channels that was taken away: work goes on, and hints are lost."""
    for rules, missing in (("resetchannels", "subscribe"), ("-zadd", "zadd")):
        for node in nodes(guarded):
            node.execute_command("ACL", "SETUSER", "rwf-client", *rules.split())
        with opened(guarded, "client") as client:
            (rights,) = (one for one in client.doctor().checks if one.name == "rights")
        for node in nodes(guarded):
            node.execute_command("ACL", "SETUSER", "rwf-client", "&rwf:*", "+zadd")
        assert rights.status == "failed"
        assert missing in rights.found.lower()


def test_who_loses_the_right_to_publish_loses_hints_alone(guarded: AnyServer) -> None:
    """A call still reports what it has done; daemons go on as well."""
    for role in ("client", "daemon"):
        for node in nodes(guarded):
            node.execute_command("ACL", "SETUSER", f"rwf-{role}", "resetchannels")
    try:
        with opened(guarded, "client") as client, opened(guarded, "daemon") as daemon:
            view = client.insert(flow("a b:a"))
            with serving(daemon, interval=0.05, sweep_interval=0.2, callbacks=lambda _: None):
                client.complete_step(view.id, "a", "retryable", retry_in=0.1)
                until(
                    lambda: client.step(view.id, "a").state == "available",
                    timeout=60,
                    what="the retry",
                )
                assert client.complete_step(view.id, "a").released == ("b",)
                assert client.complete_step(view.id, "b").workflow.state == "completed"
                until(
                    lambda: {one.status for one in client.callbacks(view.id)} == {"delivered"},
                    timeout=60,
                    what="the callback",
                )
    finally:
        for role in ("client", "daemon"):
            for node in nodes(guarded):
                node.execute_command("ACL", "SETUSER", f"rwf-{role}", "&rwf:*")


def test_nobody_logs_in_without_a_password(guarded: AnyServer) -> None:
    with (
        Client.from_url(url_of(guarded, "client", "wrong")) as client,
        pytest.raises(StoreMisconfigured) as caught,
    ):
        client.list()
    assert PASSWORD not in str(caught.value)


NAMES = st.from_regex(r"[A-Za-z0-9._-]{1,40}", fullmatch=True)
TEXTS = st.text(min_size=1, max_size=60) | st.sampled_from(
    ["rwf:{9}:w:x", "}{", "a|b,c", "\r\n*1\r\n$8\r\nFLUSHALL\r\n", "' or 1", "*", "\0", "{0}:meta"]
)


@pytest.mark.parametrize("guarded", ["valkey91", "cluster"], indirect=True)
def test_no_name_and_no_payload_is_refused_by_the_server(quiet: AnyServer) -> None:
    with opened(quiet, "client") as client:
        numbers = itertools.count()

        @settings(max_examples=12, suppress_health_check=list(HealthCheck))
        @given(NAMES, NAMES, TEXTS, TEXTS, TEXTS)
        def tried(name: str, queue: str, one: str, two: str, three: str) -> None:
            wf = Workflow(name, context={one: two})
            wf.add(name, worker="w", queue=queue, input={two: three})
            view = client.insert(wf, key=f"{next(numbers)} {one}")
            assert client.get(view.id).context == {one: two}
            # Under a key of its own, so that leftovers of earlier examples change nothing.
            key = f"{two} {view.id}"
            waiting = client.await_step(view.id, name, signal=name, correlation_key=key)
            assert (waiting.status, waiting.correlation_key) == ("waiting", key)
            told = client.deliver_signal(name, key, payload=three, dedupe_key=one)
            assert (told.status, told.dedupe_key, told.payload) == ("consumed", one, three)
            (claimed,) = client.claim([queue], worker_id=three)
            assert (claimed.workflow_id, claimed.input) == (view.id, {two: three})
            done = client.complete(claimed, payload=one, actor=two, command_id=three)
            assert (done.outcome, done.workflow.state) == ("accepted", "completed")
            with pytest.raises(CommandRejected, match="workflow_not_found"):
                client.complete_step(one, two)

        tried()
