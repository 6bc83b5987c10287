"""White-box cases beside those of ``contract/test_evidence.py``."""

from __future__ import annotations

from rwf import Client, Completion
from rwf.protocol.keys import partition_of
from tests.support.evidence_cases import CAP
from tests.support.flows import flow, own_key, partition_key, raw, refused


def _stranger(known: str) -> str:
    assert partition_of(known) is not None
    return f"{known.partition('-')[0]}-{'a' * 16}"


def test_commands_on_an_unknown_workflow_are_kept_in_a_log(client: Client) -> None:
    stranger = _stranger(client.insert(flow("a")).id)
    with refused("workflow_not_found") as caught:
        client.complete_step(stranger, "a|b", actor="ann")
    assert caught.value.requested_at is not None
    [entry] = client.evidence()
    assert (entry.action, entry.status, entry.reason_code) == (
        "complete_step",
        "rejected",
        "workflow_not_found",
    )
    assert (entry.step, entry.actor) == ("a|b", "ann")
    assert client.evidence(step="a") == []
    assert not raw(client).exists(own_key(stranger, "n"))


def test_the_log_says_which_workflow_it_was(client: Client) -> None:
    stranger = _stranger(client.insert(flow("a")).id)
    with refused("workflow_not_found"):
        client.complete_step(stranger, "a")
    [entry] = client.evidence()
    assert stranger in entry.message


def test_the_log_is_capped(one_client: Client) -> None:
    stranger = _stranger(one_client.insert(flow("a")).id)
    key = partition_key(stranger, "log")
    for _ in range(10):
        raw(one_client).rpush(key, *(["old"] * 1000))
    one_client.complete_many([Completion(workflow_id=stranger, step=f"s{n}") for n in range(70)])
    log = [entry.decode() for entry in raw(one_client).lrange(key, 0, -1)]
    assert len(log) == CAP
    assert log[-71] == "old"
    assert "s69" in log[-1]
