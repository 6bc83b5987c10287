"""The internal interface of clients: what rwf's own workers, daemons and metrics use of one beyond
its public methods.

No module but this one reads a client's private attributes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, TypeVar

from rwf import fakes
from rwf.aio import AsyncClient
from rwf.client import Client
from rwf.fakes import Clock
from rwf.model.views import Event
from rwf.ops.base import OpContext
from rwf.protocol.requests import Op
from rwf.transport.twin import blocking_twin

T = TypeVar("T")


def context_of(client: Client | AsyncClient) -> OpContext:
    """The context that a client's operations run in."""
    return client._ctx


def run(client: Client, op: Op[T]) -> T:
    """Carries out an operation in this thread; raises what the client's methods raise."""
    return client._run(op)


async def run_async(client: AsyncClient, op: Op[T]) -> T:
    """Carries out an operation in this task; raises what the client's methods raise."""
    return await client._run(op)


def hints(client: Client) -> Generator[Event | None]:
    """The client's events, for ever, and None now and then while none comes."""
    return client._hints()


def hints_async(client: AsyncClient) -> AsyncGenerator[Event | None]:
    """The client's events on asyncio, as :func:`hints` has them."""
    return client._hints()


def clock_of(client: Client | AsyncClient) -> Clock | None:
    """The clock of the server of ``Client.fake()``; None for any other client."""
    return fakes.clock_of(client._store.given_client)


def observe(
    client: Client | AsyncClient, owner: object, told: Callable[[str, float], None]
) -> None:
    """Calls ``told`` with the function and the seconds of each call from now on, in place of
    what the same owner has given before."""
    client._session.observers[owner] = told


def twin_of(client: Client | AsyncClient) -> Client | None:
    """A blocking client beside another: the same server, namespace and options, and connections of
    its own; None where none can be made."""
    store = blocking_twin(client._store)
    if store is None:
        return None
    ctx = client._ctx
    return Client(store, client._session, max_payload=ctx.max_payload, max_input=ctx.max_input)


def client_elsewhere(
    client: Client | AsyncClient, url: str | None, namespace: str | None
) -> Client | AsyncClient:
    """A client with another URL, or another namespace, and the other's options else. Raises
    CommandRejected (``invalid_argument``) for one that cannot be."""
    session, store, ctx = client._session, client._store, client._ctx
    options: dict[str, Any] = {
        "namespace": namespace or session.keys.namespace,
        "durability": session.durability,
        "require_aof": session.require_aof,
        "partitions": session.wanted_partitions,
        "max_payload": ctx.max_payload,
        "max_input": ctx.max_input,
    }
    url = url or store.url
    if url is None:
        return type(client).from_redis(store.given_client, **options)
    options["max_connections"] = store.limits.max_connections
    options["socket_timeout"] = store.limits.timeout
    return type(client).from_url(url, **options)
