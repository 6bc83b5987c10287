"""A primary and its replica under the watch of three Sentinels, on loopback, for the tests."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

import redis

from tests.support.proxy import Proxy
from tests.support.servers import START_SECONDS, Server, ask, in_step, role
from tests.support.waiting import until

_SERVICE: Final = "main"
_COUNT: Final = 3
_QUORUM: Final = 2
_SILENCE_MS: Final = 500
_PATIENCE_MS: Final = 60_000
# Sentinels that check more often than by default, in ms, as tests wait for them. Information about
# a replica is valid for five pings; once the primary is down they ask it once a second.
_PERIODS: Final = {"info-period": 200, "ping-period": 300, "ask-period": 100, "publish-period": 200}


class Sentinel(Server):
    """One Sentinel process; it keeps its configuration in its folder."""

    def __init__(self, kind: str, *, aof: bool = False, extra: Sequence[str] = ()) -> None:
        super().__init__(kind, aof=aof)
        self._settings = tuple(extra)

    def _options(self) -> list[str]:
        settings = [f"port {self.port}", "bind 127.0.0.1", f"dir {self._folder}", *self._settings]
        path = self._folder / "sentinel.conf"
        path.write_text("\n".join(settings) + "\n")
        return [str(path), "--sentinel"]


class Sentinels:
    """A primary, a replica, and three Sentinels that fail over after half a second of silence."""

    kind = "sentinel"

    def __init__(
        self, nodes: Sequence[Server], watchers: Sequence[Sentinel], link: Proxy | None = None
    ) -> None:
        self.nodes = tuple(nodes)
        self.watchers = tuple(watchers)
        self._link = link

    @classmethod
    def start(
        cls,
        server_kind: str = "valkey91",
        *,
        aof: bool = False,
        extra: Sequence[str] = (),
        linked: bool = False,
    ) -> Self:
        """Starts all five, and waits until they agree; takes about 2 s.

        With ``linked`` the first primary is known at the port of a proxy, ``link``, to all who ask
        a Sentinel and to the replica. The other arguments are those of ``Server.start``, for the
        primary and the replica.
        """
        options = ("--repl-diskless-sync-delay", "0", *extra)
        with contextlib.ExitStack() as undo:
            nodes = [
                undo.enter_context(Server.start(server_kind, aof=aof, extra=options))
                for _ in range(2)
            ]
            link = undo.enter_context(Proxy(nodes[0].port, framed=False)) if linked else None
            port = link.port if link else nodes[0].port
            ask(nodes[0], "CONFIG SET", "replica-announce-port", port)
            ask(nodes[1], "REPLICAOF", "127.0.0.1", port)
            until(lambda: in_step(nodes[1]), timeout=START_SECONDS, what="a replica in step")
            settings = (
                f"sentinel monitor {_SERVICE} 127.0.0.1 {port} {_QUORUM}",
                f"sentinel down-after-milliseconds {_SERVICE} {_SILENCE_MS}",
                f"sentinel failover-timeout {_SERVICE} 3000",
            )
            watchers = [
                undo.enter_context(Sentinel.start(server_kind, extra=settings))
                for _ in range(_COUNT)
            ]
            for watcher in watchers:
                for name, value in _PERIODS.items():
                    ask(watcher, "SENTINEL DEBUG", name, value)
            sentinels = cls(nodes, watchers, link)
            sentinels.wait()
            undo.pop_all()
        return sentinels

    def wait(self) -> None:
        """Waits until the Sentinels agree on the primary, and its replica follows; AssertionError
        after 20 s."""
        until(self._whole, timeout=START_SECONDS, what="Sentinels of one mind")

    def _whole(self) -> bool:
        views = [self._view(watcher) for watcher in self.watchers]
        primary = self.primary
        return (
            all(view == (self._port(primary), "master", 1, _COUNT - 1) for view in views)
            and role(primary) == "master"
            and all(in_step(node) for node in self.nodes if node is not primary)
        )

    def _view(self, watcher: Sentinel) -> tuple[int, str, int, int]:
        found = ask(watcher, "SENTINEL MASTER", _SERVICE)
        return found["port"], found["flags"], found["num-slaves"], found["num-other-sentinels"]

    @property
    def url(self) -> str:
        """The URL for rwf."""
        hosts = ",".join(f"127.0.0.1:{watcher.port}" for watcher in self.watchers)
        return f"redis+sentinel://{hosts}/{_SERVICE}"

    @property
    def primary(self) -> Server:
        """The primary according to the first Sentinel."""
        _, port = ask(self.watchers[0], "SENTINEL GET-MASTER-ADDR-BY-NAME", _SERVICE)
        return next(node for node in self.nodes if self._port(node) == int(port))

    @property
    def link(self) -> Proxy:
        """The proxy between the first primary and all others."""
        assert self._link is not None
        return self._link

    def _port(self, node: Server) -> int:
        """The port at which others know a node."""
        return self.link.port if self._link and node is self.nodes[0] else node.port

    def primary_of(self, key: str = "") -> Server:
        """The primary: it has all keys."""
        return self.primary

    def be_patient(self, patient: bool = True) -> None:
        """Sets whether a primary's silence is overlooked, or means its death after half a second,
        as at the start.

        A loaded machine pauses a server, or the proxy before it, for longer than that: then a test
        has a failover that it has not asked for.
        """
        after = _PATIENCE_MS if patient else _SILENCE_MS
        for watcher in self.watchers:
            ask(watcher, "SENTINEL SET", _SERVICE, "down-after-milliseconds", after)

    def fail_over(self, key: str = "") -> None:
        """Has the replica take the primary's place, as an operator does. Asks repeatedly until it
        is done, as a Sentinel gives up when something takes too long."""
        old = self._port(self.primary)
        until(lambda: self._moved_from(old), timeout=START_SECONDS, what="a new primary")

    def _moved_from(self, port: int) -> bool:
        found = ask(self.watchers[0], "SENTINEL MASTER", _SERVICE)
        if found["port"] != port:
            return True
        if "failover_in_progress" not in found["flags"]:
            # A replica that has just come may not be chosen yet.
            with contextlib.suppress(redis.ResponseError):
                ask(self.watchers[0], "SENTINEL FAILOVER", _SERVICE)
        return False

    def client(self) -> redis.Redis:
        """A redis-py client of the primary; always the same one, closed by ``stop``."""
        return self.primary.client()

    def flush(self) -> None:
        """Empties it. Function libraries stay; a server that a test ended is started again."""
        self.revive()
        self.client().flushall()

    def revive(self) -> None:
        """Starts servers that were ended; waits until both are in their places again."""
        for node in self.nodes:
            if not node.alive:
                node.restart()
                ask(node, "CONFIG SET", "replica-announce-port", self._port(node))
        self.wait()

    def restart(self) -> None:
        """Both servers in new processes, with their old folders and ports."""
        for node in self.nodes:
            node.restart()
        self.wait()

    def stop(self) -> None:
        """End all processes and remove their folders. Harmless when repeated."""
        for server in (*self.watchers, *self.nodes):
            server.stop()
        if self._link is not None:
            self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
