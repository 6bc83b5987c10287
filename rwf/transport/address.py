"""Store URLs: the kind of store that one names, and its settings for redis-py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import redis

from rwf.errors import CommandRejected
from rwf.model.states import Reason

_SENTINEL_PORT: Final = 26379


def _invalid_url(message: str) -> CommandRejected:
    # The URL itself is never quoted: it may hold a password.
    return CommandRejected("connect", "client", Reason.INVALID_ARGUMENT, message)


def _check_url(url: str) -> None:
    """Raises ValueError for a URL that redis-py cannot use, options in its query included."""
    pool: Any = redis.ConnectionPool.from_url(url)
    try:
        pool.make_connection()  # made, not connected
    except (TypeError, redis.exceptions.ConnectionError) as error:
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
        hosts = tuple(_place(place) for place in places.split(","))
        service, _, database = parts.path.strip("/").partition("/")
        if not service:
            raise _invalid_url("a redis+sentinel URL ends with the service's name")
        # The rest is as in a URL of one server, so redis-py reads it.
        scheme = "rediss" if tls else "redis"
        plain = f"{scheme}://{login}@/{int(database or 0)}?{parts.query}"
        _check_url(plain)
        parse: Any = redis.connection.parse_url
        options = parse(plain)
        if options.pop("connection_class", None):
            options["ssl"] = True
        return cls("sentinel", url, hosts, service, options)


def _place(text: str) -> tuple[str, int]:
    """The host and the port of a Sentinel."""
    place = urlsplit(f"//{text}")
    if not place.hostname:
        raise _invalid_url("a redis+sentinel URL names the hosts of Sentinels")
    return place.hostname, place.port or _SENTINEL_PORT
