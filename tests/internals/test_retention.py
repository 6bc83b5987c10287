"""White-box cases beside those of ``contract/test_retention.py``."""

from __future__ import annotations

from rwf import Client
from rwf.ops.retaining import set_retention
from rwf.protocol.requests import Call
from tests.support.flows import (
    flow,
    one_call,
)
from tests.support.retention_cases import NOW


def test_a_call_that_is_repeated_says_so_once(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    call = next(set_retention(one_client._ctx, view.id, NOW, None))
    assert isinstance(call, Call)
    for sent in (call, call.repeated()):
        assert one_client._run(one_call(sent))[0] == b"accepted"
    assert len(one_client.evidence(view.id)) == 1
