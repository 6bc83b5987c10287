"""Every writing call of the histories, sent again one to three times: the state after one call, and
the first answer, with the exceptions listed here.

The clock stands still meanwhile, so that both can be compared.
"""

from __future__ import annotations

from typing import Any, Final

import pytest

from rwf.protocol.functions import FUNCTIONS
from rwf.protocol.requests import Call
from tests.fault.histories import HISTORIES, PARTITIONS, Stepped
from tests.fault.instrument import arm, digests, instrumented
from tests.support.flows import raw
from tests.support.servers import Server

REPEATS: Final = 3
# Entries reserved by a lost call go back after 5 s, uncounted; its repeat reserves others.
RESERVES: Final = ("reserve_steps",)
# It comes before any operation; ``test_lost_replies.test_making_a_namespace`` repeats it.
WHILE_CONNECTING: Final = ("create_namespace",)
# "advance" walks a slice further each time. The others cannot repeat their first answer: they say
# in another way that the work is done (a client's own insert, recovery, completion and claims are
# known by their ids), or that nothing is left to be repaired, removed or extended; and a repeated
# refusal lacks a next step that does not follow from its reason alone.
OTHER_ANSWERS: Final = (
    "acknowledge", "advance", "insert", "complete", "recover", "prune", "release_claims",
    "block_on_missing_result", "pause_claims",
    "repair_workflow", "repair_callbacks", "correct_counts", "set_gauges", "repair_keys",
    "repair_topic", "remove_orphans", "update_topic", "judge_topic", "report_bulk",
)  # fmt: skip


class Repeating(Stepped):
    """A client on the instrumented library that sends each writing call again."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._session.library = instrumented()
        self.differing: set[tuple[str, str]] = set()
        self.repeated: set[str] = set()

    def perform(self, call: Call) -> Any:
        if FUNCTIONS[call.function].reads_only or call.function in RESERVES:
            return super().perform(call)
        self.repeated.add(call.function)
        arm(self, frozen=True)
        first = super().perform(call)
        state = digests(raw(self))
        for _ in range(REPEATS):
            if super().perform(call.repeated()) != first:
                self.differing.add((call.function, "answer"))
            if digests(raw(self)) != state:
                self.differing.add((call.function, "state"))
        arm(self)
        return first


@pytest.mark.long
@pytest.mark.whole
def test_every_repeat(one_server: Server) -> None:
    differing: set[tuple[str, str]] = set()
    repeated: set[str] = set()
    for history in HISTORIES.values():
        one_server.flush()
        with Repeating.from_url(one_server.url, partitions=PARTITIONS) as client:
            client.list()
            history(client)
            differing |= client.differing
            repeated |= client.repeated
    writing = {name for name, function in FUNCTIONS.items() if not function.reads_only}
    assert writing - repeated == {*RESERVES, *WHILE_CONNECTING}
    assert differing == {("advance", "state"), *((name, "answer") for name in OTHER_ANSWERS)}
