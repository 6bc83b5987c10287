"""Kinds of faults between a client and its server, recognised by redis-py's errors and the server's
words."""

from __future__ import annotations

import re
from typing import Any, Final

import redis.exceptions as errors

from rwf.errors import RecordUnreadable, RwfError, StoreMisconfigured, StoreUnavailable
from rwf.protocol.codecs import OTHER_TYPE, UNREADABLE

# Errors that a server may cause. Not every error of a cluster's client is a RedisError.
FAULTS: Final = (errors.RedisError, errors.RedisClusterException, OSError)
# No reply came.
UNREACHED: Final = (
    errors.ConnectionError,
    errors.TimeoutError,
    errors.RedisClusterException,
    errors.InvalidResponse,
    OSError,
)
# Replies after which the same call may succeed.
PASSING: Final = ("LOADING", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN", "BUSY", "READONLY")
# Those of a server that is no primary any more, if it was one: whoever is now has its address.
DEMOTED: Final = ("READONLY", "MASTERDOWN")
UNABLE: Final = ("OOM", "MISCONF", "NOREPLICAS", *PASSING)
FORBIDDEN: Final = ("NOAUTH", "WRONGPASS", "NOPERM")

# Servers' messages about a login, also within an error of a cluster's client.
_NO_LOGIN: Final = re.compile("invalid username-password pair|Authentication required")
# Servers' messages in the middle of a function's work about a key that it has emptied, while the
# slot is on its way to another node.
_CUT_SHORT: Final = "ttempted to access a non local key"
# Servers' messages in the middle of a function's work about a right that it lacks.
_NO_RIGHT: Final = re.compile("ACL failure in script|user executing the script can't")
# redis-py's messages when there was no connection yet to send anything on.
_UNCONNECTED: Final = re.compile(r"(Error -?\d+ |Timeout )connecting to |No connection available")


class NodeSilent(errors.ConnectionError):
    """A node of a cluster that has let a call wait for its whole time limit just before; nothing
    was sent."""


def is_silence(error: Exception) -> bool:
    """Whether a time limit has passed without a reply."""
    return isinstance(error, errors.TimeoutError | TimeoutError)


def code_of(error: Exception) -> str:
    """The first word of a server's error, also where redis-py has cut it off, or the error of a
    function hides it."""
    for kind, code in (
        (errors.BusyLoadingError, "LOADING"),
        (errors.ReadOnlyError, "READONLY"),
        (errors.OutOfMemoryError, "OOM"),
        (errors.NoPermissionError, "NOPERM"),
        (errors.ClusterDownError, "CLUSTERDOWN"),
        (errors.TryAgainError, "TRYAGAIN"),
    ):
        if isinstance(error, kind):
            return code
    return "TRYAGAIN" if _CUT_SHORT in str(error) else str(error).split(" ", 1)[0]


def never_ran(error: Exception) -> bool:
    """Whether a call that failed so has certainly not run, not even in part."""
    if isinstance(error, errors.ResponseError):
        return code_of(error) in PASSING and _CUT_SHORT not in str(error)
    unsent = isinstance(error, NodeSilent | errors.SlotNotCoveredError | errors.MaxConnectionsError)
    return unsent or _UNCONNECTED.match(str(error)) is not None


def misconfigured(error: Exception, *, cluster: bool) -> StoreMisconfigured | None:
    """The message for an error that no retry can mend; None for any other."""
    text = str(error)
    if isinstance(error, errors.AuthenticationError):
        return StoreMisconfigured(f"the server refused the login: {text}")
    if isinstance(error, errors.MovedError) and not cluster:
        return StoreMisconfigured(
            "the server is one node of a cluster: connect with redis+cluster://"
        )
    if isinstance(error, errors.ResponseError):
        return None
    if "Cluster mode is not enabled" in text:
        return StoreMisconfigured("the server is not part of a cluster: connect with redis://")
    if _NO_LOGIN.search(text):
        return StoreMisconfigured("the server refused the login")
    return None


def translated(
    error: errors.ResponseError, locate: Any = str, *, never_ran: bool = False
) -> RwfError:
    """A server's error as one of rwf's; ``locate`` has its line numbers say which file they are
    of."""
    code, message = code_of(error), locate(str(error))
    if code in FORBIDDEN or _NO_RIGHT.search(message):
        return StoreMisconfigured(f"the server's user lacks a right: {message}")
    if code == "OOM":
        return StoreUnavailable(
            "the server is past its maxmemory and takes in nothing new: raise it, or remove what "
            f"is over with `rwf prune` ({code} {message})",
            never_ran=never_ran,
        )
    if code in UNABLE:
        return StoreUnavailable(
            f"the server cannot serve now: {code} {message}", never_ran=never_ran
        )
    if code == "WRONGTYPE":
        return RecordUnreadable(OTHER_TYPE)
    if UNREADABLE in message:
        return RecordUnreadable(UNREADABLE)
    if message.startswith("WAITAOF cannot"):
        return StoreMisconfigured(
            "the write was made, but the append-only file is off now: set appendonly yes"
        )
    if message.startswith("unknown command"):
        return StoreMisconfigured("the server is too old: it has no functions")
    return RwfError(f"the server failed: {message}")
