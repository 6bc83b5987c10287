"""The server behind ``Client.fake()``."""

from __future__ import annotations

from typing import Any

from rwf.errors import StoreMisconfigured


def fake_redis() -> Any:
    """A redis-py client of a fakeredis server of its own."""
    return _fakeredis().FakeRedis()


def fake_async_redis() -> Any:
    """An asyncio client of a fakeredis server of its own."""
    return _fakeredis().FakeAsyncRedis()


def _fakeredis() -> Any:
    try:
        import fakeredis
    except ImportError:
        raise StoreMisconfigured("Client.fake() needs fakeredis: pip install rwf[fake]") from None
    return fakeredis
