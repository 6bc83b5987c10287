"""White-box cases beside those of ``contract/test_doctor.py``."""

from __future__ import annotations

import re

from rwf import Client
from tests.support.doctor_cases import finding, found
from tests.support.flows import flow, partition_key, raw


def hours_ago(client: Client, hours: float) -> int:
    seconds, _ = raw(client).time()
    return int((seconds - hours * 3600) * 1000)


def test_what_waits(one_client: Client, broken_on_purpose: None) -> None:
    assert found(one_client, "namespace").endswith("the first use creates it")
    one_client.list()
    assert found(one_client, "sweep") == "ok: no open workflow"
    assert found(one_client, "ready") == "ok: no step waits to be claimed"
    unseen = "no dispatcher was ever seen, so they keep no workflow from removal"
    assert found(one_client, "callbacks") == f"ok: none dead, 0 pending; {unseen}"
    view = one_client.insert(flow("a"))
    assert found(one_client, "sweep") == "warning: 1 open workflow, and no sweep ever"
    assert found(one_client, "ready").startswith("ok: the oldest step that may run has waited")
    sweep = partition_key(view.id, "sweep")
    raw(one_client).hset(sweep, "open:ended", hours_ago(one_client, 0.06))
    assert found(one_client, "sweep") == "ok: the last sweep ended 4 min ago"
    raw(one_client).hset(sweep, "open:ended", hours_ago(one_client, 3))
    assert found(one_client, "sweep") == "warning: the last sweep ended 3.0 h ago"
    raw(one_client).hset(sweep, "open:took", 2 * 3_600_000)
    assert (
        found(one_client, "sweep")
        == "ok: the last sweep ended 3.0 h ago, and a sweep takes about 2.0 h"
    )
    raw(one_client).hset(sweep, "open:ended", hours_ago(one_client, 5))
    assert found(one_client, "sweep").startswith("warning: the last sweep ended 5.0 h ago, and")
    ready = partition_key(view.id, "ready")
    old = f"{0:010x}{1000 * hours_ago(one_client, 1):013x}0001"
    raw(one_client).zadd(ready, {f"slow:1000|{old}|{view.id}|a": 0})
    assert (
        found(one_client, "ready") == "warning: the oldest step that may run has waited for 60 min"
    )
    raw(one_client).hset(partition_key(view.id, "stats"), mapping={"gc|dead": 2, "gc|pending": 3})
    assert found(one_client, "callbacks") == f"warning: 2 dead, 3 pending; {unseen}"
    assert "--resend" in str(finding(one_client, "callbacks").advice)
    one_client.dispatch_callbacks(lambda envelope: None)
    raw(one_client).hset(partition_key(view.id, "stats"), "gc|dead", 0)
    meta = one_client._ctx.keys.meta()
    raw(one_client).hset(meta, "dispatcher", hours_ago(one_client, 0.06))
    seen = "a dispatcher was last seen"
    assert found(one_client, "callbacks") == f"ok: none dead, 3 pending; {seen} 4 min ago"
    raw(one_client).hset(meta, "dispatcher", hours_ago(one_client, 3))
    assert found(one_client, "callbacks") == f"warning: none dead, 3 pending; {seen} 3.0 h ago"
    one_client.dispatch_callbacks(lambda envelope: None)
    assert re.search(rf"3 pending; {seen} \d s ago$", found(one_client, "callbacks"))
    assert one_client.doctor().healthy
