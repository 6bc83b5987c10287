"""A sweep finds every difference from the records, and nothing else (contract §10)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from rwf import Client, RwfError
from rwf.ops.signals import deliver_signal
from rwf.protocol.functions.repairs import RepairWorkflow
from rwf.protocol.requests import Op, ask
from rwf.repair.audit import Findings
from rwf.repair.sweep import Kind, Place, Slice, sweep
from tests.support import invariants
from tests.support.commandline import NO_ID
from tests.support.daemons import contents, corrupt, derived, swept
from tests.support.flows import (
    chain,
    drive,
    fan_out,
    first_call_only,
    flow,
    other_semantics,
    own_key,
    partition_key,
    raw,
    states,
)
from tests.support.outbox import ignore

HOUR = timedelta(hours=1)
EVERYTHING = (
    "ready high late running waiting expiring waited parked done failed child:failed pay:ready"
)


def everything(client: Client) -> str:
    """The id of a workflow with a step in each state, and callbacks of another."""
    wf = flow(EVERYTHING)
    wf.add("other", worker="w", queue="q", priority=5)
    view = client.insert(wf)
    taken = client.claim(["q"], worker_id="w", lease=600)
    assert [claim.step for claim in taken] == ["other"]
    client.complete_step(view.id, "late", "retryable", retry_in=600)
    client.complete_step(view.id, "done")
    client.complete_step(view.id, "failed", "failed")
    for step, key, deadline in (("waiting", "w", None), ("parked", "p", HOUR)):
        client.await_step(view.id, step, signal="go", correlation_key=key, deadline=deadline)
    client.await_step(
        view.id, "expiring", signal="go", correlation_key="e", deadline=timedelta(milliseconds=-1)
    )
    client.await_step(view.id, "waited", signal="go", correlation_key="x")
    client.deliver_signal("go", "x")
    return view.id


def ended(client: Client) -> str:
    view = client.insert(flow("a"))
    client.complete_step(view.id, "a")
    return view.id


def test_a_sweep_of_what_is_healthy_writes_nothing(client: Client) -> None:
    for _ in range(3):
        everything(client)
    for _ in range(70):
        client.insert(chain(10))
    client.insert(fan_out(600))
    ended(client)
    delivered = ended(client)
    client.dispatch_callbacks(ignore, limit=1)
    client.claim(["default"], worker_id="w", lease=600)
    client.request_cancel(client.insert(flow("a b:a")).id)
    before = contents(client)
    assert swept(client) == set()
    after = contents(client)
    assert {key for key in after if before.get(key) != after[key]} == {
        key for key in after if key.endswith(b":sweep")
    }
    assert client.get(delivered).state == "completed"


def _drop(name: str, member: str) -> Callable[[Any, str], None]:
    def drop(redis: Any, workflow_id: str) -> None:
        key = partition_key(workflow_id, name)
        assert redis.zrem(key, _found(redis.zrange(key, 0, -1), workflow_id, member)) == 1

    return drop


def _shift(name: str, member: str) -> Callable[[Any, str], None]:
    def shift(redis: Any, workflow_id: str) -> None:
        key = partition_key(workflow_id, name)
        redis.zincrby(key, 1000, _found(redis.zrange(key, 0, -1), workflow_id, member))

    return shift


def _found(entries: list[bytes], workflow_id: str, member: str) -> bytes:
    """The only entry with this ending; ID stands for the workflow's id."""
    end = member.replace("ID", workflow_id).encode()
    (found,) = (entry for entry in entries if entry.endswith(end))
    return found


def _lose_notices(redis: Any, workflow_id: str) -> None:
    assert redis.zrem(own_key(workflow_id, "d"), "parked") == 1


def _shift_notices(redis: Any, workflow_id: str) -> None:
    redis.zincrby(own_key(workflow_id, "d"), 1000, "parked")


def _lose_registration(redis: Any, workflow_id: str) -> None:
    keys = list(redis.scan_iter(match="*:reg:*", count=1000))
    assert redis.delete(*keys) >= 3


def _wrong_group(redis: Any, workflow_id: str) -> None:
    index = partition_key(workflow_id, "index")
    (entry,) = (one for one in redis.zrange(index, 0, -1) if one.endswith(workflow_id.encode()))
    redis.zrem(index, entry)
    redis.zadd(index, {b"f" + entry[1:]: 0})


