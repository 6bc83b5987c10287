"""Each server function, declared once: its name, whether it only reads, what one call is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

Arg = str | bytes | int
Reply = Any


@dataclass(frozen=True, slots=True)
class Function:
    """A file of ``lua/`` of the same name, whose first comment says what it does."""

    name: str
    reads_only: bool = False


FUNCTIONS: Final = {
    function.name: function
    for function in (
        Function("create"),
        Function("reserve"),
        Function("note"),
        Function("insert"),
        Function("complete"),
        Function("advance"),
        Function("check"),
        Function("callback"),
        Function("await"),
        Function("wake"),
        Function("told"),
        Function("signal"),
        Function("sync"),
        Function("agenda", reads_only=True),
        Function("dedupe", reads_only=True),
        Function("named", reads_only=True),
        Function("take"),
        Function("cancel"),
        Function("recover"),
        Function("session", reads_only=True),
        Function("start"),
        Function("heartbeat"),
        Function("fire"),
        Function("timers", reads_only=True),
        Function("audit", reads_only=True),
        Function("audit_chunk", reads_only=True),
        Function("registered", reads_only=True),
        Function("round"),
        Function("member"),
        Function("queues", reads_only=True),
        Function("overdue", reads_only=True),
        Function("meta", reads_only=True),
        Function("show", reads_only=True),
        Function("steps", reads_only=True),
        Function("results", reads_only=True),
        Function("evidence", reads_only=True),
        Function("list", reads_only=True),
        Function("ancestry", reads_only=True),
        Function("edges", reads_only=True),
        Function("callbacks", reads_only=True),
        Function("due", reads_only=True),
    )
}

# Functions that publish or leave evidence begin with these arguments, filled in by the transport:
# the publishing verb, and whether this very call was sent before.
PUBLISHING: Final = frozenset(
    {
        "note", "insert", "complete", "advance", "check", "callback",
        "await", "wake", "told", "signal", "sync", "start", "heartbeat", "fire",
        "cancel", "recover",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a server function; ``again`` when its reply was lost and it is sent once more."""

    function: str
    keys: Sequence[str]
    args: Sequence[Arg] = field(default=())
    again: bool = False

    @property
    def reads_only(self) -> bool:
        return FUNCTIONS[self.function].reads_only

    def repeated(self) -> Call:
        """The same call, marked as sent before."""
        return replace(self, again=True)

    def arguments(self, publish: str) -> list[Arg]:
        """What goes over the wire behind the keys."""
        if self.function in PUBLISHING:
            return [publish, "1" if self.again else "", *self.args]
        return list(self.args)


# What an operation yields to have the client connected, when it has to know the partitions. All
# others connect with their first call, after what can be judged without a server.
CONNECT: Final = Call("", ())
