"""Dispatchers of adapters, on a broker in memory, and ``rwf dispatch`` (contract §15)."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from rwf import AsyncClient, Client, CommandRejected, Handlers, Ticket, Workflow
from rwf.adapters.dispatcher import Dispatcher
from tests.support.commandline import Cli
from tests.support.executors import dispatching
from tests.support.flows import flow, states
from tests.support.servers import AnyServer
from tests.support.waiting import until


class InMemory(Dispatcher):
    """Sends to lists, which a test takes from."""

    executor = "memory"

    def __init__(self, client: Client | AsyncClient, **options: Any) -> None:
        super().__init__(client, Handlers(), **options)
        self.messages: dict[str, list[Ticket]] = defaultdict(list)
        self.is_down = False

    def waiting(self, queue: str) -> int:
        return len(self.messages[queue])

    def send(self, queue: str, tickets: Sequence[Ticket]) -> None:
        if self.is_down:
            raise OSError("the broker is down")
        self.messages[queue] += tickets


def sent(dispatcher: InMemory, queue: str = "default") -> list[str]:
    return [ticket.step for ticket in dispatcher.messages[queue]]


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_steps_are_sent_to_the_queue_of_their_name_in_the_order_of_claims(
    kind: type[Client | AsyncClient], one_server: AnyServer, one_client: Client
) -> None:
    view = Workflow("w").add("late", worker="x", priority=-1).add("soon", worker="x", priority=9)
    one_client.insert(view.add("other", worker="x", queue="billing"))
    dispatcher = InMemory(kind.from_url(one_server.url), queues=["default", "billing"])
    with dispatching(dispatcher):
        until(lambda: dispatcher.health.sent == 3, what="all that is available")
        assert (sent(dispatcher), sent(dispatcher, "billing")) == (["soon", "late"], ["other"])
        one_client.insert(flow("hinted"))
        until(lambda: dispatcher.health.sent == 4, what="a step that becomes available")
        assert dispatcher.health.error is None
    if isinstance(dispatcher.client, Client):
        dispatcher.client.close()


def test_no_more_wait_in_a_brokers_queue_than_its_backlog(one_client: Client) -> None:
    flow = Workflow("wide").add_many({"name": f"s{n:02}", "worker": "x"} for n in range(10))
    one_client.insert(flow.add("other", worker="x", queue="billing"))
    dispatcher = InMemory(one_client, queues=["default", "billing"], backlog=4)
    with dispatching(dispatcher):
        until(lambda: dispatcher.health.sent == 5, what="a full queue, and another")
        assert sent(dispatcher) == ["s00", "s01", "s02", "s03"]
        del dispatcher.messages["default"][:2]
        until(lambda: dispatcher.health.sent == 7, what="two more")
        assert dispatcher.health.waiting == {"default": 4, "billing": 1}
    assert len(one_client.dispatch(["default"], dispatcher="test", limit=10)) == 4


def test_a_full_queue_is_filled_by_several_at_once(one_client: Client) -> None:
    """A turn costs as much for one step as for many: the next begins when an eighth is free."""
    one_client.insert(
        Workflow("wide").add_many({"name": f"s{n:02}", "worker": "x"} for n in range(40))
    )
    batches: list[int] = []

    class Drained(InMemory):
        def waiting(self, queue: str) -> int:
            if batches:
                self.messages[queue].pop(0)
            return super().waiting(queue)

        def send(self, queue: str, tickets: Sequence[Ticket]) -> None:
            batches.append(len(tickets))
            super().send(queue, tickets)

    dispatcher = Drained(one_client, backlog=32)
    with dispatching(dispatcher):
        until(lambda: dispatcher.health.sent == 40, what="all that is available")
    assert batches == [32, 4, 4]


def test_what_the_broker_has_not_taken_is_available_again(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    dispatcher = InMemory(one_client)
    dispatcher.is_down = True
    with dispatching(dispatcher):
        until(lambda: dispatcher.health.error, what="the broker's fault")
        assert "the broker is down" in str(dispatcher.health.error)
        until(lambda: states(one_client, view.id) == "a=available", what="the step's return")
        dispatcher.is_down = False
        until(lambda: dispatcher.health.sent == 1, what="the ticket")
        until(lambda: dispatcher.health.error is None, what="a dispatcher that is well")
    (ticket,) = dispatcher.messages["default"]
    assert one_client.start(ticket, run_id="r", worker_id="w").attempt == 1


def test_a_dispatcher_fires_the_timers_that_its_tickets_need(one_client: Client) -> None:
    one_client.insert(flow("a"))
    dispatcher = InMemory(one_client, hold=0.2)
    with dispatching(dispatcher):
        until(lambda: dispatcher.health.sent >= 2, what="a second ticket, once the first is void")


def test_one_that_is_stopped_takes_nothing_more(one_client: Client) -> None:
    dispatcher = InMemory(one_client)
    with dispatching(dispatcher):
        until(lambda: dispatcher.tick_age is not None, what="its start")
    view = one_client.insert(flow("a"))
    assert states(one_client, view.id) == "a=available"
    assert dispatcher.tick_age is None


def test_bad_options_are_refused(fake_client: Client) -> None:
    refused: list[dict[str, Any]] = [{"queues": []}, {"hold": 0}, {"hold": 8 * 86_400}]
    for options in refused:
        with pytest.raises(CommandRejected) as refusal:
            InMemory(fake_client, **options)
        assert refusal.value.reason_code == "invalid_argument"
    for backlog in (0, True, 1.5, 10**6):
        with pytest.raises(ValueError, match="backlog"):
            InMemory(fake_client, backlog=backlog)
    with pytest.raises(TypeError):
        InMemory(None)  # type: ignore[arg-type]


APP = """
import os
from rwf import Client
from tests.contract.test_dispatcher import InMemory

dispatcher = InMemory(Client.from_url(os.environ["APP_URL"]))
"""


def test_rwf_dispatch_runs_a_dispatcher_with_health_and_metrics(
    one_client: Client, one_server: AnyServer, tmp_path: Path
) -> None:
    one_client.insert(flow("a"))
    (tmp_path / "app.py").write_text(APP)
    path = f"{tmp_path}:{Path(__file__).parents[2]}"
    with subprocess.Popen(
        [sys.executable, "-m", "rwf", "dispatch", "app:dispatcher", "--metrics", "127.0.0.1:0"],
        cwd=tmp_path,
        env=os.environ | {"APP_URL": one_server.url, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stderr is not None
        found = next(filter(None, (re.search(r"http\S+", line) for line in running.stderr)))
        until(lambda: b'status="issued"} 1.0' in _read(found[0]), what="the ticket in the metrics")
        assert _read(found[0].replace("/metrics", "/healthz")) == b"ok\n"
        running.send_signal(signal.SIGTERM)
        out, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    first, last = out.splitlines()
    assert first.endswith("sends default to memory")
    assert last == "ended: 1 tickets sent"


def _read(url: str) -> bytes:
    with urlopen(url, timeout=10) as answer:
        body: bytes = answer.read()
        return body


def test_rwf_dispatch_needs_a_dispatcher(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    (cli.folder / "empty_app.py").write_text("dispatcher = 1\n")
    monkeypatch.chdir(cli.folder)
    assert "has no Dispatcher named" in cli.refused(2, "dispatch", "empty_app:dispatcher")
    assert "give MODULE:DISPATCHER" in cli.refused(2, "dispatch", "empty_app")
