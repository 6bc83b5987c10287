"""Which workflows a filter has the server look at (contract §17)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from rwf import Client
from rwf.ops.listing import Walk
from rwf.ops.places import id_of
from tests.support.flows import flow


@pytest.mark.one_face
def test_only_what_all_indexes_have_is_looked_at(
    one_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = []
    for number in range(30):
        tags = {"account": str(number % 3), "all": "x"}
        ids.append(one_client.insert(flow("a", tags=tags)).id)
        if number % 5 == 0:
            one_client.complete_step(ids[-1], "a", "failed")
    one_client.request_cancel(ids[29])
    looked_at, find = set[str](), Walk._find

    def spied(self: Walk, places: Sequence[str]) -> Any:
        looked_at.update(map(id_of, places))
        return find(self, places)

    monkeypatch.setattr(Walk, "_find", spied)

    def found(**filters: Any) -> list[str]:
        looked_at.clear()
        return [view.id for view in one_client.list(**filters).workflows]

    both = {"account": "1", "all": "x"}
    assert found(tags=both, state="failed") == [ids[25], ids[10]]
    assert looked_at == {ids[10], ids[25]}
    assert found(tags={"all": "x"}, state="cancelled") == [ids[29]]
    assert looked_at == {ids[29]}
