"""Plain commands that read travel together, on each topology and with any redis-py client."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis

from rwf import AsyncClient, Client, NotFound, StoreMisconfigured, Workflow
from rwf.ops import reads
from rwf.protocol.functions.reads import Show
from rwf.protocol.headers import Header
from rwf.protocol.requests import Call, Read, Together, call_of
from tests.support.flows import flow, one_call, own_key, partition_key, raw
from tests.support.servers import AnyServer, Server

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
            ("ZSCAN", timers, 0, "COUNT", 10),
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
    scores = [1764038000123.0, None]
    page = 0, [(b"one", 1764038000123.0)]
    assert found == [[None, None], {"\xff".encode(): b"\xfe"}, 7, scores, [b"one"], page]
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


def test_reads_and_calls_travel_together(client: Client, broken_on_purpose: None) -> None:
    ids = [_prepare(client), client.insert(flow("a")).id]
    calls = [call_of(client._ctx.workflow_keys(one), Show()) for one in ids]
    replies = client._run(one_call(Together([calls[0], _read(ids[0]), calls[1]])))
    assert [len(replies), len(replies[1])] == [3, len(_read(ids[0]).commands)]
    _check(replies[1])
    for reply, workflow_id in ((replies[0], ids[0]), (replies[2], ids[1])):
        [found] = Show.decoded(reply)
        assert found is not None
        view = Header.parse(found.static, found.counts).view(workflow_id, None)
        assert view == client.get(workflow_id)


def test_a_read_that_travels_with_calls_raises_what_is_wrong_with_the_server(
    one_server: Server, one_client: Client
) -> None:
    workflow_id = one_client.insert(flow("a")).id
    w = own_key(workflow_id)
    admin = raw(one_client)
    admin.execute_command("ACL", "SETUSER", "blind", "on", "nopass", "~*", "+@all", "-hlen")
    try:
        url = f"redis://blind:any@127.0.0.1:{one_server.port}"
        with Client.from_url(url) as client:
            call = call_of(client._ctx.workflow_keys(workflow_id), Show())
            for partial in (False, True):
                together = Together([call, Read(w, [("HLEN", w)])], partial=partial)
                with pytest.raises(StoreMisconfigured, match="right"):
                    client._run(one_call(together))
    finally:
        admin.execute_command("ACL", "DELUSER", "blind")


def test_a_workflow_that_goes_between_two_commands_of_a_read_is_not_found(
    one_client: Client,
) -> None:
    workflow_id = one_client.insert(Workflow("w", context={"a": 1}).add("a", worker="w")).id
    op = reads.get(one_client._ctx, workflow_id)
    header, _ = one_client._run(one_call(next(op)))
    request = op.send([header, None])
    assert isinstance(request, Call)
    with pytest.raises(NotFound):
        op.send([None])


def test_only_what_reads_is_sent() -> None:
    with pytest.raises(ValueError, match="DEL"):
        Read("k", [("HLEN", "k"), ("DEL", "k")])
