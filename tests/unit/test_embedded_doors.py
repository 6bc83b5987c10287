"""Access to the embedded server: who else may change its folder, and who may connect."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from rwf import AsyncClient, Client, Workflow
from rwf.embedded import EmbeddedServer
from rwf.errors import StoreMisconfigured
from tests.support.servers import free_port
from tests.support.waiting import until

pytestmark = pytest.mark.server

NOBODY = 65534


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where a server may be; it is ended afterwards."""
    path = tmp_path / "folder"
    yield path
    if path.is_dir() and not path.is_symlink():
        path.chmod(0o700)
        EmbeddedServer(path).stop()


def refused(folder: Path, why: str) -> None:
    """Expects that nothing is started, and nothing written."""
    before = sorted(folder.iterdir()) if folder.is_dir() else []
    with pytest.raises(StoreMisconfigured, match=why):
        EmbeddedServer(folder).ensure_running()
    assert (sorted(folder.iterdir()) if folder.is_dir() else []) == before


# The folder.


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777])
def test_a_folder_that_others_may_write_into_is_refused(folder: Path, mode: int) -> None:
    folder.mkdir()
    folder.chmod(mode)
    refused(folder, "other users may write into .*folder: give it mode 0700")
    folder.chmod(0o755)
    with EmbeddedServer(folder) as server:
        assert server.pid is not None
        folder.chmod(mode)
        with pytest.raises(StoreMisconfigured, match="other users may write"):
            EmbeddedServer(folder).stop()
        folder.chmod(0o700)


