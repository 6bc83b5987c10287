"""White-box cases beside those of ``contract/test_insert_many.py``."""

from __future__ import annotations

from rwf import Client
from rwf.ops.insert import insert_many
from tests.support.flows import drive, flow


def test_sixty_four_travel_together(one_client: Client) -> None:
    one_client.list()  # connects
    op = insert_many(one_client._ctx, [flow("a")] * 64, None, None)
    views = drive(one_client, op, 1)
    assert views is not None
    assert len(views) == 64
    assert len(one_client.list(limit=100).workflows) == 64
