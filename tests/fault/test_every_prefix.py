"""A server comes back with any prefix of its append-only file: the invariants hold, and all work
ends.

Histories are recorded on a server that writes its file before it answers. Then servers are started
from that file, cut behind each of the transactions in it, and at random bytes inside them:

- all writes of one call are one transaction, so no call is ever seen half;
- a cut inside one leaves the state before it;
- ``tests.support.invariants`` holds at once, and after a round of the daemons; then every
  workflow can be ended.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from rwf.protocol.requests import Call
from tests.fault.histories import DAMAGED, HISTORIES, PARTITIONS, Stepped, finish, swept
from tests.support import invariants
from tests.support.servers import ALWAYS, KINDS, Server

# The number of prefixes of each history in `make test`.
SOME: Final = 6


@dataclass
class Recording:
    """A history's append-only file. ``calls`` are where in it each call begins and ends, ``states``
    the digest of all keys there."""

    file: bytes = b""
    calls: list[tuple[int, int]] = field(default_factory=list)
    states: dict[int, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, server: Server, history: str) -> Recording:
        """Records a history; the server is ended by it."""
        recording = cls()
        with Recorder.from_url(server.url, partitions=PARTITIONS) as client:
            client.recording, client.server = recording, server
            client.list()
            HISTORIES[history](client)
        recording.file = server.append_only_file.read_bytes()
        server.kill()
        return recording

    def note(self, server: Server) -> int:
        """The present length of the file."""
        size = server.append_only_file.stat().st_size
        self.states[size] = digest(server)
        return size


class Recorder(Stepped):
    """A client that notes each call."""

    recording: Recording
    server: Server

    def perform(self, call: Call) -> Any:
        begins = self.recording.note(self.server)
        try:
            return super().perform(call)
        finally:
            self.recording.calls.append((begins, self.recording.note(self.server)))


def digest(server: Server) -> bytes:
    """The digest of all keys and their values."""
    ask: Any = server.client().execute_command
    found: bytes = ask("DEBUG", "DIGEST")
    return found


def transactions(file: bytes) -> Iterator[int]:
    """Where each transaction, or command outside of one, ends."""
    at, within = 0, False
    while at < len(file):
        at, name = _command(file, at)
        within = name == b"MULTI" or (within and name != b"EXEC")
        if not within and name != b"SELECT":
            yield at


def _command(file: bytes, at: int) -> tuple[int, bytes]:
    """The end of the command that begins here, and its name."""
    at, count = _number(file, at, b"*")
    name = b""
    for number in range(count):
        at, size = _number(file, at, b"$")
        name = file[at : at + size].upper() if number == 0 else name
        at += size + 2
    return at, name


def _number(file: bytes, at: int, mark: bytes) -> tuple[int, int]:
    end = file.index(b"\r\n", at)
    assert file[at : at + 1] == mark
    return end + 2, int(file[at + 1 : end])


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server with an append-only file, ended and started again at will."""
    with Server.start(getattr(request, "param", "valkey91"), aof=True, extra=ALWAYS) as one:
        yield one


def come_back(server: Server, file: bytes) -> None:
    """Ends the server, and starts it with this file."""
    server.kill()
    server.append_only_file.write_bytes(file)
    server.restart()


def check_prefixes(server: Server, history: str, some: int | None) -> None:
    """Checks ``some`` of the prefixes of each kind, or all of those that end with a transaction."""
    recording = Recording.of(server, history)
    ends = list(transactions(recording.file))
    writing = [(begins, end) for begins, end in recording.calls if begins != end]
    for begins, end in writing:
        assert [at for at in ends if begins < at <= end] == [end], "a call was not one transaction"
    chance = random.Random(history)
    whole = sorted(recording.states)
    for size in whole if some is None else chance.sample(whole, some):
        come_back(server, recording.file[:size])
        assert digest(server) == recording.states[size]
        mend_and_finish(server, damaged=history in DAMAGED)
    for begins, end in chance.sample(writing, min(some or 40, len(writing))):
        come_back(server, recording.file[: chance.randrange(begins + 1, end)])
        assert digest(server) == recording.states[begins], "a part of a call came back"


def mend_and_finish(server: Server, *, damaged: bool) -> None:
    with Stepped.from_url(server.url, partitions=PARTITIONS) as client:
        client.list()
        if damaged:
            client.rebuild()
        assert invariants.check(client) == []
        swept(client)
        for view in client.list(limit=100).workflows:
            client.reconcile(view.id)
        assert invariants.check(client) == []
        finish(client)
        assert invariants.check(client) == []


@pytest.mark.parametrize("history", HISTORIES)
def test_some_prefixes(server: Server, history: str) -> None:
    check_prefixes(server, history, SOME)


@pytest.mark.long
@pytest.mark.whole
@pytest.mark.parametrize("server", KINDS, indirect=True)
@pytest.mark.parametrize("history", HISTORIES)
def test_every_prefix(server: Server, history: str) -> None:
    check_prefixes(server, history, None)
