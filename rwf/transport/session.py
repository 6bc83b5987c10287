"""A client's session with its server, without any I/O: checks, loading, resending.

A session is written as generators that yield what to do (``rwf.transport.actions``) and receive
replies, or redis errors thrown in. ``rwf.transport.aio.drivers`` does it on asyncio, and its twin
``rwf.transport.blocking.drivers`` blocking.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from itertools import chain, islice, repeat
from typing import Any, Final, TypeVar

import redis.exceptions as errors

from rwf.errors import (
    CommandRejected,
    NamespaceMismatch,
    RwfError,
    StoreMisconfigured,
    StoreUnavailable,
)
from rwf.model.states import Reason, StepState
from rwf.protocol.declare import ServerFunction
from rwf.protocol.functions.namespace import CreateNamespace, Namespace, Partitions
from rwf.protocol.keys import Keys, is_namespace
from rwf.protocol.library import library
from rwf.protocol.requests import CONNECT, Call, Op, Read, Request, Scan, Together
from rwf.transport.actions import (
    Command,
    Reconnect,
    Revive,
    Send,
    SendEverywhere,
    SendInTurn,
    SendTogether,
    Steps,
    Wait,
)
from rwf.transport.durability import Durability
from rwf.transport.faults import (
    DEMOTED,
    FORBIDDEN,
    PASSING,
    UNABLE,
    UNREACHED,
    code_of,
    is_silence,
    translated,
)
from rwf.transport.patience import Patience
from rwf.transport.servers import check_server

T = TypeVar("T")

_log = logging.getLogger("rwf")

CLUSTER_PARTITIONS: Final = 64
MAX_PARTITIONS: Final = 16384

DEFAULT_TIMEOUT: Final = 5.0
"""How long a server may take to answer, in seconds (contract §2)."""
# About how many keys a server looks at in one call.
_KEYS_PER_SCAN: Final = 1000
# How often in a row one call may find the library gone without having to load it: others do.
_LOADS: Final = 20
_OPENING: Final = (Namespace.name, CreateNamespace.name)


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
        timeout: float = DEFAULT_TIMEOUT,
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
        self._timeout = timeout
        self.durability = durability
        self._durability = Durability(durability, timeout)
        self.require_aof = require_aof
        self.wanted_partitions = partitions
        self.publish = "SPUBLISH" if cluster else "PUBLISH"
        self.cluster = cluster
        self.checked = checked
        # Partitions and nodes that did not answer when they were last asked together with others: a
        # key for each partition, and nodes by their names.
        self._unanswered: set[str] = set()
        # Told the function and the seconds of each call of an operation; by who wants to know.
        self.observers: dict[object, Callable[[str, float], None]] = {}

    def run(self, op: Op[T]) -> Steps[T]:
        """Carries out an operation's calls one after the other; connects before the first.

        So what an operation refuses by itself is refused without a server. The error of a call is
        raised in the operation, which may go on.
        """
        reply: Any = None
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

    def _answer(self, request: Request) -> Steps[Any]:
        if not self.keys.partitions:
            yield from self.connect()
        if request is CONNECT:
            return None
        if isinstance(request, Read):
            return (yield from self._read(request))
        if isinstance(request, Scan):
            return (yield from self._scan(request))
        return (yield from self._replies(request))

    def _scan(self, scan: Scan) -> Steps[dict[str, Any]]:
        """A page of each node's key names; raises StoreUnavailable when one does not answer."""
        args = ("SCAN", scan.cursor, "MATCH", scan.match, "COUNT", _KEYS_PER_SCAN)
        try:
            replies, away = yield from self.everywhere(args, scan.node)
        except errors.ResponseError as error:
            raise translated(error) from None
        for silent in away.values():
            raise silent
        return replies

    def _read(self, read: Read) -> Steps[list[Any]]:
        """The replies to plain commands; what is wrong with more than one of them is raised."""
        try:
            replies = yield from self.patiently(SendInTurn(read.commands, read.key))
            return _checked(replies)
        except errors.ResponseError as error:
            raise translated(error) from None

    def _replies(self, call: Call | Together) -> Steps[Any]:
        """The reply to a call, or those to calls that travel together; observers learn how long it
        took."""
        together = call.calls if isinstance(call, Together) else (call,)
        calls = [one for one in together if isinstance(one, Call)]
        begun = time.perf_counter()
        try:
            if isinstance(call, Together):
                return (yield from self._call_together(call))
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
            infos, away = yield from self.everywhere(("INFO",))
        except errors.ResponseError as error:
            raise translated(error) from None
        for node, why in away.items():
            _log.warning("node %s of the cluster does not answer: %s", node, why)
        waits, required = self._durability.aof, self.require_aof
        found = [
            check_server(info, waits_for_aof=waits, require_aof=required) for info in infos.values()
        ]
        advice = {*found} - {None}
        if advice:
            _log.warning("%s", advice.pop())

    def open(self) -> Steps[None]:
        """Reads the namespace's meta record, which is made when there is none."""
        found = yield from self._asked(Namespace())
        if found.now is None:
            created = self.wanted_partitions or (CLUSTER_PARTITIONS if self.cluster else 1)
            found = yield from self._asked(CreateNamespace(created, created))
        partitions, home_partitions = int(found.now or 0), int(found.at_creation or 0)
        if self.wanted_partitions not in (None, partitions):
            raise NamespaceMismatch(
                f"namespace {self.keys.namespace!r} has {partitions} partitions, "
                f"and this client was opened with {self.wanted_partitions}"
            )
        # Another thread takes the first as the sign that both are known.
        self.keys.home_partitions, self.keys.partitions = home_partitions, partitions

    def load(self) -> Steps[bool]:
        """Loads the library on every primary that lacks it; says whether any did."""
        listing = ("FUNCTION", "LIST", "LIBRARYNAME", self.library.name)
        try:
            present, _ = yield from self.everywhere(listing)
        except errors.ResponseError as error:
            if code_of(error) not in FORBIDDEN:
                raise translated(error) from None
            # A user without the right to look may still have that to call.
            return False
        if all(present.values()):
            return False
        try:
            yield from self.everywhere(("FUNCTION", "LOAD", "REPLACE", self.library.text))
        except errors.ResponseError as error:
            if code_of(error) in FORBIDDEN:
                raise self._not_loaded() from None
            raise translated(error) from None
        return True

    def _not_loaded(self) -> StoreMisconfigured:
        return StoreMisconfigured(
            f"library {self.library.name} is not loaded, and this user may not load it: "
            "run `rwf migrate` as one who may"
        )

    def _call(self, call: Call) -> Steps[Any]:
        """The reply to a call, which is sent until one comes.

        Every command carries an id that makes a repetition harmless (contract §9). However
        often the library vanishes, it is loaded again until the time limit has passed.
        """
        deadline, loads = time.monotonic() + self._timeout, _LOADS
        while True:
            patience = self._patience()
            try:
                return (yield from self.patiently(call, patience))
            except errors.ResponseError as error:
                if "Function not found" not in str(error):
                    never_ran = patience.never_ran and not call.again
                    raise translated(error, self.library.locate, never_ran=never_ran) from None
            loads = _LOADS if (yield from self.load()) else loads - 1
            if not loads:
                raise self._not_loaded()
            if time.monotonic() >= deadline:
                raise StoreUnavailable(
                    f"library {self.library.name} is gone each time after it was loaded"
                )
            # Where the library is gone, the records may be too; and an earlier try may have run.
            if self.keys.partitions and call.function not in _OPENING:
                yield from self._open_again()
            call = call.repeated()

    def _call_together(self, together: Together) -> Steps[list[Any]]:
        """The replies to calls in one round trip, those that no reply came to sent again
        together."""
        calls, partial = together.calls, together.partial
        replies: list[Any] = [None] * len(calls)
        left = dict(enumerate(calls))
        patience = self._patience()
        while True:
            yield from self._send_left(left, replies, patience, partial)
            if partial and not together.patient and len(left) < len(calls):
                for number in [n for n in left if not _is_under_way(replies[n])]:
                    if patience.tries or left[number].key in self._unanswered:
                        replies[number] = patience.unavailable(replies[number])
                        del left[number]
            if not left:
                break
            for call in [left[number] for number in left if _is_demoted(replies[number])]:
                yield Reconnect(call.key)
            yield Revive()
            yield Wait(patience.pause())
            left = {number: call.repeated() for number, call in left.items()}
        if partial:
            self._remember(calls, replies)
        if all(isinstance(reply, StoreUnavailable) for reply in replies):
            for reply in replies:
                raise reply
        return replies

    def _remember(self, calls: Sequence[Call | Read], replies: Sequence[Any]) -> None:
        """Notes which partitions did not answer where others did, not to be so patient with them
        the next time."""
        if all(isinstance(reply, StoreUnavailable) for reply in replies):
            return
        for call, reply in zip(calls, replies, strict=True):
            if isinstance(reply, StoreUnavailable):
                self._unanswered.add(call.key)
            elif self._unanswered:
                self._unanswered.discard(call.key)

    def _send_left(
        self, left: dict[int, Call | Read], replies: list[Any], patience: Patience, partial: bool
    ) -> Steps[None]:
        """One try of the calls that are left; those that may succeed when sent again stay."""
        sends = [self._sends(call) for call in left.values()]
        together = tuple(chain.from_iterable(sends))
        try:
            found = iter((yield SendTogether(together)))
        except UNREACHED as error:
            found = repeat(error)
        for (number, call), own in zip(tuple(left.items()), sends, strict=True):
            some = list(islice(found, len(own)))
            try:
                if isinstance(call, Read):
                    replies[number] = yield from self._judged_read(call, some, patience)
                else:
                    replies[number] = yield from self._judged(call, own[0], some[0], patience)
            except (StoreMisconfigured, NamespaceMismatch):
                raise
            except RwfError as error:
                if not partial:
                    raise
                replies[number] = error
            if not _may_pass(replies[number]):
                del left[number]

    def _sends(self, call: Call | Read) -> Sequence[Send]:
        if isinstance(call, Read):
            return [Send(command, call.key) for command in call.commands]
        return [self._send(call)]

    def _judged_read(self, read: Read, replies: list[Any], patience: Patience) -> Steps[Any]:
        """The replies to the commands of one of several reads, or the error after which it is worth
        another try."""
        for reply in replies:
            if isinstance(reply, errors.AskError):
                # Or MOVED, which is one of them. Alone it is sent where the slot is, or goes.
                return (yield from self._read(read))
            if _may_pass(reply):
                return (yield from self._after(read.key, reply, patience))
        try:
            return _checked(replies)
        except errors.ResponseError as error:
            raise translated(error) from None

    def _after(self, key: str, error: Exception, patience: Patience) -> Steps[Exception]:
        """An error after which another try may succeed; raises what is known after the last."""
        verdict = patience.verdict(error)
        if verdict is None:
            return error
        if is_silence(error):
            yield Reconnect(key)
        if isinstance(verdict, errors.ResponseError):
            raise patience.unavailable(verdict)
        raise verdict

    def _judged(self, call: Call, send: Send, reply: Any, patience: Patience) -> Steps[Any]:
        """The reply to one of several calls, or the error after which it is worth another try."""
        if send.behind and not isinstance(reply, Exception):
            self._durability.check(reply[1])
            return reply[0]
        if not isinstance(reply, Exception):
            return reply
        if isinstance(reply, errors.ResponseError) and not _may_pass(reply):
            # Alone it is loaded for, or told of, as any other.
            return (yield from self._call(call.repeated()))
        return (yield from self._after(call.key, reply, patience))

    def _open_again(self) -> Steps[None]:
        """Sees to it that the namespace is still the one that this client knows."""
        partitions, home_partitions = self.keys.partitions, self.keys.home_partitions
        found = yield from self._asked(Namespace())
        if found.now is None:
            found = yield from self._asked(CreateNamespace(partitions, home_partitions))
        if found.now is None or found.now < partitions or found.at_creation != home_partitions:
            raise NamespaceMismatch(
                f"namespace {self.keys.namespace!r} had {partitions} partitions, "
                f"and was created anew with {found.at_creation}"
            )

    def _asked(self, function: ServerFunction[Partitions]) -> Steps[Partitions]:
        """The answer of a function on the namespace's record."""
        call = Call(function.name, [self.keys.meta()], function.arguments())
        return function.decoded((yield from self._call(call)))

    def patiently(
        self, what: Send | SendInTurn | Call, patience: Patience | None = None
    ) -> Steps[Any]:
        """Sends until a reply comes; raises StoreUnavailable after the last try."""
        patience = patience or self._patience()
        send = self._send(what) if isinstance(what, Call) else what
        while True:
            try:
                reply = yield send
                if self._unanswered:
                    self._unanswered.discard(send.key)
                if isinstance(send, SendInTurn) or not send.behind:
                    return reply
                self._durability.check(reply[1])
                return reply[0]
            except (errors.ResponseError, *UNREACHED) as error:
                known = isinstance(error, UNREACHED) and send.key in self._unanswered
                verdict = patience.verdict(error, last=known)
                demoted, silent = _is_demoted(error), is_silence(error)
            if demoted or silent:
                yield Reconnect(send.key)
            if verdict is not None:
                raise verdict from None
            yield Revive()
            # It may have run, whole or in part: from now on it is a repetition.
            if isinstance(what, Call):
                send = self._send(what.repeated())
            yield Wait(patience.pause())

    def everywhere(
        self, args: Command, node: str | None = None
    ) -> Steps[tuple[dict[str, Any], dict[str, StoreUnavailable]]]:
        """Sends a command to every primary, or to one: the replies by the nodes' names, and what
        became of those that do not answer. Raises StoreUnavailable when none does, and the
        ResponseError of any."""
        patience = self._patience()
        while True:
            try:
                replies = yield SendEverywhere(args, node)
            except UNREACHED as error:
                replies = {"": error}
            faults = {name: one for name, one in replies.items() if isinstance(one, Exception)}
            verdicts = {name: patience.verdict(error) for name, error in faults.items()}
            for verdict in verdicts.values():
                if verdict is not None and not isinstance(verdict, StoreUnavailable):
                    raise verdict
            found = {name: one for name, one in replies.items() if name not in faults}
            known = faults.keys() <= self._unanswered
            if found and (patience.tries or known or all(verdicts.values())):
                self._unanswered |= faults.keys()
                self._unanswered -= found.keys()
                return found, {name: patience.unavailable(one) for name, one in faults.items()}
            for verdict in verdicts.values():
                if verdict is not None and not found:
                    raise verdict
            yield Revive()
            yield Wait(patience.pause())

    def _patience(self) -> Patience:
        return Patience(self._timeout, cluster=self.cluster)

    def _send(self, call: Call) -> Send:
        verb = "FCALL_RO" if call.reads_only else "FCALL"
        function = self.library.function(call.function)
        arguments = call.arguments(self.publish)
        args = (verb, function, len(call.keys), *call.keys, *arguments)
        return Send(args, call.keys[0], self._acknowledgement(call))

    def _acknowledgement(self, call: Call) -> tuple[Command, ...]:
        """The commands sent after a call to wait until its writes are as durable as asked."""
        ack = self._durability.ack()
        if ack is None or call.reads_only:
            return ()
        if not call.again:
            return (ack,)
        # The server waits for what this connection has written, and a repeat may write nothing. To
        # add nothing to a count is a write as well; when that is safe, so is all before it.
        write = "HINCRBY", self.keys.stats_beside(call.keys[0]), f"gs|{StepState.AVAILABLE}", 0
        return (write, ack)


def _is_demoted(error: Any) -> bool:
    return isinstance(error, errors.ResponseError) and code_of(error) in DEMOTED


def _is_under_way(reply: Any) -> bool:
    """Whether the slot is just on its way to another node."""
    return isinstance(reply, errors.ResponseError) and code_of(reply) == "TRYAGAIN"


def _may_pass(reply: Any) -> bool:
    """Whether this is no reply, but the error of a call that may succeed when it is sent again."""
    return isinstance(reply, UNREACHED) or (
        isinstance(reply, errors.ResponseError) and code_of(reply) in PASSING
    )


def _checked(replies: list[Any]) -> list[Any]:
    """The replies to commands that only read; raises what is wrong with more than one of them."""
    for reply in replies:
        if isinstance(reply, Exception) and code_of(reply) in (*FORBIDDEN, *UNABLE):
            raise reply
    return replies