def _wrong_counts(redis: Any, workflow_id: str) -> None:
    counts = redis.hget(own_key(workflow_id), ":c")
    assert counts.startswith(b"p1a4")
    redis.hset(own_key(workflow_id), ":c", counts.replace(b"p1a4", b"p2a3"))


DAMAGES: list[tuple[Callable[[Any, str], None], set[tuple[str, str | None]]]] = [
    (_drop("ready", "|ID|high"), {("ready_entry_missing", "high")}),
    (_drop("timers", "r|ID|late"), {("retry_timer_missing", "late")}),
    (_shift("timers", "r|ID|late"), {("retry_timer_missing", "late")}),
    (_drop("timers", "l|ID|other"), {("lease_timer_missing", "other")}),
    (_shift("timers", "l|ID|other"), {("lease_timer_missing", "other")}),
    (_drop("timers", "w|ID"), {("wait_timer_missing", None)}),
    (_shift("timers", "w|ID"), {("wait_timer_missing", None)}),
    (_lose_notices, {("wait_timer_missing", "parked")}),
    (_shift_notices, {("wait_timer_missing", "parked")}),
    (
        _lose_registration,
        {("registration_unfinished", step) for step in ("waiting", "parked")}
        | {("handoff_unfinished", "expiring")},
    ),
    (_wrong_group, {("index_entry_missing", None), ("index_entry_wrong", None)}),
    (_wrong_counts, {("counts_wrong", None)}),
]


@pytest.mark.parametrize(("damage", "repaired"), DAMAGES)
def test_what_was_lost_or_spoiled_is_restored(
    client: Client,
    damage: Callable[[Any, str], None],
    repaired: set[tuple[str, str | None]],
) -> None:
    healthy, workflow_id = ended(client), everything(client)
    before, counts = derived(client), raw(client).hget(own_key(workflow_id), ":c").split(b";")[0]
    damage(raw(client), workflow_id)
    assert invariants.check(client) != []
    assert swept(client) == repaired
    assert derived(client) == before
    assert raw(client).hget(own_key(workflow_id), ":c").split(b";")[0] == counts
    assert swept(client) == set()
    assert client.get(healthy).state == "completed"


@pytest.mark.parametrize("damage", [_drop("outbox", "ID|1"), _shift("outbox", "ID|1")])
def test_the_outbox_of_an_ended_workflow(
    one_client: Client, damage: Callable[[Any, str], None]
) -> None:
    workflow_id = ended(one_client)
    before = derived(one_client)
    damage(raw(one_client), workflow_id)
    assert {kind for kind, _ in swept(one_client)} == {"callback_entry_missing"}
    assert derived(one_client) == before


def test_an_unfinished_walk_without_its_timer_is_finished(one_client: Client) -> None:
    view = one_client.insert(fan_out(600))
    first_call_only(one_client, view.id, "root", "completed")
    assert swept(one_client) == set()  # its timer is not due yet: its client may still be at work
    raw(one_client).delete("rwf:{0}:timers")
    assert swept(one_client) == {("release_unfinished", None)}
    assert one_client.get(view.id).runnable_step_count == 600


def test_a_release_that_is_left_amid_a_check_gets_its_timer(one_client: Client) -> None:
    """A check repairs the timer alone; a client that fires that, or sweeps, goes on with the
    release."""
    client, redis = one_client, raw(one_client)
    view = client.insert(fan_out(600))
    first_call_only(client, view.id, "root", "completed")
    timers, timer = partition_key(view.id, "timers"), f"u|{view.id}"

    def checked() -> list[str]:
        found = client._run(ask(client._ctx.workflow_keys(view.id), RepairWorkflow(0)))
        assert found is not None
        return [repair.kind for repair in found.repairs]

    assert checked() == []
    due = redis.zscore(timers, timer)
    redis.zrem(timers, timer)
    assert checked() == ["slice_timer_missing"]
    redis.zadd(timers, {timer: 9e14})
    assert checked() == ["slice_timer_missing"]
    assert due <= redis.zscore(timers, timer) <= due + 60_000
    redis.zadd(timers, {timer: 5})
    assert checked() == []
    client.reconcile(view.id)
    redis.zadd(timers, {timer: 5})
    assert checked() == ["timer_wrong"]
    assert redis.zscore(timers, timer) is None


