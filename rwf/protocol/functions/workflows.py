"""One workflow as a whole. Keys: the partition's, then the workflow's."""

from __future__ import annotations

from typing import NamedTuple

from rwf.protocol.declare import ServerFunction, server_function


class HeaderReply(NamedTuple):
    """A workflow's header fields (``headers``), its context, and whether topics of its waits have
    not been told all."""

    static: bytes
    counts: bytes
    context: bytes | None
    has_notices: bool = False


class Advanced(NamedTuple):
    """``more``: slices or passed deadlines are left; ``row``: that of the origin, if asked for;
    ``header``: None where there is no workflow."""

    more: bool
    row: bytes | None
    header: HeaderReply | None


@server_function("advance", publishes=True, when_full=True)
class Advance(ServerFunction[Advanced]):
    """Carries out the next slice of an unfinished release, and ends waits whose deadline has
    passed."""

    origin: str | None
    """Whose result row is wanted: ``step:attempt``."""


class StoredSession(NamedTuple):
    """A recovery session's number and record; both None where there is none."""

    header: HeaderReply | None
    number: str | None = None
    record: bytes | None = None


@server_function("recovery_session", reads_only=True)
class RecoverySession(ServerFunction[StoredSession]):
    """A recovery session by its number, or the latest."""

    number: str | None