def test_a_folder_of_another_user_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(0o700)
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    refused(folder, f"user {mine}|belongs to user {mine}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
def test_root_uses_no_folder_that_another_user_has_a_hand_in(folder: Path) -> None:
    inner = folder / "inner"
    inner.mkdir(0o700, parents=True)
    os.chown(inner, NOBODY, NOBODY)
    refused(inner, f"belongs to user {NOBODY}, not to the user of this process")
    os.chown(inner, 0, 0)
    os.chown(folder, NOBODY, NOBODY)
    refused(inner, f"user {NOBODY}, whom .*folder belongs to, could replace .*inner")
    os.chown(folder, 0, 0)


def test_a_folder_that_others_could_replace_is_refused(folder: Path) -> None:
    inner = folder / "inner"
    inner.mkdir(0o700, parents=True)
    folder.chmod(0o777)
    refused(inner, "other users may write into .*folder, and so could replace .*inner")
    refused(folder / "new" / "one", "could replace .*one")
    assert not (folder / "new").exists()


def test_in_a_sticky_folder_as_the_temporary_one_only_the_owner_replaces(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o1777)
    with EmbeddedServer(folder / "inner") as server:
        assert server.pid is not None


def test_a_group_of_the_user_alone_may_write_into_the_way(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir()
    alone = 54321  # a group without known members
    monkeypatch.setattr(Path, "stat", _with_group(Path.stat, alone))
    folder.chmod(0o770)
    with EmbeddedServer(folder / "inner") as server:
        assert server.pid is not None
    monkeypatch.setattr("rwf.private_files._is_shared", lambda group: group == alone)
    refused(folder / "inner", "could replace")


def _with_group(plain: Callable[..., os.stat_result], group: int) -> Any:
    def told(path: Path, **options: Any) -> os.stat_result:
        found = list(plain(path, **options))
        found[stat.ST_GID] = group
        return os.stat_result(found)

    return told


def test_links_of_the_user_lead_to_the_folder_and_those_of_others_do_not(folder: Path) -> None:
    link = folder.with_name("link")
    link.symlink_to("folder/../folder")
    folder.mkdir(0o700)
    with EmbeddedServer(link) as server, EmbeddedServer(folder) as same:
        assert server.pid == same.pid
    if os.geteuid() == 0:
        os.chown(link, NOBODY, NOBODY, follow_symlinks=False)
        refused(link, f"is a link of user {NOBODY}")
    link.unlink()
    link.symlink_to("link")
    refused(link, "no folder at .*link: Too many levels of symbolic links")


# Its contents.


@pytest.mark.parametrize(
    "name",
    [
        *("server.log", "server.pid", "server.json", "server.json.new", "server.password"),
        *("server.lock", "start.lock", "users.lock", "temp-rewriteaof-bg-1.aof"),
        *("appendonlydir/appendonly.aof.1.incr.aof", "appendonlydir/appendonly.aof.manifest"),
    ],
)
def test_a_planted_link_is_not_followed(folder: Path, tmp_path: Path, name: str) -> None:
    """For each file that rwf or the server opens; a hard link too."""
    precious = tmp_path / "precious"
    precious.write_text("{}")
    (folder / name).parent.mkdir(0o700, parents=True)
    folder.chmod(0o700)
    for plant, why in ((Path.symlink_to, "is a link"), (Path.hardlink_to, "hard link")):
        plant(folder / name, precious)
        try:
            with EmbeddedServer(folder, port=free_port()) as server:
                # Where a new file has taken the place of the link.
                assert name == "server.json.new"
                server.stop()
        except StoreMisconfigured as error:
            assert why in str(error)  # noqa: PT017
        assert precious.read_text() == "{}"
        assert precious.stat().st_mode & 0o777 == 0o644
        (folder / name).unlink(missing_ok=True)


def test_a_planted_folder_or_pipe_is_refused(folder: Path, tmp_path: Path) -> None:
    folder.mkdir(0o700)
    (tmp_path / "elsewhere").mkdir()
    (folder / "appendonlydir").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreMisconfigured, match="appendonlydir is a link"):
        EmbeddedServer(folder).ensure_running()
    assert list((tmp_path / "elsewhere").iterdir()) == []
    (folder / "appendonlydir").unlink()
    for name in ("server.log", "server.json"):
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
        with pytest.raises(StoreMisconfigured, match=f"{name} is not a plain file"):
            EmbeddedServer(folder).ensure_running()
        (folder / name).unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("name", ["server.lock", "server.json", "server.log", "server.password"])
def test_a_file_of_another_user_is_refused(folder: Path, name: str) -> None:
    folder.mkdir(0o700)
    (folder / name).touch()
    os.chown(folder / name, NOBODY, NOBODY)
    with pytest.raises(StoreMisconfigured, match=f"{name} belongs to user {NOBODY}"):
        EmbeddedServer(folder, port=free_port()).ensure_running()
    (folder / name).unlink()


def test_a_planted_process_id_ends_nobody(folder: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as innocent:
        server = EmbeddedServer(folder)
        server.ensure_running()
        pid = server.pid
        (folder / "server.pid").write_text(f"{innocent.pid}\n")
        assert server.pid == pid
        server.stop()
        assert server.pid is None
        assert innocent.poll() is None
        innocent.communicate(b"\n", timeout=20)


def test_a_planted_socket_is_not_spoken_to(folder: Path, tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path / "innocent") as innocent:
        pid = innocent.pid
        assert pid is not None
        folder.mkdir(0o700)
        (folder / "server.sock").symlink_to(innocent.socket_path)
        with pytest.raises(StoreMisconfigured, match=r"server\.sock is a link"):
            EmbeddedServer(folder).ensure_running()
        EmbeddedServer(folder).stop()
        assert innocent.pid == pid
        (folder / "server.sock").unlink()


def test_a_server_that_hangs_is_ended_all_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rwf.embedded._STOP_SECONDS", 0.5)
    server = EmbeddedServer(folder)
    server.ensure_running()
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    server.stop()
    assert server.pid is None


def test_what_the_server_writes_is_for_its_user_alone(folder: Path) -> None:
    folder.mkdir(0o755)
    folder.chmod(0o755)
    with EmbeddedServer(folder, port=free_port()):
        found = [path for path in folder.rglob("*") if path.stat().st_mode & 0o077]
        assert found == []
        assert (folder / "appendonlydir").is_dir()


# The port.


def test_the_port_has_a_password_and_the_folder_s_clients_know_it(folder: Path) -> None:
    port = free_port()
    with EmbeddedServer(folder, port=port) as server:
        assert server.password == server.password_path.read_text().strip()
        assert server.password_path.stat().st_mode & 0o777 == 0o600
        with redis.Redis(port=port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        with redis.Redis(port=port, password=server.password) as friend:
            assert friend.ping()
        with Client.from_url(f"embedded://{folder}") as client:
            view = client.insert(Workflow("w").add("a", worker="a"))
            kept = server.password
            server.stop()
            # The next one has no port: the client that was there before goes on.
            assert client.get(view.id).state == "available"
            assert server.port is None
            assert server.password is None
            server.stop()
            EmbeddedServer(folder, port=port).ensure_running()
            assert client.get(view.id).state == "available"
            assert server.password == kept


async def _count(folder: Path) -> int:
    async with AsyncClient.from_url(f"embedded://{folder}") as client:
        return len((await client.list()).workflows)


def test_an_asyncio_client_knows_the_password_too(folder: Path) -> None:
    import asyncio

    with EmbeddedServer(folder, port=free_port()):
        assert asyncio.run(_count(folder)) == 0


def test_a_password_of_the_user_s_own(folder: Path) -> None:
    folder.mkdir(0o700)
    own = 'it\'s "a" \\ passphrase # with all'
    (folder / "server.password").write_text(own + "\n")
    port = free_port()
    with EmbeddedServer(folder, port=port) as server:
        assert server.password == own
        with redis.Redis(port=port, password=own) as friend:
            assert friend.ping()
        (folder / "server.password").write_text("another\n")
        with pytest.raises(StoreMisconfigured, match="does not hold the password of the server"):
            server.ensure_running()
        for nothing in ("", "\x00\n", "two\nlines\n", "\xff"):
            (folder / "server.password").write_bytes(nothing.encode("latin1"))
            with pytest.raises(StoreMisconfigured, match="holds no password"):
                server.ensure_running()


def test_a_server_with_a_port_that_an_earlier_release_started(folder: Path) -> None:
    """It asks for no password until it is started again."""
    port = free_port()
    with EmbeddedServer(folder, port=port) as server:
        with redis.Redis(port=port, password=server.password) as friend:
            friend.config_set("requirepass", "")
        server.password_path.unlink()
        server.ensure_running()
        pid = server.pid
        with Client.from_url(f"embedded://{folder}") as client:
            client.insert(Workflow("w").add("a", worker="a"))
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        until(lambda: server.pid is None, what="the server's end")
        server.ensure_running()
        assert server.password is not None
