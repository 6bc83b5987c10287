"""The blocking transport. All but ``concurrency`` and ``connecting`` is made of
``rwf.transport.aio``."""
