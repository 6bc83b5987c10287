"""A server past its maxmemory accepts nothing new, and carries out work that frees memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta

import pytest

from rwf import Client, StoreUnavailable
from rwf.model.views import Callback
from tests.fault.test_server_faults import configured
from tests.support.daemons import serving
from tests.support.flows import fan_out, first_call_only, flow, raw, states
from tests.support.outbox import ended, ignore, stat
from tests.support.servers import AnyServer
from tests.support.waiting import until

NOW = timedelta(0)
LONG = 60.0


class Full:
    """The stored data when memory runs out: something of every kind that is due."""

    def __init__(self, client: Client) -> None:
        client.dispatch_callbacks(ignore)
        self.over = [client.insert(flow("a b:a"), key=f"k{n}", retention=NOW).id for n in range(20)]
        for workflow_id in self.over:
            for step in "ab":
                client.complete_step(workflow_id, step, payload="x" * 1000)
        client.dispatch_callbacks(ignore, limit=100)
        self.told = client.insert(flow("a"), retention=NOW).id
        client.complete_step(self.told, "a")
        self.claimed = client.insert(flow("a b", queue="claimed")).id
        self.claims = client.claim(["claimed"], worker_id="w", limit=2)
        self.lost = client.insert(flow("a", queue="lost")).id
        client.claim(["lost"], worker_id="w", lease=0.001)
        self.retried = client.insert(flow("a")).id
        client.complete_step(self.retried, "a", "retryable", retry_in=0)
        self.waiting = client.insert(flow("a")).id
        soon = timedelta(seconds=0.01)
        client.await_step(self.waiting, "a", signal="go", correlation_key="k", deadline=soon)
        self.wide = client.insert(fan_out(900)).id
        first_call_only(client, self.wide, "root", "completed")
        self.open = client.insert(flow("a b:a")).id
        self._memory = ExitStack()

    def begin(self, server: AnyServer) -> Full:
        """From now on there is no room."""
        self._memory.enter_context(configured(server, maxmemory=1))
        return self

    def end(self) -> None:
        """There is room again."""
        self._memory.close()


@pytest.fixture
def full(client: Client, server: AnyServer) -> Iterator[Full]:
    found = Full(client).begin(server)
    yield found
    found.end()


def test_nothing_new_is_taken_in(
    client: Client, full: Full, caplog: pytest.LogCaptureFixture
) -> None:
    for command in (
        lambda: client.insert(flow("a")),
        lambda: client.complete_step(full.open, "a", payload="x"),
        lambda: client.claim(["default"], worker_id="w"),
        lambda: client.deliver_signal("go", "other", payload="x"),
        lambda: client.recover_step(full.over[0], "a", "retry", scope="downstream"),
    ):
        with pytest.raises(StoreUnavailable, match=r"maxmemory.*prune.*OOM"):
            command()
    assert states(client, full.open) == "a=available b=pending"
    # The only partition there is answers, and there is no other to serve.
    assert client._ctx.keys.partitions > 1 or "unreachable" not in caplog.text


def test_prune_frees(client: Client, full: Full) -> None:
    assert client.prune().workflows == 20
    assert stat(client, "gw|completed") == 1  # its callback has still to be delivered


def test_leases_are_extended_and_given_back(client: Client, full: Full) -> None:
    first, second = full.claims
    report = client.heartbeat([first])
    assert report.lost == ()
    assert client.release([first, second]) == 2
    assert states(client, full.claimed) == "a=available b=available"


def test_callbacks_are_delivered_so_that_workflows_can_leave(client: Client, full: Full) -> None:
    got: list[str] = []
    client.dispatch_callbacks(lambda one: got.append(one.workflow_id), limit=100)
    assert full.told in got
    assert client.prune().workflows == 21


def test_open_workflows_can_be_ended(client: Client, full: Full) -> None:
    assert client.request_cancel(full.open).state == "cancelled"


def test_what_is_derived_is_repaired(client: Client, full: Full) -> None:
    redis = raw(client)
    redis.delete(*(key for key in redis.scan_iter(count=1000) if key.endswith(b":ready")))
    assert client.reconcile(full.open).repairs
    assert client.rebuild().failures == ()


def test_a_daemon_goes_on(client: Client, full: Full) -> None:
    """Due work is carried out, finished workflows are removed, and all is well when there is room
    again."""
    told: list[str] = []

    def handler(envelope: Callback) -> None:
        told.append(envelope.workflow_id)

    with serving(client, interval=0.05, sweep_interval=0.2, callbacks=handler) as daemon:
        for workflow_id, expected in (
            (full.retried, "a=available"),
            (full.lost, "a=available"),
            (full.waiting, "a=expired"),
        ):
            until(
                lambda w=workflow_id, e=expected: states(client, w) == e,  # type: ignore[misc]
                timeout=LONG,
                what=expected,
            )
        until(lambda: client.get(full.wide).runnable_step_count == 900, timeout=LONG, what="walk")
        until(lambda: full.told in told, timeout=LONG, what="the callback")
        gone = {*full.over, full.told}
        until(
            lambda: not gone & {one.id for one in client.list(limit=100).workflows},
            timeout=LONG,
            what="what is over to leave",
        )
        until(lambda: daemon.sweep_age is not None, timeout=LONG, what="a sweep")
        full.end()
        later = ended(client)
        until(lambda: later in told, timeout=LONG, what="a later callback")
