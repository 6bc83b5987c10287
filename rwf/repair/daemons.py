"""Which daemons run, and which partitions each of them looks after.

That is for economy only: two daemons at one partition, or none for a moment, change no outcome.
"""

from __future__ import annotations

from rwf.ops.base import OpContext
from rwf.protocol.declare import Arg
from rwf.protocol.requests import CONNECT, Call, Op


def join(ctx: OpContext, member: str, lease_ms: int) -> Op[list[int]]:
    """Tells that a daemon runs, for so long; the partitions that are then its own."""
    if not ctx.keys.partitions:
        yield CONNECT
    count, rank, partitions = yield _member(ctx, [member, lease_ms, ""])
    # Others may have added some.
    ctx.keys.partitions = int(partitions or ctx.keys.partitions)
    return [number for number in range(ctx.keys.partitions) if number % count == rank]


def partitions(ctx: OpContext) -> Op[range]:
    """All partitions of the namespace."""
    if not ctx.keys.partitions:
        yield CONNECT
    return range(ctx.keys.partitions)


def leave(ctx: OpContext, member: str, lease_ms: int) -> Op[None]:
    """Tells that it does not run any more."""
    yield _member(ctx, [member, lease_ms, "1"])


def _member(ctx: OpContext, args: list[Arg]) -> Call:
    return Call("member", [ctx.keys.daemons(), ctx.keys.meta()], args)
