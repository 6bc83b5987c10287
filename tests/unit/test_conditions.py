"""Conditions: how they are written, stored, checked and judged (contract §13)."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from rwf import Workflow, WorkflowInvalid, result
from rwf.model.conditions import Condition, captured, described, holds, references_in
from rwf.model.references import Ref
from rwf.model.result_refs import ResultMissing

LARGE = 2**53 + 1
RESULTS: dict[str, Any] = {
    "a": {
        "n": 3,
        "f": 3.0,
        "s": "abc",
        "t": True,
        "z": None,
        "large": LARGE,
        "list": [1, {"x": "y"}],
        "zero": 0,
    },
    "plain": "ok",
}


def judged(condition: Condition) -> bool:
    """A condition as it is stored and judged."""
    encoded, _ = captured(condition, "step", "$", 100_000)
    return holds(orjson.loads(encoded), RESULTS, frozenset({"gone"}))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (result("a", "n") == 3, True),
        (result("a", "n") == 3.0, True),
        (result("a", "f") == 3, True),
        (result("a", "n") == "3", False),
        (result("a", "n") != "3", True),
        (result("a", "n") != 3, False),
        (result("a", "t") == 1, False),
        (result("a", "t") == True, True),  # noqa: E712 - a condition, not a test
        (result("a", "zero") == False, False),  # noqa: E712
        (result("a", "z") == None, True),  # noqa: E711
        (result("a", "z") == 0, False),
        (result("a", "s") == "abc", True),
        (result("a", "list") == [1, {"x": "y"}], True),
        (result("a", "list") == [1.0, {"x": "y"}], True),
        (result("a", "list") == [True, {"x": "y"}], False),
        (result("a", "list") == [1], False),
        (result("a", "list.1") == {"x": "y"}, True),
        (result("a", ["list", 1, "x"]) == "y", True),
        (result("plain") == "ok", True),
        (result("a", "large") == LARGE, True),
        (result("a", "large") == LARGE - 1, False),
        (result("a", "large") == float(LARGE - 1), False),
        (result("a", "large") > LARGE - 1, True),
        (result("a", "n") < 4, True),
        (result("a", "n") <= 3, True),
        (result("a", "n") > 2.5, True),
        (result("a", "n") >= 4, False),
        (result("a", "s") < "abd", True),
        (result("a", "s") < 5, False),
        (result("a", "s") >= 5, False),
        (result("a", "t") < 2, False),
        (result("a", "z") < 1, False),
        (result("a", "list") < [2], False),
        (result("a", "zero") < 3, True),
        (result("a", "n").in_([1, 3]), True),
        (result("a", "n").in_(["3", True]), False),
        (result("a", "t").in_([1]), False),
        (result("a", "n").in_([]), False),
        (result("a", "n").exists(), True),
        (result("a", "z").exists(), True),
        (result("a", "nowhere").exists(), False),
        (result("a", "nowhere") == None, False),  # noqa: E711
        (result("a", "nowhere") != 3, False),
        (result("a", "nowhere") < 3, False),
        (result("a", "nowhere").in_([None]), False),
        (~(result("a", "nowhere") == 3), True),
        (result("gone").exists(), False),
        (result("gone", "x").exists(), False),
        (result("gone") == None, True),  # noqa: E711
        (result("gone", "x") == None, False),  # noqa: E711
        ((result("a", "n") == 3) & (result("plain") == "ok"), True),
        ((result("a", "n") == 3) & (result("plain") == "no"), False),
        ((result("a", "n") == 4) | (result("plain") == "ok"), True),
        (~((result("a", "n") == 4) | (result("plain") == "ok")), False),
    ],
)
def test_each_operator_on_each_type(condition: Condition, expected: bool) -> None:
    assert judged(condition) is expected


def test_a_result_that_is_missing_is_no_answer() -> None:
    with pytest.raises(ResultMissing):
        judged(result("lost") == 1)


def test_the_stored_form_is_json() -> None:
    condition = (result("a", "n") == 3) & ~result("b").exists() & (result("c") > 1)
    assert condition.to_json() == [
        "and",
        ["==", {"$result": "a", "path": "n"}, 3],
        ["not", ["exists", {"$result": "b"}]],
        [">", {"$result": "c"}, 1],
    ]
    encoded, steps = captured(condition, "step", "$", 1_000)
    assert steps == ("a", "b", "c")
    assert list(references_in(condition.to_json())) == [Ref("a", "n"), Ref("b"), Ref("c")]
    assert captured(condition.to_json(), "step", "$", 1_000) == (encoded, steps)
    assert described(condition.to_json()) == (
        "the result of a at n == 3 and not the result of b exists and the result of c > 1"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: bool(result("a") == 1),
        lambda: (result("a") == 1) and (result("b") == 2),
        lambda: 1 < result("a") < 3,
        lambda: not result("a").exists(),
        lambda: result("a") and result("b"),
        lambda: (result("a") == 1) & True,
        lambda: result("a") < result("b"),
    ],
)
def test_a_condition_has_no_truth_of_its_own(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"condition|compare"):
        wrong()


@pytest.mark.parametrize(
    "form",
    [
        [],
        "x",
        ["=", {"$result": "a"}, 1],
        ["==", {"$result": "a"}],
        ["==", {"$result": 1}, 1],
        ["==", 1, {"$result": "a"}],
        ["in", {"$result": "a"}, 1],
        ["exists", {"$result": "a"}, 1],
        ["not"],
        ["and", ["exists", {"$result": "a"}]],
        ["or", 1, 2],
        [1, 2],
    ],
)
def test_a_form_that_is_no_condition_is_refused(form: Any) -> None:
    with pytest.raises(WorkflowInvalid) as caught:
        captured(form, "step", "$", 1_000)
    assert caught.value.code == "invalid_step_definition"


def test_what_is_no_json_is_refused_as_in_inputs() -> None:
    for value, code in (
        (float("nan"), "non_serializable_payload"),
        ({1, 2}, "non_serializable_payload"),
        ({"$result": "b"}, "reserved_key"),
        (2**70, "non_serializable_payload"),
    ):
        with pytest.raises(WorkflowInvalid) as caught:
            captured(result("a") == value, "step", "$", 1_000)
        assert caught.value.code == code


def test_too_many_parts_are_refused() -> None:
    deep = result("a") == 1
    for _ in range(60):
        deep = ~deep
    wide = result("a") == 1
    for _ in range(1_001):
        wide = wide | (result("a") == 2)
    for condition in (deep, wide):
        with pytest.raises(WorkflowInvalid) as caught:
            captured(condition, "step", "$", 1_000_000)
        assert caught.value.code == "invalid_step_definition"


def test_a_definition_comes_back_as_it_went_in() -> None:
    workflow = Workflow("w").add("check", worker="x")
    workflow.add(
        "ship", worker="x", when=(result("check", "n") >= LARGE) | result("check").exists()
    )
    form = workflow.to_dict()
    assert form["steps"][1]["when"] == [
        "or",
        [">=", {"$result": "check", "path": "n"}, LARGE],
        ["exists", {"$result": "check"}],
    ]
    again = Workflow.from_dict(form)
    assert again == workflow
    assert again.to_dict() == form
    assert again.compile().digest == workflow.compile().digest
    (_, ship) = workflow.compile().steps
    assert ship.references == ("check",)
    assert [(name, str(policy)) for name, policy in ship.parents] == [("check", "cancel")]
