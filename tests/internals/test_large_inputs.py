"""Claims whose inputs have many or large results: bounded replies, read in slices."""

from __future__ import annotations

from collections import Counter
from typing import Any, TypeVar

import pytest

from rwf import Client, Completion, StoreUnavailable, Workflow, result
from rwf.model.views import ClaimedStep, CommandResult
from rwf.ops import claims
from rwf.ops.claims import Claimer
from rwf.ops.complete import complete_many, exchange
from rwf.protocol.functions.claims import ReserveSteps
from rwf.protocol.requests import Call, Op, Together, ask
from tests.internals.test_bounded_reads import MOST_BYTES, longest, size_of
from tests.support.flows import flow, one_call, own_key, raw, states
from tests.support.servers import AnyServer

T = TypeVar("T")

LARGE = "x" * 262_000


def driven(client: Client, op: Op[T]) -> tuple[T, Counter[str]]:
    """The result of an operation, and how often it called each function; every reply is within the
    bounds."""
    reply: Any = None
    calls: Counter[str] = Counter()
    while True:
        try:
            request = op.send(reply)
        except StopIteration as end:
            result_: T = end.value
            return result_, calls
        reply = client._run(one_call(request))
        for call in request.calls if isinstance(request, Together) else [request]:
            assert isinstance(call, Call)
            calls[call.function] += 1
            assert len(call.args) <= 520
        assert size_of(reply) <= MOST_BYTES
        assert longest(reply) <= 1_000


def joined(count: int, **options: Any) -> Workflow:
    """Steps s0, s1, ..., and ``last`` whose input has the results of all of them."""
    workflow = Workflow("joined")
    for number in range(count):
        workflow.add(f"s{number}", worker="work")
    refs = [result(f"s{number}") for number in range(count)]
    return workflow.add("last", worker="work", queue="late", input=refs, **options)


def completed(client: Client, workflow: Workflow, payload: Any) -> str:
    """Inserts a join, and completes its parents; each with its number and this payload."""
    view = client.insert(workflow)
    names = [step["name"] for step in workflow.to_dict()["steps"] if "input" not in step]
    client.complete_many(
        Completion(workflow_id=view.id, step=name, payload=[number, payload])
        for number, name in enumerate(names)
    )
    return view.id


def claim(client: Client, limit: int = 1) -> tuple[list[ClaimedStep], Counter[str]]:
    return driven(client, claims.claim(client._ctx, ["late"], "w", limit, 30))


