"""A worker whose connections are cut, in the middle of replies too, runs each attempt once."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter

import pytest

from rwf import AsyncClient, Client, StepContext, Worker
from tests.support.flows import fan_out
from tests.support.proxy import Proxy
from tests.support.servers import AnyServer, Server
from tests.support.workers import CLIENTS, at_work, until_ended

pytestmark = pytest.mark.usefixtures("cut_off")

CUTS = 12


@CLIENTS
def test_a_worker_with_cut_connections_runs_each_attempt_once(
    one_client: Client, one_server: AnyServer, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert isinstance(one_server, Server)
    runs: Counter[tuple[str, str, str]] = Counter()
    ids = [one_client.insert(fan_out(40)).id for _ in range(40)]
    over = threading.Event()
    with Proxy(one_server.port) as proxy:
        made = Client if kind == "sync" else AsyncClient
        client = made.from_url(proxy.url)
        worker = Worker(client, concurrency=32)

        @worker.step("work")
        async def work(ctx: StepContext) -> None:
            runs[ctx.workflow_id, ctx.step, ctx.claim.lease] += 1
            await asyncio.sleep(random.uniform(0.02, 0.3))

        def cut() -> None:
            # Cut so seldom that a call, which is sent again for two seconds, gets through.
            asked = 0
            while not over.wait(0.3) and asked < CUTS:
                if proxy.cuts == asked:
                    proxy.cut_reply(b"complete")
                    asked += 1

        with at_work(worker):
            threading.Thread(target=cut, daemon=True).start()
            try:
                # Entries reserved for a lost reply go back by themselves after 5 s.
                for one in ids:
                    until_ended(one_client, one, timeout=60)
            finally:
                over.set()
        cuts = proxy.cuts
        if isinstance(client, Client):
            client.close()
    assert cuts > 3
    assert {one_client.get(one).state for one in ids} == {"completed"}
    assert set(runs.values()) == {1}
    assert len(runs) == 40 * 41
    assert not [one for one in caplog.records if "never retrieved" in one.getMessage()]
    assert not [one for one in caplog.records if "KeyError" in (one.exc_text or "")]
