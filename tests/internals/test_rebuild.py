"""Contract §1 and §10: derived keys that are lost or wrong are restored from the records."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from rwf import Client, RwfError, StoreUnavailable
from rwf.model.views import RebuildProgress
from rwf.ops.signals import deliver_signal
from rwf.protocol.keys import PARTITION_SLOTS, topic_digest
from rwf.protocol.requests import Scan
from rwf.repair.gauges import mend_gauges
from rwf.repair.orphans import remove_orphans
from rwf.repair.rebuild import rebuild, restore
from rwf.repair.topics import check_topic
from tests.conftest import Pool, connect
from tests.support.commandline import Cli
from tests.support.daemons import serving, swept
from tests.support.derived import (
    CLASSES,
    DAMAGES,
    Store,
    dangle,
    delete,
    drop_some,
    move,
    overwrite,
    writes,
)
from tests.support.flows import drive, fan_out, flow, one_call, own_key, partition_key, raw
from tests.support.servers import AnyServer
from tests.support.waiting import until

Damage = Callable[[Store, int, bytes], None]


def test_where_nothing_is_wrong_nothing_is_written(client: Client) -> None:
    Store.busy(client)
    before = writes(client)
    told: list[RebuildProgress] = []
    report = client.rebuild(progress=told.append)
    assert (report.workflows, report.topics) == (5, 2)
    assert (report.repairs, report.failures, report.gauges) == ({}, (), ())
    assert [each.stage for each in told][-1] == "orphans"
    assert told[-1].workflows == 5
    assert writes(client) == before


def damage_all(store: Store, damage: Damage, but: str = "") -> None:
    before = store.snapshot()
    damage_each(store, damage, but)
    assert store.snapshot() != before


def damage_each(store: Store, damage: Damage, but: str = "") -> None:
    for kind in set(CLASSES) - {but}:
        for partition, key in store.keys(kind):
            damage(store, partition, key)


@pytest.mark.parametrize("damage", DAMAGES)
def test_all_derived_keys_damaged_at_once(client: Client, damage: Damage) -> None:
    store = Store.busy(client)
    before = store.snapshot()
    damage_all(store, damage)
    assert client.rebuild().repairs
    assert store.snapshot() == before
    assert client.rebuild().repairs == {}
    store.finish()
    assert client.step(store.workflow_id, "child").state == "completed"


# A derived key of another type fails the transitions that use it, and takes a rebuild.
SWEPT = [damage for damage in DAMAGES if damage is not overwrite]


@pytest.mark.parametrize("damage", SWEPT)
def test_a_sweep_mends_all_of_it_too(client: Client, damage: Damage) -> None:
    store = Store.busy(client)
    before = store.snapshot()
    # Only a rebuild can find an unfinished insert that is listed nowhere.
    damage_all(store, damage, but="staged")
    # A listing with wrong scores cannot be walked in order, and is repaired first.
    for _ in range(2):
        swept(client)
    assert store.snapshot() == before


@pytest.mark.parametrize("damage", SWEPT)
def test_so_does_a_running_daemon(one_client: Client, damage: Damage) -> None:
    store = Store.busy(one_client)
    before = store.snapshot()
    with serving(one_client, interval=0.05, sweep_interval=0.1):
        damage_each(store, damage, but="staged")  # some is put right before the last is damaged
        until(lambda: store.snapshot() == before, what="the repair")
    store.finish()
    assert one_client.step(store.workflow_id, "child").state == "completed"


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", CLASSES)
def test_one_class_damaged(one_client: Client, kind: str, damage: Damage) -> None:
    store = Store.busy(one_client)
    before = store.snapshot()
    for partition, key in store.keys(kind):
        damage(store, partition, key)
    assert store.snapshot() != before
    assert one_client.rebuild().repairs
    assert store.snapshot() == before


@pytest.mark.parametrize("damage", [dangle, move])
def test_orphans_go_without_a_rebuild(client: Client, damage: Damage) -> None:
    store = Store.busy(client)
    before = store.snapshot()
    for kind in CLASSES:
        # Not checked: topics without a timer, and an outbox of the right size.
        if kind != "reg" and (kind, damage) != ("outbox", move):
            for partition, key in store.keys(kind):
                damage(store, partition, key)
    assert store.snapshot() != before
    for partition in range(client._ctx.keys.partitions):
        repairs = client._run(remove_orphans(client._ctx, partition))
        counted = raw(client).hgetall(f"rwf:{{{partition}}}:stats")
        assert all(
            int(counted[f"rr|{kind}".encode()]) == count > 0 for kind, count in repairs.items()
        )
    assert store.snapshot() == before
    for partition in range(client._ctx.keys.partitions):
        assert client._run(remove_orphans(client._ctx, partition)) == {}


@pytest.mark.parametrize("kind", ["ready", "reserved", "index", "tags"])
def test_what_stands_at_a_wrong_score_is_noticed_by_itself(one_client: Client, kind: str) -> None:
    store = Store.busy(one_client)
    before = store.snapshot()
    for partition, key in store.keys(kind):
        move(store, partition, key)
    assert one_client._run(remove_orphans(one_client._ctx, 0)) != {}
    assert store.snapshot() == before


def test_what_is_too_many_is_noticed_by_itself(one_client: Client) -> None:
    store = Store.busy(one_client)
    before = store.snapshot()
    missing = f"0-{'a' * 16}"
    for name, member in (
        ("ready", f"default:1000|0|{missing}|a"),
        ("index", f"o|0|{missing}"),
        ("tags", f"account=42|0|{missing}"),
    ):
        raw(one_client).zadd(f"rwf:{{0}}:{name}", {member: 0})
    found = one_client._run(remove_orphans(one_client._ctx, 0))
    assert found == {"ready_entry_wrong": 1, "index_entry_wrong": 1, "tag_entry_wrong": 1}
    assert store.snapshot() == before


def test_a_scan_of_many_pages(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rwf.transport.session._KEYS_PER_SCAN", 1)
    store = Store.busy(client)
    before = store.snapshot()
    for kind in CLASSES:
        for partition, key in store.keys(kind):
            delete(store, partition, key)
    assert client.rebuild().workflows == 5
    assert store.snapshot() == before


@pytest.mark.parametrize("damage", [delete, drop_some, dangle])
def test_one_partition_alone(client: Client, damage: Damage) -> None:
    store = Store.busy(client)
    before = store.snapshot()
    for kind in CLASSES:
        for partition, key in store.keys(kind):
            damage(store, partition, key)
    for partition in range(client._ctx.keys.partitions):
        client._run(restore(client._ctx, partition))
    assert store.snapshot() == before


def test_timers_of_kinds_that_a_newer_release_has_stay(
    one_client: Client, broken_on_purpose: None
) -> None:
    view = one_client.insert(flow("a"))
    timers = partition_key(view.id, "timers")
    raw(one_client).zadd(timers, {f"q|{view.id}": 5, "z|whatever": 7})
    assert one_client.rebuild().repairs == {}
    assert raw(one_client).zcard(timers) == 2


def test_keys_that_belong_to_nothing(client: Client) -> None:
    view = client.insert(flow("a"))
    partition = int(view.id.partition("-")[0])
    nobody = client._ctx.keys.topic(topic_digest("nobody", "k"))[-1]
    for key in (own_key(f"{partition}-{'a' * 16}", "d"), nobody):
        raw(client).zadd(key, {"something": 1})
    assert client.rebuild().repairs == {"wait_notice_wrong": 1, "key_overwritten": 1}


def test_an_entry_that_is_reserved_and_ready(client: Client) -> None:
    view = client.insert(flow("a"))
    ready, reserved = (partition_key(view.id, name) for name in ("ready", "reserved"))
    [member] = raw(client).zrange(ready, 0, -1)
    raw(client).zadd(reserved, {member: 1})
    found = client._run(remove_orphans(client._ctx, int(view.id.partition("-")[0])))
    assert found == {"reserved_entry_wrong": 1}
    assert raw(client).zrange(ready, 0, -1) == [member]


def test_where_all_is_well_little_is_looked_at(one_client: Client) -> None:
    one_client.insert(fan_out(300))
    one_client.complete_step(one_client.insert(flow("a"), retention=None).id, "a")
    # The sizes, then the timers and the unfinished inserts, of which there are none.
    assert drive(one_client, remove_orphans(one_client._ctx, 0), 3) == {}


def test_served_queues_that_somebody_has_overwritten(one_client: Client) -> None:
    one_client.insert(flow("a"))
    raw(one_client).set("rwf:{0}:served", "x")
    with pytest.raises(RwfError):
        one_client.claim(["default"], worker_id="w")
    assert one_client.rebuild().repairs == {"key_overwritten": 1}
    assert len(one_client.claim(["default"], worker_id="w")) == 1


def test_a_primary_that_is_none_any_more(pool: Pool) -> None:
    with connect(pool.get("cluster")) as client, pytest.raises(StoreUnavailable):
        client._run(one_call(Scan("*", "nowhere:1", 7)))


def test_many_wait_notices(one_client: Client) -> None:
    view = one_client.insert(flow(" ".join(f"s{number}" for number in range(300))))
    for number in range(300):
        one_client.await_step(
            view.id, f"s{number}", signal="go", correlation_key="k", deadline=timedelta(hours=1)
        )
    notices = own_key(view.id, "d")
    before = raw(one_client).zrange(notices, 0, -1, withscores=True)
    raw(one_client).zadd(notices, {f"nobody{number}": number for number in range(500)})
    raw(one_client).zrem(notices, *(f"s{number}" for number in range(0, 300, 3)))
    repairs = one_client.rebuild().repairs
    assert (repairs["wait_notice_wrong"], repairs["wait_timer_missing"]) == (500, 100)
    assert raw(one_client).zrange(notices, 0, -1, withscores=True) == before


def test_a_wait_that_its_topic_alone_believes_in(client: Client) -> None:
    view = client.insert(flow("a"))
    client.await_step(view.id, "a", signal="go", correlation_key="k")
    ghost = f"{view.id.partition('-')[0]}-{'a' * 16}"
    digest = topic_digest("go", "k")
    sig, reg = client._ctx.keys.topic(digest)[-2:]
    raw(client).hset(sig, f"l{ghost}|a", "1,w,16")
    raw(client).zadd(reg, {f"w|{ghost}|16|a|1": 0})
    assert client.deliver_signal("go", "k").status == "ambiguous"
    assert client.rebuild().repairs == {"handoff_unfinished": 1}
    assert client.step(view.id, "a").state == "available"
    assert client.rebuild().repairs == {}


@pytest.mark.parametrize("calls", [0, 1])
def test_a_topic_that_fell_back_to_an_earlier_state(client: Client, calls: int) -> None:
    """A failover may take the topic's partition back, and not the workflow's."""
    view = client.insert(flow("a"))
    client.await_step(view.id, "a", signal="go", correlation_key="k")
    redis = raw(client)
    keys = client._ctx.keys.topic(topic_digest("go", "k"))[-2:]
    if calls:
        drive(client, deliver_signal(client._ctx, "go", "k", None, None), calls)
    before = [redis.dump(key) for key in keys]
    assert client.deliver_signal("go", "k").status == "consumed"
    for key, dump in zip(keys, before, strict=True):
        redis.restore(key, 0, dump, replace=True)
    assert client.rebuild().repairs["handoff_unfinished"] == 1
    assert redis.zcard(keys[1]) == 0
    # The topic now knows that the signal was consumed.
    assert client.deliver_signal("go", "k").status == ("consumed" if calls else "unmatched")


def test_an_outstanding_hand_off_whose_timer_is_lost(client: Client) -> None:
    view = client.insert(flow("a"))
    client.await_step(view.id, "a", signal="go", correlation_key="k")
    drive(client, deliver_signal(client._ctx, "go", "k", None, None), 1)
    digest = topic_digest("go", "k")
    timers = client._ctx.keys.topic(digest)[PARTITION_SLOTS.index("timers")]
    assert raw(client).zrem(timers, f"s|{digest}") == 1
    assert client._run(check_topic(client._ctx, digest)) == {"handoff_timer_missing": 1}
    placed = raw(client).zscore(timers, f"s|{digest}")
    raw(client).zadd(timers, {f"s|{digest}": 9e14})
    assert client._run(check_topic(client._ctx, digest)) == {"handoff_timer_missing": 1}
    assert placed <= raw(client).zscore(timers, f"s|{digest}") < 9e14
    client.rebuild()
    assert client.step(view.id, "a").state == "available"


def test_what_cannot_be_read_holds_up_nothing(client: Client, broken_on_purpose: None) -> None:
    views = [client.insert(flow("a b")) for _ in range(6)]
    redis = raw(client)
    broken, newer, overwritten, headless = (view.id for view in views[:4])
    redis.hset(own_key(broken), "a", "nonsense")
    redis.hset(own_key(headless), ":c", "nonsense")
    static = redis.hget(own_key(newer), ":s")
    redis.hset(own_key(newer), ":s", b"9" + static[1:])
    redis.set(own_key(overwritten), "not a hash")
    for view in views:
        redis.delete(partition_key(view.id, "index"))
        redis.zadd(partition_key(view.id, "ready"), {"garbage": 3})
    unknown = {f"default:1000|0|{workflow_id}|nobody": 0 for workflow_id in (newer, headless)}
    for entry, score in unknown.items():
        redis.zadd(partition_key(entry.split("|")[2], "ready"), {entry: score})
    report = client.rebuild()
    assert report.failure_count == 4
    assert {failure.id for failure in report.failures} == {broken, newer, overwritten, headless}
    assert {view.id for view in client.list().workflows} == {view.id for view in views[4:]}
    for view in views:
        ready = redis.zrange(partition_key(view.id, "ready"), 0, -1)
        assert b"garbage" not in ready
    # Keys implied by records that cannot be read, or of a newer release, are left alone.
    for workflow_id in (newer, headless):
        ready = redis.zrange(partition_key(workflow_id, "ready"), 0, -1)
        assert sum(workflow_id.encode() in entry for entry in ready) == 3


def test_gauges_that_are_wrong_are_put_right(client: Client) -> None:
    view = client.insert(flow("a b"))
    stats = partition_key(view.id, "stats")
    raw(client).hincrby(stats, "gs|available", 3)
    raw(client).hincrby(stats, "gw|expired", 1)
    report = client.rebuild()
    assert [(one.gauge, one.stored, one.expected) for one in report.gauges] == [
        ("gs|available", 5, 2),
        ("gw|expired", 1, 0),
    ]
    assert report.repairs == {"gauge_wrong": 2}
    assert client.rebuild().repairs == {}


def test_gauges_are_left_while_others_are_at_work(one_client: Client) -> None:
    """A gauge that has changed since it was found to be wrong is not set."""
    view = one_client.insert(flow("a b"))
    stats = partition_key(view.id, "stats")
    raw(one_client).hincrby(stats, "gs|available", 3)
    op: Any = mend_gauges(one_client._ctx, 0)
    reply: Any = None
    with suppress(StopIteration):
        while True:
            call = op.send(reply)
            if call.function == "set_gauges":
                one_client.complete_step(view.id, "a")
            reply = one_client._run(one_call(call))
    assert raw(one_client).hget(stats, "gs|available") == b"4"
    [mended] = one_client.rebuild().gauges
    assert (mended.stored, mended.expected) == (4, 1)


def test_another_namespace_is_left_alone(one_server: AnyServer, one_client: Client) -> None:
    one_client.insert(flow("a"))
    with Client.from_url(one_server.url, namespace="rwf.b") as other:
        other.insert(flow("a b"))
        raw(other).delete("rwf.b:{0}:ready")
        assert one_client.rebuild().workflows == 1
        assert not raw(other).exists("rwf.b:{0}:ready")
        assert other.rebuild().repairs == {"ready_entry_missing": 2}
        raw(other).delete(*raw(other).keys("rwf.b:*"))


@pytest.mark.parametrize("calls", [1, 3, 8, 20, 40])
def test_a_rebuild_cut_off_and_run_again(one_client: Client, calls: int) -> None:
    store = Store.busy(one_client)
    before = store.snapshot()
    for kind in CLASSES:
        for partition, key in store.keys(kind):
            delete(store, partition, key)
    drive(one_client, rebuild(one_client._ctx, None), calls)
    one_client.rebuild()
    assert store.snapshot() == before


def test_a_rebuild_while_others_work(client: Client, server: AnyServer) -> None:
    views = [client.insert(fan_out(60)) for _ in range(3)]
    done = threading.Event()
    found: list[dict[str, int]] = []

    def restoring() -> None:
        with connect(server) as other:
            while not done.is_set():
                found.append(other.rebuild().repairs)

    thread = threading.Thread(target=restoring)
    thread.start()
    try:
        while claimed := client.claim(["default"], worker_id="w", limit=7):
            for one in claimed:
                client.complete(one)
            if len(found) < 3:
                client.insert(flow("a b:a"))
    finally:
        done.set()
        thread.join()
    assert {client.get(view.id).state for view in views} == {"completed"}
    assert [repairs for repairs in found if repairs] == []


def test_on_the_command_line(
    cli: Cli, one_client: Client, broken_on_purpose: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = one_client.insert(flow("a b"))
    raw(one_client).delete(partition_key(view.id, "ready"))
    assert cli("rebuild").stdout.splitlines() == [
        "went through 1 workflows and 0 topics",
        "  repaired 2  ready_entry_missing",
    ]
    monkeypatch.setattr("rwf.cli.server._LOOK_SECONDS", 0)
    again = cli("rebuild", "--json")
    assert json.loads(again.stdout)["repairs"] == {}
    assert again.stderr.splitlines()[0] == "workflows: 1 workflows, 0 topics, 0 repairs"
    raw(one_client).hset(own_key(view.id), "a", "nonsense")
    failed = cli("rebuild")
    assert failed.exit_code == 1
    assert f"failed  {view.id}  corrupt record: not written by rwf\n" in failed.stdout