@pytest.mark.parametrize("count", [63, 64, 65, 500, 1_300])
def test_any_number_of_results_is_filled_in(client: Client, count: int) -> None:
    view_id = completed(client, joined(count), "r")
    (held,), calls = claim(client)
    assert held.input == [[number, "r"] for number in range(count)]
    assert (held.attempt, client.step(view_id, "last").attempt) == (1, 1)
    assert calls["inputs"] == (0 if count <= 64 else -(-(count - 64) // 500))
    assert client.complete(held).workflow.state == "completed"


def test_8200_references_are_filled_in(one_client: Client) -> None:
    completed(one_client, joined(8_200), None)
    (held,), calls = claim(one_client)
    assert [pair[0] for pair in held.input] == list(range(8_200))
    assert calls["inputs"] == 17


def test_large_results_are_read_after_the_claim(client: Client) -> None:
    view_id = completed(client, joined(20), LARGE)
    (held,), calls = claim(client)
    assert [pair[0] for pair in held.input] == list(range(20))
    assert {pair[1] for pair in held.input} == {LARGE}
    assert calls["start_steps"] == 1
    assert 6 <= calls["inputs"] <= 8
    assert client.complete(held).workflow.id == view_id


def test_many_reducers_over_large_results(one_client: Client) -> None:
    workflow = Workflow("reduced")
    names = [f"s{number}" for number in range(40)]
    workflow.add_many({"name": name, "worker": "work"} for name in names)
    for number in range(64):
        refs = [number, *map(result, names)]
        workflow.add(f"r{number}", worker="work", queue="late", input=refs)
    completed(one_client, workflow, LARGE)
    found, calls = claim(one_client, 64)
    assert sorted(held.input[0] for held in found) == list(range(64))
    for held in found:
        assert [pair[0] for pair in held.input[1:]] == list(range(40))
    # The results are read once, not for each of the steps.
    assert calls["inputs"] <= 64 + 16 + 4 + 40


def test_many_claims_with_some_references_are_filled_in_by_one_more_trip(client: Client) -> None:
    for _ in range(40):
        completed(client, joined(3), "r")
    found: list[ClaimedStep] = []
    trips = 0
    while len(found) < 40:
        some, calls = claim(client, 40)
        found += some
        trips += calls["start_steps"]
    assert all(held.input == [[n, "r"] for n in range(3)] for held in found)


def test_large_inputs_of_many_steps_do_not_travel_in_one_reply(client: Client) -> None:
    workflow = Workflow("large", context=LARGE[:200_000])
    for number in range(12):
        workflow.add(
            f"s{number}", worker="work", queue="late", input=[number, LARGE], context=LARGE
        )
    client.insert(workflow)
    found, _ = claim(client, 12)
    assert sorted(held.input[0] for held in found) == list(range(12))
    for held in found:
        assert (held.input[1], held.context) == (LARGE, LARGE)
        assert held.workflow_context == LARGE[:200_000]


def test_large_signals_are_told_to_each_step_that_they_woke(client: Client) -> None:
    view = client.insert(flow(" ".join(f"s{n}" for n in range(6)), queue="late"))
    for number in range(6):
        client.await_step(view.id, f"s{number}", signal="go", correlation_key=str(number))
        client.deliver_signal("go", str(number), payload=[number, LARGE])
    found, _ = claim(client, 6)
    told = {held.step: held.signal.payload for held in found if held.signal is not None}
    assert told == {f"s{number}": [number, LARGE] for number in range(6)}


def test_the_next_claims_of_a_batch_are_filled_in(client: Client) -> None:
    workflow = joined(100).add("end", worker="work", deps=["last"])
    workflow.add("first", worker="work", queue="first").connect("first", "last")
    view = client.insert(workflow)
    client.complete_many(
        Completion(workflow_id=view.id, step=f"s{n}", payload=n) for n in range(100)
    )
    (held,) = client.claim(["first"], worker_id="w")
    report = Completion(workflow_id=view.id, step="first", lease=held.lease)
    claimer = Claimer.checked(["late"], "w", 30)
    batch, calls = driven(client, complete_many(client._ctx, [report], claimer, 5))
    assert [claimed.input for claimed in batch.claimed] == [list(range(100))]
    assert (calls["complete"], calls["inputs"]) == (1, 1)


def test_what_a_batch_of_reports_shows_is_bounded(client: Client) -> None:
    workflow = Workflow("large", context=LARGE)
    for number in range(10):
        workflow.add(f"s{number}", worker="work", input=[number, LARGE], context=LARGE)
    ids = [client.insert(workflow).id for _ in range(2)]
    reports = [
        Completion(workflow_id=workflow_id, step=f"s{number}", payload=1)
        for workflow_id in ids
        for number in range(10)
    ]
    done, calls = driven(client, complete_many(client._ctx, reports))
    for answer, report in zip(done, reports, strict=True):
        assert isinstance(answer, CommandResult)
        assert (answer.step.name, answer.workflow.id) == (report.step, report.workflow_id)
        assert answer.step.input == [int(report.step[1:]), LARGE]
        assert (answer.step.context, answer.workflow.context) == (LARGE, LARGE)
    assert calls["complete"] <= 2


def test_a_workers_trip_leaves_what_is_to_be_read_to_the_worker(one_client: Client) -> None:
    completed(one_client, joined(100), "r")
    one_client.insert(flow("a", queue="late"))
    claimer = Claimer.checked(["late"], "w", 30)
    reserve = ReserveSteps(5, ["late"])
    reserved = one_client._run(ask(one_client._ctx.keys.partition(0), reserve))
    done, calls = driven(one_client, exchange(one_client._ctx, 0, [], reserved, claimer, 0))
    assert ([held.step for held in done.claimed], len(done.lacking)) == (["a"], 1)
    assert calls == {"complete": 1}
    (held,), calls = driven(one_client, claims.fill_in(one_client._ctx, done.lacking))
    assert (held.step, len(held.input), calls["inputs"]) == ("last", 100, 1)


# --- results that cannot be filled in


def test_an_input_that_is_too_large_is_given_back_uncounted(one_server: AnyServer) -> None:
    with (
        Client.from_url(one_server.url, max_input=1_000_000) as small,
        Client.from_url(one_server.url) as usual,
    ):
        view_id = completed(usual, joined(8), LARGE)
        other = completed(usual, joined(3), LARGE)
        assert [held.workflow_id for held in small.claim(["late"], worker_id="w", limit=2)] == [
            other
        ]
        step = small.step(view_id, "last")
        assert (step.state, step.attempt) == ("retryable", 0)
        why = small.explain_step(view_id, "last")
        assert (why.operator_status, why.blockers[0].code) == ("Blocked", "input_too_large")
        usual.recover_step(view_id, "last", "retry")
        (held,) = usual.claim(["late"], worker_id="w")
        assert (held.attempt, len(held.input)) == (1, 8)


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5, None])
def test_max_input_is_a_number_of_bytes(wrong: Any) -> None:
    with pytest.raises(Exception, match="max_input must be a number of bytes"):
        Client.from_url("redis://127.0.0.1:1", max_input=wrong)


