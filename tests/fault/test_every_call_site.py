"""Any server command of a call fails: nothing is written, or every trace of it is repaired.

Each call of the histories is made again and again, with its first command failing, its second, and
so on, until none fails. Functions write derived keys first and records last
(``lua/lib/flush.lua``), and there is no rollback: ``LEFT`` lists, function by function, which keys
a call so cut may have changed, and the way to repair them. A test fails when other keys are
changed, or another way is needed. "again" means that repeating the call, as its caller does, and
then a sweep repair them: for example the row of a result whose step's record was not written.

Two traces stay, by design, and are named after the way. "+entry": an entry of a walk that is over
by the header; the next one overwrites it, or it goes with its workflow. "+count": the row of a
completion counts twice the steps that a slice of its release moved, when that slice was cut between
the row and the steps, and done again.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import pytest

from rwf import Client, RwfError
from rwf.protocol.functions import FUNCTIONS
from rwf.protocol.requests import Call
from tests.fault.histories import DAMAGED, HISTORIES, PARTITIONS, Stepped, swept
from tests.fault.instrument import Snapshot, arm, digests, instrumented
from tests.fault.left import LEFT
from tests.support import invariants
from tests.support.flows import raw
from tests.support.servers import Server

Left = dict[str, set[tuple[str, str]]]
"""By function: the kinds of the changed keys, and the way to repair them."""

WRITING: Final = {name for name, function in FUNCTIONS.items() if not function.reads_only}
# Functions with a single write in these histories, or none, and so nothing to leave behind;
# "create_namespace" runs while a client connects.
SINGLE: Final = {
    "create_namespace",
    "register_dispatcher",
    "reserve_key",
    "release_key",
    "set_gauges",
    "forget",
    "peek_steps",
    "take_bulk",
    "select_bulk",
}


class Breaking(Stepped):
    """A client on the instrumented library that has each command of each writing call fail."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._session.library = instrumented()
        self.left: Left = defaultdict(set)
        self.failed = 0
        self.ways: Sequence[str] = ("nothing", "sweep", "rebuild", "again")
        self._judged: dict[tuple[str, str], str] = {}

    def perform(self, call: Call) -> Any:
        if call.function not in WRITING:
            return super().perform(call)
        found, redis = self.left[call.function], raw(self)
        before, snapshot = digests(redis), Snapshot.of(redis)
        number = 1
        while True:
            arm(self, failing=number)
            try:
                return super().perform(call)
            except RwfError as error:
                if "fails on purpose" not in str(error):
                    raise
            finally:
                arm(self)
            self.failed, number = self.failed + 1, number + 1
            if changed := _kinds(before, digests(redis)):
                if (call.function, changed) not in self._judged:
                    self._judged[call.function, changed] = self._mended_by(call)
                found.add((changed, self._judged[call.function, changed]))
                snapshot.restore()

    def _mended_by(self, call: Call) -> str:
        """The first way that repairs the store, and the traces that stay; "" where none does."""
        calm, cut = Client.from_redis(raw(self)), Snapshot.of(raw(self))
        for way in self.ways:
            if way == "again":
                cut.restore()
                super().perform(call)
            if way in ("sweep", "again"):
                swept(calm)
                for view in calm.list(limit=100).workflows:
                    calm.reconcile(view.id)
            elif way == "rebuild":
                calm.rebuild()
            stays = {_kept(problem) for problem in invariants.check(calm)}
            if None not in stays:
                return "+".join([way, *sorted(filter(None, stays))])
        return ""


def _kinds(before: dict[bytes, bytes], after: dict[bytes, bytes]) -> str:
    """The kinds of the keys that differ, such as "ready w". When queues were asked for work is left
    out: it is noted only now and then."""
    changed = {key for key in before | after if before.get(key) != after.get(key)}
    return " ".join(sorted({key.split(b":")[2].decode() for key in changed} - {"served"}))


_STAYS: Final = {
    "entry": r".*: walk entries .*(bounds 0 to 0|stand on \[\])$",
    "count": r".*: attempt \d+ lists \d+ names of \d+$",
}


def _kept(problem: str) -> str | None:
    """The trace that stays by design, as this problem shows it; None for any other problem."""
    return next((kind for kind, line in _STAYS.items() if re.match(line, problem)), None)


@pytest.mark.long
@pytest.mark.parametrize("history", HISTORIES)
def test_every_command_fails(one_server: Server, history: str) -> None:
    with Breaking.from_url(one_server.url, partitions=PARTITIONS) as client:
        client.list()
        if history in DAMAGED:
            client.ways = ("rebuild", "again")
        HISTORIES[history](client)
    assert client.failed > 10
    unlisted = {
        (function, changed, way)
        for function, found in client.left.items()
        for changed, way in found
        if changed not in LEFT[function].get(way, set())
    }
    assert unlisted == set()


def test_every_function_is_listed() -> None:
    """Or it has a single write, or none, and so nothing to leave behind."""
    assert WRITING - set(LEFT) == SINGLE
