"""Signals that are delivered, awaited, withdrawn, expired and pruned at the same moment: each has
one outcome, and all are counted.

Six kinds of races, 50 of each. Their parties start together, each a few milliseconds apart at
random, and the outcome is judged by their answers and by the stored keys at the end.
"""

from __future__ import annotations

import random
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any, Final

import pytest

from rwf import Client, CommandRejected, SignalView
from tests.support import invariants
from tests.support.flows import flow, raw
from tests.support.outbox import ignore
from tests.support.servers import AnyServer

RACES: Final = 50
PARTITIONS: Final = 4
_LATEST: Final = 0.004
_REFUSALS: Final = {"already_consumed_signal", "signal_not_found"}

Act = Callable[[], Any]
Race = Callable[["Track", str], str]


class Track:
    """A namespace on which races are run, and their outcomes."""

    def __init__(self, client: Client, seed: int) -> None:
        self.client = client
        self.consumed = 0
        self.withdrawn = 0
        self._random = random.Random(seed)
        self._threads = ThreadPoolExecutor(4)

    def close(self) -> None:
        self._threads.shutdown()

    def run(self, *acts: Act) -> list[Any]:
        """Starts all at about the same moment. Returns the result or the refusal of each."""
        start = Barrier(len(acts))
        delays = [self._random.uniform(0, _LATEST) for _ in acts]

        def begin(act: Act, delay: float) -> Any:
            start.wait()
            time.sleep(delay)
            try:
                return act()
            except CommandRejected as refusal:
                return refusal

        return list(self._threads.map(begin, acts, delays))

    # The parties.

    def workflow(self, **options: Any) -> str:
        return self.client.insert(flow("a"), **options).id

    def deliver(self, key: str, dedupe: str = "1") -> SignalView:
        return self.client.deliver_signal("go", key, dedupe_key=dedupe, payload=dedupe)

    def wait(self, workflow_id: str, key: str, deadline: timedelta | None = None) -> Any:
        return self.client.await_step(
            workflow_id, "a", signal="go", correlation_key=key, deadline=deadline
        )

    def withdraw(self, signal_id: str) -> Any:
        return self.client.withdraw_signal(signal_id)

    # Stored keys at the end.

    def state(self, workflow_id: str) -> str:
        self.client.reconcile(workflow_id)
        return self.client.step(workflow_id, "a").state

    def kept(self, key: str) -> list[str]:
        return [view.dedupe_key for view in self.client.signals("go", key).signals]

    def counted(self) -> dict[str, int]:
        stats: Counter[str] = Counter()
        for partition in range(PARTITIONS):
            found = raw(self.client).hgetall(f"rwf:{{{partition}}}:stats")
            stats.update({name.decode(): int(value) for name, value in found.items()})
        return {status: stats[f"sg|{status}"] for status in ("consumed", "withdrawn")}


@pytest.fixture
def track(one_server: AnyServer, request: pytest.FixtureRequest) -> Iterator[Track]:
    with Client.from_url(one_server.url, partitions=PARTITIONS) as client:
        found = Track(client, seed=zlib.crc32(request.node.name.encode()))
        yield found
        found.close()
        assert invariants.check(client) == []


# --- the races; each returns which of its outcomes it has come to


def two_signals_and_a_wait(track: Track, key: str) -> str:
    """One of them wakes the step, the other is kept."""
    workflow_id = track.workflow()
    first, second, _ = track.run(
        lambda: track.deliver(key, "1"),
        lambda: track.deliver(key, "2"),
        lambda: track.wait(workflow_id, key),
    )
    assert (first.duplicate, second.duplicate) == (False, False)
    assert track.state(workflow_id) == "available"
    taken = {"1", "2"} - set(track.kept(key))
    assert len(taken) == len(track.kept(key)) == 1
    (claimed,) = track.client.claim(["default"], worker_id="w")
    assert claimed.signal is not None
    assert {claimed.signal.payload} == taken
    track.client.complete(claimed)
    track.consumed += 1
    return taken.pop()


