"""White-box cases beside those of ``contract/test_completion_many.py``."""

from __future__ import annotations

import pytest

from rwf import Client, Completion
from rwf.model.limits import EDGES_PER_CALL, LISTED
from rwf.ops.complete import complete_many
from tests.support.flows import drive, effect, fan_out

# --- slices


ONE, TWO, MANY = EDGES_PER_CALL, 2 * EDGES_PER_CALL, 5 * EDGES_PER_CALL


@pytest.mark.parametrize("width", [ONE - 1, ONE, ONE + 1, TWO, TWO + 1, MANY, MANY + 1, 1250])
@pytest.mark.parametrize("status", ["completed", "failed"])
def test_a_wide_completion_is_whole_when_it_returns(
    one_client: Client, width: int, status: str
) -> None:
    view = one_client.insert(fan_out(width))
    result = one_client.complete_step(view.id, "root", status, payload=[1])
    names = tuple(f"c{n}" for n in range(min(width, LISTED)))
    moved = (names, width)
    expected = (*moved, (), 0) if status == "completed" else ((), 0, *moved)
    assert effect(result) == expected
    assert result.workflow == one_client.get(view.id)
    assert result.workflow.runnable_step_count == (width if status == "completed" else 0)
    assert result.workflow.cancelled_step_count == (0 if status == "completed" else width)
    again = one_client.complete_step(view.id, "root", status, payload=[1])
    assert again.outcome == "duplicate"
    assert effect(again) == expected


def test_a_batch_walks_no_more_edges_in_a_call_than_one_completion(one_client: Client) -> None:
    views = [one_client.insert(fan_out(EDGES_PER_CALL)) for _ in range(3)]
    items = [Completion(workflow_id=view.id, step="root") for view in views]
    assert drive(one_client, complete_many(one_client._ctx, items), 1) is None
    released = sum(one_client.get(view.id).runnable_step_count for view in views)
    assert 0 < released <= EDGES_PER_CALL
    for view in views:
        one_client.reconcile(view.id)
        assert one_client.get(view.id).runnable_step_count == EDGES_PER_CALL
