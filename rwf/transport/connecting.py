"""How many connections a client has, how long it waits for them, and where its server is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from rwf.embedded import EmbeddedServer
from rwf.errors import CommandRejected
from rwf.model.states import Reason
from rwf.transport.address import Address

MAX_CONNECTIONS: Final = 100
"""Connections of a client by default, to each node of a cluster."""
_LONGEST: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How many connections a client has at most, to each node, and for how many seconds it waits:
    for a connection of its pool to be free, for a new one, and for each reply.

    Raises CommandRejected (``invalid_argument``).
    """

    max_connections: int
    timeout: float

    def __post_init__(self) -> None:
        if type(self.max_connections) is not int or self.max_connections < 1:
            raise _invalid("max_connections must be an integer of 1 or more")
        number = isinstance(self.timeout, int | float) and not isinstance(self.timeout, bool)
        if not number or not 0 < self.timeout <= _LONGEST:
            raise _invalid(f"socket_timeout must be more than 0 and at most {_LONGEST:.0f} seconds")


def _invalid(message: str) -> CommandRejected:
    return CommandRejected("connect", "client", Reason.INVALID_ARGUMENT, message)


def connection_options(retry: Any, timeout: float) -> dict[str, Any]:
    """The options of each connection."""
    # No blind retries: the session resends, and knows when it does.
    return {
        "retry": retry,
        "socket_connect_timeout": timeout,
        "socket_timeout": timeout,
        "health_check_interval": 0,
    }


def pool_options(limits: Limits) -> dict[str, Any]:
    """The options of a pool."""
    # Less than a call may take, so that it is told what it has waited for.
    return {"max_connections": limits.max_connections, "timeout": limits.timeout * 0.9}


def sentinel_options(address: Address, options: dict[str, Any]) -> dict[str, Any]:
    """How Sentinels are asked: over TLS if their primary is, and with so little patience that one
    call can ask all of them in half its time, and the primary then."""
    given = (address.options or {}).items()
    share = options["socket_connect_timeout"] / 2 / len(address.hosts)
    return {
        **options,
        "socket_connect_timeout": share,
        "socket_timeout": share,
        **{name: value for name, value in given if name.startswith("ssl")},
    }


def place(address: Address, embedded: EmbeddedServer | None) -> tuple[str, dict[str, Any]]:
    """The URL of a single server, and what it takes to log in there."""
    if embedded is None:
        return address.url, {}
    return embedded.url, {"credential_provider": embedded.credentials}


def sentinels(client: Any, address: Address | None) -> list[Any]:
    """The clients of the Sentinels that a client asks for its primary; it does not close them."""
    if address is None or address.kind != "sentinel":
        return []
    found: list[Any] = client.connection_pool.sentinel_manager.sentinels
    return found
