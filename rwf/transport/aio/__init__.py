"""The transport on asyncio. ``rwf.transport.blocking`` is made of it by ``tools/blocking.py``."""
