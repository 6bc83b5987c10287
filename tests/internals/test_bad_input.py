"""White-box cases beside those of ``contract/test_bad_input.py``."""

from __future__ import annotations

import pytest

from rwf import Client, RwfError
from rwf.ops.complete import MAX_SUMMARY
from tests.conftest import connect
from tests.support.flows import flow, raw
from tests.support.servers import AnyServer, free_port


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:hunter2@127.0.0.1:{port}/0",
        "redis://:hunter2@127.0.0.1:bad/0",
        "redis://:hunter2@127.0.0.1:{port}/0?socket_timeout=bad",
        "redis://:hunter2@127.0.0.1:{port}/0?nonsense=1",
        "redis://:hunter2@127.0.0.1:{port}/x",
        "nonsense://:hunter2@127.0.0.1",
        "redis+cluster://:hunter2@127.0.0.1:{port}",
        "redis+sentinel://:hunter2@127.0.0.1:{port}/service",
        "redis+sentinel://:hunter2@127.0.0.1:bad/service",
        "rediss://:hunter2@127.0.0.1:{port}/0",
        "unix://:hunter2@/nowhere/at/all",
    ],
)
def test_no_error_tells_a_password(
    url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rwf.transport.patience._PAUSES", (0.01,))
    with pytest.raises(RwfError) as caught:
        Client.from_url(url.format(port=free_port())).list()
    seen: BaseException | None = caught.value
    assert "hunter2" not in caplog.text
    while seen is not None:
        assert "hunter2" not in f"{seen} {seen!r}"
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)


def test_the_longest_summary(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    one_client.complete_step(view.id, "a", summary="s" * MAX_SUMMARY)
    assert one_client.results(view.id)[0].summary == "s" * MAX_SUMMARY


@pytest.mark.parametrize("partitions", ["0", "x", "1e3", ""])
def test_a_namespaces_record_that_is_none_is_told(
    one_client: Client, one_server: AnyServer, partitions: str
) -> None:
    one_client.list()
    raw(one_client).hset("rwf:{0}:meta", "partitions", partitions)
    with connect(one_server) as other, pytest.raises(RwfError, match="number of partitions"):
        other.list()
    raw(one_client).hset("rwf:{0}:meta", "partitions", one_client._ctx.keys.partitions)
