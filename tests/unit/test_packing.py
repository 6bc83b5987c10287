"""Commands are packed exactly as redis-py would."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis.asyncio
from redis.connection import PythonRespSerializer

from rwf import AsyncClient, Client
from rwf.transport.packing import Packer, packed

ARGS: list[tuple[Any, ...]] = [
    ("PING",),
    ("FCALL", "name", 2, "a", "b", "", b"\x00\r\n", "€", -1, 0, 2**63, "x" * 70_000),
    ("CLIENT SETNAME", "one"),
]


@pytest.mark.parametrize("args", ARGS)
def test_a_command_is_packed_as_redis_py_packs_it(args: tuple[Any, ...]) -> None:
    encoder = redis.asyncio.Connection().encoder
    python: Any = PythonRespSerializer(6000, encoder.encode)
    assert b"".join(packed(*args)) == b"".join(python.pack(*args))


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "rediss://127.0.0.1:1"])
def test_connections_of_both_clients_pack_by_hiredis(url: str) -> None:
    async def connection() -> Any:
        return (await AsyncClient.from_url(url)._store.client()).connection_pool.make_connection()

    assert asyncio.run(connection()).pack_command is packed
    blocking = Client.from_url(url)._store.client().connection_pool.make_connection()
    assert isinstance(blocking._command_packer, Packer)
