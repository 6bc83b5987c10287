"""Daemons in processes of their own, killed and paused (contract §10): others take over."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rwf import Client
from tests.conftest import connect
from tests.support.flows import flow, raw, until_past
from tests.support.servers import AnyServer, Server
from tests.support.waiting import until

TAKEN_OVER = 60.0
"""Seconds within which another daemon must look after the partitions of a lost one, even if it has
still to start on a loaded machine; the lease of the lost one is 3 s."""


@contextmanager
def daemon(url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Runs ``rwf reconciler``; it is ended by its process id in any case."""
    command = [sys.executable, "-m", "rwf", "reconciler", "--url", url, "--metrics", "off"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def joined(client: Client, count: int) -> None:
    until(
        lambda: raw(client).zcard("rwf:{0}:daemons") == count,
        timeout=60,
        what=f"{count} daemons",
    )


def retried_everywhere(client: Client, ids: list[str]) -> None:
    """Whether a retry in each partition was carried out."""
    for workflow_id in ids:
        client.complete_step(workflow_id, "a", "retryable", retry_in=0)
    waiting = set(ids)

    def none_waits() -> bool:
        waiting.difference_update(
            one for one in list(waiting) if client.step(one, "a").state == "available"
        )
        return not waiting

    until(none_waits, timeout=TAKEN_OVER, what="all retries")


def one_in_each_partition(client: Client) -> list[str]:
    found: dict[str, str] = {}
    client.list()
    while len(found) < client._ctx.keys.partitions:
        workflow_id = client.insert(flow("a", max_attempts=50)).id
        if workflow_id.partition("-")[0] in found:
            client.complete_step(workflow_id, "a")
        else:
            found[workflow_id.partition("-")[0]] = workflow_id
    return list(found.values())


def test_one_is_killed_and_another_paused(pool: Any) -> None:
    server: AnyServer = pool.get("cluster")
    with connect(server) as client:
        ids = one_in_each_partition(client)
        with daemon(server.url) as killed, daemon(server.url) as paused, daemon(server.url):
            joined(client, 3)
            retried_everywhere(client, ids)
            killed.kill()
            retried_everywhere(client, ids)
            paused.send_signal(signal.SIGSTOP)
            retried_everywhere(client, ids)
            joined(client, 1)
            paused.send_signal(signal.SIGCONT)
            joined(client, 2)
            retried_everywhere(client, ids)
        for workflow_id in ids:
            client.complete_step(workflow_id, "a")
            assert client.get(workflow_id).state == "completed"


def test_none_for_a_while_and_then_one(one_client: Client, one_server: AnyServer) -> None:
    ids = [one_client.insert(flow("a")).id for _ in range(20)]
    claims = one_client.claim(["default"], worker_id="dies", limit=20, lease=0.1)
    assert len(claims) == 20
    due = max(claim.lease_expires_at for claim in claims)
    until_past(one_client, due)
    assert {one_client.step(one, "a").state for one in ids} == {"executing"}
    with daemon(one_server.url) as process:
        until(
            lambda: {one_client.step(one, "a").state for one in ids} == {"available"},
            timeout=TAKEN_OVER,
            what="the leases to be taken away",
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    assert raw(one_client).zcard("rwf:{0}:daemons") == 0


def test_a_killed_inserting_process_has_its_release_finished(
    one_client: Client, one_server: AnyServer
) -> None:
    """A process is killed in the middle of releasing 5,000 children."""
    assert isinstance(one_server, Server)
    wf = flow("root " + " ".join(f"c{n}:root" for n in range(5000)))
    view = one_client.insert(wf)
    program = f"""
import os
from rwf import Client
from rwf.transport.blocking.drivers import Store
perform, sent = Store._perform, []
def counted(self, action):
    sent.append(action)
    if len(sent) > 12:
        os.kill(os.getpid(), 9)
    return perform(self, action)
Store._perform = counted
with Client.from_url({json.dumps(one_server.url)}) as client:
    client.complete_step({json.dumps(view.id)}, "root")
"""
    died = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL
    assert 0 < one_client.get(view.id).runnable_step_count < 5000
    with daemon(one_server.url):
        until(
            lambda: one_client.get(view.id).runnable_step_count == 5000,
            timeout=TAKEN_OVER,
            what="the rest of the release",
        )
