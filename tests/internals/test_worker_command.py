"""White-box cases beside those of ``contract/test_worker_command.py``."""

from __future__ import annotations

import pytest

from rwf import Client, Worker
from rwf.worker import worker as worker_module
from tests.support.servers import AnyServer


def test_a_worker_of_the_library_without_a_client_takes_them_too(
    one_client: Client, one_server: AnyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RWF_URL", one_server.url)
    monkeypatch.delenv("RWF_NAMESPACE", raising=False)
    client = Worker(queues=["default"]).client
    assert client._ctx.keys.namespace == "rwf"
    monkeypatch.setenv("RWF_NAMESPACE", "other")
    assert Worker().client._ctx.keys.namespace == "other"
    monkeypatch.delenv("RWF_URL")
    address = Worker().client._store.address
    assert address is not None
    assert address.url == worker_module.DEFAULT_URL
