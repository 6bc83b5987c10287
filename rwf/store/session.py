"""What happens between a client and its server, without any I/O: checks, loading, resending.

A session is written as generators that yield what to do (:class:`Send`, :class:`Wait`,
:class:`Revive`) and receive replies, or redis errors thrown in. ``rwf.store.transport`` has the two
drivers that do it, one blocking and one on asyncio.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import redis.exceptions as errors

from rwf.errors import (
    CommandRejected,
    NamespaceMismatch,
    RecordUnreadable,
    RwfError,
    StoreMisconfigured,
    StoreUnavailable,
)
from rwf.model.states import Reason, StepState
from rwf.store.catalog import CONNECT, Arg, Call, Op, Read, Reply, Request, Scan, Together
from rwf.store.keys import Keys, is_namespace
from rwf.store.library import library
from rwf.store.stored import UNREADABLE

T = TypeVar("T")
Command = tuple[Arg, ...]

_log = logging.getLogger("rwf")

CLUSTER_PARTITIONS: Final = 64
MAX_PARTITIONS: Final = 16384

# Pauses between the tries of one call, in seconds: enough for a failover that is already under way
# or a restart with little to load.
_PAUSES: Final = (0.05, 0.1, 0.25, 0.5, 1.0)
# Below redis-py's own time limit for a reply (5 s), so that it is this one that is told.
_ACK_TIMEOUT_MS: Final = 4000
# About how many keys a server looks at in one call.
_KEYS_PER_SCAN: Final = 1000
# How often one call may find the library gone.
_LOADS: Final = 4
_OPENING: Final = ("meta", "create")
# How often a server may keep silent for the whole time limit of a reply.
_SILENCES: Final = 2

# Server errors after which the same call may succeed.
_PASSING: Final = ("LOADING", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN", "BUSY", "READONLY")
_UNABLE: Final = ("OOM", "MISCONF", "NOREPLICAS", *_PASSING)
_UNREACHED: Final = (
    errors.ConnectionError,
    errors.TimeoutError,
    errors.RedisClusterException,
    errors.InvalidResponse,
    OSError,
)
_FORBIDDEN: Final = ("NOAUTH", "WRONGPASS", "NOPERM")
# What they say of a login, within an error of a cluster's client too.
_NO_LOGIN: Final = re.compile("invalid username-password pair|Authentication required")
# What servers say in the middle of a function's work of a key that it has emptied, while the slot
# is on its way to another node.
_CUT_SHORT: Final = "ttempted to access a non local key"
# What they say there of a right that it lacks.
_NO_RIGHT: Final = re.compile("ACL failure in script|user executing the script can't")


@dataclass(frozen=True, slots=True)
class Send:
    """A command to send. ``key`` says to which node; None means to every primary, or to ``node``
    alone, by its name among them.

    ``behind`` are commands to send behind it on the same connection; the reply is then a pair, its
    own and that of the last of them.
    """

    args: Command
    key: str | None = None
    behind: tuple[Command, ...] = ()
    node: str | None = None


@dataclass(frozen=True, slots=True)
class SendTogether:
    """Commands without any behind them, in one pipeline a node; the reply is the list of theirs, in
    which an error stands for itself."""

    sends: tuple[Send, ...]


@dataclass(frozen=True, slots=True)
class SendInTurn:
    """Commands to send one behind the other on one connection to the node of ``key``; the reply is
    the list of theirs, in which an error stands for itself."""

    commands: Sequence[Command]
    key: str


@dataclass(frozen=True, slots=True)
class Wait:
    """A pause, in seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Revive:
    """See to it that an embedded server runs; nothing for any other."""


Action = Send | SendTogether | SendInTurn | Wait | Revive
Steps = Generator[Action, Any, T]


class Durability:
    """How far a write has to be safe before it is acknowledged (SPEC section 9)."""

    def __init__(self, text: str) -> None:
        pattern = r"server|aof|replicas:([1-9][0-9]?)"
        match = re.fullmatch(pattern, text) if isinstance(text, str) else None
        if match is None:
            raise _invalid("durability", "must be 'server', 'aof' or 'replicas:N'")
        self.aof = text == "aof"
        self.replicas = int(match[1] or 0)

    def ack(self) -> Command | None:
        """The command that waits until the writes before it are safe, or None."""
        if self.aof:
            return ("WAITAOF", 1, 0, _ACK_TIMEOUT_MS)
        if self.replicas:
            return ("WAIT", self.replicas, _ACK_TIMEOUT_MS)
        return None

    def check(self, reply: Any) -> None:
        """Raises StoreUnavailable when the acknowledgement did not come in time."""
        reached, wanted = (reply[0], 1) if self.aof else (reply, self.replicas)
        if reached < wanted:
            what = "the append-only file" if self.aof else f"{self.replicas} replicas"
            raise StoreUnavailable(
                f"the write was made, but did not reach {what} within {_ACK_TIMEOUT_MS / 1000:g} s"
            )


