"""Clients and workers that go on through an outage, as services do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

from rwf import Await, Client, Retry, StepContext, StoreUnavailable, Worker
from tests.support.flows import flow
from tests.support.servers import AnyServer
from tests.support.waiting import until
from tests.support.workers import client_of

T = TypeVar("T")


def insisting(act: Callable[[], T]) -> T:
    """The result of a call, repeated until there is a server that serves it."""
    found: list[T] = []

    def made() -> bool:
        with contextlib.suppress(StoreUnavailable):
            found.append(act())
        return bool(found)

    until(made, timeout=60, what="a server that serves")
    return found[0]


def sent_again(client: Client, key: str) -> str:
    """Sends everything again, as a client that does not know what was lost. Returns the workflow's
    id."""
    workflow_id = insisting(lambda: client.insert(flow("ask b:ask c:b d:b"), key=key)).id
    insisting(lambda: client.deliver_signal("go", key))
    return workflow_id


def at_hand(server: AnyServer, kind: str, inserted: dict[str, str], **options: Any) -> Worker:
    """A worker of these workflows, by key: the first step waits for a signal of that key."""
    worker = Worker(client_of(kind, server, **options), concurrency=16, lease=2.0)

    @worker.step("work")
    async def work(ctx: StepContext) -> None:
        await asyncio.sleep(0.01)
        if ctx.step == "ask" and ctx.signal is None:
            found = [key for key, workflow_id in inserted.items() if workflow_id == ctx.workflow_id]
            if not found:
                raise Retry("not known yet", in_=0.1)
            raise Await(signal="go", correlation_key=found[0])

    return worker
