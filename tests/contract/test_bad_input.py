"""Issue 2, point 5: bad input is refused with a typed error, and nothing is written."""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from rwf import Client, CommandRejected, Completion, Workflow, WorkflowInvalid, result
from tests.conftest import connect
from tests.support.flows import flow, refused, stored
from tests.support.servers import AnyServer

DOWN = "redis://127.0.0.1:1/0"
"""Nobody listens there: bad input is refused before a server is asked."""


# --- definitions

BAD_NAMES = ["a{b}", "{1}", "a:b", "a\nb", "a\x00", "x" * 129, "x" * 10_240, "ü", " ", "a b", "a/b"]
BAD_NAMES += ["a[1]", "a*", "a|b", "a,b", "+a", "^", ":s", "#0", ">0", "\ud800", "a\n"]


def deep(levels: int, kind: str = "list") -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value] if kind == "list" else {"k": value}
    return value


def endless() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


class Color(str, enum.Enum):  # noqa: UP042
    RED = "red"


BAD_PAYLOADS: list[tuple[str, Any]] = [
    ("non_serializable_payload", value)
    for value in (
        object(),
        {1: 2},
        {None: 1},
        {"a": {("t",): 1}},
        (1, 2),
        {1, 2},
        b"bytes",
        math.nan,
        math.inf,
        -math.inf,
        [[math.nan]],
        2**64,
        -(2**63) - 1,
        10**400,
        "\ud800",
        {"\udfff": 1},
        deep(201),
        deep(201, "dict"),
        deep(100_000),
        deep(100_000, "dict"),
        endless(),
        timedelta(1),
        1j,
        Color.RED,
        result,
    )
]
TOO_LARGE = [("payload_too_large", "x" * 262_143), ("payload_too_large", [0] * 200_000)]


def with_input(value: Any) -> Workflow:
    return Workflow("w").add("a", worker="w", input=value)


DEFINITIONS: list[tuple[str, Callable[[], Workflow]]] = [
    ("workflow_name_required", lambda: Workflow("")),
    ("workflow_name_required", lambda: Workflow(None)),  # type: ignore[arg-type]
    *(
        ("invalid_name", build)
        for name in BAD_NAMES
        for build in (
            lambda name=name: Workflow(name),
            lambda name=name: flow("a").add(name, worker="w"),
            lambda name=name: flow("a").add("b", worker="w", queue=name),
            lambda name=name: flow("a").add("b", worker="w", deps=[name]),
            lambda name=name: flow("a").connect(name, "a"),
            lambda name=name: flow("a").add("b", worker="w", input=result(name)),
        )
    ),
    ("no_steps", lambda: Workflow("w")),
    ("invalid_step_definition", lambda: flow("a", priority=1000)),
    ("invalid_step_definition", lambda: flow("a", priority=True)),
    ("invalid_step_definition", lambda: flow("a", max_attempts=0)),
    ("invalid_step_definition", lambda: flow("a", max_attempts=1.0)),
    ("invalid_step_definition", lambda: flow("a", backoff=-1)),
    ("invalid_step_definition", lambda: flow("a", backoff=math.nan)),
    ("invalid_step_definition", lambda: flow("a", timeout=math.inf)),
    ("invalid_step_definition", lambda: flow("a", timeout=0)),
    ("invalid_step_definition", lambda: flow("a", worker="")),
    ("invalid_step_definition", lambda: flow("a", worker="w\n")),
    ("invalid_step_definition", lambda: flow("a", worker=None)),
    ("invalid_step_definition", lambda: Workflow("w", definition_version=-1)),
    ("duplicate_step_name", lambda: flow("a a")),
    ("missing_dependency", lambda: flow("a:b")),
    ("self_loop", lambda: flow("a:a")),
    ("self_loop", lambda: with_input(result("a"))),
    ("duplicate_edge", lambda: flow("a b:a,+a")),
    ("cycle_detected", lambda: flow("a:c b:a c:b")),
    ("unknown_result_step", lambda: with_input(result("b"))),
    ("reserved_key", lambda: with_input({"$result": "a"})),
    ("reserved_key", lambda: with_input([{"x": {"$result": 1}}])),
    ("reserved_key", lambda: Workflow("w", context={"$result": 1})),
    *((code, lambda value=value: with_input(value)) for code, value in BAD_PAYLOADS + TOO_LARGE),
    *(
        (code, lambda value=value: Workflow("w", context=value).add("a", worker="w"))
        for code, value in BAD_PAYLOADS + TOO_LARGE
    ),
    ("workflow_too_large", lambda: _too_large()),
]


