"""What a URL names: which kind of store, and how redis-py is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import redis

from rwf.errors import CommandRejected
from rwf.model.states import Reason


def _invalid_url(message: str) -> CommandRejected:
    # The URL itself is never quoted: it may hold a password.
    return CommandRejected("connect", "client", Reason.INVALID_ARGUMENT, message)


def _check_url(url: str) -> None:
    """Raises ValueError for a URL that redis-py cannot use, options in its query included."""
    pool: Any = redis.ConnectionPool.from_url(url)
    try:
        pool.make_connection()  # made, not connected
    except TypeError as error:
        raise ValueError from error


@dataclass(frozen=True, slots=True)
class Address:
    """A URL taken apart: which kind of store it names, and how redis-py is told."""

    # The URL and the options may hold a password.
    kind: str
    url: str = field(repr=False)
    hosts: tuple[tuple[str, int], ...] = ()
    service: str = ""
    options: Mapping[str, Any] | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> Address:
        """Raises CommandRejected (``invalid_argument``) for a URL of no known kind."""
        if not isinstance(url, str):
            raise _invalid_url("the URL must be a string")
        scheme, separator, rest = url.partition("://")
        if not separator:
            raise _invalid_url("the URL has no scheme, such as redis://")
        try:
            if scheme in ("redis", "rediss", "unix"):
                _check_url(url)
                return cls("server", url)
            if scheme == "embedded":
                return cls("embedded", url)
            if scheme in ("redis+cluster", "rediss+cluster"):
                plain = f"{scheme.partition('+')[0]}://{rest}"
                _check_url(plain)
                return cls("cluster", plain)
            if scheme in ("redis+sentinel", "rediss+sentinel"):
                return cls._sentinel(url, tls=scheme.startswith("rediss"))
        except ValueError:
            raise _invalid_url("the URL cannot be parsed") from None
        raise _invalid_url(
            "the scheme must be redis, rediss, unix, embedded, redis+cluster or redis+sentinel"
        )

    @classmethod
    def _sentinel(cls, url: str, *, tls: bool) -> Address:
        parts = urlsplit(url)
        login, _, places = parts.netloc.rpartition("@")
        hosts = []
        for place in places.split(","):
            host, _, port = place.partition(":")
            hosts.append((host, int(port or 26379)))
        service = parts.path.strip("/").split("/")
        if not service[0]:
            raise _invalid_url("a redis+sentinel URL ends with the service's name")
        options: dict[str, Any] = {"ssl": True} if tls else {}
        if login:
            user, _, password = login.partition(":")
            options |= {"username": unquote(user) or None, "password": unquote(password)}
        options["db"] = int(service[1]) if len(service) > 1 else 0
        options |= {name: values[-1] for name, values in parse_qs(parts.query).items()}
        return cls("sentinel", url, tuple(hosts), service[0], options)
