"""Which daemons run, and which partitions each of them looks after.

That is for economy only: two daemons at one partition, or none for a moment, change no outcome.
"""

from __future__ import annotations

from rwf.store.catalog import CONNECT, Arg, Call, Op
from rwf.store.ops.base import Scope


def join(scope: Scope, member: str, lease_ms: int) -> Op[list[int]]:
    """Tells that a daemon runs, for so long; the partitions that are then its own."""
    if not scope.keys.partitions:
        yield CONNECT
    count, rank, partitions = yield _member(scope, [member, lease_ms, ""])
    # Others may have added some.
    scope.keys.partitions = int(partitions or scope.keys.partitions)
    return [number for number in range(scope.keys.partitions) if number % count == rank]


def partitions(scope: Scope) -> Op[range]:
    """All partitions of the namespace."""
    if not scope.keys.partitions:
        yield CONNECT
    return range(scope.keys.partitions)


def leave(scope: Scope, member: str, lease_ms: int) -> Op[None]:
    """Tells that it does not run any more."""
    yield _member(scope, [member, lease_ms, "1"])


def _member(scope: Scope, args: list[Arg]) -> Call:
    return Call("member", [scope.keys.daemons(), scope.keys.meta()], args)
