"""The server behind ``Client.fake()``: fakeredis, with a clock that tests can move on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from rwf.errors import StoreMisconfigured

_MILLI: Final = 1_000
_MICROS: Final = 1_000_000


class Clock:
    """The time that one fake server tells: this machine's, as far ahead of it as tests have moved
    it, in microseconds.

    While it is held it stands still but for a microsecond each time that it is asked, so that what
    follows from it is the same however long a test takes. It never goes back.
    """

    def __init__(self) -> None:
        self._ahead = 0
        self._held: int | None = None

    def micros(self) -> int:
        """The server's time now."""
        if self._held is None:
            return _now() + self._ahead
        self._held += 1
        return self._held

    @contextmanager
    def held(self) -> Iterator[None]:
        """Stops the clock while this is open; it goes on from there."""
        if self._held is not None:
            raise RuntimeError("the clock of this fake server is held already")
        # A whole millisecond, as timers have: else they would fall together in one run, and not in
        # the next.
        self._held = -(-self.micros() // _MILLI) * _MILLI
        try:
            yield
        finally:
            self._ahead, self._held = self._held - _now(), None

    def move_on(self, micros: int) -> None:
        """Moves it on to this time while it is held; one that has passed changes nothing."""
        assert self._held is not None
        self._held = max(self._held, micros)

    def _tell(self) -> list[bytes]:
        """The reply to TIME."""
        seconds, micros = divmod(self.micros(), _MICROS)
        return [str(seconds).encode(), str(micros).encode()]


def fake_redis() -> Any:
    """A redis-py client of a fakeredis server of its own."""
    return _with_clock(_fakeredis().FakeRedis())


def fake_async_redis() -> Any:
    """A redis-py client on asyncio of a fakeredis server of its own."""
    return _with_clock(_fakeredis().FakeAsyncRedis())


def clock_of(redis_client: Any) -> Clock | None:
    """The clock of a fake server that was made here; None for any other server."""
    return getattr(redis_client, "rwf_clock", None)


def _with_clock(redis_client: Any) -> Any:
    """Gives this client's server, and no other, a time of its own."""
    clock = redis_client.rwf_clock = Clock()
    pool = redis_client.connection_pool
    made = pool.connection_class

    def connect(connection: Any) -> Any:
        # A connection's socket is what answers its commands, each by a method of that name.
        socket = made._connect(connection)
        socket.time = clock._tell
        return socket

    async def connect_async(connection: Any) -> None:
        await made._connect(connection)
        connection._sock.time = clock._tell

    on_asyncio = hasattr(redis_client, "aclose")
    body = {"_connect": connect_async if on_asyncio else connect}
    pool.connection_class = type(made.__name__, (made,), body)
    return redis_client


def _now() -> int:
    return time.time_ns() // 1000


def _fakeredis() -> Any:
    try:
        import fakeredis
    except ImportError:
        raise StoreMisconfigured("Client.fake() needs fakeredis: pip install rwf[fake]") from None
    return fakeredis
