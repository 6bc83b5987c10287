"""Removing finished workflows, once their retention has ended. Keys: the workflow's."""

from __future__ import annotations

from typing import NamedTuple

from rwf.protocol.declare import ServerFunction, server_function


class PrunedWait(NamedTuple):
    """``signal_id`` is empty for a wait that no signal has resolved; ``topic``: its name; ``n``:
    the wait's number."""

    step: str
    signal_id: str
    topic: bytes
    n: int = 0


class Pruned(NamedTuple):
    """``outcome`` is

    ``kept``: it is not to be removed now;
    ``unacked``: topics must first learn the outcomes of its waits;
    ``undelivered``: of its ``callbacks`` some are to be delivered yet, which holds it back if there
    is a dispatcher, as the caller has to find out after this;
    ``given_up``: as many ``callbacks`` are dead now, and the next call goes on at ``first``;
    ``removing``: the caller has to release its insert ``key`` and to have the topics of ``waits``
    forget them, and to call again with ``place``;
    ``removed``: by this call; ``gone``: before.
    """

    outcome: str
    place: str
    key: str | None
    waits: list[PrunedWait]
    callbacks: int
    first: int


@server_function("prune", publishes=True, when_full=True)
class Prune(ServerFunction[Pruned]):
    """Removes a finished workflow, a call at a time."""

    place: str | None
    """Up to which its topics have forgotten it, as an earlier reply told; None at first."""
    dispatcher_seen: bool
    """Whether, after an answer ``undelivered``, a dispatcher of callbacks was seen."""
    never_seen_for: int | None
    """The number of callbacks in that reply, where no dispatcher was ever seen."""
    first: int
    """The callback from which on they are to be given up."""
