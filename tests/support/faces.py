"""Both clients behind one interface, for tests that run with either."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Final, TypeVar, cast

from rwf import AsyncClient, Client
from rwf.protocol.requests import Op
from rwf.transport.blocking.drivers import Store

T = TypeVar("T")

FACES: Final = ("blocking", "asyncio")


class OnAsyncio(Client):
    """An AsyncClient with the interface of a Client; its event loop runs in a thread of its own.

    Each public method is the AsyncClient's, and blocks. Tests read stored keys through a blocking
    store beside it, ``_store``. To be used in ``with``, which ends the thread.
    """

    def __init__(self, client: AsyncClient, url: str) -> None:
        ctx = client._ctx
        super().__init__(
            Store(url=url), client._session, max_payload=ctx.max_payload, max_input=ctx.max_input
        )
        self._client = client
        self._ctx = client._ctx
        self._waits = cast(Any, client._waits)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="test-loop")
        self._thread.start()

    @classmethod
    def from_url(cls, url: str, **options: Any) -> OnAsyncio:
        return cls(AsyncClient.from_url(url, **options), url)

    def _run(self, op: Op[T]) -> T:
        return self._await(self._client._run(op))

    def _each(self, found: AsyncIterator[T]) -> Iterator[T]:
        while True:
            yield self._await(cast("Coroutine[Any, Any, T]", anext(found)))

    def _await(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("a call that would block the loop that it needs")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def __exit__(self, *_: object) -> None:
        self.close()
        self._store.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


def _blocking(name: str) -> Callable[..., Any]:
    method = getattr(AsyncClient, name)

    def call(self: OnAsyncio, *args: Any, **options: Any) -> Any:
        made = method(self._client, *args, **options)
        return self._each(made) if isinstance(made, AsyncIterator) else self._await(made)

    return call


_MADE: Final = {"from_url", "from_redis", "fake"}
for _name in dir(AsyncClient):
    if not _name.startswith("_") and _name not in _MADE:
        setattr(OnAsyncio, _name, _blocking(_name))
