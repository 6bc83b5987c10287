"""The order in which steps are handed out (contract §8)."""

from __future__ import annotations

import pytest

from rwf import Client, Workflow
from tests.internals.test_claim_next import report
from tests.support.fairness_cases import claim, insert, names
from tests.support.flows import fan_out, flow
from tests.support.waiting import until

# --- priority, then age


def test_priority_comes_first_across_queues(one_client: Client) -> None:
    insert(one_client, "old")
    insert(one_client, "urgent", queue="a", priority=5)
    insert(one_client, "idle", queue="a", priority=-5)
    insert(one_client, "urgent_too", queue="b", priority=5)
    insert(one_client, "most", priority=6)
    insert(one_client, "elsewhere", queue="c", priority=9)
    order = claim(one_client, 10, "a", "default", "b", "unknown")
    assert order == ["most", "urgent", "urgent_too", "old", "idle"]


def test_the_oldest_comes_first_within_a_priority(one_client: Client) -> None:
    wanted = [f"s{n}" for n in range(40)]
    for n, step in enumerate(wanted):
        insert(one_client, step, queue="ab"[n % 2])
    found = claim(one_client, 3, "a", "b") + claim(one_client, 30, "b", "a")
    assert found + claim(one_client, 30, "a", "b") == wanted


def test_one_page_of_a_queue_is_not_its_end(one_client: Client) -> None:
    one_client.insert(flow(" ".join(f"s{n}" for n in range(32)), queue="a"))
    insert(one_client, "other", queue="b")
    assert len(claim(one_client, 64, "a", "b")) == 33


def test_sixty_four_queues(one_client: Client) -> None:
    queues = [f"q{n}" for n in range(64)]
    for n in range(128):
        insert(one_client, f"s{n}", queue=queues[n % 64])
    assert claim(one_client, 128, *queues) == [f"s{n}" for n in range(128)]


# --- steps that come back


def test_what_is_given_back_keeps_its_place(one_client: Client) -> None:
    insert(one_client, "first")
    insert(one_client, "second")
    held = one_client.claim(["default"], worker_id="w", limit=2)
    insert(one_client, "third")
    one_client.release(held)
    assert claim(one_client, 3) == ["first", "second", "third"]


def test_a_retry_comes_behind_what_was_there_before(one_client: Client) -> None:
    again = insert(one_client, "again")
    (claimed,) = one_client.claim(["default"], worker_id="w")
    insert(one_client, "between")
    one_client.complete(claimed, "retryable", retry_in=0)
    until(lambda: one_client.reconcile(again).repairs, what="the retry")
    insert(one_client, "last")
    assert claim(one_client, 3) == ["between", "again", "last"]


def test_the_next_claims_of_a_batch_keep_the_order(one_client: Client) -> None:
    one_client.insert(flow("a b:a"))
    (first,) = one_client.claim(["default"], worker_id="w")
    insert(one_client, "older")
    insert(one_client, "urgent", priority=1)
    batch = one_client.complete_many([report(first)], claim_next=2, worker_id="w")
    assert sorted(names(batch.claimed)) == ["older", "urgent"]
    assert claim(one_client, 2) == ["b"]


# --- workflows share


def place_of(client: Client, wanted: str, limit: int) -> int:
    """How many steps are claimed before this one."""
    before = 0
    while wanted not in (found := claim(client, limit)):
        assert found, f"{wanted} is not to be had"
        before += len(found)
    return before + found.index(wanted)


@pytest.mark.parametrize("width", [10_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_a_wide_fan_out_does_not_starve_others(one_client: Client, width: int) -> None:
    wide = one_client.insert(fan_out(width))
    one_client.complete_step(wide.id, "root")
    insert(one_client, "late")
    assert place_of(one_client, "late", 7) == 99  # the root had a turn before
    for n in range(150):
        insert(one_client, f"later{n}")
    assert place_of(one_client, "later149", 64) <= 150 + 100


def test_two_backlogs_take_turns(one_client: Client) -> None:
    for name in ("one", "other"):
        one_client.insert(flow(" ".join(f"{name}{n}" for n in range(500))))
    found = claim(one_client, 400)
    assert sum(step.startswith("one") for step in found) == 200


def test_what_a_workflow_had_before_does_not_put_it_back(one_client: Client) -> None:
    wide = one_client.insert(
        Workflow("wide").add_many(
            [{"name": f"s{n}", "worker": "w"} for n in range(1_050)]
            + [{"name": "end", "worker": "w", "deps": ["s1049"]}]
        )
    )
    held = one_client.claim(["default"], worker_id="w", limit=1_000)
    held += one_client.claim(["default"], worker_id="w", limit=50)
    insert(one_client, "before")
    assert one_client.complete(held[-1]).released == ("end",)
    insert(one_client, "after")
    assert claim(one_client, 3) == ["before", "end", "after"]
    assert one_client.get(wide.id).state == "running"


def test_a_queue_without_a_backlog_is_not_ahead_of_one_that_has_had_some(
    one_client: Client,
) -> None:
    one_client.insert(flow(" ".join(f"s{n}" for n in range(1_000)), queue="a"))
    assert len(claim(one_client, 950, "a", "b")) == 950
    for n in range(200):
        insert(one_client, f"new{n}", queue="b")
    assert claim(one_client, 50, "a", "b") == [f"s{n}" for n in range(950, 1_000)]


def test_a_backlog_in_one_queue_delays_another_queue_little(one_client: Client) -> None:
    one_client.insert(flow(" ".join(f"s{n}" for n in range(2_000)), queue="a"))
    claim(one_client, 250, "a", "b")
    insert(one_client, "other", queue="b")
    assert "other" in claim(one_client, 101, "a", "b")


@pytest.mark.parametrize("limit", [1, 16])
def test_partitions_share_nearly(client: Client, limit: int) -> None:
    """On a cluster there are 16, and each claim begins with any of them."""
    wide = client.insert(fan_out(1_200))
    client.complete_step(wide.id, "root")
    insert(client, "late")
    assert place_of(client, "late", limit) <= 100 + 16 * 20
