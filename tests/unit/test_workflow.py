"""Building workflows, their JSON form, and errors that a value alone shows."""

from __future__ import annotations

import copy
import enum
import json
import pickle
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given

from rwf.model.builder import GraphStep, StepDef, Workflow, result
from rwf.model.retry import Backoff
from rwf.model.states import EdgePolicy
from tests.unit.building import definitions, order, refused, steps

CANCEL, CONTINUE = EdgePolicy.CANCEL, EdgePolicy.CONTINUE


def the_example() -> Workflow:
    wf = Workflow("sync_customer", context={"account_id": 42, "label": "Customer sync"})
    wf.add("fetch_customer", worker="fetch_customer", input={"account_id": 42})
    wf.add(
        "sync_billing",
        worker="sync_billing",
        queue="billing",
        input={"account_id": 42, "customer": result("fetch_customer")},
        deps=["fetch_customer"],
    )
    wf.add(
        "notify",
        worker="notify",
        input={"billing": result("sync_billing")},
        deps=["sync_billing"],
    )
    wf.add("cleanup", worker="cleanup")
    wf.connect("sync_billing", "cleanup", policy="continue")
    return wf


def test_the_example_compiles() -> None:
    graph = the_example().compile()
    assert (graph.name, graph.definition_version) == ("sync_customer", 1)
    assert graph.context == b'{"account_id":42,"label":"Customer sync"}'
    assert graph.steps == (
        GraphStep(
            name="fetch_customer",
            worker="fetch_customer",
            queue="default",
            priority=0,
            max_attempts=5,
            backoff=None,
            timeout=None,
            input=b'{"account_id":42}',
            context=None,
            references=(),
            parents=(),
            children=(("sync_billing", CANCEL),),
            position=0,
        ),
        GraphStep(
            name="sync_billing",
            worker="sync_billing",
            queue="billing",
            priority=0,
            max_attempts=5,
            backoff=None,
            timeout=None,
            input=b'{"account_id":42,"customer":{"$result":"fetch_customer"}}',
            context=None,
            references=("fetch_customer",),
            parents=(("fetch_customer", CANCEL),),
            children=(("notify", CANCEL), ("cleanup", CONTINUE)),
            position=1,
        ),
        GraphStep(
            name="notify",
            worker="notify",
            queue="default",
            priority=0,
            max_attempts=5,
            backoff=None,
            timeout=None,
            input=b'{"billing":{"$result":"sync_billing"}}',
            context=None,
            references=("sync_billing",),
            parents=(("sync_billing", CANCEL),),
            children=(),
            position=2,
        ),
        GraphStep(
            name="cleanup",
            worker="cleanup",
            queue="default",
            priority=0,
            max_attempts=5,
            backoff=None,
            timeout=None,
            input=None,
            context=None,
            references=(),
            parents=(("sync_billing", CONTINUE),),
            children=(),
            position=3,
        ),
    )


def test_the_example_as_json_and_back() -> None:
    form = {
        "name": "sync_customer",
        "context": {"account_id": 42, "label": "Customer sync"},
        "steps": [
            {"name": "fetch_customer", "worker": "fetch_customer", "input": {"account_id": 42}},
            {
                "name": "sync_billing",
                "worker": "sync_billing",
                "input": {"account_id": 42, "customer": {"$result": "fetch_customer"}},
                "queue": "billing",
                "deps": ["fetch_customer"],
            },
            {
                "name": "notify",
                "worker": "notify",
                "input": {"billing": {"$result": "sync_billing"}},
                "deps": ["sync_billing"],
            },
            {"name": "cleanup", "worker": "cleanup"},
        ],
        "edges": [{"parent": "sync_billing", "child": "cleanup", "policy": "continue"}],
    }
    assert the_example().to_dict() == form
    assert Workflow.from_dict(json.loads(json.dumps(form))) == the_example()


def test_every_setting_reaches_the_graph_and_survives_json() -> None:
    wf = Workflow("wf", definition_version=7).add(
        "a",
        worker="w",
        input=[],
        queue="q",
        context={"why": "x"},
        priority=-999,
        max_attempts=1000,
        backoff={"base": 3},
        timeout=timedelta(minutes=1),
    )
    step = wf.compile().steps[0]
    assert step[:9] == ("a", "w", "q", -999, 1000, Backoff(base=3), 60.0, b"[]", b'{"why":"x"}')
    assert wf.to_dict()["steps"] == [
        {
            "name": "a",
            "worker": "w",
            "input": [],
            "queue": "q",
            "context": {"why": "x"},
            "priority": -999,
            "max_attempts": 1000,
            "backoff": {"base": 3.0},
            "timeout": 60.0,
        }
    ]
    assert wf.compile().definition_version == 7
    assert Workflow.from_dict(wf.to_dict()) == wf