def _too_large() -> Workflow:
    wf = Workflow("w")
    for number in range(200_001):
        wf.add(f"s{number}", worker="w")
    return wf


def test_every_definition_that_is_wrong(one_client: Client) -> None:
    one_client.list()
    before = stored(one_client)
    codes = set()
    for code, build in DEFINITIONS:
        with pytest.raises(WorkflowInvalid) as caught:
            one_client.insert(build(), key="k")
        assert caught.value.code == code, str(caught.value)[:200]
        assert len(str(caught.value)) < 2000
        assert "\n" not in str(caught.value)
        codes.add(code)
    assert stored(one_client) == before
    assert codes == {
        "workflow_name_required",
        "invalid_name",
        "no_steps",
        "invalid_step_definition",
        "duplicate_step_name",
        "missing_dependency",
        "self_loop",
        "duplicate_edge",
        "cycle_detected",
        "non_serializable_payload",
        "reserved_key",
        "payload_too_large",
        "unknown_result_step",
        "workflow_too_large",
    }


def test_a_cycle_is_named(one_client: Client) -> None:
    with pytest.raises(WorkflowInvalid) as caught:
        one_client.insert(flow("x a:c,x b:a c:b"))
    assert caught.value.details["cycle"] == ["a", "b", "c"]


def test_the_clients_own_limit(server: AnyServer) -> None:
    with Client.from_url(server.url, max_payload=10) as client:
        with pytest.raises(WorkflowInvalid, match="payload_too_large"):
            client.insert(with_input("123456789"))
        view = client.insert(with_input("12345678"))  # with its quotes, ten bytes
        with refused("payload_too_large"):
            client.complete_step(view.id, "a", payload=[1, 2, 3, 4, 5])
        assert client.complete_step(view.id, "a", payload=[1, 2, 3]).outcome == "accepted"


# --- arguments of commands

Wrong = tuple[str, dict[str, Any]]


def each(reason: str, field: str, values: list[Any], **fixed: Any) -> list[Wrong]:
    """The refusal of each of these values of an argument."""
    return [(reason, {**fixed, field: value}) for value in values]


STATUSES: list[Any] = [None, 5, "", "COMPLETED", "expired", "pending", "operator_skipped", [], True]
STATUSES += [b"completed", "completed\n"]
DELAYS: list[Any] = [-1, -0.001, math.nan, math.inf, -math.inf, "5", True, [], 1e10, 10**400, 1j]
DELAYS += [timedelta(seconds=-1), timedelta.max]
TEXTS: list[Any] = [5, b"x", "", "x" * 10_240, "\ud800", ["x"], True]
IDS: list[Any] = [None, 5, "", "x" * 10_240, "0-{a}", f"0-{'a' * 16}\n", "\ud800", b"x", []]
ENDS = ["completed", "failed", "discarded", "cancelled"]

BAD_COMPLETIONS: list[Wrong] = [
    *each("invalid_argument", "status", STATUSES),
    *each("invalid_argument", "retry_in", DELAYS, status="retryable"),
    *each("invalid_argument", "status", ENDS, retry_in=1),
    *each("invalid_argument", "summary", [5, b"x", [], "x" * 10_000, "\ud800"]),
    *each("invalid_argument", "actor", TEXTS),
    *each("invalid_argument", "lease", TEXTS),
    *each("invalid_argument", "command_id", TEXTS),
    *each("invalid_argument", "force", [None, 1, 0, "yes"]),
    *each("invalid_argument", "step", [5, None, b"a", ["a"], True]),
    *each("workflow_not_found", "workflow_id", IDS),
    *((code, {"payload": value}) for code, value in BAD_PAYLOADS + TOO_LARGE),
    *each("non_serializable_payload", "payload", [result("a"), {"deep": [result("a")]}]),
]


