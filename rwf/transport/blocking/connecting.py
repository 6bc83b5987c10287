"""Making redis-py's blocking clients, and what is its own about them.

The counterpart of ``rwf.transport.aio.connecting``, with the same names.
"""

from __future__ import annotations

from typing import Any

import redis
import redis.cluster
import redis.sentinel
from redis.backoff import NoBackoff
from redis.retry import Retry

from rwf.embedded import EmbeddedServer
from rwf.transport.address import Address
from rwf.transport.blocking.sentinels import Sentinels
from rwf.transport.connecting import (
    Limits,
    connection_options,
    place,
    pool_options,
    sentinel_options,
    sentinels,
)
from rwf.transport.packing import Packer


class _SentinelPool(redis.sentinel.SentinelConnectionPool, redis.BlockingConnectionPool):
    """Connections to the primary that Sentinels tell of, waited for when all are in use."""


class _Cluster(redis.cluster.RedisCluster):
    """A cluster's client that asks no node which commands it knows: redis-py asks the primary of
    the first slot, which may be the one that is away. rwf says itself where its commands go."""

    def command(self) -> dict[str, Any]:  # type: ignore[override]
        """No commands."""
        return {}


def _pool_options(limits: Limits) -> dict[str, Any]:
    """The options of a pool whose connections have their commands packed by hiredis."""
    return {**pool_options(limits), "command_packer": Packer()}


def connect(address: Address, embedded: EmbeddedServer | None, limits: Limits) -> Any:
    """A client; an embedded server, if there is one, runs."""
    options = connection_options(Retry(NoBackoff(), 0), limits.timeout)
    if address.kind == "cluster":
        return _Cluster.from_url(address.url, **options)
    pooled = {**options, **_pool_options(limits), **(address.options or {})}
    if address.kind == "sentinel":
        made: Any = Sentinels
        found = made(address.hosts, sentinel_kwargs=sentinel_options(address, options))
        return found.master_for(address.service, connection_pool_class=_SentinelPool, **pooled)
    url, login = place(address, embedded)
    return redis.Redis.from_pool(redis.BlockingConnectionPool.from_url(url, **pooled, **login))


def close(client: Any, address: Address | None) -> None:
    """Closes a client and all that belongs to it."""
    if address is not None and address.kind == "cluster":
        # Its own close leaves the sockets to the garbage collector.
        client.disconnect_connection_pools()
    for sentinel in sentinels(client, address):
        sentinel.close()
    client.close()


def find_nodes(_client: Any) -> None:
    """Nothing: a cluster's client knows its nodes from the beginning."""


def cluster_node(client: Any, node: Any) -> Any:
    """Runs commands on one node of a cluster, over the cluster client's own connections."""
    return client.get_redis_connection(node)


def node_client(client: Any, node: Any, limits: Limits) -> Any:
    """A client of one node of a cluster. Not the cluster's own of that node: it connects all of its
    anew when it looks anew, in the middle of what others are about, and its pool does not wait."""
    pool = client.get_redis_connection(node).connection_pool
    options = {**pool.connection_kwargs, **_pool_options(limits)}
    made: Any = redis.BlockingConnectionPool
    return redis.Redis.from_pool(made(connection_class=pool.connection_class, **options))


def close_node(node: Any) -> None:
    """Closes the connections of a node that a cluster's client has replaced."""
    if node.redis_connection is not None:
        node.redis_connection.close()
