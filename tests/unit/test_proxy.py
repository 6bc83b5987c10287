"""The proxy breaks connections exactly where it is told to."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.proxy import Proxy, read_frame
from tests.support.servers import AnyServer, Server
from tests.support.waiting import until


@pytest.fixture
def direct(one_server: AnyServer) -> redis.Redis:
    assert isinstance(one_server, Server)
    return one_server.client()


@pytest.fixture
def proxy(one_server: AnyServer) -> Iterator[Proxy]:
    assert isinstance(one_server, Server)
    with Proxy(one_server.port) as proxy:
        yield proxy


@pytest.fixture(params=[2, 3])
def client(request: pytest.FixtureRequest, proxy: Proxy) -> Iterator[redis.Redis]:
    """A client through the proxy that does not try again."""
    with redis.Redis(
        port=proxy.port,
        protocol=request.param,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=5,
    ) as client:
        yield client


def test_everything_passes_unharmed(proxy: Proxy, client: redis.Redis) -> None:
    value = bytes(range(256)) * 5000
    client.set("k", value)
    client.hset("h", mapping={"a": "1", "b": "2"})
    assert client.get("k") == value
    assert client.hgetall("h") == {b"a": b"1", b"b": b"2"}
    assert client.get("absent") is None
    assert client.execute_command("COMMAND")  # type: ignore[no-untyped-call]
    pipeline = client.pipeline(transaction=False)
    for _ in range(1000):
        pipeline.incr("n")
    assert pipeline.execute() == list(range(1, 1001))
    assert proxy.sent(b"INCR") == 1000
    assert proxy.connections == 1
    assert proxy.replies == proxy.sent()
    assert proxy.cuts == 0


def test_a_cut_request_never_ran(proxy: Proxy, client: redis.Redis, direct: redis.Redis) -> None:
    proxy.cut_request(b"INCR")
    client.get("n")
    with pytest.raises(redis.ConnectionError):
        client.incr("n")
    assert direct.get("n") is None
    assert client.incr("n") == 1
    assert (proxy.cuts, proxy.sent(b"INCR"), proxy.connections) == (1, 2, 2)


@pytest.mark.parametrize("how", ["cut_reply", "cut_mid_reply"])
def test_a_cut_reply_ran(proxy: Proxy, client: redis.Redis, direct: redis.Redis, how: str) -> None:
    getattr(proxy, how)(match=b"INCR", times=2)
    for ran in (b"1", b"2"):
        with pytest.raises(redis.ConnectionError):
            client.incr("n")
        assert direct.get("n") == ran
    assert client.incr("n") == 3
    assert proxy.cuts == 2


def test_replies_before_the_cut_one_arrive(
    one_server: AnyServer, proxy: Proxy, direct: redis.Redis
) -> None:
    proxy.cut_reply(lambda request: request.endswith(b"$1\r\nb\r\n"))
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as raw:
        for key in (b"a", b"b", b"c"):
            raw.sendall(b"*2\r\n$4\r\nINCR\r\n$1\r\n%s\r\n" % key)
        with raw.makefile("rb") as stream:
            assert stream.read() == b":1\r\n"
    assert direct.get("b") == b"1"


def test_half_a_reply(proxy: Proxy, direct: redis.Redis) -> None:
    direct.set("k", "x" * 100)
    proxy.cut_mid_reply(b"GET")
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as raw:
        raw.sendall(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
        with raw.makefile("rb") as stream:
            assert stream.read() == b"$100\r\n" + b"x" * 48


def test_messages_pass_and_answer_no_request(
    proxy: Proxy, client: redis.Redis, direct: redis.Redis
) -> None:
    with client.pubsub(ignore_subscribe_messages=True) as listener:  # type: ignore[no-untyped-call]
        listener.subscribe("one", "two")
        until(lambda: direct.pubsub_numsub("two")[0][1] == 1, what="the subscription")
        direct.publish("two", "hello")
        message = until(lambda: listener.get_message(timeout=1), what="the message")
        assert message["data"] == b"hello"
    assert client.incr("n") == 1


def test_delay(proxy: Proxy, client: redis.Redis) -> None:
    client.get("k")
    proxy.delay(1.0)
    start = time.monotonic()
    client.get("k")
    assert time.monotonic() - start >= 1.0
    proxy.delay(0)
    start = time.monotonic()
    client.get("k")
    assert time.monotonic() - start < 1.0


def test_partition_holds_and_heal_lets_go(
    proxy: Proxy, client: redis.Redis, direct: redis.Redis
) -> None:
    client.get("k")
    proxy.partition()
    call = threading.Thread(target=client.incr, args=("n",))
    call.start()
    until(lambda: proxy.sent(b"INCR"), what="the request at the proxy")
    call.join(0.1)
    assert call.is_alive()
    assert direct.get("n") is None
    proxy.heal()
    call.join(5)
    assert direct.get("n") == b"1"


def test_what_is_severed_breaks_until_it_is_healed(proxy: Proxy, client: redis.Redis) -> None:
    client.ping()
    proxy.sever()
    for _ in range(2):
        with pytest.raises(redis.ConnectionError):
            client.ping()
    proxy.heal()
    client.ping()


def test_a_server_that_is_down_ends_the_connection() -> None:
    with (
        Server.start("valkey91") as server,
        Proxy(server.port) as proxy,
        redis.Redis(port=proxy.port, retry=Retry(NoBackoff(), 0)) as client,
    ):
        client.ping()
        server.kill()
        for _ in range(2):
            with pytest.raises(redis.ConnectionError):
                client.ping()
        server.restart()
        client.ping()


def test_closing_in_a_partition_drops_what_it_held(
    one_server: AnyServer, direct: redis.Redis
) -> None:
    assert isinstance(one_server, Server)
    with Proxy(one_server.port) as proxy:
        client = redis.Redis(port=proxy.port, retry=Retry(NoBackoff(), 0))
        client.ping()
        proxy.partition()
        errors: list[redis.RedisError] = []

        def increment() -> None:
            try:
                client.incr("n")
            except redis.RedisError as error:
                errors.append(error)

        call = threading.Thread(target=increment)
        call.start()
        until(lambda: proxy.sent(b"INCR"), what="the request at the proxy")
        proxy.close()
        call.join(5)
        assert isinstance(errors[0], redis.ConnectionError)
        assert direct.get("n") is None
        client.close()


@pytest.mark.parametrize(
    "frame",
    [
        b"+OK\r\n",
        b":1\r\n",
        b"$-1\r\n",
        b"$0\r\n\r\n",
        b"$4\r\n\r\n\r\n\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"*2\r\n*1\r\n:1\r\n$1\r\na\r\n",
        b"_\r\n",
        b"#t\r\n",
        b",1.5\r\n",
        b"(12345678901234567890\r\n",
        b"=7\r\ntxt:abc\r\n",
        b"!3\r\nERR\r\n",
        b"%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n:2\r\n",
        b"~2\r\n:1\r\n:2\r\n",
        b">2\r\n+a\r\n+b\r\n",
        b"|1\r\n+ttl\r\n:5\r\n*1\r\n:1\r\n",
    ],
)
def test_frames_of_every_type(frame: bytes) -> None:
    assert read_frame(io.BytesIO(frame + b"+next\r\n")) == frame
    for end in range(len(frame)):
        assert read_frame(io.BytesIO(frame[:end])) == b""
