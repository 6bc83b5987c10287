"""Very many workflows recovered by one command whose processes are killed again and again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from rwf import Client, Completion
from rwf.model.views import BulkSession
from rwf.ops.bulk import BulkRun
from tests.internals.test_bulk import begun
from tests.support.flows import flow
from tests.support.servers import AnyServer
from tests.support.waiting import until

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

COUNT = {"slice": 300}.get(os.environ.get("RWF_TEST_SCALE", ""), 10_000)
OPERATOR = """
import sys
from rwf import Client
with Client.from_url(sys.argv[1]) as client:
    client.continue_bulk(sys.argv[2])
"""


def _operator(url: str, session_id: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", OPERATOR, url, session_id])


def _wait_past(client: Client, session: BulkSession) -> None:
    """Waits until operators have got further than that."""

    def is_past() -> bool:
        now = client.bulk(str(session.id))
        return now.selected > session.selected or now.finished_at is not None

    until(is_past, timeout=60, what="an operator to get on")


def test_each_workflow_is_retried_once_and_counted_once(
    one_server: AnyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two operators at once, of whom one is killed every few moments."""
    with Client.from_url(one_server.url) as client:
        ids: list[str] = []
        while len(ids) < COUNT:
            views = client.insert_many(flow("ship note:ship", tags={"x": "1"}) for _ in range(100))
            ids += [view.id for view in views]
        client.complete_many(
            Completion(workflow_id=id_, step="ship", status="failed") for id_ in ids
        )
        session_id = begun(client, state="failed")
        kills = 0
        monkeypatch.setattr("rwf.ops.bulk._LEASE_MS", 1)
        while (session := client.bulk(session_id)).finished_at is None:
            operators = [_operator(one_server.url, session_id) for _ in range(2)]
            _wait_past(client, session)  # however long they take to begin
            time.sleep(0.1 * (kills % 7))  # the moment is to be any
            for operator in operators:
                operator.send_signal(signal.SIGKILL)
                operator.wait()
            kills += 1
            # A lease that was left counts for no longer than the one that is asked for.
            client._run(BulkRun(client._ctx, session_id).slice())
        session = client.bulk(session_id)
        assert kills > 1
        assert (session.counts, session.selected) == ({"changed": COUNT}, COUNT)
        assert client.count(state="failed").count == 0
        for id_ in ids[:: max(COUNT // 500, 1)]:
            found = [one for one in client.evidence(id_) if one.action == "recover_step"]
            assert [one.status for one in found].count("accepted") == 1