def a_withdrawal_and_a_wait(track: Track, key: str) -> str:
    """Either the signal is gone, or it has woken the step."""
    workflow_id, signal = track.workflow(), track.deliver(key)
    _, taken = track.run(lambda: track.wait(workflow_id, key), lambda: track.withdraw(signal.id))
    assert track.kept(key) == []
    if isinstance(taken, CommandRejected):
        assert taken.reason_code == "already_consumed_signal"
        assert track.state(workflow_id) == "available"
        track.client.complete_step(workflow_id, "a")
        track.consumed += 1
        return "consumed"
    assert (taken.status, taken.id) == ("withdrawn", signal.id)
    assert track.state(workflow_id) == "awaiting_signal"
    track.withdrawn += 1
    return "withdrawn"


def two_withdrawals_and_the_same_signal_again(track: Track, key: str) -> str:
    """One withdrawal is accepted; the repetition is a duplicate before it, and new after it."""
    signal = track.deliver(key)
    *answers, again = track.run(
        lambda: track.withdraw(signal.id),
        lambda: track.withdraw(signal.id),
        lambda: track.deliver(key),
    )
    refusals = [one.reason_code for one in answers if isinstance(one, CommandRejected)]
    assert refusals == ["signal_not_found"]
    track.withdrawn += 1
    assert again.duplicate == (again.id == signal.id)
    assert track.kept(key) == ([] if again.duplicate else ["1"])
    return "duplicate" if again.duplicate else "new"


def a_signal_and_a_deadline(track: Track, key: str) -> str:
    """The step is woken, or expired and the signal late."""
    workflow_id = track.workflow()
    track.wait(workflow_id, key, timedelta(seconds=track._random.uniform(0.001, 0.006)))
    track.run(lambda: track.deliver(key), lambda: track.client.reconcile(workflow_id))
    deadline = time.monotonic() + 10
    while (state := track.state(workflow_id)) == "awaiting_signal":
        assert time.monotonic() < deadline
    (found,) = track.client.signals("go", key).signals or (None,)
    if state == "available":
        assert found is None
        track.client.complete_step(workflow_id, "a")
        track.consumed += 1
    else:
        assert found is not None
        assert (state, found.status) == ("expired", "late")
    return state


def two_waits_a_signal_and_a_cancel_request(track: Track, key: str) -> str:
    """Whichever order they come in, the signal is consumed once: a cancelled workflow leaves it."""
    kept, cancelled = track.workflow(), track.workflow()
    track.run(
        lambda: track.wait(kept, key),
        lambda: track.wait(cancelled, key),
        lambda: track.deliver(key),
        lambda: track.client.request_cancel(cancelled),
    )
    track.client.reconcile(cancelled)
    assert track.kept(key) == []
    track.consumed += 1
    states = track.state(kept), track.state(cancelled)
    assert states in {("available", "cancelled"), ("awaiting_signal", "cancelled")}
    if states[0] == "available":
        track.client.complete_step(kept, "a")
    return states[0]


def a_removal_and_the_same_signal_again(track: Track, key: str) -> str:
    """Until its workflow was removed, a repetition of a consumed signal is a duplicate; it is never
    withdrawn."""
    workflow_id = track.workflow(retention=timedelta(0))
    track.wait(workflow_id, key)
    signal = track.deliver(key)
    assert signal.status == "consumed"
    track.consumed += 1
    track.client.complete_step(workflow_id, "a")
    while track.client.dispatch_callbacks(ignore).delivered:
        pass
    _, again, taken = track.run(
        track.client.prune, lambda: track.deliver(key), lambda: track.withdraw(signal.id)
    )
    assert isinstance(taken, CommandRejected)
    assert taken.reason_code in _REFUSALS
    assert again.duplicate == (again.status == "consumed") == (again.id == signal.id)
    assert track.kept(key) == ([] if again.duplicate else ["1"])
    track.client.prune()
    return "duplicate" if again.duplicate else "new"


@pytest.mark.parametrize(
    "race",
    [
        two_signals_and_a_wait,
        a_withdrawal_and_a_wait,
        two_withdrawals_and_the_same_signal_again,
        a_signal_and_a_deadline,
        two_waits_a_signal_and_a_cancel_request,
        a_removal_and_the_same_signal_again,
    ],
    ids=lambda race: race.__name__,
)
def test_each_signal_comes_to_one_end(track: Track, race: Race) -> None:
    outcomes = Counter(race(track, f"k{number}") for number in range(RACES))
    assert outcomes.total() == RACES
    assert track.counted() == {"consumed": track.consumed, "withdrawn": track.withdrawn}
