"""The requests of operations: calls of server functions, and plain reads."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from rwf.protocol.declare import Arg, ServerFunction
from rwf.protocol.functions import FUNCTIONS

R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a server function; ``again`` when its reply was lost and it is sent once more."""

    function: str
    keys: Sequence[str]
    args: Sequence[Arg] = field(default=())
    again: bool = False

    @property
    def key(self) -> str:
        """The key by which its node is found."""
        return self.keys[0]

    @property
    def reads_only(self) -> bool:
        return FUNCTIONS[self.function].reads_only

    def repeated(self) -> Call:
        """This call, marked as sent before."""
        return replace(self, again=True)

    def arguments(self, publish: str) -> list[Arg]:
        """The arguments as sent, after the keys."""
        if FUNCTIONS[self.function].publishes:
            return [publish, "1" if self.again else "", *self.args]
        return list(self.args)


@dataclass(frozen=True, slots=True)
class Read:
    """Plain commands that only read, on keys of one partition, in one round trip.

    ``key`` is any of these keys. Answered with the list of replies, in which the error of a command
    stands for itself: bytes, numbers, lists of these, scores as floats, and a hash as a dict.
    """

    key: str
    commands: Sequence[tuple[Arg, ...]]

    def repeated(self) -> Read:
        """The read itself: it may be sent any number of times."""
        return self

    def __post_init__(self) -> None:
        if others := {command[0] for command in self.commands} - READING.keys():
            raise ValueError(f"no command that only reads, or none that is known: {others}")


@dataclass(frozen=True, slots=True)
class Together:
    """Calls and reads that travel in one round trip, one to each node; answered with the list of
    replies.

    When ``partial`` is set, the error of a call stands in place of its reply, unless it is one of
    the server itself, or all were not to be reached. Where some are answered, others are sent once
    more, or with ``patient`` as often as one that travels alone.
    """

    calls: Sequence[Call | Read]
    partial: bool = False
    patient: bool = False


@dataclass(frozen=True, slots=True)
class Scan:
    """A page of the key names that match a pattern, on every primary or on the named one.

    The reply is, for each, where to go on (0 at the end) and key names as bytes.
    """

    match: str
    node: str | None = None
    cursor: int = 0


Request = Call | Together | Read | Scan
Op = Generator[Request, Any, T]
"""An operation: it yields requests, receives their replies, and returns its result."""


def call_of(keys: Sequence[str], function: ServerFunction[Any]) -> Call:
    """A call of a server function on these keys."""
    return Call(function.name, keys, function.arguments())


def ask(keys: Sequence[str], function: ServerFunction[R]) -> Op[R]:
    """The reply to a call of a server function."""
    return function.decoded((yield call_of(keys, function)))


def ask_together(asked: Sequence[tuple[Sequence[str], ServerFunction[R]]]) -> Op[list[R]]:
    """The replies to calls of server functions that travel in one round trip."""
    replies = yield Together([call_of(keys, function) for keys, function in asked])
    return [function.decoded(reply) for (_, function), reply in zip(asked, replies, strict=True)]


# Yielded by an operation to connect the client, when it has to know the partitions. All others
# connect with their first call, after the checks that need no server.
CONNECT: Final = Call("", ())


# The server commands that functions run or a client sends, each with how many arguments it takes at
# least, the first of which is a key. A user needs the right to each: functions run under the rights
# of their caller.
READING: Final = {
    "TIME": 0, "EXISTS": 1, "TYPE": 1,
    "HEXISTS": 2, "HGET": 2, "HGETALL": 1, "HLEN": 1, "HMGET": 2, "HSCAN": 2,
    "LLEN": 1, "LRANGE": 3,
    "ZCARD": 1, "ZCOUNT": 3, "ZLEXCOUNT": 3, "ZMSCORE": 2, "ZRANGE": 3, "ZRANGEBYLEX": 3,
    "ZRANGEBYSCORE": 3, "ZRANK": 2, "ZREVRANGEBYLEX": 3, "ZREVRANGEBYSCORE": 3,
    "ZSCAN": 2, "ZSCORE": 2,
}  # fmt: skip
WRITING: Final = {
    "HDEL": 2, "HINCRBY": 3, "HSET": 3, "HSETNX": 3,
    "LPOP": 1, "LTRIM": 3, "RPUSH": 2,
    "PEXPIRE": 2, "UNLINK": 1, "ZADD": 3, "ZREM": 2, "ZREMRANGEBYSCORE": 3,
}  # fmt: skip
