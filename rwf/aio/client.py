"""The client: how it is made and closed."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from rwf.aio.bulk import AsyncBulk
from rwf.aio.commands import AsyncCommands
from rwf.aio.execution import AsyncExecution
from rwf.aio.fleet import AsyncFleet
from rwf.aio.operations import AsyncOperations
from rwf.aio.reads import AsyncReads
from rwf.model.limits import MAX_INPUT, MAX_PAYLOAD
from rwf.transport.aio.drivers import AsyncStore
from rwf.transport.connecting import MAX_CONNECTIONS
from rwf.transport.session import DEFAULT_TIMEOUT, Session


class AsyncClient(
    AsyncCommands, AsyncBulk, AsyncExecution, AsyncReads, AsyncFleet, AsyncOperations
):
    """A service's access to its workflows, on asyncio; to be used from one event loop.

    Sections named in these docstrings are those of ``docs/contract.md``.

    Connecting is lazy: the first use verifies the server, loads the library where it is missing and
    reads the namespace's record. Every method may raise :class:`~rwf.StoreUnavailable`,
    :class:`~rwf.StoreMisconfigured` or :class:`~rwf.NamespaceMismatch`; one that reads,
    :class:`~rwf.NotFound`; a command, :class:`~rwf.CommandRejected`.
    """

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        namespace: str = "rwf",
        durability: str = "server",
        require_aof: bool = False,
        partitions: int | None = None,
        max_payload: int = MAX_PAYLOAD,
        max_input: int = MAX_INPUT,
        max_connections: int = MAX_CONNECTIONS,
        socket_timeout: float = DEFAULT_TIMEOUT,
    ) -> Self:
        """A client for ``redis://``, ``rediss://``, ``unix://``, ``redis+cluster://``,
        ``redis+sentinel://host:port,host:port/service`` or ``embedded:///folder``.

        ``durability`` says where a write must be stored before it is acknowledged: ``server``,
        ``aof`` (WAITAOF) or ``replicas:N`` (WAIT). ``partitions`` is the number that the namespace
        gets when it is created; if it exists with another, NamespaceMismatch is raised.
        ``max_payload`` is in bytes, as is ``max_input``: how large the input of a claimed step may
        be with the results that it refers to.

        ``max_connections`` is how many connections the client has at most, to each node of a
        cluster; a call waits for a free one. ``socket_timeout`` is in seconds, for that, for
        connecting, and for each reply: a server that has not answered by then is given up, with
        :class:`~rwf.StoreUnavailable`. One that refuses connections, is loading or is a replica is
        tried again for about two seconds, and no call takes longer than twice ``socket_timeout``.
        Raises CommandRejected (``invalid_argument``).
        """
        store = AsyncStore(url=url, max_connections=max_connections, timeout=socket_timeout)
        return cls._on(
            store, namespace, durability, require_aof, partitions, max_payload, max_input
        )

    @classmethod
    def from_redis(
        cls,
        redis_client: Any,
        *,
        namespace: str = "rwf",
        durability: str = "server",
        require_aof: bool = False,
        partitions: int | None = None,
        max_payload: int = MAX_PAYLOAD,
        max_input: int = MAX_INPUT,
    ) -> Self:
        """A client on a redis-py client of yours, which stays open when this one is closed. The
        options are those of :meth:`from_url`."""
        return cls._on(
            AsyncStore(redis_client),
            namespace,
            durability,
            require_aof,
            partitions,
            max_payload,
            max_input,
        )

    @classmethod
    def fake(cls, *, namespace: str = "rwf") -> Self:
        """A client on a fakeredis server of its own, for unit tests (``pip install rwf[fake]``)."""
        from rwf.fakes import fake_async_redis

        session = Session(
            namespace=namespace,
            durability="server",
            require_aof=False,
            partitions=None,
            cluster=False,
            checked=False,
        )
        return cls(AsyncStore(fake_async_redis()), session, max_payload=MAX_PAYLOAD)

    @classmethod
    def _on(
        cls,
        store: AsyncStore,
        namespace: str,
        durability: str,
        require_aof: bool,
        partitions: int | None,
        max_payload: int,
        max_input: int,
    ) -> Self:
        session = Session(
            namespace=namespace,
            durability=durability,
            require_aof=require_aof,
            partitions=partitions,
            cluster=store.cluster,
            timeout=store.limits.timeout,
        )
        return cls(store, session, max_payload=max_payload, max_input=max_input)

    async def close(self) -> None:
        """Closes the connections that this client has opened, and ends its :meth:`events`. Calls
        that are under way raise StoreUnavailable, if they have more to send."""
        self._closings += 1
        await self._waits.close()
        await self._store.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
