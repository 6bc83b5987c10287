"""The two clients agree: equal methods, signatures, answers and refusals."""

from __future__ import annotations

import ast
import asyncio
import inspect
import textwrap
from datetime import timedelta
from typing import Any

import pytest

from rwf import AsyncClient, Client, CommandRejected, Completion, NotFound, WorkflowInvalid
from rwf.model.views import CommandResult
from tests.support.flows import effect, fan_out, flow, refused
from tests.support.servers import AnyServer
from tests.support.waiting import until


def public(kind: type) -> list[str]:
    return sorted(name for name in dir(kind) if not name.startswith("_"))


def test_the_same_methods() -> None:
    assert public(Client) == public(AsyncClient)


@pytest.mark.parametrize("name", public(Client))
def test_the_same_signatures(name: str) -> None:
    ours, theirs = getattr(Client, name), getattr(AsyncClient, name)
    assert inspect.signature(ours).parameters == inspect.signature(theirs).parameters
    if name in ("from_url", "from_redis", "fake"):
        assert isinstance(inspect.getattr_static(AsyncClient, name), classmethod)
    elif name == "events":
        assert inspect.isasyncgenfunction(theirs)
    else:
        assert inspect.iscoroutinefunction(theirs)
        returns = [inspect.signature(each).return_annotation for each in (ours, theirs)]
        assert returns[0] == returns[1]


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_an_editor_sees_what_each_method_does(kind: type) -> None:
    """The docstring is in the source, not set by code at run time."""
    for name in public(kind):
        source = textwrap.dedent(inspect.getsource(getattr(kind, name)))
        [function] = ast.parse(source).body
        assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        assert ast.get_docstring(function), name


def asynchronous(server: AnyServer) -> AsyncClient:
    return AsyncClient.from_url(server.url, partitions=16 if server.kind == "cluster" else None)


async def exercise(client: AsyncClient) -> str:
    """Calls every method once; returns the answers."""
    view = await client.insert(flow("a b:a c:+b x", max_attempts=3), key="k")
    assert (await client.insert(flow("a b:a c:+b x", max_attempts=3), key="k")).duplicate
    (again,) = await client.insert_many([flow("a b:a c:+b x", max_attempts=3)], keys=["k"])
    assert (again.id, again.duplicate) == (view.id, True)
    first = await client.complete_step(view.id, "a", payload=[1], summary="s", actor="me")
    assert effect(first) == (("b",), 1, (), 0)
    retry = await client.complete_step(
        view.id, "x", "retryable", retry_in=timedelta(0), command_id="one", force=True
    )
    assert retry.step.state == "retryable"
    assert [repair.kind for repair in (await client.reconcile(view.id)).repairs] == ["retry_due"]
    assert (await client.rebuild()).workflows == 1
    answers = await client.complete_many(
        [
            Completion(workflow_id=view.id, step="b", status="failed"),
            Completion(workflow_id=view.id, step="nobody"),
        ]
    )
    assert isinstance(answers[0], CommandResult)
    assert isinstance(answers[1], CommandRejected)
    with refused("already_terminal"):
        await client.complete_step(view.id, "a", "failed")
    with refused("invalid_argument"):
        await client.complete_step(view.id, "a", retry_in=1)
    kept = await client.deliver_signal("go", "k", payload=1, actor="me")
    assert (await client.signals("go", "k")).signals == (await client.signals()).signals == (kept,)
    assert (await client.withdraw_signal(kept.id, actor="me")).status == "withdrawn"
    with refused("illegal_transition"):
        await client.acknowledge(view.id, actor="me", reason="why")
    bad = await client.insert(flow("a"))
    await client.complete_step(bad.id, "a", "failed")
    left = await client.acknowledge(bad.id, actor="me", reason="why")
    assert (left.acknowledged_by, left.acknowledged_reason) == ("me", "why")
    with pytest.raises(NotFound):
        await client.get("0-" + "a" * 16)
    with pytest.raises(WorkflowInvalid):
        await client.insert(flow("a:b"))
    return view.id


