"""White-box cases beside those of ``contract/test_reconcile.py``."""

from __future__ import annotations

import threading

import pytest

from rwf import Client, Completion
from rwf.ops.complete import complete_step
from tests.conftest import connect
from tests.support.flows import (
    drive,
    fan_out,
    flow,
)
from tests.support.reconcile_cases import kinds
from tests.support.servers import AnyServer


@pytest.mark.parametrize("status", ["completed", "failed"])
@pytest.mark.parametrize("calls", [1, 2, 3])
def test_an_unfinished_release_is_finished(client: Client, status: str, calls: int) -> None:
    wf = fan_out(1500)
    wf.add("after", worker="w", deps=[f"c{n}" for n in range(1500)])
    view = client.insert(wf)
    item = Completion(workflow_id=view.id, step="root", status=status, command_id="one")
    assert drive(client, complete_step(client._ctx, item), calls) is None
    assert ("release_unfinished", None) in kinds(client, view.id)
    now = client.get(view.id)
    if status == "completed":
        assert (now.state, now.runnable_step_count) == ("available", 1500)
    else:
        assert (now.state, now.cancelled_step_count) == ("failed", 1501)
    assert kinds(client, view.id) == []
    again = client.complete_step(view.id, "root", status, command_id="one")
    assert again.outcome == "duplicate"
    assert again.released_count + again.cancelled_count == (1500 if status == "completed" else 1501)


def test_many_unfinished_releases_at_once(one_client: Client) -> None:
    roots = [f"r{n}" for n in range(5)]
    words = [*roots, *(f"{root}.{n}:{root}" for root in roots for n in range(700))]
    view = one_client.insert(flow(" ".join(words)))
    for number, root in enumerate(roots):
        status = "completed" if number % 2 else "failed"
        item = Completion(workflow_id=view.id, step=root, status=status)
        drive(one_client, complete_step(one_client._ctx, item), 1)
    assert ("release_unfinished", None) in kinds(one_client, view.id)
    now = one_client.get(view.id)
    assert (now.runnable_step_count, now.cancelled_step_count) == (1400, 2100)


def test_two_who_finish_the_same_release(client: Client, server: AnyServer) -> None:
    view = client.insert(fan_out(3000))
    item = Completion(workflow_id=view.id, step="root", command_id="one")
    drive(client, complete_step(client._ctx, item), 1)
    start = threading.Barrier(3)

    def finish() -> None:
        with connect(server) as other:
            other.list()
            start.wait()
            other.reconcile(view.id)

    threads = [threading.Thread(target=finish) for _ in range(2)]
    for thread in threads:
        thread.start()
    start.wait()
    again = client.complete_step(view.id, "root", command_id="one")
    for thread in threads:
        thread.join()
    assert (again.outcome, again.released_count) == ("duplicate", 3000)
    assert client.get(view.id).runnable_step_count == 3000
