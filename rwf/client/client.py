# Made of rwf/aio/client.py by tools/blocking.py: do not edit.
"""The client: how it is made and closed."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from rwf.client.bulk import Bulk
from rwf.client.commands import Commands
from rwf.client.execution import Execution
from rwf.client.fleet import Fleet
from rwf.client.operations import Operations
from rwf.client.reads import Reads
from rwf.model.limits import MAX_INPUT, MAX_PAYLOAD
from rwf.transport.blocking.drivers import Store
from rwf.transport.connecting import MAX_CONNECTIONS
from rwf.transport.session import DEFAULT_TIMEOUT, Session


class Client(Commands, Bulk, Execution, Reads, Fleet, Operations):
    """A service's access to its workflows; safe to share between threads.

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
        store = Store(url=url, max_connections=max_connections, timeout=socket_timeout)
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
            Store(redis_client),
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
        from rwf.fakes import fake_redis

        session = Session(
            namespace=namespace,
            durability="server",
            require_aof=False,
            partitions=None,
            cluster=False,
            checked=False,
        )
        return cls(Store(fake_redis()), session, max_payload=MAX_PAYLOAD)

    @classmethod
    def _on(
        cls,
        store: Store,
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

    def close(self) -> None:
        """Closes the connections that this client has opened, and ends its :meth:`events`. Calls
        that are under way raise StoreUnavailable, if they have more to send."""
        self._closings += 1
        self._waits.close()
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