def test_values_are_taken_as_they_are_when_given() -> None:
    given_input: dict[str, Any] = {"list": [1]}
    context, deps = {"k": 1}, ["a"]
    wf = Workflow("wf", context=context).add("a", worker="w")
    wf.add("b", worker="w", input=given_input, context=context, deps=deps)
    given_input["list"].append(2)
    context["k"] = 2
    deps.append("nowhere")
    graph = wf.compile()
    assert graph.context == b'{"k":1}'
    assert (graph.steps[1].input, graph.steps[1].context) == (b'{"list":[1]}', b'{"k":1}')
    assert graph.steps[1].parents == (("a", CANCEL),)


def test_handlers_and_enums_stand_for_their_names() -> None:
    class Handler:
        rwf_worker = "fetch"

    class Queue(enum.StrEnum):
        BILLING = "billing"

    wf = Workflow("wf").add("a", worker=Handler(), queue=Queue.BILLING)
    step = wf.compile().steps[0]
    assert (step.worker, step.queue, type(step.queue)) == ("fetch", "billing", str)


def test_definitions_can_be_copied() -> None:
    wf = the_example()
    assert copy.deepcopy(wf) == wf
    assert pickle.loads(pickle.dumps(wf)) == wf
    assert pickle.loads(pickle.dumps(wf.compile())) == wf.compile()
    assert the_example().add("more", worker="w") != wf
    assert steps("a", "b").connect("a", "b") != steps("a", "b").connect("a", "b", "continue")


def test_step_definitions_do_not_change() -> None:
    step = StepDef("a", worker="w", input=[1])
    with pytest.raises(AttributeError):
        step.name = "b"  # type: ignore[misc]
    assert Workflow("wf").add_many([step]) == Workflow("wf").add("a", worker="w", input=[1])


# --- Errors that a value alone shows ------------------------------------------------------------

BAD_NAMES = ["", "a b", "a\n", "\n", "\u00e9", "a/b", "a:b", "{a}", "x" * 129, "\ud800"]


@pytest.mark.parametrize("name", ["", None, 1, b"wf", ["wf"]])
def test_a_workflow_needs_a_name(name: Any) -> None:
    assert refused(lambda: Workflow(name)).code == "workflow_name_required"
    assert refused(lambda: Workflow.from_dict({"name": name})).code == "workflow_name_required"
    assert refused(lambda: Workflow.from_dict({})).code == "workflow_name_required"


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_have_allowed_characters(name: str) -> None:
    if name:
        assert refused(lambda: Workflow(name)).code == "invalid_name"
    wf = Workflow("wf")
    assert refused(lambda: wf.add(name, worker="w")).code == "invalid_name"
    assert refused(lambda: wf.add("a", worker="w", queue=name)).code == "invalid_name"
    assert refused(lambda: wf.add("a", worker="w", deps=[name])).code == "invalid_name"
    assert refused(lambda: wf.connect(name, "b")).code == "invalid_name"
    assert refused(lambda: wf.connect("b", name)).code == "invalid_name"
    assert wf.steps == ()


@pytest.mark.parametrize("name", ["a", "A-z_0.9", ".", "-", "x" * 128])
def test_good_names(name: str) -> None:
    assert order(Workflow(name).add(name, worker="w", queue=name).compile()) == [name]


HUGE = "x" * 1_000_000


class WithBadHandle:
    rwf_worker = 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[
            ("worker", value)
            for value in ["", "x" * 257, "a\n", "a\x00", "\x7f", "\x85", "\ud800", None, 1, HUGE]
        ],
        ("worker", WithBadHandle()),
        *[("priority", value) for value in [-1000, 1000, 1.0, True, "1", None, 10**4000]],
        *[("max_attempts", value) for value in [0, 1001, -1, 2.0, True, "1", None]],
        *[("timeout", value) for value in [0, -1, float("nan"), float("inf"), True, "1", 10**400]],
        *[("timeout", value) for value in [timedelta(0), timedelta(-1), timedelta.max]],
        *[("backoff", value) for value in [-1, True, "1", {"base": -1}, {"other": 1}, {HUGE: 1}]],
        *[("deps", value) for value in ["a", b"a", None, 1, HUGE]],
    ],
    ids=lambda value: repr(value)[:20] if not isinstance(value, int) else None,
)
def test_fields_have_their_range(field: str, value: Any) -> None:
    fields = {"worker": "w", field: value}
    wf = Workflow("wf")
    assert refused(lambda: wf.add("a", **fields)).code == "invalid_step_definition"
    error = refused(lambda: wf.add_many([{"name": "a", **fields}]))
    assert error.code == "invalid_step_definition"
    if value is not None:
        error = refused(
            lambda: Workflow.from_dict({"name": "w", "steps": [{"name": "a"} | fields]})
        )
        assert error.code == "invalid_step_definition"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("priority", 1000, "priority of step 'a' must be an integer from -999 to 999, not 1000"),
        ("max_attempts", 0, "max_attempts of step 'a' must be an integer from 1 to 1000, not 0"),
        ("timeout", -1, "step 'a': timeout must be a number from 0 to 1e+09, not -1"),
        ("timeout", 0, "step 'a': timeout must be positive"),
    ],
)
def test_says_which_field_is_wrong(field: str, value: int, message: str) -> None:
    fields: dict[str, Any] = {field: value}
    assert refused(lambda: Workflow("wf").add("a", worker="w", **fields)).message == message