def _invalid(name: str, message: str) -> CommandRejected:
    return CommandRejected("connect", "client", Reason.INVALID_ARGUMENT, f"{name} {message}")


class Session:
    """One client's view of its server: which library, how many partitions, how safe a write is."""

    def __init__(
        self,
        *,
        namespace: str,
        durability: str,
        require_aof: bool,
        partitions: int | None,
        cluster: bool,
        checked: bool = True,
    ) -> None:
        if not isinstance(namespace, str) or not is_namespace(namespace):
            raise _invalid("namespace", "must match [A-Za-z0-9._-]{1,64}")
        if partitions is not None and not (
            type(partitions) is int and 1 <= partitions <= MAX_PARTITIONS
        ):
            raise _invalid("partitions", f"must be an integer from 1 to {MAX_PARTITIONS}")
        if not isinstance(require_aof, bool):
            raise _invalid("require_aof", "must be True or False")
        self.keys = Keys(namespace)
        self.library = library()
        self.durability = durability
        self._durability = Durability(durability)
        self.require_aof = require_aof
        self.wanted_partitions = partitions
        self.publish = "SPUBLISH" if cluster else "PUBLISH"
        self.cluster = cluster
        self.checked = checked
        # Told the function and the seconds of each call of an operation; by who wants to know.
        self.observers: dict[object, Callable[[str, float], None]] = {}

    def run(self, op: Op[T]) -> Steps[T]:
        """Carries out an operation's calls one after the other; connects before the first.

        So what an operation refuses by itself is refused without a server. The error of a call is
        raised in the operation, which may go on.
        """
        reply: Reply = None
        fault: RwfError | None = None
        while True:
            try:
                request = op.send(reply) if fault is None else op.throw(fault)
            except StopIteration as end:
                result: T = end.value
                return result
            try:
                reply, fault = (yield from self._answer(request)), None
            except RwfError as error:
                reply, fault = None, error

    def _answer(self, request: Request) -> Steps[Reply]:
        if not self.keys.partitions:
            yield from self.connect()
        if request is CONNECT:
            return None
        if not isinstance(request, Scan | Read):
            return (yield from self._replies(request))
        try:
            if isinstance(request, Read):
                return (yield from self._read(request))
            args = ("SCAN", request.cursor, "MATCH", request.match, "COUNT", _KEYS_PER_SCAN)
            return (yield from self.patiently(Send(args, node=request.node)))
        except errors.ResponseError as error:
            raise _translated(error) from None

    def _read(self, read: Read) -> Steps[list[Reply]]:
        """The replies to plain commands; what is wrong with more than one of them is raised."""
        replies: list[Reply] = yield from self.patiently(SendInTurn(read.commands, read.key))
        for reply in replies:
            if isinstance(reply, Exception) and _code(reply) in (*_FORBIDDEN, *_UNABLE):
                raise reply
        return replies

    def _replies(self, call: Call | Together) -> Steps[Reply]:
        """The reply to a call, or those to calls that travel together; tells how long it took."""
        calls = call.calls if isinstance(call, Together) else (call,)
        begun = time.perf_counter()
        try:
            if isinstance(call, Together):
                return (yield from self._call_together(calls))
            return (yield from self._call(call))
        finally:
            seconds = time.perf_counter() - begun
            for observe in tuple(self.observers.values()):
                for one in calls:
                    observe(one.function, seconds)

    def connect(self) -> Steps[None]:
        """Checks the server, loads the library where it is missing, and reads the meta record."""
        yield from self.check()
        yield from self.load()
        yield from self.open()

    def check(self) -> Steps[None]:
        """Raises StoreMisconfigured for a server that rwf must not run on."""
        if not self.checked:
            return
        try:
            infos = yield from self.patiently(Send(("INFO",)))
        except errors.ResponseError as error:
            raise _translated(error) from None
        advice = {self._check_server(info) for info in infos.values()} - {None}
        if advice:
            _log.warning("%s", advice.pop())

    def open(self) -> Steps[None]:
        """Reads the namespace's meta record, which is made when there is none."""
        found = yield from self._call(Call("meta", [self.keys.meta()]))
        if found[0] is None:
            created = self.wanted_partitions or (CLUSTER_PARTITIONS if self.cluster else 1)
            args = [created, created]
            found = yield from self._call(Call("create", [self.keys.meta()], args))
        partitions, homes = (int(number) for number in found)
        if self.wanted_partitions not in (None, partitions):
            raise NamespaceMismatch(
                f"namespace {self.keys.namespace!r} has {partitions} partitions, "
                f"and this client was opened with {self.wanted_partitions}"
            )
        # Another thread takes the first as the sign that both are known.
        self.keys.homes, self.keys.partitions = homes, partitions

    def load(self) -> Steps[bool]:
        """Loads the library on every primary that lacks it; says whether any did."""
        listing = Send(("FUNCTION", "LIST", "LIBRARYNAME", self.library.name))
        try:
            present = yield from self.patiently(listing)
        except errors.ResponseError as error:
            if _code(error) not in _FORBIDDEN:
                raise _translated(error) from None
            # A user without the right to look may still have that to call.
            return False
        if all(present.values()):
            return False
        try:
            yield from self.patiently(Send(("FUNCTION", "LOAD", "REPLACE", self.library.text)))
        except errors.ResponseError as error:
            if _code(error) in _FORBIDDEN:
                raise self._not_loaded() from None
            raise _translated(error) from None
        return True

    def _not_loaded(self) -> StoreMisconfigured:
        return StoreMisconfigured(
            f"library {self.library.name} is not loaded, and this user may not load it: "
            "run `rwf migrate` as one who may"
        )

    def _call(self, call: Call) -> Steps[Reply]:
        """The reply to a call, which is sent until one comes.

        Every command carries an id that makes a repetition harmless (SPEC section 9).
        """
        for _ in range(_LOADS):
            try:
                return (yield from self.patiently(call))
            except errors.ResponseError as error:
                if "Function not found" not in str(error):
                    raise _translated(error, self.library.locate) from None
            yield from self.load()
            # Where the library is gone, the records may be too; and an earlier try may have run.
            if self.keys.partitions and call.function not in _OPENING:
                yield from self._open_again()
            call = call.repeated()
        raise self._not_loaded()

    def _call_together(self, calls: Sequence[Call]) -> Steps[list[Reply]]:
        """The replies to calls in one round trip; one that fails there goes its own way again."""
        sends = tuple(map(self._send, calls))
        replies: list[Reply] = [None] * len(calls)
        acknowledged = any(send.behind for send in sends)
        if not acknowledged:
            try:
                replies = yield SendTogether(sends)
            except _UNREACHED as error:
                replies = [error] * len(calls)
        for number, call in enumerate(calls):
            if acknowledged:
                replies[number] = yield from self._call(call)
            elif isinstance(replies[number], Exception):
                replies[number] = yield from self._call(call.repeated())
        return replies

    def _open_again(self) -> Steps[None]:
        """Sees to it that the namespace is still the one that this client knows."""
        partitions, homes = self.keys.partitions, self.keys.homes
        found = yield from self._call(Call("meta", [self.keys.meta()]))
        if found[0] is None:
            found = yield from self._call(Call("create", [self.keys.meta()], [partitions, homes]))
        if int(found[0]) < partitions or int(found[1]) != homes:
            raise NamespaceMismatch(
                f"namespace {self.keys.namespace!r} had {partitions} partitions, "
                f"and was created anew with {int(found[1])}"
            )

    def patiently(self, what: Send | SendInTurn | Call) -> Steps[Any]:
        """Sends until a reply comes; raises StoreUnavailable after the last try."""
        send = self._send(what) if isinstance(what, Call) else what
        silences = 0
        for pause in (*_PAUSES, None):
            try:
                reply = yield send
                if isinstance(send, SendInTurn) or not send.behind:
                    return reply
                self._durability.check(reply[1])
                return reply[0]
            except errors.AuthenticationError as error:
                raise StoreMisconfigured(f"the server refused the login: {error}") from None
            except errors.ResponseError as error:
                if isinstance(error, errors.MovedError) and not self.cluster:
                    raise StoreMisconfigured(
                        "the server is one node of a cluster: connect with redis+cluster://"
                    ) from None
                if _code(error) not in _PASSING or pause is None:
                    raise
            except _UNREACHED as error:
                if "Cluster mode is not enabled" in str(error):
                    raise StoreMisconfigured(
                        "the server is not part of a cluster: connect with redis://"
                    ) from None
                if _NO_LOGIN.search(str(error)):
                    raise StoreMisconfigured("the server refused the login") from None
                silences += isinstance(error, errors.TimeoutError)
                given_up = isinstance(error, errors.MaxConnectionsError) or silences == _SILENCES
                if given_up or pause is None:
                    raise StoreUnavailable(f"no answer from the server: {error}") from None
                yield Revive()
            # It may have run, whole or in part: from now on it is a repetition.
            if isinstance(what, Call):
                send = self._send(what.repeated())
            yield Wait(pause)
        raise AssertionError("the last try returns or raises")

    def _send(self, call: Call) -> Send:
        verb = "FCALL_RO" if call.reads_only else "FCALL"
        function = self.library.function(call.function)
        arguments = call.arguments(self.publish)
        args = (verb, function, len(call.keys), *call.keys, *arguments)
        return Send(args, call.keys[0], self._acknowledgement(call))

    def _acknowledgement(self, call: Call) -> tuple[Command, ...]:
        """What to send behind a call to learn that what it wrote is safe."""
        ack = self._durability.ack()
        if ack is None or call.reads_only:
            return ()
        if not call.again:
            return (ack,)
        # The server waits for what this connection has written, and a repeat may write nothing. To
        # add nothing to a count is a write as well; when that is safe, so is all before it.
        write = "HINCRBY", self.keys.stats_beside(call.keys[0]), f"gs|{StepState.AVAILABLE}", 0
        return (write, ack)

    def _check_server(self, info: Mapping[str, Any]) -> str | None:
        """What to warn of; raises StoreMisconfigured for what is worse."""
        name, version = server_version(info)
        if is_too_old(name, version):
            raise StoreMisconfigured(
                f"{name} {'.'.join(map(str, version))} is too old: "
                "rwf needs Redis 7.0 or newer, or Valkey 8.0 or newer"
            )
        policy = info.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            raise StoreMisconfigured(
                f"maxmemory-policy is {policy}: the server would drop records when memory is "
                "short; set it to noeviction"
            )
        return self._check_persistence(info, name, version)

    def _check_persistence(
        self, info: Mapping[str, Any], name: str, version: tuple[int, ...]
    ) -> str | None:
        if self._durability.aof and name != "valkey" and version[:2] < (7, 2):
            raise StoreMisconfigured(
                "durability='aof' needs WAITAOF: Redis 7.2 or newer, or Valkey"
            )
        if int(info.get("aof_enabled", 1)):
            return None
        advice = "the server has no append-only file (appendonly no): a restart loses workflows"
        if self.require_aof or self._durability.aof:
            raise StoreMisconfigured(advice)
        return advice


