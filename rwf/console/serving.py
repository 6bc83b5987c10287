"""The console as a server of its own, for ``rwf console`` and the demo."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp

from rwf.aio import AsyncClient
from rwf.console.access import LoopbackAccess, TokenAccess
from rwf.console.application import build
from rwf.console.live import Hub

PORT: Final = 9465
_CONNECTIONS: Final = 300
"""Of which at most 100 are streams of hints; who comes when all are taken is refused."""
_REQUEST_SECONDS: Final = 10.0
"""How long a connection may take over its request."""
_ASKING: Final = 150
"""Connections that may be about to ask; of more the oldest are closed."""
_LOOK_SECONDS: Final = 1.0
_GRACE_SECONDS: Final = 2
"""For how long the answers under way are waited for at the end; streams never end by themselves."""


def serve(
    connect: Callable[[], AsyncClient],
    listener: socket.socket,
    access: LoopbackAccess | TokenAccess,
    *,
    allow_actions: bool,
) -> None:
    """Serves the console on a socket until SIGTERM or SIGINT."""

    async def run() -> None:
        async with connect() as client:
            login = access if isinstance(access, TokenAccess) else None
            app = build(client, access.authorize, allow_actions=allow_actions, login=login)
            server = _Server(configured(app), app.state.hub)
            watching = asyncio.create_task(watch(server))
            try:
                await server.serve(sockets=[listener])
            finally:
                watching.cancel()

    asyncio.run(run())


def configured(app: ASGIApp) -> uvicorn.Config:
    """How the console is served: bounded, and without a word of what it runs on."""
    return uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )


async def watch(server: uvicorn.Server) -> None:
    """Closes connections that do not ask: those that take long over their request, and the oldest
    of very many, so that whoever opens them leaves room for others."""
    since: dict[Any, tuple[object, float]] = {}
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        connections: set[Any] = {*server.server_state.connections}
        asking = {one: one.cycle for one in connections if _is_asking(one)}
        now = loop.time()
        since = {
            one: since[one] if one in since and since[one][0] is cycle else (cycle, now)
            for one, cycle in asking.items()
        }
        oldest = sorted(since, key=lambda one: since[one][1])
        for place, one in enumerate(oldest):
            if now - since[one][1] > _REQUEST_SECONDS or place < len(oldest) - _ASKING:
                one.transport.close()


def _is_asking(connection: Any) -> bool:
    """Whether a connection has yet to send all of its next request."""
    cycle = connection.cycle
    return cycle is None or cycle.response_complete or cycle.more_body


class _Server(uvicorn.Server):
    """Ends quietly after a signal, as the other commands do: the base raises it once more."""

    def __init__(self, config: uvicorn.Config, hub: Hub) -> None:
        super().__init__(config)
        self._hub = hub

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._hub.close()
        super().handle_exit(sig, frame)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM)
        for number in numbers:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)
