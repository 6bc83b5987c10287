"""The doctor: overdue work, missing rights, and leftovers on the server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from rwf import AsyncClient, Client, RwfError
from tests.conftest import Pool, connect
from tests.support.daemons import serving
from tests.support.doctor_cases import finding, found
from tests.support.flows import flow, raw
from tests.support.servers import KINDS, AnyServer, Server
from tests.support.waiting import until


def test_a_number_of_partitions_that_is_none(one_client: Client, one_server: AnyServer) -> None:
    """An operator may mistype the number when raising it; running daemons keep the one that they
    know."""
    redis = raw(one_client)
    with serving(one_client, interval=0.05, sweep_interval=0.2) as daemon:
        until(lambda: daemon.partitions == (0,), what="its partition")
        redis.hset("rwf:{0}:meta", "partitions", "1O")
        with connect(one_server) as other:
            with pytest.raises(RwfError, match="partitions that is none"):
                other.list()
            assert found(other, "namespace").startswith("failed")
        until(lambda: daemon._availability.error is not None, what="word of it")
        redis.hset("rwf:{0}:meta", "partitions", "2")
        until(lambda: daemon.partitions == (0, 1), what="the new partition")


def test_the_same_on_asyncio(one_server: AnyServer, one_client: Client) -> None:
    one_client.insert(flow("a"))

    async def names() -> list[str]:
        async with AsyncClient.from_url(one_server.url) as client:
            return [check.name for check in (await client.doctor()).checks]

    assert asyncio.run(names()) == [check.name for check in one_client.doctor().checks]


def rights(server: AnyServer, rules: str) -> str:
    """The doctor's findings for a user with these rights."""
    any_client: Any = server.client()
    with Client.from_url(server.url) as client:
        client.list()
    any_client.execute_command("ACL", "SETUSER", "bob", "reset", "on", ">secret", *rules.split())
    with Client.from_url(server.url.replace("redis://", "redis://bob:secret@")) as client:
        return found(client, "rights")


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ("~rwf:* &rwf:* +@all -hset -zadd", "failed: bob may not HSET, ZADD in this namespace"),
        ("~rwf:* +@all", "failed: bob may not PUBLISH, SUBSCRIBE in this namespace"),
        ("%R~rwf:* &rwf:* +@all -fcall", "ok: bob may read, and nothing else"),
        ("~rwf:* &rwf:* +@all -@write -fcall -zscore", "failed: bob may not FCALL, ZSCORE"),
        ("~other:* &rwf:* +@all", "failed: bob may not FCALL_RO, FCALL, EXISTS, TYPE,"),
        ("~rwf:* &rwf:* +@all -acl", "warning: this user may not read ACL WHOAMI"),
        ("~rwf:* &rwf:* +@all -acl|dryrun", "warning: this user may not read ACL DRYRUN"),
    ],
)
def test_rights(one_server: AnyServer, rules: str, says: str) -> None:
    assert rights(one_server, rules).startswith(says)


@pytest.mark.parametrize("kind", KINDS)
def test_rights_on_each_kind_of_server(pool: Pool, kind: str) -> None:
    server = pool.get(kind)
    assert rights(server, "~rwf:* &rwf:* +@all") == "ok: bob may do all that rwf does"
    lacking = rights(server, "~rwf:* &rwf:* +@all -rpush")
    assert lacking == "failed: bob may not RPUSH in this namespace"


@pytest.fixture
def replica(one_server: AnyServer) -> Iterator[Server]:
    assert isinstance(one_server, Server)
    with Server.start("valkey91", extra=("--repl-diskless-sync-delay", "0")) as second:
        yield second


def test_replication(one_server: Server, one_client: Client, replica: Server) -> None:
    assert found(one_client, "replication") == "ok: no replica"
    raw(one_client).config_set("repl-diskless-sync-delay", 0)
    any_replica: Any = replica.client()
    any_replica.replicaof("127.0.0.1", one_server.port)
    until(
        lambda: any_replica.info("replication")["master_link_status"] == "up",
        timeout=60,
        what="a replica in step",
    )
    until(lambda: "0 s ago" in found(one_client, "replication"), what="its report")
    assert found(one_client, "replication").startswith("ok: 1 replica, at most 0.0 MB behind")
    with Client.from_url(replica.url) as client:
        assert found(client, "role") == "failed: replica"
    any_replica.replicaof("no", "one")


def test_a_primary_without_the_library(pool: Pool) -> None:
    cluster: Any = pool.get("cluster")
    with Client.from_url(cluster.url, partitions=16) as client:
        client.migrate()
        assert found(client, "library").endswith("is loaded")
        cluster.nodes[1].client().execute_command("FUNCTION FLUSH")
        lacking = found(client, "library")
        assert lacking.startswith("warning: ")
        assert lacking.endswith(f"not loaded on 127.0.0.1:{cluster.nodes[1].port}")
        assert "rwf migrate" in str(finding(client, "library").advice)
        client.migrate()
        assert found(client, "rights") == "ok: default may do all that rwf does"
        assert found(client, "sweep") == "ok: no open workflow"