def server_version(info: Mapping[str, Any]) -> tuple[str, tuple[int, ...]]:
    """The server's kind (``redis`` or ``valkey``) and version, from its INFO."""
    valkey = info.get("valkey_version")
    text = str(valkey or info.get("redis_version", "0"))
    return ("valkey" if valkey else "redis"), tuple(map(int, re.findall(r"\d+", text)[:3]))


def is_too_old(name: str, version: tuple[int, ...]) -> bool:
    """Whether rwf refuses to run on a server of this kind and version."""
    return version[:2] < ((8, 0) if name == "valkey" else (7, 0))


def _code(error: Exception) -> str:
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


def _translated(error: errors.ResponseError, locate: Any = str) -> RwfError:
    code, message = _code(error), locate(str(error))
    if code in _FORBIDDEN or _NO_RIGHT.search(message):
        return StoreMisconfigured(f"the server's user lacks a right: {message}")
    if code in _UNABLE:
        return StoreUnavailable(f"the server cannot serve now: {code} {message}")
    if code == "WRONGTYPE":
        return RecordUnreadable(f"{UNREADABLE}: a key of rwf has another type than it was given")
    if UNREADABLE in message:
        return RecordUnreadable(UNREADABLE)
    if message.startswith("WAITAOF cannot"):
        return StoreMisconfigured(
            "the write was made, but the append-only file is off now: set appendonly yes"
        )
    if message.startswith("unknown command"):
        return StoreMisconfigured("the server is too old: it has no functions")
    return RwfError(f"the server failed: {message}")
