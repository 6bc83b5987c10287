"""White-box cases beside those of ``contract/test_parity.py``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rwf import AsyncClient, Client
from tests.support import invariants
from tests.support.flows import fan_out
from tests.support.servers import AnyServer, Server

Act = Callable[[AsyncClient, str, int], Awaitable[Any]]


async def _complete(client: AsyncClient, workflow_id: str, number: int) -> Any:
    return await client.complete_step(workflow_id, f"c{number}", payload=number)


async def _read(client: AsyncClient, workflow_id: str, number: int) -> Any:
    return await client.step(workflow_id, f"c{number}")


@pytest.mark.parametrize("act", [_complete, _read])
@pytest.mark.parametrize("durability", ["server", "replicas:1"])
def test_a_cancelled_task_leaves_no_reply_to_the_next(
    one_server: AnyServer,
    one_client: Client,
    act: Act,
    durability: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cancelled at any moment, a command's late reply must reach nobody else."""
    monkeypatch.setattr("rwf.transport.durability._LONGEST_MS", 1)
    assert isinstance(one_server, Server)
    view = one_client.insert(fan_out(300))
    one_client.complete_step(view.id, "root")

    async def run() -> None:
        async with AsyncClient.from_url(one_server.url) as plain:
            await plain.list()
        kind = "server" if act is _read else durability
        async with AsyncClient.from_url(one_server.url, durability=kind) as client:
            await client.get(view.id)
            for number in range(150):
                task = asyncio.ensure_future(act(client, view.id, number))
                for _ in range(number % 12):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                step = await client.step(view.id, f"c{number + 100}")
                assert step.name == f"c{number + 100}"
                assert (await client.get(view.id)).id == view.id

    asyncio.run(run())
    assert invariants.check(one_client) == []
