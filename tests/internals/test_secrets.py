"""No URL is ever shown with its password: not by errors, tracebacks, logs, views or commands."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rwf import AsyncClient, Client, RwfError
from tests.support.commandline import Cli, run
from tests.support.servers import AnyServer, Server, free_port

SECRET = "hunter2"
LOGIN = f"bob:{SECRET}%40{SECRET}"

# In each, {port} is a port that nobody listens on.
BROKEN = [
    "redis://{login}@127.0.0.1:{port}/0",
    "rediss://{login}@127.0.0.1:{port}/0",
    "redis://{login}@no-such-host.invalid:{port}/0",
    "redis+cluster://{login}@127.0.0.1:{port}",
    "rediss+cluster://{login}@127.0.0.1:{port}",
    "redis+sentinel://{login}@127.0.0.1:{port}/main",
    "unix://{login}@/no/such/socket",
    "redis://{login}@127.0.0.1:port/0",
    "redis://{login}@127.0.0.1:99999999/0",
    "redis://{login}/more@127.0.0.1:{port}/0",
    "redis://{login}#more@127.0.0.1:{port}/0",
    "redis://{login}@127.0.0.1:{port}/0?no_such_option=1",
    "redis://127.0.0.1:{port}/0?password={login}&socket_timeout=x",
    "redis+sentinel://{login}@127.0.0.1:port/main",
    "redis+sentinel://{login}@127.0.0.1:{port}",
    "http://{login}@127.0.0.1:{port}",
    "//{login}@127.0.0.1",
    "embedded://{login}@/no/such/folder",
]


def shown(error: BaseException) -> str:
    return "".join([str(error), repr(error), *traceback.format_exception(error)])


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """At the end no log record, at any level, holds the secret."""
    caplog.set_level(logging.DEBUG)
    yield
    assert SECRET not in caplog.text


def broken(text: str) -> str:
    return text.format(login=LOGIN, port=free_port())


@pytest.mark.usefixtures("heard", "impatient")
@pytest.mark.parametrize("text", BROKEN)
def test_errors(text: str, tmp_path: Path) -> None:
    url = broken(text)

    def blocking() -> None:
        with Client.from_url(url) as client:
            assert SECRET not in repr(client) + repr(client._store) + repr(vars(client._store))
            client.list()

    async def awaited() -> None:
        async with AsyncClient.from_url(url) as client:
            assert SECRET not in repr(client) + repr(client._store) + repr(vars(client._store))
            await client.list()

    calls: list[Callable[[], object]] = [blocking, lambda: asyncio.run(awaited())]
    for call in calls:
        with pytest.raises((RwfError, OSError)) as caught:
            call()
        assert SECRET not in shown(caught.value)
    cli = Cli(url, tmp_path)
    for arguments in (("ls",), ("doctor", "--json"), ("ls", url)):
        found = cli(*arguments)
        assert found.exit_code
        assert SECRET not in found.output


@pytest.mark.usefixtures("heard", "impatient")
def test_a_wrong_password(server: AnyServer, tmp_path: Path) -> None:
    url = server.url.replace("://", f"://{LOGIN}@")
    with Client.from_url(url) as client, pytest.raises(RwfError) as caught:
        client.list()
    assert SECRET not in shown(caught.value)
    for arguments in (("ls",), ("doctor",), ("migrate", "--json")):
        found = Cli(url, tmp_path)(*arguments)
        assert found.exit_code == 3
        assert SECRET not in found.output


@pytest.fixture
def login(one_server: AnyServer) -> str:
    """The URL of a user who may do everything."""
    any_client: Any = one_server.client()
    any_client.execute_command(
        "ACL", "SETUSER", "bob", "on", f">{SECRET}@{SECRET}", "~*", "&*", "+@all"
    )
    return one_server.url.replace("://", f"://{LOGIN}@")


@pytest.mark.usefixtures("heard", "impatient")
def test_what_goes_well(login: str, tmp_path: Path) -> None:
    cli = Cli(login, tmp_path)
    workflow_id = cli.inserted()
    for arguments in (
        ("doctor",), ("doctor", "--json"), ("migrate",), ("ls",), ("show", workflow_id),
        ("explain", workflow_id), ("evidence", workflow_id), ("queues", "--json"),
    ):  # fmt: skip
        assert SECRET not in cli.ok(*arguments)
    with Client.from_url(login) as client:
        client.list()
        assert SECRET not in repr(client._store.client()) + repr(client) + repr(client._session)


@pytest.mark.usefixtures("heard", "impatient")
def test_a_server_that_rwf_refuses(tmp_path: Path) -> None:
    with Server.start("redis62", extra=("--requirepass", "")) as server:
        server.client().config_set("requirepass", SECRET)
        url = server.url.replace("://", f"://:{SECRET}@")
        cli = Cli(url, tmp_path)
        assert SECRET not in cli.refused(3, "ls") + cli("doctor").output


def test_a_process_of_its_own(login: str) -> None:
    """Python's own output at the end is checked, too."""
    for url, arguments in ((broken(BROKEN[0]), ("ls",)), (login, ("show", login))):
        done = run(*arguments, env={"RWF_URL": url})
        assert done.returncode
        assert SECRET.encode() not in done.stdout + done.stderr
