"""Signals that no wait has consumed: who delivered them, listing them, taking them back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from rwf import Client, CommandRejected, SignalView
from rwf.ops.cancel import request_cancel
from rwf.ops.kept import list_signals, withdraw_signal
from rwf.ops.signals import await_step, deliver_signal
from rwf.protocol.functions.topics import ReadKeptSignals, WithdrawSignal
from rwf.protocol.keys import topic_digest
from rwf.protocol.requests import Call
from tests.contract.flows import (
    drive,
    flow,
    noted,
    one_call,
    other_semantics,
    own_key,
    raw,
    refused,
    states,
    stored,
)
from tests.contract.outbox import stat


def deliver(client: Client, key: str, dedupe: str, **options: Any) -> SignalView:
    return client.deliver_signal("go", key, dedupe_key=dedupe, **options)


def wait(client: Client, workflow_id: str, key: str = "k", **options: Any) -> str:
    return client.await_step(workflow_id, "a", signal="go", correlation_key=key, **options).status


def every(client: Client, *asked: str, **options: Any) -> list[SignalView]:
    """All signals that are kept, page by page."""
    return [view for page in pages(client, *asked, **options) for view in page]


def pages(client: Client, *asked: str, **options: Any) -> Iterator[tuple[SignalView, ...]]:
    cursor = None
    while True:
        page = client.signals(*asked, cursor=cursor, **options)
        yield page.signals
        cursor = page.cursor
        if cursor is None:
            return


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


def test_a_signal_that_is_being_handed_over_is_recorded(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    wait(one_client, view.id)
    drive(one_client, deliver_signal(one_client._ctx, "go", "k", None, "1"), 1)
    deliver(one_client, "other", "1")
    (found,) = every(one_client, status="recorded")
    assert (found.dedupe_key, found.status) == ("1", "recorded")
    one_client.reconcile(view.id)
    one_client.deliver_signal("go", "k", dedupe_key="2")
    assert every(one_client, "go", "k", status="recorded") == []


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


def test_a_page_is_read_in_calls_of_bounded_size(one_client: Client) -> None:
    """As many signals of 200 KB as there may be in a page, and timers of workflows between."""
    for number in range(30):
        one_client.insert(flow("a"), retention=timedelta(days=1))
        deliver(one_client, "k", str(number), payload="x" * 200_000)
    op, reply, sizes = list_signals(one_client._ctx, None, None, None, None), None, []
    page = None
    while page is None:
        try:
            call = op.send(reply)
        except StopIteration as end:
            page = end.value
            break
        reply = one_client._run(one_call(call))
        if isinstance(call, Call) and call.function == ReadKeptSignals.name:
            signals = ReadKeptSignals.decoded(reply).signals
            sizes.append(sum(len(kept.signal.payload or b"") for kept in signals))
    assert sum(sizes) >= 6_000_000
    assert max(sizes) <= 2**20
    assert page is not None
    assert [view.dedupe_key for view in page.signals] == [str(number) for number in range(30)]


def test_many_timers_that_are_no_topics_end_a_page_early(
    one_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rwf.ops.kept._SCANNED_PER_PAGE", 200)
    for _ in range(500):
        view = one_client.insert(flow("a"))
        one_client.complete_step(view.id, "a", "retryable", retry_in=600)
    signal = deliver(one_client, "k", "1")
    found = list(pages(one_client))
    assert len(found) > 2
    assert [view for page in found for view in page] == [signal]


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


def test_a_topic_that_somebody_has_overwritten_hides_no_other(
    one_client: Client, broken_on_purpose: None
) -> None:
    deliver(one_client, "spoilt", "1")
    good = deliver(one_client, "good", "1")
    record = one_client._ctx.keys.topic(topic_digest("go", "spoilt"))[-2]
    raw(one_client).delete(record)
    raw(one_client).set(record, "x")
    assert every(one_client) == [good]


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


def test_a_signal_on_its_way_to_a_wait_is_handed_over_first(client: Client) -> None:
    """Whoever delivered it died after the first call."""
    view = client.insert(flow("a"))
    wait(client, view.id)
    drive(client, deliver_signal(client._ctx, "go", "k", 1, "1"), 1)
    (signal,) = every(client)
    with refused("already_consumed_signal"):
        client.withdraw_signal(signal.id)
    assert states(client, view.id) == "a=available"
    assert [entry[2] for entry in noted(client, view.id)] == ["accepted", "accepted"]


def test_a_signal_whose_wait_has_ended_on_the_way_is_withdrawn(client: Client) -> None:
    view = client.insert(flow("a"))
    wait(client, view.id)
    drive(client, deliver_signal(client._ctx, "go", "k", 1, "1"), 1)
    drive(client, request_cancel(client._ctx, view.id, None, None), 1)
    (signal,) = every(client)
    assert client.withdraw_signal(signal.id).status == "withdrawn"
    client.reconcile(view.id)
    assert client.get(view.id).state == "cancelled"


def test_one_behind_a_signal_that_is_being_handed_over_is_withdrawn(client: Client) -> None:
    """It has not been judged yet, and what is judged goes by numbers without a gap."""
    view = client.insert(flow("a"))
    wait(client, view.id)
    drive(client, deliver_signal(client._ctx, "go", "k", 1, "1"), 1)
    for dedupe in ("2", "3"):
        drive(client, deliver_signal(client._ctx, "go", "k", None, dedupe), 1)
    _, second, third = every(client, "go", "k")
    assert client.withdraw_signal(second.id).status == "withdrawn"
    assert states(client, view.id) == "a=available"
    assert [one.id for one in every(client, "go", "k")] == [third.id]
    assert deliver(client, "k", "4").status == "unmatched"


def test_many_that_have_not_been_judged_are_first(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    wait(one_client, view.id)
    for number in range(350):
        drive(one_client, deliver_signal(one_client._ctx, "go", "k", None, str(number)), 1)
    last = every(one_client, "go", "k")[-1]
    assert one_client.withdraw_signal(last.id).dedupe_key == "349"
    assert len(every(one_client, "go", "k")) == 348
    assert stat(one_client, "sg|unmatched") == 349


def test_a_hand_off_that_this_release_may_not_carry_out_holds_its_signal(
    one_client: Client, broken_on_purpose: None
) -> None:
    view = one_client.insert(flow("a"))
    wait(one_client, view.id)
    drive(one_client, deliver_signal(one_client._ctx, "go", "k", 1, "1"), 1)
    other_semantics(one_client, view.id)
    (signal,) = every(one_client)
    with refused("illegal_transition") as caught:
        one_client.withdraw_signal(signal.id)
    assert view.id in caught.value.message
    assert caught.value.legal_next_steps[0] == "reconcile"
    assert every(one_client) == [signal]


def test_a_withdrawal_that_is_sent_twice_is_done_once(one_client: Client) -> None:
    """The reply to the first was lost; meanwhile the same key has brought another signal."""
    signal = one_client.deliver_signal("go", "k")
    op: Any = withdraw_signal(one_client._ctx, signal.id, "bob", None)
    call = op.send(one_client._run(one_call(next(op))))
    assert call.function == WithdrawSignal.name
    assert one_client._run(one_call(call)) == [b"accepted"]
    other = one_client.deliver_signal("go", "k")
    assert one_client._run(one_call(call.repeated())) == [b"accepted"]
    assert every(one_client) == [other]
    assert [one.action for one in one_client.evidence()] == ["withdraw_signal"]
    assert stat(one_client, "sg|withdrawn") == 1


def test_a_refusal_that_is_sent_twice_is_noted_once(one_client: Client) -> None:
    signal = one_client.deliver_signal("go", "k")
    one_client.withdraw_signal(signal.id)
    op: Any = withdraw_signal(one_client._ctx, signal.id, None, None)
    call = op.send(one_client._run(one_call(next(op))))
    first = one_client._run(one_call(call))
    assert one_client._run(one_call(call.repeated()))[:4] == first[:4]
    assert [one.status for one in one_client.evidence()] == ["accepted", "rejected"]


def test_a_wait_that_comes_between_a_look_and_the_withdrawal_wins(client: Client) -> None:
    view = client.insert(flow("a"))
    signal = client.deliver_signal("go", "k")
    op: Any = withdraw_signal(client._ctx, signal.id, None, None)
    call = op.send(client._run(one_call(next(op))))
    assert wait(client, view.id) == "resolved"
    with pytest.raises(CommandRejected, match="already_consumed_signal"):
        op.send(client._run(one_call(call)))


def test_a_withdrawal_between_a_waits_calls_leaves_it_waiting(client: Client) -> None:
    view = client.insert(flow("a"))
    signal = client.deliver_signal("go", "k")
    drive(client, await_step(client._ctx, view.id, "a", "go", "k", None, None), 1)
    assert client.withdraw_signal(signal.id).status == "withdrawn"
    client.reconcile(view.id)
    assert states(client, view.id) == "a=awaiting_signal"
    assert deliver(client, "k", "2").status == "consumed"


def test_records_of_the_release_before_are_read(one_client: Client) -> None:
    """And one that tells who has delivered a signal is read by that release: what it takes for a
    call's id is longer."""
    one_client.deliver_signal("go", "k", actor="ann")
    record = one_client._ctx.keys.topic(topic_digest("go", "k"))[-2]
    (field,) = (name for name in raw(one_client).hkeys(record) if name[:1] == b"s")
    text = raw(one_client).hget(record, field)
    head, _, _ = text.partition(b"|")
    assert len(head.split(b",")) == 6
    assert head.split(b",")[2].endswith(b"~ann")
    raw(one_client).hset(record, field, text.replace(b"~ann", b""))
    assert [view.actor for view in every(one_client)] == [None]
    view = one_client.insert(flow("a"))
    wait(one_client, view.id, "other", actor="cy")
    wait_text = raw(one_client).hget(own_key(view.id), "~a")
    assert len(wait_text.partition(b"|")[0].split(b",")) == 11
