"""TLS, with a certificate authority of our own."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from rwf import AsyncClient, Client, StoreUnavailable
from rwf.transport.actions import Send
from tests.support.commandline import Cli
from tests.support.flows import flow
from tests.support.sentinels import Sentinel
from tests.support.servers import Cluster, Server, ask, free_port
from tests.support.waiting import until

SECRET = "hunter2-hunter2"


class Guarded(NamedTuple):
    """A server that listens on a port with TLS, and wants a password."""

    url: str
    authority: Path
    stranger: Path
    settings: tuple[str, ...]
    """The server's own options for TLS; Sentinels have the same."""


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def _authority(folder: Path, name: str) -> Path:
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    files = ("-keyout", f"{name}.key", "-out", f"{name}.crt")
    _openssl(folder, "req", "-x509", *key, *files, "-days", "2", "-subj", f"/CN={name}")
    return folder / f"{name}.crt"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    assert shutil.which("openssl"), "these tests need openssl"
    folder = tmp_path_factory.mktemp("tls")
    authority, stranger = _authority(folder, "ours"), _authority(folder, "theirs")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    request = ("-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=server")
    _openssl(folder, "req", *key, *request)
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
    by = ("-CA", "ours.crt", "-CAkey", "ours.key", "-CAcreateserial", "-extfile", "names")
    _openssl(folder, "x509", "-req", "-in", "server.csr", "-out", "server.crt", "-days", "2", *by)
    port = free_port()
    files = ("cert-file", "server.crt"), ("key-file", "server.key"), ("ca-cert-file", "ours.crt")
    settings = (*(f"tls-{name} {folder / file}" for name, file in files), "tls-auth-clients no")
    extra = [part for line in settings for part in f"--{line}".split()]
    with Server.start("redis70", extra=[*extra, "--tls-port", str(port)]) as server:
        server.client().config_set("requirepass", SECRET)
        url = f"rediss://:{SECRET}@127.0.0.1:{port}/0"
        yield Guarded(url, authority, stranger, settings)


def test_both_clients(guarded: Guarded) -> None:
    url = f"{guarded.url}?ssl_ca_certs={guarded.authority}"
    with Client.from_url(url) as client:
        view = client.insert(flow("a b:a"))
        assert client.complete_step(view.id, "a").released == ("b",)
        assert client.doctor().healthy

    async def run() -> str:
        async with AsyncClient.from_url(url) as other:
            return (await other.complete_step(view.id, "b")).workflow.state

    assert asyncio.run(run()) == "completed"


def test_the_command_line(guarded: Guarded, tmp_path: Path) -> None:
    cli = Cli(f"{guarded.url}?ssl_ca_certs={guarded.authority}", tmp_path)
    workflow_id = cli.inserted()
    assert workflow_id in cli.ok("ls")
    assert "reachable" in cli.ok("doctor")


@pytest.fixture
def guarded_cluster(guarded: Guarded) -> Iterator[str]:
    """The URL of a cluster whose nodes use TLS on every connection."""
    settings = (*guarded.settings, "tls-cluster yes", "tls-replication yes", "cluster-enabled yes")
    common = [part for line in settings for part in f"--{line}".split()]
    with ExitStack() as undo:
        ports = [(free_port(), free_port()) for _ in range(3)]
        nodes = [
            undo.enter_context(
                Server.start(
                    "redis70", extra=[*common, "--tls-port", str(tls), "--cluster-port", str(bus)]
                )
            )
            for tls, bus in ports
        ]
        undo.enter_context(Cluster.join(nodes))
        yield f"rediss+cluster://127.0.0.1:{ports[0][0]}?ssl_ca_certs={guarded.authority}"


def test_a_cluster(guarded_cluster: str) -> None:
    """Also the connections on which calls of several partitions travel together."""
    with Client.from_url(guarded_cluster, partitions=16) as client:
        view = client.insert(flow("a"))
        sends = [
            Send(("EXISTS", key), key) for key in (client._ctx.keys.sweep(n) for n in range(16))
        ]
        assert client._store._together(sends) == [0] * 16

    async def run() -> str:
        async with AsyncClient.from_url(guarded_cluster) as other:
            assert await other._store._together(sends) == [0] * 16
            return (await other.complete_step(view.id, "a")).workflow.state

    assert asyncio.run(run()) == "completed"


def test_sentinels_are_asked_by_tls_too(guarded: Guarded) -> None:
    primary, port = guarded.url.partition("/0")[0].rpartition(":")[2], free_port()
    settings = (
        *guarded.settings,
        "tls-replication yes",
        f"tls-port {port}",
        f"sentinel monitor main 127.0.0.1 {primary} 1",
        f"sentinel auth-pass main {SECRET}",
    )
    with Sentinel.start("redis70", extra=settings) as watcher:
        until(
            lambda: ask(watcher, "SENTINEL MASTER", "main")["flags"] == "master",
            timeout=60,
            what="a Sentinel that knows its primary",
        )
        url = f"rediss+sentinel://:{SECRET}@127.0.0.1:{port}/main"
        options = f"ssl_ca_certs={guarded.authority}&ssl_check_hostname=true&socket_timeout=9"
        with Client.from_url(f"{url}?{options}") as client:
            assert client.doctor().healthy

        async def run() -> None:
            async with AsyncClient.from_url(f"{url}?{options}") as other:
                await other.list()

        asyncio.run(run())


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("wrong", ["stranger", "none", "plain"])
def test_a_server_that_cannot_be_trusted(guarded: Guarded, tmp_path: Path, wrong: str) -> None:
    """A certificate of another authority, none at all, and no TLS where the server requires it."""
    url = {
        "stranger": f"{guarded.url}?ssl_ca_certs={guarded.stranger}",
        "none": guarded.url,
        "plain": guarded.url.replace("rediss://", "redis://"),
    }[wrong]
    with Client.from_url(url) as client, pytest.raises(StoreUnavailable) as caught:
        client.list()
    assert SECRET not in str(caught.value)

    async def run() -> None:
        async with AsyncClient.from_url(url) as other:
            await other.list()

    with pytest.raises(StoreUnavailable):
        asyncio.run(run())
    assert SECRET not in Cli(url, tmp_path).refused(3, "ls")
