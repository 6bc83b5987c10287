"""White-box cases beside those of ``contract/test_insert_keys.py``."""

from __future__ import annotations

import pytest

from rwf import Client, NotFound
from rwf.ops.insert import insert as insert_op
from tests.support.flows import drive, flow, noted, states
from tests.support.insert_keys_cases import BADLY, NOW, ended


def test_a_key_of_which_no_workflow_is_visible_yet(client: Client) -> None:
    client.list()
    assert drive(client, insert_op(client._ctx, flow("a"), "k", NOW), 1) is None
    with pytest.raises(NotFound):
        client.find("k")
    view = client.insert(flow("a"), key="k")
    assert client.find("k").id == view.id


@pytest.mark.parametrize("calls", [1, 2, 3, 4, 5])
def test_a_replacement_that_died_is_finished_by_the_next(client: Client, calls: int) -> None:
    old = ended(client, "k")
    op = insert_op(client._ctx, flow("a b"), "k", NOW, BADLY)
    drive(client, op, calls)
    if calls > 2:
        assert ("insert", None, "accepted", "key_replaced") in noted(client, old.id)
    view = client.insert(flow("a b"), key="k", replace=BADLY)
    assert states(client, view.id) == "a=available b=available"
    assert client.find("k").id == view.id
    assert {one.id for one in client.list().workflows} == {old.id, view.id}