def test_a_check_of_other_semantics_touches_nothing(
    one_client: Client, broken_on_purpose: None
) -> None:
    """Also when the workflow's version has changed since the check began."""
    view = one_client.insert(flow("a"))
    other_semantics(one_client, view.id)
    raw(one_client).delete(partition_key(view.id, "ready"), partition_key(view.id, "index"))
    before = contents(one_client)
    keys = one_client._ctx.workflow_keys(view.id)
    assert one_client._run(ask(keys, RepairWorkflow(0))) is None
    assert contents(one_client) == before


def test_a_hand_off_without_its_timer_is_carried_out(client: Client) -> None:
    view = client.insert(flow("a b:a"))
    client.await_step(view.id, "a", signal="go", correlation_key="k")
    cut = deliver_signal(client._ctx, "go", "k", None, None)
    assert drive(client, cut, 1) is None
    assert swept(client) == set()  # its timer is set: its client may still be at work
    redis = raw(client)
    (timers,) = (key for key in derived(client) if key.endswith(b":timers"))
    redis.delete(timers)
    assert swept(client) == {("handoff_unfinished", "a")}
    assert states(client, view.id) == "a=available b=pending"


@pytest.mark.parametrize("step", ["c3", "c401", "c598"])
def test_a_large_graph_is_looked_at_as_well(one_client: Client, step: str) -> None:
    view = one_client.insert(fan_out(600))
    one_client.complete_step(view.id, "root")
    one_client.await_step(view.id, "c7", signal="go", correlation_key="k", deadline=HOUR)
    before = derived(one_client)
    for damage, repair in (
        (_drop("ready", f"|ID|{step}"), ("ready_entry_missing", step)),
        (_drop("timers", "w|ID"), ("wait_timer_missing", None)),
        (_lose_topics, ("registration_unfinished", "c7")),
        (_move_counts, ("counts_wrong", None)),
    ):
        damage(raw(one_client), view.id)
        assert swept(one_client) == {repair}
        assert derived(one_client) == before
    assert swept(one_client) == set()


def _lose_topics(redis: Any, workflow_id: str) -> None:
    assert redis.delete(*redis.scan_iter(match="*:reg:*", count=1000)) == 1


def _move_counts(redis: Any, workflow_id: str) -> None:
    counts = redis.hget(own_key(workflow_id), ":c")
    redis.hset(own_key(workflow_id), ":c", counts.replace(b"a599w1c1", b"a598w1c1f1"))


def test_a_large_graph_that_has_ended(one_client: Client) -> None:
    view = one_client.insert(fan_out(600))
    one_client.complete_step(view.id, "root", "failed")
    before = derived(one_client)
    _drop("outbox", "ID|1")(raw(one_client), view.id)
    assert swept(one_client) == {("callback_entry_missing", None)}
    assert derived(one_client) == before
    one_client.dispatch_callbacks(ignore, limit=1)
    before = derived(one_client)
    for damage, repairs in (
        (_drop("timers", "x|ID"), {("retention_timer_missing", None)}),
        (_open_group, {("index_entry_missing", None), ("index_entry_wrong", None)}),
        (_uncounted_callback, {("counts_wrong", None)}),
    ):
        damage(raw(one_client), view.id)
        assert swept(one_client) == repairs
        assert derived(one_client) == before
    assert swept(one_client) == set()


def _open_group(redis: Any, workflow_id: str) -> None:
    index = partition_key(workflow_id, "index")
    [entry] = redis.zrange(index, 0, -1)
    redis.zrem(index, entry)
    redis.zadd(index, {b"o" + entry[1:]: 0})


def _uncounted_callback(redis: Any, workflow_id: str) -> None:
    counts = redis.hget(own_key(workflow_id), ":c")
    redis.hset(own_key(workflow_id), ":c", counts.replace(b",1,0,0,", b",0,0,0,"))


@pytest.mark.parametrize(
    "name", ["ready", "reserved", "timers", "outbox", "index", "served", "tags"]
)
def test_a_derived_key_that_somebody_has_overwritten(one_client: Client, name: str) -> None:
    everything(one_client)
    ended(one_client)
    before = derived(one_client)
    raw(one_client).set(f"rwf:{{0}}:{name}", "x")
    assert swept(one_client) == set()  # restored as a whole, and not workflow by workflow
    assert derived(one_client) == before


