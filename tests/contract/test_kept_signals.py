"""Signals that no wait has consumed: who delivered them, listing them, taking them back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from rwf import Client
from tests.support.flows import (
    flow,
    refused,
    states,
    stored,
)
from tests.support.kept_signals_cases import deliver, every, pages, wait
from tests.support.outbox import stat

# --- who


def test_who_has_delivered_a_signal_is_on_record_wherever_it_goes(client: Client) -> None:
    view = client.insert(flow("a"))
    first = client.deliver_signal("go", "k", payload=1, actor="ann, of ~sales|")
    assert first.actor == "ann, of ~sales|"
    assert client.deliver_signal("go", "k", actor="bob").actor == first.actor
    (again,) = client.evidence()
    assert (again.status, again.actor) == ("duplicate", "bob")
    assert client.signals("go", "k").signals == (first,)
    assert wait(client, view.id, actor="cy") == "resolved"
    told = [(one.action, one.actor) for one in client.evidence(view.id)]
    assert told == [("await_step", "cy"), ("deliver_signal", first.actor)]
    assert client.deliver_signal("go", "k").actor == first.actor


def test_who_has_asked_for_a_wait_is_on_record(client: Client) -> None:
    view = client.insert(flow("a"))
    (claimed,) = client.claim(["default"], worker_id="w")
    given: dict[str, Any] = {"signal": "go", "correlation_key": "k", "lease": claimed.lease}
    waiting = client.await_step(view.id, "a", actor="a~b,c", **given)
    assert waiting.actor == "a~b,c"
    assert client.step(view.id, "a").awaiting == waiting
    assert client.await_step(view.id, "a", **given) == waiting
    assert client.await_step(view.id, "a", signal="other", correlation_key="k").actor is None


def test_who_has_delivered_what_nobody_takes_is_in_its_evidence(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    wait(one_client, view.id, deadline=timedelta(0))
    one_client.deliver_signal("go", "k", actor='a "b"')
    one_client.deliver_signal("go", "k", dedupe_key="2")
    late = [(one.reason_code, one.actor, one.source) for one in one_client.evidence()]
    assert late == [("late_signal", 'a "b"', "server"), ("late_signal", None, "server")]


@pytest.mark.parametrize("actor", ["", "x" * 513, 5, "\ud800"])
def test_actors_that_are_none(one_client: Client, actor: Any) -> None:
    view = one_client.insert(flow("a"))
    signal = one_client.deliver_signal("go", "other")
    before = stored(one_client)
    with refused("invalid_argument"):
        one_client.deliver_signal("go", "k", actor=actor)
    with refused("invalid_argument"):
        wait(one_client, view.id, actor=actor)
    with refused("invalid_argument"):
        one_client.withdraw_signal(signal.id, actor=actor)
    with refused("invalid_argument"):
        one_client.withdraw_signal(signal.id, reason=actor)
    assert stored(one_client) == before


# --- listing


def test_kept_signals_are_listed_and_consumed_ones_are_not(client: Client) -> None:
    ids = [client.insert(flow("a")).id for _ in range(4)]
    unmatched = deliver(client, "nobody", "1", payload={"n": [1, "ä"]})
    wait(client, ids[0], "late", deadline=timedelta(0))
    late = deliver(client, "late", "")
    wait(client, ids[1], "crowd")
    wait(client, ids[2], "crowd")
    ambiguous = deliver(client, "crowd", "1")
    wait(client, ids[3], "one")
    assert deliver(client, "one", "1").status == "consumed"
    other = client.deliver_signal("stop", "nobody")
    kept = {view.id: view for view in (unmatched, late, ambiguous, other)}
    assert {view.id: view for view in every(client)} == kept
    assert len(every(client)) == 4
    assert {view.id for view in every(client, "go")} == kept.keys() - {other.id}
    assert every(client, "go", "nobody") == [unmatched]
    assert {view.id for view in every(client, correlation_key="nobody")} == {unmatched.id, other.id}
    for view in (late, ambiguous):
        assert every(client, status=view.status) == [view]
        assert every(client, "go", view.correlation_key, status=view.status) == [view]
        assert every(client, "go", view.correlation_key, status="unmatched") == []
    assert every(client, "go", "one") == every(client, "nothing") == []


def test_the_empty_correlation_key_is_one_like_any_other(one_client: Client) -> None:
    empty, other = deliver(one_client, "", "1"), deliver(one_client, "x", "1")
    assert every(one_client, correlation_key="") == every(one_client, "go", "") == [empty]
    assert {view.id for view in every(one_client)} == {empty.id, other.id}


def test_pages_show_every_topic_and_every_signal_once(client: Client) -> None:
    """More topics than a page of timers, and one topic with more signals than a page."""
    delivered = [deliver(client, f"k{number}", "1").id for number in range(260)]
    delivered += [deliver(client, "deep", f"{number}").id for number in range(230)]
    found = list(pages(client))
    assert [len(page) for page in found[:4]] == [100] * 4
    ids = [view.id for page in found for view in page]
    assert len(ids) == len(delivered)
    assert set(ids) == set(delivered)
    deep = [view.dedupe_key for page in found for view in page if view.correlation_key == "deep"]
    assert deep == [str(number) for number in range(230)]
    assert [view.dedupe_key for view in every(client, "go", "deep")] == deep
    assert {view.id for view in every(client, "go")} == set(delivered)


@pytest.mark.parametrize(
    "options",
    [
        {"signal": "no name"},
        {"signal": 5},
        {"correlation_key": 5},
        {"correlation_key": "x" * 513},
        {"status": "consumed"},
        {"status": "withdrawn"},
        {"status": "nothing"},
        {"status": 5},
        {"cursor": ""},
        {"cursor": 5},
        {"cursor": "0-0--x"},
        {"cursor": f"0-{2**64}--0"},
        {"cursor": "0-0-zz-0"},
    ],
    ids=repr,
)
def test_what_cannot_be_asked_for(one_client: Client, options: dict[str, Any]) -> None:
    with refused("invalid_argument"):
        one_client.signals(**options)


# --- withdrawing


def test_a_withdrawn_signal_is_gone_and_stays_as_evidence(client: Client) -> None:
    view = client.insert(flow("a"))
    signal = client.deliver_signal("go", "k", payload={"n": 1}, actor="ann")
    taken = client.withdraw_signal(signal.id, actor="bob", reason="sent by mistake")
    assert taken == signal.model_copy(update={"status": "withdrawn"})
    assert every(client) == []
    (entry,) = client.evidence()
    assert (entry.action, entry.scope, entry.status) == ("withdraw_signal", "signal", "accepted")
    assert (entry.actor, entry.reason_code) == ("bob", None)
    assert entry.metadata == {
        "signal_id": signal.id,
        "signal": "go",
        "correlation_key": "k",
        "dedupe_key": "k",
        "reason": "sent by mistake",
    }
    assert wait(client, view.id) == "waiting"
    (blocker,) = client.explain_step(view.id, "a").blockers
    assert blocker.details["swallowed_by"] is None


def test_a_withdrawn_signal_does_not_swallow_the_next(client: Client) -> None:
    view = client.insert(flow("a"))
    first = client.deliver_signal("go", "k", payload="wrong")
    client.withdraw_signal(first.id)
    second = client.deliver_signal("go", "k", payload="right")
    assert (second.duplicate, second.payload, second.id == first.id) == (False, "right", False)
    assert wait(client, view.id) == "resolved"
    (claimed,) = client.claim(["default"], worker_id="w")
    assert claimed.signal is not None
    assert (claimed.signal.id, claimed.signal.payload) == (second.id, "right")


@pytest.mark.parametrize("withdrawn", [{0}, {1}, {2}, {0, 1}, {1, 2}, {0, 2}, {0, 1, 2}])
def test_any_of_several_may_be_withdrawn(client: Client, withdrawn: set[int]) -> None:
    signals = [deliver(client, "k", str(number), payload=number) for number in range(3)]
    for number in sorted(withdrawn, reverse=True):
        client.withdraw_signal(signals[number].id)
    left = [signal for number, signal in enumerate(signals) if number not in withdrawn]
    assert every(client, "go", "k") == left
    signals.append(deliver(client, "k", "3", payload=3))
    view = client.insert(flow("a"))
    for signal in [*left, signals[-1]]:
        assert wait(client, view.id) == "resolved"
        (claimed,) = client.claim(["default"], worker_id="w")
        assert claimed.signal is not None
        assert claimed.signal.payload == signal.payload
        client.release([claimed])
    assert wait(client, view.id) == "waiting"


def test_the_last_signal_takes_its_topic_with_it(one_client: Client) -> None:
    before = {key for key in stored(one_client) if b":sig:" in key or b":timers" in key}
    signal = one_client.deliver_signal("go", "k")
    one_client.withdraw_signal(signal.id)
    assert {key for key in stored(one_client) if b":sig:" in key or b":timers" in key} == before
    assert stat(one_client, "sg|withdrawn") == 1
    assert stat(one_client, "sg|unmatched") == 1


def test_a_consumed_signal_is_not_withdrawn(client: Client) -> None:
    view = client.insert(flow("a"))
    wait(client, view.id)
    signal = client.deliver_signal("go", "k", payload=1)
    with refused("already_consumed_signal") as caught:
        client.withdraw_signal(signal.id, actor="bob")
    assert f"step a of workflow {view.id}" in caught.value.message
    assert caught.value.legal_next_steps == ("explain_step", "recover_step")
    assert (caught.value.action, caught.value.scope) == ("withdraw_signal", "signal")
    (entry,) = client.evidence()
    assert (entry.status, entry.reason_code) == ("rejected", "already_consumed_signal")
    assert (entry.actor, entry.metadata) == ("bob", {"signal_id": signal.id})
    assert states(client, view.id) == "a=available"


def test_the_second_withdrawal_finds_nothing(client: Client) -> None:
    signal = client.deliver_signal("go", "k")
    client.withdraw_signal(signal.id)
    for _ in range(2):
        with refused("signal_not_found") as caught:
            client.withdraw_signal(signal.id)
    assert caught.value.legal_next_steps == ("list_signals",)
    assert [one.status for one in client.evidence()] == ["accepted", "rejected", "rejected"]


@pytest.mark.parametrize(
    "signal_id", ["", "x", 5, None, "0-ab/1", f"0-{'a' * 40}/0", f"0-{'a' * 40}/x", f"{'a' * 40}/1"]
)
def test_ids_that_no_signal_can_have(one_client: Client, signal_id: Any) -> None:
    before = stored(one_client)
    with refused("signal_not_found"):
        one_client.withdraw_signal(signal_id)
    assert stored(one_client) == before


def test_an_id_of_another_partition_finds_nothing(client: Client) -> None:
    signal = client.deliver_signal("go", "k")
    home, _, rest = signal.id.partition("-")
    with refused("signal_not_found"):
        client.withdraw_signal(f"{int(home) + 1}-{rest}")
    assert every(client) == [signal]
