"""White-box cases beside those of ``contract/test_fairness.py``."""

from __future__ import annotations

from rwf import Client
from rwf.ops.claims import Claimer, claim_in
from tests.support.fairness_cases import claim, insert
from tests.support.flows import drive, partition_key, raw


def test_what_a_dead_claimer_had_reserved_keeps_its_place(one_client: Client) -> None:
    first = insert(one_client, "first")
    claimer = Claimer.checked(["default"], "w", 30)
    assert drive(one_client, claim_in(one_client._ctx, 0, claimer, 1), 1) is None
    insert(one_client, "second")
    (entry,) = raw(one_client).zrange(partition_key(first, "reserved"), 0, -1)
    raw(one_client).zadd(partition_key(first, "reserved"), {entry: 1})
    assert claim(one_client, 2) == ["first", "second"]