@pytest.mark.parametrize("name", ["ready", "index"])
def test_one_that_is_overwritten_in_the_middle_of_a_round(one_client: Client, name: str) -> None:
    for _ in range(300):
        one_client.insert(flow("a"))
    before, place = derived(one_client), Place(0, Kind.OPEN)

    def slice_(*, anew: bool = False) -> Slice:
        return one_client._run(sweep(one_client._ctx, place, 60.0, anew=anew))

    slice_(anew=True)
    raw(one_client).set(f"rwf:{{0}}:{name}", "x")
    with pytest.raises(RwfError):
        slice_()
    assert slice_().tidied["key_overwritten"] == 1
    assert derived(one_client) == before


def test_more_workflows_than_a_page_all_damaged(client: Client) -> None:
    ids = [client.insert(chain(3)).id for _ in range(150)]
    before = derived(client)
    redis = raw(client)
    redis.delete(*[key for key in before if key.endswith(b":ready")])
    assert swept(client) == {("ready_entry_missing", "s0")}
    assert derived(client) == before
    assert states(client, ids[0]) == "s0=available s1=pending s2=pending"


def test_one_that_cannot_be_reconciled_holds_up_nobody(
    client: Client, broken_on_purpose: None, caplog: pytest.LogCaptureFixture
) -> None:
    ids = [client.insert(flow("a b:a")).id for _ in range(8)]
    other_semantics(client, ids[0])
    corrupt(client, ids[1], "a")
    raw(client).hset(own_key(ids[2]), ":c", "nonsense")
    raw(client).delete(own_key(ids[3]))
    raw(client).set(own_key(ids[3]), "no hash")
    raw(client).delete(own_key(ids[4]))
    redis = raw(client)
    garbage = [b"", b"a", b"|", b"o", b"o|", b"o|x|y", b"z|1a20fe4d331|0-a", b"\xe4|0|0-b"]
    for number in range(client._ctx.keys.partitions):
        redis.zadd(f"rwf:{{{number}}}:index", dict.fromkeys([*garbage, b"o|\xff|\xfe"], 0))
    redis.delete(*[key for key in derived(client) if key.endswith(b":ready")])
    assert ("ready_entry_missing", "a") in swept(client)
    ready = {
        entry.split(b"|")[2].decode()
        for key, entries in derived(client).items()
        if key.endswith(b":ready")
        for entry, _ in entries
    }
    assert ready >= set(ids[5:])
    assert ready.isdisjoint(ids[:1])
    assert f"workflow {ids[3]} was skipped" in caplog.text
    assert client.evidence(ids[0]) == []  # a sweep is not a command


def test_a_workflow_that_is_removed_while_it_is_looked_at_is_no_trouble(
    one_client: Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def audited(*_: object) -> Op[Findings]:
        yield from ()
        return Findings(suspects={NO_ID: None})

    monkeypatch.setattr("rwf.repair.sweep.audit", audited)
    one_client.insert(flow("a"))
    assert swept(one_client) == set()
    assert "skipped" not in caplog.text


def test_a_round_goes_on_where_another_daemon_has_left_it(one_client: Client) -> None:
    for _ in range(600):
        one_client.insert(flow("a"))
    scope, first = one_client._ctx, Place(0, Kind.OPEN)
    one_client._run(sweep(scope, first, 60.0, anew=True))
    one_client._run(sweep(scope, first, 60.0))
    second = Place(0, Kind.OPEN)
    ended_: list[bool] = []
    pages = [first.at]
    while not any(ended_):
        done = one_client._run(sweep(scope, second, 60.0))
        ended_.append(done.ended)
        if second.at:
            pages.append(second.at)
    # The last entries that the first one checked were not noted yet: they are checked once more.
    assert len(ended_) == 3
    assert pages[0] == pages[1] < pages[2]
    last = one_client._run(sweep(scope, second, 60.0))
    assert (last.mended, last.ended) == ((), False)
    assert 50 < last.pause <= 60


def test_a_round_is_paced_over_its_interval(one_client: Client) -> None:
    for _ in range(256 * 3 + 1):
        one_client.insert(flow("a"))
    place = Place(0, Kind.OPEN)
    first = one_client._run(sweep(one_client._ctx, place, 60.0, anew=True))
    assert 14 < first.pause <= 15  # three more pages, and its end
    second = one_client._run(sweep(one_client._ctx, place, 60.0))
    assert 19 < second.pause <= 20
