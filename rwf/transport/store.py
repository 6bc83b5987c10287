"""The base of both stores: their address or client, and the nodes that they know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis.asyncio.cluster
import redis.cluster

from rwf.embedded import EmbeddedServer, folder_of
from rwf.transport.address import Address
from rwf.transport.connecting import Limits
from rwf.transport.faults import UNREACHED
from rwf.transport.nodes import Silences


class BaseStore:
    """A redis-py client that was given, or the address of one to be made at the first command."""

    def __init__(
        self, client: Any, url: str, max_connections: int, timeout: float, owned: bool
    ) -> None:
        self.limits = Limits(max_connections, timeout)
        self.address = None if client is not None else Address.parse(url)
        """Where its client is made for; None where one was given."""
        self._client = client
        self._owns_client = owned or client is None
        self._embedded: EmbeddedServer | None = None
        if self.address is not None and self.address.kind == "embedded":
            self._embedded = EmbeddedServer(folder_of(self.address.url))
        self._silences = Silences(timeout)
        self._nodes: dict[str, Any] = {}

    @property
    def cluster(self) -> bool:
        """Whether it is a Redis Cluster; known before anything is connected."""
        if self.address is not None:
            return self.address.kind == "cluster"
        kinds = redis.cluster.RedisCluster, redis.asyncio.cluster.RedisCluster
        return isinstance(self._client, kinds)

    @property
    def url(self) -> str | None:
        """The URL that it was made from; None where a redis-py client was given."""
        if self.address is None:
            return None
        if self.address.kind == "cluster":
            scheme, _, rest = self.address.url.partition("://")
            return f"{scheme}+cluster://{rest}"
        return self.address.url

    @property
    def given_client(self) -> Any:
        """The redis-py client that was given; None where the store makes its own."""
        return self._client if self.address is None else None

    def _check(self, node: Any, patient: bool) -> None:
        """Raises NodeSilent for a node that has not answered others just before."""
        if node is not None and not patient:
            self._silences.check(node.name)

    @contextmanager
    def _watching(self, node: Any) -> Iterator[None]:
        """Notes whether a cluster's node answers."""
        try:
            yield
        except UNREACHED as error:
            if node is not None:
                self._silences.failed(node.name, error)
            raise
        if node is not None:
            self._silences.answered(node.name)
