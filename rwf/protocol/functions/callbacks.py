"""The outbox: callbacks to be delivered, and their dispatchers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rwf.protocol.declare import Item, Refusal, ServerFunction, item, server_function
from rwf.protocol.functions.namespace import Partitions


@server_function("register_dispatcher", when_full=True)
class RegisterDispatcher(ServerFunction[Partitions]):
    """Records that callbacks are dispatched in the namespace: from then on, a workflow is kept
    until they are delivered or dead. Keys: the meta record."""


@server_function("dispatcher_seen", reads_only=True)
class DispatcherSeen(ServerFunction[int | None]):
    """How many milliseconds ago a dispatcher was last seen; None when none ever was. Keys: the meta
    record."""


@server_function("due_callbacks", reads_only=True)
class DueCallbacks(ServerFunction[list[bytes]]):
    """Callbacks that may be claimed now, ``workflow|number``, those due the longest first. Keys:
    the partition's."""

    skip: int
    limit: int


@item()
class CallbackToClaim(Item):
    slot: int
    number: str
    token: str
    """Made for this claim."""


class ClaimedCallback(NamedTuple):
    """``outcome``: ``claimed``, with the callback of this or of an earlier number, and its
    workflow's static header, insert key, state and tags; ``other``: of other semantics, left where
    it is; ``none``: there is nothing to claim, and the outbox says so now."""

    outcome: str
    number: int = 0
    record: bytes = b""
    static: bytes = b""
    key: bytes | None = None
    state: bytes = b""
    tags: bytes | None = None


@server_function("claim_callbacks", publishes=True, when_full=True)
class ClaimCallbacks(ServerFunction[list[ClaimedCallback]]):
    """Leases callbacks to a dispatcher, which is to deliver and then settle them. Keys: those of
    each workflow."""

    lease_ms: int
    callbacks: Sequence[CallbackToClaim]


@item()
class SettledCallback(Item):
    slot: int
    number: str
    token: str
    """That of its claim."""
    jitter: str
    """A random number in [0, 1) for the delay of the next try."""
    failure: str | None
    """Why the delivery failed; None when it succeeded."""


@server_function("settle_callbacks", publishes=True, when_full=True)
class SettleCallbacks(ServerFunction[None]):
    """Records for claimed callbacks whether they were delivered. Keys: those of each workflow."""

    callbacks: Sequence[SettledCallback]


class ResentCallback(NamedTuple):
    """``record``: the callback's; ``static``: its workflow's static header."""

    outcome: str
    record: bytes
    static: bytes


@server_function("resend_callback", publishes=True)
class ResendCallback(ServerFunction[ResentCallback | Refusal]):
    """Sends a dead or delivered callback once more. Keys: the workflow's."""

    number: str
    call_id: str
    note: bytes
