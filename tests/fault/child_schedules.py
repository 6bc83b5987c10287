"""Every interleaving of the server calls of those who move a child workflow and its parent.

The explorer goes through all schedules depth first, on a real server whose clock stands still: so
what is stored follows from the calls alone, and two schedules that lead to the same keys and the
same answers to all actors are followed once from there on. In each state all actors may die: there
what is on record is finished, as a daemon does, and judged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import patch

from rwf import Client, CommandRejected, NotFound
from rwf.protocol.requests import Op, Request
from tests.fault.instrument import Snapshot, digests
from tests.support.flows import one_call, raw

Program = Callable[[], Op[Any]]
Judge = Callable[[], None]

_HISTORY: Final = re.compile(rb"rwf:\{\d+\}:(?:stats|log|[en]:.*)")
"""Keys that say what has happened, and that nothing depends on: statistics and evidence."""


@dataclass(frozen=True)
class _Actor:
    """An actor between two of its calls: the answers so far, and its next call, None at its end."""

    number: int
    replies: tuple[Any, ...]
    next: Request | None

    @property
    def key(self) -> str:
        """The answers that its further calls follow from."""
        return "" if self.next is None else repr(self.replies)


@dataclass(frozen=True)
class _Node:
    """A state of the server and of all actors."""

    keys: Snapshot
    stored: frozenset[tuple[bytes, bytes]]
    """The digests of the keys."""
    actors: tuple[_Actor, ...]

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for nodes from which the same follows."""
        return self.stored, tuple(actor.key for actor in self.actors)


@dataclass
class Explorer:
    """Explores from the server's present state; AssertionError, with the schedule, at the first
    breach. ``judge`` finishes what is on record, and judges it."""

    client: Client
    programs: Sequence[Program]
    judge: Judge
    states: int = 0
    _schedules: dict[tuple[Any, ...], int] = field(default_factory=dict, init=False)
    _judged: set[frozenset[tuple[bytes, bytes]]] = field(default_factory=set, init=False)
    _path: list[str] = field(default_factory=list, init=False)

    def run(self) -> int:
        """Explores all. Returns how many schedules there are."""
        actors = tuple(self._actor(number, ()) for number in range(len(self.programs)))
        return self._explore(self._node(actors))

    def _explore(self, node: _Node) -> int:
        key = node.key
        if key in self._schedules:
            assert self._schedules[key], f"a circle: {self._path}"
            return self._schedules[key]
        self._schedules[key] = 0
        self.states += 1
        if node.stored not in self._judged:
            self._judged.add(node.stored)
            node.keys.restore()
            try:
                self.judge()
            except AssertionError as error:
                raise AssertionError(f"after {' '.join(self._path)}: {error}") from error
        total = 0
        for actor in node.actors:
            if actor.next is not None:
                self._path.append(f"{actor.number}:{getattr(actor.next, 'function', 'read')}")
                total += self._explore(self._moved(node, actor))
                self._path.pop()
        self._schedules[key] = total or 1
        return total or 1

    def _moved(self, node: _Node, actor: _Actor) -> _Node:
        """The node after an actor's next call."""
        assert actor.next is not None
        node.keys.restore()
        reply = self.client._run(one_call(actor.next))
        moved = self._actor(actor.number, (*actor.replies, reply))
        actors = tuple(moved if one is actor else one for one in node.actors)
        return self._node(actors)

    def _actor(self, number: int, replies: tuple[Any, ...]) -> _Actor:
        """An actor after these replies. Its calls have the same ids whenever it is begun anew."""
        ids = map(str, range(1_000))
        same = SimpleNamespace(token_urlsafe=lambda _size: f"{number}-{next(ids)}")
        with patch("rwf.ops.base.secrets", same):
            op = self.programs[number]()
            try:
                request = next(op)
                for reply in replies:
                    request = op.send(reply)
            except (StopIteration, CommandRejected, NotFound):
                return _Actor(number, (), None)
        return _Actor(number, replies, request)

    def _node(self, actors: tuple[_Actor, ...]) -> _Node:
        redis = raw(self.client)
        stored: Mapping[bytes, bytes] = digests(redis)
        facts = frozenset(one for one in stored.items() if not _HISTORY.fullmatch(one[0]))
        return _Node(Snapshot.of(redis), facts, actors)
