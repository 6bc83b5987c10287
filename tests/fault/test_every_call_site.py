"""Any server command of a call fails: nothing is written, or what is written is mended.

Each call of the histories is made again and again, with its first command failing, its second, and
so on, until none fails. Functions write derived keys first and records last
(``lua/lib/flush.lua``), and there is no rollback: ``LEFT`` lists, function by function, which keys
a call so cut may have changed, and what mends them. A test fails when another set of keys is left,
or another way is needed. Under "" stands what neither a sweep nor a rebuild mends: mostly the row
of a result whose record was not written, until the step reports again.

The gauges are the exception, by design: they are written before the records, and what they are off
by stays. ``rwf rebuild`` tells of it and changes nothing, as others may be at work.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import pytest

from rwf import Client, RwfError
from rwf.store.catalog import FUNCTIONS, Call
from tests import invariants
from tests.contract.flows import raw
from tests.fault.histories import DAMAGED, HISTORIES, PARTITIONS, Stepped, swept
from tests.fault.instrument import Snapshot, arm, digests, instrumented
from tests.fault.left import LEFT
from tests.servers import Server

Left = dict[str, set[tuple[str, str]]]
"""By function: the kinds of the keys that were changed, and what mends them."""

WRITING: Final = {name for name, function in FUNCTIONS.items() if not function.reads_only}
# A single write, or none, and so nothing to leave behind; "create" runs while a client connects.
SINGLE: Final = {"create", "reserve", "unreserve"}
# Its history is not among those below yet: after one of the cuts of an "advance" of a recovery, the
# look at what mends it was not seen to end.
NOT_COVERED: Final = {"recover"}


class Breaking(Stepped):
    """A client on the instrumented library that has each command of each writing call fail."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._session.library = instrumented()
        self.left: Left = defaultdict(set)
        self.failed = 0
        self.ways: Sequence[str] = ("nothing", "sweep", "rebuild")
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
                    self._judged[call.function, changed] = mended_by(self, self.ways)
                found.add((changed, self._judged[call.function, changed]))
                snapshot.restore()


def _kinds(before: dict[bytes, bytes], after: dict[bytes, bytes]) -> str:
    """The kinds of the keys that differ, such as "ready w"."""
    changed = {key for key in before | after if before.get(key) != after.get(key)}
    return " ".join(sorted({key.split(b":")[2].decode() for key in changed}))


def mended_by(client: Stepped, ways: Sequence[str]) -> str:
    """Which of these sets the store right, or "" where none does.

    Gauges apart: "+gauges" says that they stay off.
    """
    calm = Client.from_redis(raw(client))
    for way in ways:
        if way == "sweep":
            swept(calm)
            for view in calm.list(limit=100).workflows:
                calm.reconcile(view.id)
        elif way == "rebuild":
            calm.rebuild()
        problems = invariants.check(calm)
        gauges = [line for line in problems if line.startswith(("gauges of", "stats of"))]
        if len(gauges) == len(problems):
            return way + ("+gauges" if gauges else "")
    return ""


@pytest.mark.long
@pytest.mark.whole
@pytest.mark.parametrize("history", [name for name in HISTORIES if name != "recoveries"])
def test_every_command_fails(one_server: Server, history: str) -> None:
    with Breaking.from_url(one_server.url, partitions=PARTITIONS) as client:
        client.list()
        if history in DAMAGED:
            client.ways = ("rebuild",)
        HISTORIES[history](client)
    for function, found in client.left.items():
        for changed, way in found:
            assert changed in LEFT[function].get(way, set()), (function, changed, way)


def test_every_function_is_listed() -> None:
    """Or has a single write, or none, and so nothing to leave behind."""
    assert WRITING - set(LEFT) == SINGLE | NOT_COVERED
