"""White-box cases beside those of ``contract/test_metrics.py``."""

from __future__ import annotations

import re
import socket
import time
import urllib.error
import urllib.request

import pytest

from rwf import Client, metrics
from rwf.model.states import Action, CallbackOutcome, RepairKind
from rwf.ops.stats import fleet
from rwf.protocol.library import lua_folder
from rwf.repair.sweep import Kind, Place, sweep
from tests.support.counted import sample, samples
from tests.support.flows import drive, flow, partition_key, raw
from tests.support.metrics_cases import fetched, scrape
from tests.support.servers import AnyServer
from tests.support.waiting import until


def test_every_stored_name_is_of_a_fixed_set() -> None:
    """Every name under which Lua counts must be in the sets, or a metric would leave it out."""
    code = "\n".join(path.read_text() for path in sorted(lua_folder().rglob("*.lua")))
    repairs = set(re.findall(r'repairs \+ 1\] = \{ "(\w+)"', code))
    repairs |= set(re.findall(r'"(\w+_(?:missing|wrong|unfinished))"', code))
    assert repairs <= set(RepairKind)
    assert set(re.findall(r'\baction = "(\w+)"', code)) <= set(Action)
    assert set(re.findall(r'\boutcome\(tx, c, "(\w+)"', code)) == set(CallbackOutcome)


def test_how_long_a_sweep_takes(client: Client, broken_on_purpose: None) -> None:
    """It is shown while a sweep is under way, by how far it has come, and after its end."""

    def told() -> float | None:
        return samples(scrape(client)).get(sample(metrics.SWEEP_ROUND, {}))

    view = client.insert(flow("a"))
    partition, index = int(view.id.partition("-")[0]), partition_key(view.id, "index")
    of_others = [f"o|{number:011x}|{partition}-{'a' * 16}" for number in range(1999)]
    raw(client).zadd(index, dict.fromkeys(of_others, 0))
    assert told() is None
    place = Place(partition, Kind.OPEN)
    client._run(sweep(client._ctx, place, 60.0, anew=True))
    key = partition_key(view.id, "sweep")
    assert told() == 60
    client._run(sweep(client._ctx, place, 60.0))
    # It has come to the 256th of 2,000 entries, which it says took it a minute.
    raw(client).hset(key, "open:began", int(raw(client).hget(key, "open:seen")) - 60_000)
    assert told() == pytest.approx(60 * 2000 / 256)
    raw(client).zremrangebylex(index, "-", "[" + of_others[-1])
    ended = False
    while not ended:
        ended = client._run(sweep(client._ctx, place, 60.0)).ended
    took = float(raw(client).hget(key, "open:took")) / 1000
    assert told() == took
    assert 60 <= took < 600


@pytest.mark.usefixtures("quick_requests")
def test_who_connects_and_asks_nothing(
    one_client: Client, capfd: pytest.CaptureFixture[str]
) -> None:
    """A probe of a port is no fault: nothing is printed."""
    with metrics.serve(one_client, port=0) as server:
        for option in (b"\1\0\0\0\0\0\0\0", None):  # one is reset, one keeps silent
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as probe:
                if option:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
                    probe.sendall(b"GET /met")
                else:
                    assert probe.recv(1) == b""
        fetched(server.port)
    assert capfd.readouterr().err == ""


@pytest.fixture
def quick_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rwf.metrics._Handler.timeout", 0.2)


def test_who_sends_a_little_now_and_then_is_cut_off(
    one_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rwf.metrics._REQUEST_SECONDS", 0.5)
    with (
        metrics.serve(one_client, port=0) as server,
        socket.create_connection(("127.0.0.1", server.port), 20) as drip,
    ):
        drip.sendall(b"GET /healthz HTTP/1.1\r\n")
        drip.settimeout(0.05)

        def is_cut_off() -> bool:
            try:
                drip.sendall(b"X")
                return drip.recv(1) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        until(is_cut_off, timeout=60, what="the end of the connection")


def test_a_scrape_of_a_server_that_hangs_is_answered_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rwf.metrics._SCRAPE_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as hung:
        url = f"redis://127.0.0.1:{hung.getsockname()[1]}/0"
        with Client.from_url(url) as client, metrics.serve(client, port=0) as server:
            begun = time.monotonic()
            for _ in range(3):
                with pytest.raises(urllib.error.HTTPError) as caught:
                    fetched(server.port)
                with caught.value as error:
                    assert error.code == 503
                    assert "within 0.5 s" in error.read().decode()
            assert fetched(server.port, "/healthz") == "ok\n"
            assert time.monotonic() - begun < 5


def test_a_scrape_asks_all_partitions_at_once(one_server: AnyServer) -> None:
    with Client.from_url(one_server.url, partitions=64) as client:
        for _ in range(8):
            client.insert(flow("a"))
        found = drive(client, fleet(client._ctx.keys), 2)
        assert found is not None
        assert found.counts["gs|available"] == 8
