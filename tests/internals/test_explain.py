"""White-box cases beside those of ``contract/test_explain.py``."""

from __future__ import annotations

import pytest

from rwf import Client, Completion
from rwf.ops.complete import complete_step
from rwf.ops.insert import insert
from rwf.ops.recover import Recovery, recover_step
from tests.support.explain_cases import causes, codes
from tests.support.flows import chain, drive, fan_out, flow


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_a_release_that_is_in_progress(client: Client, status: str) -> None:
    wf = fan_out(900)
    wf.add("after", worker="w", deps=["c899"])
    view = client.insert(wf)
    item = Completion(workflow_id=view.id, step="root", status=status)
    drive(client, complete_step(client._ctx, item), 1)
    told = client.explain_step(view.id, "c899")
    assert told.state == "pending"
    assert told.operator_status == "Waiting"
    assert codes(told)[0] == "release_in_progress"
    assert "c899" in {cause.step for cause in told.root_causes}
    assert "release_in_progress" in {cause.code for cause in told.root_causes}
    assert ("reconcile",) in {cause.legal_next_steps for cause in told.root_causes}
    beyond = client.explain_step(view.id, "after")
    assert codes(beyond) == ["waiting_on_dependencies"]
    assert ("c899", "release_in_progress", ("c899", "after")) in causes(beyond)
    assert "release_in_progress" in {c.code for c in client.explain(view.id).root_causes}
    client.reconcile(view.id)
    assert "release_in_progress" not in codes(client.explain_step(view.id, "c899"))


def test_an_insert_whose_release_is_in_progress(client: Client) -> None:
    client.list()
    wf = flow(" ".join(f"s{n}" for n in range(900)))
    op = insert(client._ctx, wf, None, None)
    calls = 0
    while not client.list().workflows:
        calls += 1
        op = insert(client._ctx, wf, None, None)
        drive(client, op, calls)
    [view] = client.list().workflows
    assert view.runnable_step_count < 900
    told = client.explain_step(view.id, "s899")
    assert (told.state, codes(told)) == ("pending", ["release_in_progress"])
    assert client.reconcile(view.id).repairs
    assert client.get(view.id).runnable_step_count == 900


def test_what_an_unfinished_recovery_holds(one_client: Client) -> None:
    view = one_client.insert(chain(1_000))
    one_client.complete_step(view.id, "s0", "failed")
    asked = Recovery(workflow_id=view.id, step="s0", action="retry")
    assert drive(one_client, recover_step(one_client._ctx, asked, False), 2) is None
    told = one_client.explain_step(view.id, "s5")
    assert codes(told) == ["release_in_progress", "waiting_on_dependencies"]
    latest = one_client.explain(view.id).latest_recovery
    assert latest is not None
    assert latest["finished"] is False
    one_client.reconcile(view.id)
    assert codes(one_client.explain_step(view.id, "s5")) == ["waiting_on_dependencies"]
