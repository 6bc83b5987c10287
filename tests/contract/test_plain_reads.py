"""Plain commands that read travel together, on each topology and with any redis-py client."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis

from rwf import AsyncClient, Client, StoreMisconfigured
from rwf.protocol.requests import Read
from tests.contract.flows import flow, one_call, own_key, partition_key, raw
from tests.servers import AnyServer, Server

OPTIONS: list[dict[str, Any]] = [{"decode_responses": True}, {"protocol": 3}, {"protocol": 2}]


def _read(workflow_id: str) -> Read:
    w, timers = own_key(workflow_id), partition_key(workflow_id, "timers")
    return Read(
        w,
        [
            ("HMGET", w, ":w", "nobody"),
            ("HGETALL", partition_key(workflow_id, "keys")),
            ("HLEN", w),
            ("ZMSCORE", timers, "one", "nobody"),
            ("ZRANGE", timers, 0, 0),
            ("ZMSCORE", w, "one"),
            ("TIME",),
        ],
    )


def _prepare(client: Client) -> str:
    """A workflow, and keys of known contents beside it that are not its own."""
    workflow_id = client.insert(flow("a b:a")).id
    raw(client).hset(partition_key(workflow_id, "keys"), "\xff", b"\xfe")
    raw(client).zadd(partition_key(workflow_id, "timers"), {"one": 1764038000123})
    return workflow_id


def _check(replies: list[Any]) -> None:
    *found, error, (seconds, micros) = replies
    assert found == [[None, None], {"\xff".encode(): b"\xfe"}, 7, [1764038000123.0, None], [b"one"]]
    assert isinstance(error, redis.ResponseError)
    assert str(error).startswith("WRONGTYPE")
    assert seconds > 1764038000
    assert 0 <= micros < 1_000_000


def test_each_has_its_reply_or_its_error(client: Client, broken_on_purpose: None) -> None:
    read = _read(_prepare(client))
    _check(client._run(one_call(read)))


def test_the_same_on_asyncio(server: AnyServer, client: Client, broken_on_purpose: None) -> None:
    read = _read(_prepare(client))

    async def ask() -> list[Any]:
        async with AsyncClient.from_url(server.url) as other:
            replies: list[Any] = await other._run(one_call(read))
            return replies

    _check(asyncio.run(ask()))


@pytest.mark.parametrize("options", OPTIONS)
def test_replies_have_one_shape(
    one_server: Server, one_client: Client, broken_on_purpose: None, options: dict[str, Any]
) -> None:
    read = _read(_prepare(one_client))
    with redis.Redis(port=one_server.port, **options) as own, Client.from_redis(own) as client:
        _check(client._run(one_call(read)))


def test_what_is_wrong_with_the_server_is_raised(one_server: Server, one_client: Client) -> None:
    w = own_key(one_client.insert(flow("a")).id)
    admin = raw(one_client)
    admin.execute_command("ACL", "SETUSER", "blind", "on", "nopass", "~*", "+@all", "-hlen")
    try:
        url = f"redis://blind:any@127.0.0.1:{one_server.port}"
        with Client.from_url(url) as client, pytest.raises(StoreMisconfigured, match="right"):
            client._run(one_call(Read(w, [("HGETALL", w), ("HLEN", w)])))
    finally:
        admin.execute_command("ACL", "DELUSER", "blind")


def test_only_what_reads_is_sent() -> None:
    with pytest.raises(ValueError, match="DEL"):
        Read("k", [("HLEN", "k"), ("DEL", "k")])
