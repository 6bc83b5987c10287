"""A blocking store beside another one, for the same server, on connections of its own."""

from __future__ import annotations

from typing import Any, Final

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from rwf.transport.aio.drivers import AsyncStore
from rwf.transport.blocking.drivers import Store

# Settings of a connection on asyncio that one of threads takes too.
_SHARED: Final = (
    "host", "port", "path", "db", "username", "password", "credential_provider", "client_name",
    "protocol", "socket_keepalive", "socket_keepalive_options", "socket_timeout",
    "socket_connect_timeout", "ssl_keyfile", "ssl_certfile", "ssl_cert_reqs", "ssl_ca_certs",
    "ssl_ca_data", "ssl_ca_path", "ssl_check_hostname", "ssl_min_version", "ssl_ciphers",
)  # fmt: skip
_TWINS: Final[dict[Any, Any]] = {
    redis.asyncio.Connection: redis.Connection,
    redis.asyncio.SSLConnection: redis.SSLConnection,
    redis.asyncio.UnixDomainSocketConnection: redis.UnixDomainSocketConnection,
}
_CONNECTIONS: Final = 8


def blocking_twin(store: Store | AsyncStore) -> Store | None:
    """A store that threads may use, whatever else the given one is busy with.

    On connections of its own, which closing it closes; with a redis-py client of threads that asks
    Sentinels, or a cluster, on that client's. None for such a client on asyncio, which is bound to
    its loop.
    """
    limits, given = store.limits, store.given_client
    if store.url is not None:
        return Store(url=store.url, max_connections=_CONNECTIONS, timeout=limits.timeout)
    pool: Any = getattr(given, "connection_pool", None)
    own = type(pool) in (redis.ConnectionPool, redis.BlockingConnectionPool)
    if own and pool.connection_class in _TWINS.values():
        return _owning(pool.connection_class, pool.connection_kwargs, limits.timeout)
    if isinstance(store, Store):
        return Store(given, timeout=limits.timeout)
    on_asyncio = (redis.asyncio.ConnectionPool, redis.asyncio.BlockingConnectionPool)
    if type(pool) in on_asyncio and pool.connection_class in _TWINS:
        options = {
            name: value
            for name, value in pool.connection_kwargs.items()
            if name in _SHARED and value is not None
        }
        options["retry"] = Retry(NoBackoff(), 0)
        return _owning(_TWINS[pool.connection_class], options, limits.timeout)
    return None


def _owning(connection_class: Any, options: dict[str, Any], timeout: float) -> Store:
    """A store that closes its connections."""
    options = {**options}
    for name in ("socket_timeout", "socket_connect_timeout"):
        if options.get(name) is None:
            options[name] = timeout
    pool: Any = redis.BlockingConnectionPool
    own = pool(_CONNECTIONS, timeout, connection_class=connection_class, **options)
    return Store(redis.Redis.from_pool(own), timeout=timeout, owned=True)