class Level(enum.IntEnum):
    LOWEST = -999
    HIGHEST = 999


@pytest.mark.parametrize(
    ("priority", "max_attempts"), [(Level.LOWEST, 1), (Level.HIGHEST, 1000), (-999, 1), (999, 1000)]
)
def test_the_ends_of_a_range_are_in_it(priority: int, max_attempts: int) -> None:
    wf = Workflow("wf").add("a", worker="w", priority=priority, max_attempts=max_attempts)
    step = wf.compile().steps[0]
    assert (step.priority, step.max_attempts) == (int(priority), max_attempts)
    assert type(step.priority) is int


@pytest.mark.parametrize("version", [0, 2**53 - 1])
def test_the_ends_of_definition_versions(version: int) -> None:
    wf = Workflow("wf", definition_version=version)
    assert (wf.name, wf.definition_version) == ("wf", version)


@pytest.mark.parametrize("version", [-1, 2**53, 1.0, True, "1", None])
def test_definition_versions(version: Any) -> None:
    error = refused(lambda: Workflow("wf", definition_version=version))
    assert error.code == "invalid_step_definition"


@pytest.mark.parametrize(
    "item",
    [None, "a", 1, ["a"], {}, {"name": "a"}, {"worker": "w"}]
    + [{"name": "a", "worker": "w", key: 1} for key in ("parents", "", 1, None, HUGE)],
    ids=lambda item: repr(item)[:40],
)
def test_steps_in_bulk_need_known_fields(item: Any) -> None:
    assert refused(lambda: steps().add_many([item])).code == "invalid_step_definition"
    form = {"name": "wf", "steps": [item]}
    assert refused(lambda: Workflow.from_dict(form)).code == "invalid_step_definition"


@pytest.mark.parametrize(
    "form",
    [
        None,
        [],
        "wf",
        {"name": "wf", "step": []},
        {"name": "wf", "steps": {}},
        {"name": "wf", "steps": None},
        {"name": "wf", "edges": "ab"},
        {"name": "wf", "edges": [["a", "b"]]},
        {"name": "wf", "edges": [{"parent": "a", "child": "b", "kind": 1}]},
        {"name": "wf", "edges": [{"parent": "a", "child": "b", "policy": None}]},
        {"name": "wf", "definition_version": "1"},
    ],
)
def test_json_of_another_shape(form: Any) -> None:
    assert refused(lambda: Workflow.from_dict(form)).code == "invalid_step_definition"


def test_an_edge_in_json_needs_both_ends() -> None:
    form = {"name": "wf", "edges": [{"parent": "a"}]}
    assert refused(lambda: Workflow.from_dict(form)).code == "invalid_name"


def test_an_edge_in_json_cancels_unless_it_says_otherwise() -> None:
    edges_ = [{"parent": "a", "child": "b"}]
    wf = Workflow.from_dict(steps("a", "b").to_dict() | {"edges": edges_})
    assert wf == steps("a", "b").connect("a", "b", "cancel")
    assert wf.to_dict()["edges"] == edges_


def test_a_workflow_equals_nothing_else() -> None:
    assert (steps("a") == 1) is False


@pytest.mark.parametrize("policy", ["", "CANCEL", "stop", None, 1, ["cancel"], HUGE])
def test_edges_have_one_of_two_policies(policy: Any) -> None:
    error = refused(lambda: steps("a", "b").connect("a", "b", policy))
    assert error.code == "invalid_step_definition"