def test_every_completion_that_is_wrong(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    before = stored(one_client)
    for reason, wrong in BAD_COMPLETIONS:
        arguments = {"workflow_id": view.id, "step": "a", **wrong}
        with refused(reason) as caught:
            one_client.complete_step(**arguments)
        error = caught.value
        assert error.requested_at is None
        assert error.action == "complete_step"
        assert error.legal_next_steps
        assert len(str(error)) < 1000
        [answer] = one_client.complete_many([Completion(**arguments)])
        assert isinstance(answer, CommandRejected)
        assert answer.reason_code == reason
    assert stored(one_client) == before
    assert one_client.complete_step(view.id, "a").outcome == "accepted"


def test_what_is_wrong_in_itself_needs_no_server() -> None:
    with Client.from_url(DOWN) as client:
        for reason, wrong in BAD_COMPLETIONS:
            with refused(reason):
                client.complete_step(**{"workflow_id": "0-" + "a" * 16, "step": "a", **wrong})
        with pytest.raises(WorkflowInvalid, match="no_steps"):
            client.insert(Workflow("w"))
        for call in (
            lambda: client.insert(flow("a"), key=""),
            lambda: client.list(state="nonsense"),
            lambda: client.list(limit=0),
            lambda: client.complete_many([5]),  # type: ignore[list-item]
            lambda: client.steps("0-" + "a" * 16, limit=-1),
        ):
            assert _error_of(call).reason_code == "invalid_argument"


def _error_of(call: Callable[[], object]) -> CommandRejected:
    try:
        answer = call()
    except CommandRejected as error:
        return error
    # A batch returns its refusals.
    assert isinstance(answer, list)
    assert isinstance(answer[0], CommandRejected)
    return answer[0]


BAD_INSERTS: list[dict[str, Any]] = [
    *({"workflow": value} for value in (None, "w", {"name": "w"}, Workflow)),
    *({"key": value} for value in (5, "", "x" * 513, "\ud800", b"k", True)),
    *(
        {"retention": value}
        for value in (5, "7d", timedelta(microseconds=-1), timedelta.min, True, math.nan)
    ),
]


def test_every_insert_that_is_wrong(one_client: Client) -> None:
    one_client.list()
    before = stored(one_client)
    for wrong in BAD_INSERTS:
        with refused("invalid_argument") as caught:
            one_client.insert(**{"workflow": flow("a"), **wrong})
        assert caught.value.action == "insert"
    assert stored(one_client) == before


@pytest.mark.parametrize(
    "options",
    [{"limit": value} for value in (-1, 1.5, "5", True)]
    + [{"offset": value} for value in (-1, 1.5, "5", True, None)],
    ids=repr,
)
def test_pages_of_steps_that_are_none(one_client: Client, options: dict[str, Any]) -> None:
    view = one_client.insert(flow("a"))
    with refused("invalid_argument"):
        one_client.steps(view.id, **options)


def test_batches_that_are_none(one_client: Client) -> None:
    wrong: list[Any] = [None, 5, "x", [5], [None], [{"step": "a"}]]
    for value in wrong:
        answer = _error_of(functools.partial(one_client.complete_many, value))
        assert answer.reason_code == "invalid_argument"


# --- connecting

BAD_OPTIONS: list[dict[str, Any]] = [
    *(
        {"namespace": value}
        for value in (
            "", "a{b", "a}b", "{0}", "a[1]", "a*", "a?", "a:b", "a b", "a\n", "a\x00", "ü",
            "x" * 65, "x" * 10_240, None, 5, b"rwf", "\ud800",
        )
    ),
    *({"partitions": value} for value in (0, -1, 16385, "4", 1.0, True, math.nan)),
    *(
        {"durability": value}
        for value in ("", "AOF", "replicas", "replicas:0", "replicas:-1", "replicas:x", None, 5,
                      "server\n", "replicas:1\n", "replicas:1000")
    ),
    *({"max_payload": value} for value in (0, -1, "5", 1.5, None, True)),
    *({"require_aof": value} for value in (None, "yes", 1)),
]  # fmt: skip


@pytest.mark.parametrize("options", BAD_OPTIONS, ids=lambda value: repr(value)[:40])
def test_options_of_a_client(options: dict[str, Any]) -> None:
    with refused("invalid_argument") as caught:
        Client.from_url(DOWN, **options)
    assert len(str(caught.value)) < 300


BAD_URLS: list[Any] = [
    "", "localhost", "localhost:6379", "http://localhost", "redis:/localhost", "://", None, 5,
    b"redis://localhost", "redis://localhost:port", "redis://localhost:99999999",
    "redis+sentinel://localhost", "redis+sentinel://localhost:x/service", "redis://[::1",
    "redis+cluster://localhost:port", "redis+cluster:redis://x", "redis://localhost?protocol=9",
    "redis+sentinel://localhost/service?nonsense=1", "redis+sentinel:///service",
    "redis+sentinel://localhost/service?socket_timeout=x", "redis+sentinel://localhost/service/x",
]  # fmt: skip


@pytest.mark.parametrize("url", BAD_URLS, ids=repr)
def test_urls_that_are_none(url: Any) -> None:
    with refused("invalid_argument"), Client.from_url(url) as client:
        client.list()


# --- bytes that a careless client could smuggle in


def test_names_in_every_place_change_no_key(one_client: Client, one_server: AnyServer) -> None:
    """No text in a payload, key or actor creates a key outside the known classes."""
    nasty = "}{:\n\x00|,%[1]*" + "x" * 400
    view = one_client.insert(Workflow("w", context=nasty).add("a", worker="{w}:|,"), key=nasty)
    one_client.complete_step(
        view.id, "a", payload=nasty, summary=nasty, actor=nasty, command_id=nasty
    )
    row = one_client.result(view.id, "a")
    assert row is not None
    assert (row.payload, row.summary) == (nasty, nasty)
    assert one_client.evidence(view.id)[0].actor == nasty
    assert one_client.step(view.id, "a").worker == "{w}:|,"
    with connect(one_server) as other:
        assert other.insert(
            Workflow("w", context=nasty).add("a", worker="{w}:|,"), key=nasty
        ).duplicate
    assert {key.split(b":")[0] for key in stored(one_client)} == {b"rwf"}


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (lambda client, id_: client.complete_step(id_, "a", command_id=5), "command_id"),
        (lambda client, id_: client.complete_step(id_, "a", lease=5), "lease"),
        (lambda client, id_: client.complete_step(id_, "a", actor=5), "actor"),
        (lambda client, id_: client.insert(flow("a"), key=5), "key"),
        (lambda client, id_: client.claim(["q"], worker_id=5), "worker_id"),
        (lambda client, id_: client.claim(["q"], worker_id="w", lease="x"), "lease"),
        (lambda client, id_: client.claim(["q"], worker_id="w", limit=0), "limit"),
        (lambda client, id_: client.list(name=5), "name"),
    ],
)
def test_what_is_wrong_is_named(
    one_client: Client, command: Callable[[Client, str], object], name: str
) -> None:
    view = one_client.insert(flow("a"))
    with refused("invalid_argument") as caught:
        command(one_client, view.id)
    assert caught.value.message.startswith(f"{name} must ")


class Number(enum.IntEnum):
    ONE = 1


def test_numbers_of_a_subclass_are_the_numbers_that_they_are(one_client: Client) -> None:
    view = one_client.insert(flow("a"))
    one_client.complete_step(view.id, "a", payload="done")
    assert len(one_client.list(limit=Number.ONE).workflows) == Number.ONE
    assert len(one_client.steps(view.id, limit=Number.ONE)) == Number.ONE
    found = one_client.result(view.id, "a", attempt=Number.ONE)
    assert found is not None
    assert found.payload == "done"
    assert one_client.dispatch_callbacks(lambda envelope: None, limit=Number.ONE)
