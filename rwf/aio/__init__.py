"""The client on asyncio. ``rwf.client`` is made of it by ``tools/blocking.py``."""

from rwf.aio.client import AsyncClient

__all__ = ["AsyncClient"]
