"""White-box cases beside those of ``contract/test_acknowledge.py``."""

from __future__ import annotations

from rwf import Client
from rwf.model.limits import CALLBACK_ATTEMPTS
from rwf.ops.acknowledge import acknowledge
from rwf.protocol.requests import Call
from tests.support.acknowledge_cases import accept, failed, status
from tests.support.flows import (
    flow,
    one_call,
)
from tests.support.outbox import fail


def test_a_callback_that_dies_later_undoes_it(one_client: Client) -> None:
    workflow_id = failed(one_client)
    accept(one_client, workflow_id)
    fail(one_client, workflow_id, CALLBACK_ATTEMPTS - 1)
    assert status(one_client, workflow_id) == "Resolved"
    fail(one_client, workflow_id, 1)
    assert one_client.callbacks(workflow_id)[0].status == "dead"
    assert status(one_client, workflow_id) == "Needs Review"
    accept(one_client, workflow_id, "bob")
    assert status(one_client, workflow_id) == "Resolved"
    one_client.resend_callback(one_client.callbacks(workflow_id)[0].callback_id)
    assert status(one_client, workflow_id) == "Resolved"


def test_a_dead_callback_of_a_good_end_may_be_acknowledged(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    one_client.complete_step(view.id, "a")
    fail(one_client, view.id, CALLBACK_ATTEMPTS)
    assert status(one_client, view.id) == "Needs Review"
    accept(one_client, view.id)
    assert status(one_client, view.id) == "Resolved"


def test_one_that_is_sent_twice_is_done_once(one_client: Client) -> None:
    """And gets its first answer even when a recovery has come between."""
    workflow_id = failed(one_client)
    call = next(acknowledge(one_client._ctx, workflow_id, "ann", "why"))
    assert isinstance(call, Call)
    assert one_client._run(one_call(call))[0] == b"accepted"
    one_client.recover_step(workflow_id, "a", "retry")
    assert one_client._run(one_call(call.repeated()))[0] == b"accepted"
    assert one_client.get(workflow_id).acknowledged_at is None
    assert [one.action for one in one_client.evidence(workflow_id)].count("acknowledge") == 1
