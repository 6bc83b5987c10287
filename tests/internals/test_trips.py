"""How many round trips each method takes, on one partition and on 64 of one server.

A method that gets chattier fails here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rwf import Client, Completion, Workflow, result
from rwf.transport.actions import Send, SendEverywhere, SendInTurn, SendTogether
from tests.support.flows import fan_in, flow
from tests.support.servers import AnyServer

TRIPS = Send, SendEverywhere, SendInTurn, SendTogether


class Counted:
    """Counts requests and replies, from now on."""

    def __init__(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trips = 0
        perform = client._store._perform

        def performed(action: Any) -> Any:
            self.trips += isinstance(action, TRIPS)
            return perform(action)

        monkeypatch.setattr(client._store, "_perform", performed)

    def of(self, act: Callable[[], Any]) -> int:
        before = self.trips
        act()
        return self.trips - before


@pytest.mark.parametrize("partitions", [1, 64])
def test_how_many_round_trips_each_method_takes(
    partitions: int, one_server: AnyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client.from_url(one_server.url, partitions=partitions) as client:
        ids = [client.insert(flow("a b:a c:a")).id for _ in range(40)]
        counted = Counted(client, monkeypatch)
        several = partitions > 1
        claimed: list[Any] = []
        # The round trips on one partition, and on 64.
        table: dict[str, tuple[Callable[[], Any], int, int]] = {
            "list": (lambda: client.list(limit=20), 2, 2),
            "insert": (lambda: client.insert(flow("a b:a")), 1, 1),
            "insert with a key": (lambda: client.insert(flow("a"), key="k"), 2, 2),
            "insert_many": (lambda: client.insert_many([flow("a") for _ in range(64)]), 1, 1),
            "claim, which looks first": (
                lambda: claimed.extend(client.claim(["default"], worker_id="w", limit=8)), 2, 3,
            ),
            "claim of nothing": (lambda: client.claim(["none"], worker_id="w"), 1, 1),
            "heartbeat": (lambda: client.heartbeat(claimed), 1, 1),
            "release": (lambda: client.release(claimed[:4]), 1, 1),
            "complete": (lambda: client.complete(claimed[4]), 1, 1),
            "complete_step": (lambda: client.complete_step(ids[39], "a"), 1, 1),
            "complete_many": (
                lambda: client.complete_many([Completion(workflow_id=ids[39], step="b")]), 1, 1,
            ),
            "request_cancel": (lambda: client.request_cancel(ids[38]), 1, 1),
            "get": (lambda: client.get(ids[0]), 1, 1),
            "steps": (lambda: client.steps(ids[0]), 1, 1),
            "step": (lambda: client.step(ids[0], "a"), 1, 1),
            "result": (lambda: client.result(ids[39], "a"), 1, 1),
            "results of a step": (lambda: client.results(ids[39], step="a"), 2, 2),
            "results": (lambda: client.results(ids[39]), 2, 2),
            "evidence": (lambda: client.evidence(ids[39]), 2, 2),
            "evidence of none": (client.evidence, 1, 1),
            "queues, in pages": (client.queues, 2, 2),
            "graph": (lambda: client.graph(ids[0]), 1, 1),
            "callbacks": (lambda: client.callbacks(ids[38]), 1, 1),
            "explain_step, available": (lambda: client.explain_step(ids[0], "a"), 2, 2),
            "explain_step, pending": (lambda: client.explain_step(ids[0], "b"), 2, 2),
            "explain": (lambda: client.explain(ids[0]), 2, 2),
            "prune": (client.prune, 2, 2),
        }  # fmt: skip
        found = {name: counted.of(act) for name, (act, _, _) in table.items()}
    wanted = {name: many if several else one for name, (_, one, many) in table.items()}
    assert found == wanted


def test_a_graph_of_5000_steps_with_inputs_takes_few(
    one_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    wf = Workflow("large").add("s0", worker="w", input={"n": 0})
    for number in range(1, 5000):
        wf.add(f"s{number}", worker="w", input={"n": number, "of": result("s0")})
    view = one_client.insert(wf)
    counted = Counted(one_client, monkeypatch)
    assert counted.of(lambda: one_client.graph(view.id)) <= 8
    assert counted.of(lambda: one_client.steps(view.id)) <= 8
    assert [step.input["n"] for step in one_client.steps(view.id)] == list(range(5000))


def test_large_inputs_travel_in_bounded_replies(one_client: Client) -> None:
    wf = Workflow("heavy")
    for number in range(40):
        wf.add(f"s{number}", worker="w", input={"n": number, "text": "x" * 100_000})
    view = one_client.insert(wf)
    assert [step.input["n"] for step in one_client.steps(view.id)] == list(range(40))
    assert [step.name for step in one_client.steps(view.id, limit=3, offset=7)] == [
        f"s{number}" for number in (7, 8, 9)
    ]


def test_a_step_with_many_parents_is_explained_in_few(
    one_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = one_client.insert(fan_in(100))
    counted = Counted(one_client, monkeypatch)
    assert counted.of(lambda: one_client.explain_step(view.id, "last")) <= 3
