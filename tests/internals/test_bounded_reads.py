"""No read moves more than 1 MiB in a call, or walks more than 500 items, however much there is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from rwf import Client, Completion, Workflow
from rwf.ops import reads
from rwf.protocol.requests import Op
from tests.support.flows import flow, one_call

T = TypeVar("T")

MOST_BYTES = 1_048_576
MOST_ITEMS = 500
LARGE = "x" * 250_000


def size_of(reply: Any) -> int:
    """The bytes of a reply."""
    if isinstance(reply, list):
        return sum(map(size_of, reply))
    return len(reply) if isinstance(reply, bytes) else 8


def longest(reply: Any) -> int:
    """The length of the longest list in a reply."""
    if not isinstance(reply, list):
        return 0
    return max([len(reply), *map(longest, reply)])


def bounded(client: Client, op: Op[T]) -> tuple[T, int]:
    """The result of an operation, and its number of calls; each of them is within the bounds."""
    reply: Any = None
    calls = 0
    while True:
        try:
            call = op.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result, calls
        reply = client._run(one_call(call))
        calls += 1
        assert size_of(reply) <= MOST_BYTES
        assert longest(reply) <= MOST_ITEMS


def attempts(workflow_id: str, count: int, payload: Any, summary: str) -> Iterator[Completion]:
    for number in range(count):
        yield Completion(
            workflow_id=workflow_id, step="a", status="retryable", retry_in=60,
            payload=[number, payload], summary=summary,
        )  # fmt: skip


def test_the_results_of_many_large_attempts_come_in_pages(client: Client) -> None:
    view = client.insert(flow("a b", max_attempts=1000))
    client.complete_many(attempts(view.id, 30, LARGE, "s"))
    client.complete_step(view.id, "b", payload="last")
    found, calls = bounded(client, reads.results(client._ctx, view.id, None))
    assert [row.attempt for row in found] == [*range(1, 31), 1]
    assert [row.payload[0] for row in found[:-1]] == list(range(30))
    assert found[-1].payload == "last"
    assert 8 <= calls <= 20
    latest, _ = bounded(client, reads.result(client._ctx, view.id, "a", None))
    assert latest is not None
    assert latest.attempt == 30


def test_the_rows_of_many_attempts_come_in_pages(one_client: Client) -> None:
    view = one_client.insert(flow("a", max_attempts=1000))
    one_client.complete_many(attempts(view.id, 901, None, "s"))
    found, _ = bounded(one_client, reads.results(one_client._ctx, view.id, "a"))
    assert [row.attempt for row in found] == list(range(1, 902))
    told, _ = bounded(one_client, reads.evidence(one_client._ctx, view.id, None))
    assert [entry.metadata["attempt"] for entry in told] == list(range(1, 902))


def test_steps_with_large_inputs_and_contexts_come_in_pages(client: Client) -> None:
    workflow = Workflow("large", context=LARGE[:100_000])
    for number in range(24):
        payload: dict[str, Any] = {"input": [number, LARGE], "context": LARGE} if number % 3 else {}
        workflow.add(f"s{number}", worker="work", **payload)
    view = client.insert(workflow)
    found, calls = bounded(client, reads.steps(client._ctx, view.id, None, 0, True))
    assert [step.name for step in found] == [f"s{number}" for number in range(24)]
    for number, step in enumerate(found):
        wanted = ([number, LARGE], LARGE) if number % 3 else (None, None)
        assert (step.input, step.context) == wanted
    assert calls <= 20
    graph, _ = bounded(client, reads.graph(client._ctx, view.id, True))
    assert list(graph.steps) == found
    bare, calls = bounded(client, reads.steps(client._ctx, view.id, None, 0, False))
    assert bare == [step.model_copy(update={"input": None, "context": None}) for step in found]
    assert calls == 1
    assert list(client.graph(view.id, payloads=False).steps) == bare
    assert client.steps(view.id, limit=2, payloads=False) == bare[:2]


def test_large_evidence_comes_in_pages(client: Client) -> None:
    view = client.insert(flow("a b"))
    client.complete_step(view.id, "a")
    summary = "\x00" * 4096
    for number in range(60):
        refused = Completion(
            workflow_id=view.id, step="a", status="failed", summary=summary, actor=f"u{number}"
        )
        client.complete_many([refused])
    found, _ = bounded(client, reads.evidence(client._ctx, view.id, None))
    assert [entry.actor for entry in found[1:]] == [f"u{number}" for number in range(60)]
    latest, _ = bounded(client, reads.latest_rejection(client._ctx, view.id, "a"))
    assert latest is not None
    assert latest.actor == "u59"
    none, calls = bounded(client, reads.latest_rejection(client._ctx, view.id, "b"))
    assert none is None
    assert calls >= 2
