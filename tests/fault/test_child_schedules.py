"""All schedules of those who move a child workflow and its parent at once, on all small graphs.

The short tests have all casts on the smallest pair of graphs; ``make test-long`` has all pairs, of
which a slice takes every twentieth. ``pytest -s`` shows how far it is. Casts of three and more play
in ``test_child_interleavings``, at random.
"""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final, Literal, NamedTuple

import pytest

from rwf import Client, CommandRejected
from rwf.ops.cancel import request_cancel
from rwf.ops.children import start_child
from rwf.ops.complete import Completion, complete_step
from rwf.ops.prune import prune_all
from rwf.ops.recover import Recovery, recover_step
from rwf.ops.waits import settle_waits
from rwf.protocol.requests import Op
from rwf.repair.reconcile import reconcile
from tests.conftest import SCALE, connect
from tests.fault.child_schedules import Explorer, Program
from tests.fault.instrument import Snapshot, arm, instrumented
from tests.fault.test_child_interleavings import CHILDREN, PARENTS, finish, judge, kid_of
from tests.support import invariants
from tests.support.children_cases import child_of, claim
from tests.support.flows import flow, raw
from tests.support.servers import AnyServer

SMALLEST: Final = ("call next:call", "a")
GRAPHS: Final = tuple((parent, child) for parent in PARENTS for child in CHILDREN)


class Scene:
    """A parent and its child, and the programs of those who act on the two."""

    def __init__(self, client: Client, graphs: tuple[str, str]) -> None:
        self.client = client
        self._child = graphs[1]
        self.parent = client.insert(flow(graphs[0], "parent"), retention=timedelta(0)).id
        self._lease = claim(client, "call").lease
        at_first = Snapshot.of(raw(client))
        self.play(self.start)
        kid = kid_of(client, self.parent)
        assert kid is not None
        self._kid = kid
        self._names = [step.name for step in client.steps(kid)]
        at_first.restore()

    def play(self, program: Program) -> None:
        """Runs a program to its end."""
        self.client._run(program())

    def run_again(self) -> None:
        """The child has failed, and been revived; the step runs again."""
        self.play(self.start)
        self.play(self.fail)
        self.client.recover_step(self._kid, self._names[-1], "retry")
        self.client.recover_step(self.parent, "call", "retry")
        self._lease = claim(self.client, "call").lease
        self._names = self._names[-1:]

    # --- programs

    def start(self) -> Op[Any]:
        child = child_of(self._child)
        return start_child(self.client._ctx, self.parent, "call", child, self._lease, None)

    def complete(self) -> Op[Any]:
        return self._report("completed")

    def fail(self) -> Op[Any]:
        return self._report("failed")

    def _report(self, status: str) -> Op[Any]:
        """Reports the child's steps one after the other, the last one so."""
        for name in self._names:
            told = status if name == self._names[-1] else "completed"
            item = Completion(workflow_id=self._kid, step=name, status=told, payload=7)
            yield from complete_step(self.client._ctx, item)

    def cancel(self) -> Op[Any]:
        return request_cancel(self.client._ctx, self.parent, None, None)

    def retry(self) -> Op[Any]:
        asked = Recovery(workflow_id=self.parent, step="call", action="retry", force=True)
        return recover_step(self.client._ctx, asked, False)

    def reconcile(self) -> Op[Any]:
        return reconcile(self.client._ctx, self.parent)

    def settle(self) -> Op[Any]:
        return settle_waits(self.client._ctx, self._kid)

    def prune(self) -> Op[Any]:
        return prune_all(self.client._ctx, [self._kid, self.parent])

    def judge(self) -> None:
        """Finishes all that is on record, and judges the two; and again after a request
        that all end."""
        finish(self.client, self.parent)
        judge(self.client, self.parent)
        assert invariants.check(self.client) == []
        with suppress(CommandRejected):  # it has ended
            self.client.request_cancel(self.parent)
        finish(self.client, self.parent)
        judge(self.client, self.parent)

    def judge_again(self) -> None:
        """Judges a child that was revived and runs by itself, and a step that takes its results
        once."""
        finish(self.client, self.parent)
        assert invariants.check(self.client) == []
        step = self.client.step(self.parent, "call")
        first, *others = [row for row in self.client.results(self.parent) if row.step == "call"]
        assert first.payload["state"] == "failed"
        assert len(others) == (step.state in ("completed", "failed"))
        for row in others:
            assert row.payload["state"] == step.state
            assert self.client.get(row.payload["workflow_id"]).state.value == step.state
        if step.state == "awaiting_signal":
            assert step.awaiting is not None
            assert self.client.get(str(step.awaiting.child)).state == "available"


class Cast(NamedTuple):
    """Two programs, and when they begin: before the child is there, while it runs, or while its
    step runs again, after a failure of the child's last step from which it was revived."""

    when: Literal["before", "running", "again"]
    one: str
    other: str


CASTS: Final = [
    *(Cast("before", "start", other) for other in ("start", "cancel", "retry", "reconcile")),
    *(Cast("before", "start", other) for other in ("complete", "fail", "prune")),
    *(Cast("running", "complete", other) for other in ("fail", "cancel", "retry")),
    *(Cast("running", "complete", other) for other in ("settle", "reconcile", "prune")),
    *(Cast("running", "fail", other) for other in ("cancel", "retry", "settle")),
    *(Cast("running", "fail", other) for other in ("reconcile", "prune")),
    *(Cast("running", "cancel", other) for other in ("retry", "prune")),
    *(Cast("again", "start", other) for other in ("complete", "fail", "cancel", "prune")),
]
EACH_CAST: Final = pytest.mark.parametrize("cast", CASTS, ids=" ".join)


def explore(server: AnyServer, cast: Cast, graphs: tuple[str, str]) -> tuple[int, int]:
    """Explores a cast on a pair of graphs. Returns how many states and schedules there were."""
    server.flush()
    with connect(server, partitions=2) as client:
        client._session.library = instrumented()
        client.list()
        arm(client, frozen=True)
        scene = Scene(client, graphs)
        if cast.when == "running":
            scene.play(scene.start)
        elif cast.when == "again":
            scene.run_again()
        programs = getattr(scene, cast.one), getattr(scene, cast.other)
        judges = scene.judge_again if cast.when == "again" else scene.judge
        explorer = Explorer(client, programs, judges)
        schedules = explorer.run()
        arm(client)
        return explorer.states, schedules


@EACH_CAST
def test_whatever_the_order(one_server: AnyServer, cast: Cast) -> None:
    _, schedules = explore(one_server, cast, SMALLEST)
    assert schedules > 1


@pytest.mark.long
@EACH_CAST
def test_on_all_graphs(one_server: AnyServer, cast: Cast) -> None:
    begun, states, schedules = time.monotonic(), 0, 0
    chosen = [pair for pair in GRAPHS if cast.when != "again" or "!" not in pair[1]]
    chosen = chosen[:: 1 if SCALE == "long" else 20]
    for number, graphs in enumerate(chosen, 1):
        more, ways = explore(one_server, cast, graphs)
        states, schedules = states + more, schedules + ways
        counts = f"{states} states, {schedules} schedules"
        seconds = time.monotonic() - begun
        print(f"{cast}: {number} of {len(chosen)} pairs, {counts}, {seconds:.0f} s", flush=True)
    assert schedules > len(chosen)
