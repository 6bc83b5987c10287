"""A worker on a cluster of which one primary is dead, or hangs: the steps of the other partitions
are not affected."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from rwf import AsyncClient, Client, StepContext, Worker
from tests.fault.test_dead_nodes import EACH, away, home, partial_cluster, partition_of, whole
from tests.support.flows import flow
from tests.support.servers import Cluster, Server
from tests.support.waiting import until
from tests.support.workers import at_work

pytestmark = pytest.mark.usefixtures("cut_off")

__all__ = ["partial_cluster", "whole"]

PARTITIONS = 48
TIMEOUT = 1.5
LEASE = 6.0


def of_node(cluster: Cluster, server: Server) -> set[int]:
    return {n for n in range(PARTITIONS) if home(cluster, n) is server}


@EACH
def test_steps_elsewhere_keep_their_leases_and_their_outcomes_are_told(
    kind: str, how: str, partial_cluster: Cluster
) -> None:
    node = home(partial_cluster, 1)
    gone = of_node(partial_cluster, node)
    url = partial_cluster.url
    with Client.from_url(url, partitions=PARTITIONS, socket_timeout=TIMEOUT) as client:
        ids = [client.insert(flow("a")).id for _ in range(2 * PARTITIONS)]
        living = [one for one in ids if partition_of(one) not in gone]
        began: Counter[str] = Counter()
        may_end = False
        made = Client if kind == "sync" else AsyncClient
        worker = Worker(
            made.from_url(url, socket_timeout=TIMEOUT),
            concurrency=len(ids),
            lease=LEASE,
            grace=5,
        )

        @worker.step("work")
        async def work(ctx: StepContext) -> None:
            began[ctx.workflow_id] += 1
            while not may_end:  # noqa: ASYNC110 - another thread sets it
                await asyncio.sleep(0.02)

        with at_work(worker):
            until(lambda: len(began) == len(ids), timeout=60, what="all steps")
            with away(partial_cluster, node, how):
                time.sleep(2.5 * LEASE)
                may_end = True
                until(
                    lambda: all(client.get(one).finished_at for one in living),
                    timeout=LEASE,
                    what="the ends of the living",
                )
            assert {began[one] for one in living} == {1}
            until(
                lambda: all(client.get(one).state == "completed" for one in ids),
                timeout=30,
                what="the ends of all",
            )
        assert {began[one] for one in living} == {1}
