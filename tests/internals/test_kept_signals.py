"""White-box cases beside those of ``contract/test_kept_signals.py``."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from rwf import Client, CommandRejected
from rwf.ops.cancel import request_cancel
from rwf.ops.kept import list_signals, withdraw_signal
from rwf.ops.signals import await_step, deliver_signal
from rwf.protocol.functions.topics import ReadKeptSignals, WithdrawSignal
from rwf.protocol.keys import topic_digest
from rwf.protocol.requests import Call
from tests.support.flows import (
    drive,
    flow,
    noted,
    one_call,
    other_semantics,
    own_key,
    raw,
    refused,
    states,
)
from tests.support.kept_signals_cases import deliver, every, pages, wait
from tests.support.outbox import stat


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


def test_a_page_is_read_in_calls_of_bounded_size(one_client: Client) -> None:
    """As many signals of 200 KB as a page may have, and timers of workflows between them."""
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


def test_a_topic_that_somebody_has_overwritten_hides_no_other(
    one_client: Client, broken_on_purpose: None
) -> None:
    deliver(one_client, "spoilt", "1")
    good = deliver(one_client, "good", "1")
    record = one_client._ctx.keys.topic(topic_digest("go", "spoilt"))[-2]
    raw(one_client).delete(record)
    raw(one_client).set(record, "x")
    assert every(one_client) == [good]


def test_a_signal_on_its_way_to_a_wait_is_handed_over_first(client: Client) -> None:
    """The client that delivered it died after the first call."""
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
    """It has not been judged yet, and judging goes by consecutive numbers."""
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
    """The reply to the first was lost; meanwhile another signal has come under the same key."""
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
    """And that release reads a record that names who has delivered a signal: it takes the name for
    a longer id of a call."""
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