@pytest.mark.usefixtures("broken_on_purpose")
@pytest.mark.parametrize("field", ["i:last", "o:s3:1", "o:s90:1"])
def test_an_input_that_cannot_be_read_is_given_back_uncounted(
    client: Client, field: str, caplog: pytest.LogCaptureFixture
) -> None:
    view_id = completed(client, joined(100), "r")
    other = completed(client, joined(100), "r")
    raw(client).hset(own_key(view_id, "p"), field, "no json")
    found = client.claim(["late"], worker_id="w", limit=5)
    assert [held.workflow_id for held in found] == [other]
    assert f"step last of {view_id} was skipped" in caplog.text
    step = client.step(view_id, "s0")
    why = client.explain_step(view_id, "last")
    assert (why.state, why.blockers[0].code) == ("retryable", "input_unreadable")
    assert why.blockers[0].details["times"] == 1
    assert [entry.reason_code for entry in client.evidence(view_id) if entry.step == "last"] == [
        "input_unreadable"
    ]
    assert step.state == "completed"
    raw(client).hset(own_key(view_id, "p"), field, '["mended"]')
    client.recover_step(view_id, "last", "retry")
    (held,) = client.claim(["late"], worker_id="w")
    assert held.attempt == 1


@pytest.mark.usefixtures("broken_on_purpose")
def test_where_no_payload_can_be_read_no_attempt_is_burnt(one_client: Client) -> None:
    view = one_client.insert(flow("a", queue="late", input=[1]))
    raw(one_client).delete(own_key(view.id, "p"))
    raw(one_client).set(own_key(view.id, "p"), "x")
    assert one_client.claim(["late"], worker_id="w") == []
    raw(one_client).delete(own_key(view.id, "p"))
    assert states(one_client, view.id) == "a=retryable"
    one_client.recover_step(view.id, "a", "retry")
    (held,) = one_client.claim(["late"], worker_id="w")
    assert held.attempt == 1


def test_a_result_that_is_missing_behind_the_first_holds_its_step(client: Client) -> None:
    workflow = joined(80)
    workflow.add(
        "reads", worker="work", queue="late",
        input=[result(f"s{number}", "n") for number in range(80)],
    )  # fmt: skip
    view = client.insert(workflow)
    client.complete_many(
        Completion(workflow_id=view.id, step=f"s{n}", payload={"n": n} if n != 70 else {})
        for n in range(80)
    )
    found = client.claim(["late"], worker_id="w", limit=5)
    assert [held.step for held in found] == ["last"]
    assert client.step(view.id, "reads").state == "pending"
    why = client.explain_step(view.id, "reads")
    assert why.blockers[0].details == {"step": "s70", "path": "n"}


def test_what_needs_no_more_is_returned_when_the_rest_cannot_be_read(one_client: Client) -> None:
    completed(one_client, joined(100), "r")
    one_client.insert(flow("a", queue="late"))
    op = claims.claim(one_client._ctx, ["late"], "w", 5, 30)

    def cut_off() -> Op[list[ClaimedStep]]:
        reply: Any = None
        while True:
            try:
                request = op.send(reply)
                if isinstance(request, Together):
                    request = op.throw(StoreUnavailable("away"))
            except StopIteration as end:
                return list(end.value)
            reply = yield request

    assert [held.step for held in one_client._run(cut_off())] == ["a"]
