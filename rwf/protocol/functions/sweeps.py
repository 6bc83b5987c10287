"""Where the sweeps of a partition stand. Keys: the partition's, then the sweeps' hash.

``kind`` is ``open``, for the workflows that are open, or ``ended``, for the others.
"""

from __future__ import annotations

from typing import NamedTuple

from rwf.protocol.declare import ServerFunction, server_function


class LexRange(NamedTuple):
    """Bounds of ``ZRANGEBYLEX``."""

    first: bytes
    last: bytes


class SweepCursor(NamedTuple):
    """``pause_ms``: milliseconds until the next page is due. The page is the first of what stands
    in the listing within these ranges, one after the other."""

    pause_ms: int
    under_way: bool
    ranges: list[LexRange]


@server_function("sweep_cursor", when_full=True)
class NextSweepPage(ServerFunction[SweepCursor]):
    """Where the next page of a sweep is. A round begins when it is due."""

    kind: str
    anew: bool
    """Begins a round at once."""
    reached: bytes | None
    """The entry up to which all was looked at; None goes on where the round stands."""
    limit: int
    """How many entries a page has at most."""
    interval_ms: int
    """How long a round is to take."""


@server_function("end_sweep_round", when_full=True)
class EndSweepRound(ServerFunction[int]):
    """Ends a round; answers how many milliseconds remain until the next is due."""

    kind: str
    interval_ms: int