READS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("get", (), {}),
    ("steps", (), {}),
    ("steps", (), {"limit": 2, "offset": 1}),
    ("step", ("b",), {}),
    ("result", ("a",), {}),
    ("result", ("x",), {"attempt": 1}),
    ("results", (), {}),
    ("results", (), {"step": "a"}),
    ("evidence", (), {}),
    ("evidence", (), {"step": "a"}),
    ("graph", (), {}),
    ("callbacks", (), {}),
    ("explain_step", ("b",), {}),
    ("explain", (), {}),
    ("reconcile", (), {}),
]


def test_the_same_answers(server: AnyServer, client: Client) -> None:
    async def run() -> tuple[str, list[Any], Any]:
        async with asynchronous(server) as other:
            workflow_id = await exercise(other)
            read = [
                await getattr(other, name)(workflow_id, *arguments, **options)
                for name, arguments, options in READS
            ]
            return workflow_id, read, await other.list(name="flow", limit=5)

    workflow_id, read, page = asyncio.run(run())
    for (name, arguments, options), answer in zip(READS, read, strict=True):
        assert getattr(client, name)(workflow_id, *arguments, **options) == answer, name
    assert client.list(name="flow", limit=5) == page


def test_a_large_graph_on_asyncio(server: AnyServer, client: Client) -> None:
    async def run() -> CommandResult:
        async with asynchronous(server) as other:
            view = await other.insert(fan_out(1300))
            return await other.complete_step(view.id, "root", "failed")

    result = asyncio.run(run())
    assert (result.cancelled_count, len(result.cancelled)) == (1300, 1000)
    assert result.workflow == client.get(result.workflow.id)


def test_the_fake_on_asyncio() -> None:
    async def run() -> None:
        async with AsyncClient.fake() as client, AsyncClient.fake() as other:
            await exercise(client)
            assert (await other.list()).workflows == ()

    asyncio.run(run())


def test_migrate_and_doctor(server: AnyServer, client: Client) -> None:
    async def run() -> tuple[Any, Any]:
        async with asynchronous(server) as other:
            return await other.migrate(), await other.doctor()

    migrated, checked = asyncio.run(run())
    assert client.migrate().library == migrated.library
    mine = client.doctor()
    assert [check.name for check in mine.checks] == [check.name for check in checked.checks]


def test_hints_on_asyncio(one_server: AnyServer, one_client: Client) -> None:
    async def run() -> tuple[str, str]:
        async with asynchronous(one_server) as other:
            events = other.events()
            first = asyncio.ensure_future(anext(events))
            redis: Any = one_server.client()

            def subscribed() -> bool:
                return bool(redis.pubsub_numsub("rwf:{0}:events")[0][1])

            await asyncio.to_thread(until, subscribed, what="the subscription")
            view = await other.insert(flow("a"))
            event = await first
            await events.aclose()
            return view.id, event.workflow_id

    inserted, told = asyncio.run(run())
    assert inserted == told


def test_many_at_once(server: AnyServer, client: Client) -> None:
    async def run() -> list[CommandResult]:
        async with asynchronous(server) as other:
            views = await asyncio.gather(*(other.insert(flow("a b:a")) for _ in range(60)))
            return list(
                await asyncio.gather(*(other.complete_step(view.id, "a") for view in views))
            )

    results = asyncio.run(run())
    assert [result.released for result in results] == [("b",)] * 60
    assert len(client.list(limit=500).workflows) == 60


def test_a_client_can_be_closed_twice_and_used_again(one_server: AnyServer) -> None:
    client = Client.from_url(one_server.url)
    view = client.insert(flow("a"))
    client.close()
    client.close()
    assert client.get(view.id) == view
    client.close()

    async def run() -> None:
        other = AsyncClient.from_url(one_server.url)
        assert await other.get(view.id) == view
        await other.close()
        await other.close()

    asyncio.run(run())


def test_a_client_is_shared_between_threads(client: Client) -> None:
    import threading
    from concurrent.futures import ThreadPoolExecutor

    start = threading.Barrier(8)

    def run(number: int) -> str:
        start.wait()  # the first use of all of them at once: who connects?
        view = client.insert(flow("a b:a"))
        assert client.complete_step(view.id, "a", payload=number).released == ("b",)
        found = client.result(view.id, "a")
        assert found is not None
        assert found.payload == number
        return view.id

    with ThreadPoolExecutor(8) as threads:
        ids = set(threads.map(run, range(8)))
    assert {view.id for view in client.list().workflows} == ids