def test_duplicate_step_name() -> None:
    wf = steps("a")
    assert refused(lambda: wf.add("a", worker="other")).code == "duplicate_step_name"
    assert [step.worker for step in wf.steps] == ["w"]
    form = {"name": "wf", "steps": [{"name": "a", "worker": "w"}] * 2}
    assert refused(lambda: Workflow.from_dict(form)).code == "duplicate_step_name"


def test_self_loop() -> None:
    wf = Workflow("wf")
    assert refused(lambda: wf.add("a", worker="w", deps=["b", "a"])).code == "self_loop"
    assert refused(lambda: wf.add("a", worker="w", input=[result("a")])).code == "self_loop"
    assert refused(lambda: wf.connect("a", "a")).code == "self_loop"
    step = {"name": "a", "worker": "w", "input": {"$result": "a", "path": "x"}}
    assert refused(lambda: Workflow.from_dict({"name": "w", "steps": [step]})).code == "self_loop"


@pytest.mark.parametrize(
    ("value", "code", "below"),
    [
        ({"x": [float("nan")]}, "non_serializable_payload", ".x[0]"),
        ((), "non_serializable_payload", ""),
        ({"x": {"$result": "a"}}, "reserved_key", ".x['$result']"),
    ],
)
def test_bad_values_name_their_place(value: Any, code: str, below: str) -> None:
    wf = Workflow("wf")
    error = refused(lambda: wf.add("b", worker="w", input=value))
    assert (error.code, error.details["path"]) == (code, f'$.steps["b"].input{below}')
    error = refused(lambda: wf.add("b", worker="w", context=value))
    assert (error.code, error.details["path"]) == (code, f'$.steps["b"].context{below}')
    error = refused(lambda: Workflow("wf", context=value))
    assert (error.code, error.details["path"]) == (code, f"$.context{below}")


def test_references_belong_in_inputs_only() -> None:
    error = refused(lambda: Workflow("wf", context=result("a")))
    assert error.code == "non_serializable_payload"
    error = refused(lambda: Workflow("wf").add("a", worker="w", context=[result("b")]))
    assert error.code == "non_serializable_payload"
    reference = {"$result": "b"}
    error = refused(lambda: Workflow.from_dict({"name": "wf", "context": reference}))
    assert error.code == "reserved_key"
    step = {"name": "a", "worker": "w", "context": reference}
    error = refused(lambda: Workflow.from_dict({"name": "wf", "steps": [step]}))
    assert error.code == "reserved_key"


@pytest.mark.parametrize(
    "value", [{"$result": 1}, {"$result": "b", "x": 1}, {"$result": "b", "path": 1}]
)
def test_what_only_resembles_a_reference_is_reserved(value: Any) -> None:
    step = {"name": "a", "worker": "w", "input": [value]}
    error = refused(lambda: Workflow.from_dict({"name": "wf", "steps": [step]}))
    assert (error.code, error.details["path"]) == (
        "reserved_key",
        "$.steps[\"a\"].input[0]['$result']",
    )


def test_tags_are_part_of_the_definition() -> None:
    tags = {"region": "eu", "account": "42"}
    wf = Workflow("wf", tags=tags).add("a", worker="w")
    assert wf.tags == tags
    assert Workflow.from_dict(json.loads(json.dumps(wf.to_dict()))) == wf
    plain = Workflow("wf").add("a", worker="w")
    assert "tags" not in plain.to_dict()
    assert wf != plain
    assert len({each.compile().digest for each in (wf, plain)}) == 2
    assert Workflow("wf", tags={}).add("a", worker="w").compile().digest == plain.compile().digest
    turned = Workflow("wf", tags={"account": "42", "region": "eu"}).add("a", worker="w")
    assert turned.compile() == wf.compile()


@pytest.mark.parametrize(
    "tags",
    [
        *(["account"], "account", 42),
        *({"": "x"}, {"x": ""}, {"x": 1}, {1: "x"}, {"x": None}),
        *({"x": "y" * 129}, {"y" * 129: "x"}, {"x": "\ud800"}),
        {str(n): "x" for n in range(17)},
    ],
)
def test_bad_tags(tags: Any) -> None:
    assert refused(lambda: Workflow("wf", tags=tags)).code == "invalid_tags"
    form = {"name": "wf", "tags": tags, "steps": [{"name": "a", "worker": "w"}]}
    assert refused(lambda: Workflow.from_dict(form)).code == "invalid_tags"


@given(definitions())
def test_json_and_back_is_the_same(wf: Workflow) -> None:
    again = Workflow.from_dict(json.loads(json.dumps(wf.to_dict())))
    assert again == wf
    assert again.to_dict() == wf.to_dict()
    assert again.compile() == wf.compile()
