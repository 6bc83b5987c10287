"""Inserting workflows, and the keys that inserts are made under."""

from __future__ import annotations

from rwf.protocol.declare import ServerFunction, server_function


@server_function("overdue_inserts", reads_only=True)
class OverdueInserts(ServerFunction[list[bytes]]):
    """The workflow ids of inserts that were staged and left. Keys: the partition's."""

    limit: int


@server_function("discard", when_full=True)
class Discard(ServerFunction[None]):
    """Removes what an insert has staged and left, if its time is over. Keys: the workflow's."""
