"""Which daemons run, and which partitions each of them looks after.

That is for economy only: two daemons at one partition, or none for a moment, change no outcome.
"""

from __future__ import annotations

from rwf.ops.base import OpContext
from rwf.protocol.functions.namespace import Fleet, RegisterDaemon
from rwf.protocol.requests import CONNECT, Op, ask


def join(ctx: OpContext, member: str, lease_ms: int) -> Op[list[int]]:
    """Registers a daemon for so long; returns the partitions that are then its own."""
    if not ctx.keys.partitions:
        yield CONNECT
    fleet = yield from _register(ctx, RegisterDaemon(member, lease_ms, stops=False))
    # Others may have added some.
    ctx.keys.partitions = fleet.partitions or ctx.keys.partitions
    own = range(ctx.keys.partitions)
    return [number for number in own if number % fleet.daemons == fleet.rank]


def partitions(ctx: OpContext) -> Op[range]:
    """All partitions of the namespace."""
    if not ctx.keys.partitions:
        yield CONNECT
    return range(ctx.keys.partitions)


def leave(ctx: OpContext, member: str, lease_ms: int) -> Op[None]:
    """Removes a daemon that stops."""
    yield from _register(ctx, RegisterDaemon(member, lease_ms, stops=True))


def _register(ctx: OpContext, daemon: RegisterDaemon) -> Op[Fleet]:
    return (yield from ask([ctx.keys.daemons(), ctx.keys.meta()], daemon))
