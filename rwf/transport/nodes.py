"""The nodes of a cluster: which has which key, and which does not answer just now."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Any, Final

import redis.exceptions as errors

from rwf.transport.actions import Command, Send
from rwf.transport.faults import NodeSilent, is_silence

_LONGEST_PAUSE: Final = 15.0
"""Seconds for which a silent node is left alone at most."""


class Silences:
    """The nodes that have let a call wait for its whole time limit.

    For as long again others that ask such a node fail at once; then one of them tries it, while the
    rest still fail. Each time that it is silent once more, this time doubles, up to 15 s. Nodes
    that refuse connections are not among them: that costs nobody any time.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._until: dict[str, float] = {}
        self._pause: dict[str, float] = {}
        self._told: dict[str, float] = {}

    def check(self, name: str) -> None:
        """Raises NodeSilent while a node counts as silent."""
        until = self._until.get(name)
        if until is None:
            return
        now = time.monotonic()
        if now < until:
            raise NodeSilent(f"{name} has not answered for {self._timeout:g} s")
        self._until[name] = now + self._pause[name]  # for all but this one

    @property
    def names(self) -> frozenset[str]:
        """The nodes that were silent when they were last asked."""
        return frozenset(tuple(self._until))

    def failed(self, name: str, error: BaseException) -> None:
        """A call to a node has failed."""
        now = time.monotonic()
        # Those that have waited together are told together, and that is once.
        lately = now - self._told.get(name, -self._timeout) < self._timeout / 2
        if isinstance(error, Exception) and is_silence(error) and not lately:
            self._told[name] = now
            pause = min(2 * self._pause.get(name, self._timeout / 2), _LONGEST_PAUSE)
            self._pause[name] = pause
            self._until[name] = now + pause

    def answered(self, name: str) -> None:
        """A node has answered."""
        if self._until and self._until.pop(name, None) is not None:
            self._pause.pop(name, None)


Group = tuple[Any, list[int]]
"""A node, and the places of the keys that it has. The node is None where there is only one, and an
error where no node has these keys."""


def by_node(client: Any, keys: Sequence[str], cluster: bool) -> list[Group]:
    """The places of keys by the node that has them."""
    if not cluster:
        return [(None, list(range(len(keys))))] if keys else []
    groups: dict[str, Group] = {}
    for number, key in enumerate(keys):
        try:
            node: Any = client.get_node_from_key(key)
            name = node.name
        except errors.RedisClusterException as error:
            node, name = error, ""
        groups.setdefault(name, (node, []))[1].append(number)
    return list(groups.values())


def packed(sends: Sequence[Send]) -> list[Command]:
    """The commands of one node, with what stands behind the last that has anything behind it."""
    behind = [send.behind for send in sends if send.behind]
    return [*(send.args for send in sends), *(behind[-1] if behind else ())]


def unpacked(sends: Sequence[Send], replies: Sequence[Any]) -> list[Any]:
    """The replies to each: a pair where something stood behind it, an error where one has
    failed."""
    ack = replies[-1]

    def reply_to(send: Send, reply: Any) -> Any:
        if isinstance(reply, Exception) or not send.behind:
            return reply
        return ack if isinstance(ack, Exception) else (reply, ack)

    return [reply_to(send, reply) for send, reply in zip(sends, replies, strict=False)]


def filled(pipeline: Any, commands: Sequence[Command]) -> Any:
    for command in commands:
        pipeline.execute_command(*command, NEVER_DECODE=True)
    return pipeline


def chosen(primaries: list[Any], only: str | None) -> list[Any]:
    """All primaries, or the one of that name; raises ConnectionError when it is none any more."""
    found = [node for node in primaries if only in (None, node.name)]
    if only is not None and not found:
        raise errors.ConnectionError(f"{only} is no primary any more")
    return found


def is_behind(client: Any, replies: list[Any]) -> bool:
    """Whether nodes have slots that a cluster's client does not know of."""
    asks = [reply for reply in replies if isinstance(reply, errors.AskError)]
    return any(asked(client, reply) is None for reply in asks)


def unmoved(replies: list[Any]) -> list[Any]:
    """These replies; raises TryAgainError where a slot is, or goes, elsewhere."""
    if any(isinstance(reply, errors.AskError) for reply in replies):
        # Or MOVED, which is one of them. The next try asks the node that has the slot now.
        raise errors.TryAgainError("the slot has moved")
    return replies


def asked(client: Any, reply: Any) -> Any:
    """The node to ask this once, as a reply says, and None for another reply; and for a node whose
    first slot is on its way, which nobody tells of yet."""
    if not isinstance(reply, errors.AskError):
        return None
    if isinstance(reply, errors.MovedError):
        return None
    return client.get_node(node_name=f"{reply.host}:{reply.port}")


def gone_ahead(client: Any, replies: Sequence[Any]) -> list[Group]:
    """The places of replies that name another node to ask this once, by that node."""
    groups: dict[str, Group] = {}
    for number, reply in enumerate(replies):
        if other := asked(client, reply):
            groups.setdefault(other.name, (other, []))[1].append(number)
    return list(groups.values())


def asking(commands: Sequence[Command]) -> list[Command]:
    """Each behind the word that lets it into a slot that has not all of its keys yet."""
    return [one for command in commands for one in (("ASKING",), command)]


def settled(replies: list[Any]) -> Any:
    """The only reply; or a command's and its acknowledgement, the last. An error of any is
    raised."""
    for reply in unmoved(replies):
        if isinstance(reply, Exception):
            raise reply
    return replies[0] if len(replies) == 1 else (replies[0], replies[-1])


def taken_out(silent: Collection[str], nodes: dict[str, Any]) -> dict[str, Any]:
    """Takes nodes that do not answer out of those that a cluster's client asks for the others."""
    return {name: nodes.pop(name) for name in silent if name in nodes}


def replaced(taken: dict[str, Any], nodes: dict[str, Any]) -> list[Any]:
    """Puts them back where no others have come in their places; those that have to be closed."""
    return [node for name, node in taken.items() if nodes.setdefault(name, node) is not node]
