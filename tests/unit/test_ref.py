"""References to results: their stored form, and values that only look like one."""

from __future__ import annotations

from typing import Any

import pytest

from rwf import WorkflowInvalid
from rwf.model.conditions import result
from rwf.model.references import OutcomeRef, Ref, ResultsRef, outcome, results


@pytest.mark.parametrize(
    ("ref", "form"),
    [
        (result("a"), {"$result": "a"}),
        (result("a", "b"), {"$result": "a", "path": "b"}),
        (result("a", "b.c"), {"$result": "a", "path": "b.c"}),
        (result("a", "x" * 1024), {"$result": "a", "path": "x" * 1024}),
        (result("a", "ä.\U0001f600"), {"$result": "a", "path": "ä.\U0001f600"}),
        (result("a", ["x", 0, "y.z", ""]), {"$result": "a", "path": ["x", 0, "y.z", ""]}),
        (result("a", [""]), {"$result": "a", "path": [""]}),
        (result("a", ["x" * 1020, 123]), {"$result": "a", "path": ["x" * 1020, 123]}),
        (result("a", ["x" * 1024]), {"$result": "a", "path": ["x" * 1024]}),
        (result("a", [""] * 1024), {"$result": "a", "path": [""] * 1024}),
        (result("a", [2**53]), {"$result": "a", "path": [2**53]}),
    ],
)
def test_the_stored_form_stands_for_the_reference(ref: Ref, form: dict[str, Any]) -> None:
    assert ref.to_dict() == form
    assert Ref.of_dict(form) == ref


@pytest.mark.parametrize(
    "form",
    [
        {"$result": 1},
        {"$result": "a", "path": None},
        {"$result": "a", "path": 1},
        {"$result": "a", "other": "b"},
        {"$result": "a", "path": "b", "other": "c"},
    ],
)
def test_an_object_of_another_form_is_no_reference(form: dict[str, Any]) -> None:
    assert Ref.of_dict(form) is None


@pytest.mark.parametrize(
    "path",
    [
        "", ".", "a..b", ".a", "a.", "x" * 1025, "\ud800", "a\udfff", 1, b"a",
        [], [1.0], [-1], [True], [None], [["a"]], [2**60], ["\ud800"], ["x" * 1025],
        ["x" * 1020, 1234], ["x"] * 600, [""] * 1025, [2**53 + 1],
    ],
)  # fmt: skip
def test_a_path_that_names_no_field_is_refused(path: Any) -> None:
    with pytest.raises(WorkflowInvalid) as caught:
        result("a", path)
    assert caught.value.code == "invalid_step_definition"
    assert caught.value.details == {"step": "a"}


def test_a_list_of_the_stored_form_is_as_good_as_a_tuple() -> None:
    path: Any = ["x", 0]
    assert Ref("a", path) == result("a", path)
    assert hash(Ref("a", path)) == hash(result("a", path))


@pytest.mark.parametrize(
    ("path", "place"),
    [(None, ""), ("b.c", " at b.c"), (["x", 0], " at ['x', 0]")],
)
def test_the_place_is_told_for_people(path: Any, place: str) -> None:
    assert result("a", path).place == place


def test_a_step_that_nothing_may_be_called_is_refused() -> None:
    with pytest.raises(WorkflowInvalid) as caught:
        result("a b")
    assert caught.value.code == "invalid_name"


NAMED = pytest.mark.parametrize(
    ("kind", "made", "key"),
    [(OutcomeRef, outcome, "$outcome"), (ResultsRef, results, "$results")],
    ids=["outcome", "results"],
)


@NAMED
def test_a_reference_to_a_step_and_its_stored_form(kind: Any, made: Any, key: str) -> None:
    assert made("a").to_dict() == {key: "a"}
    assert kind.of_dict({key: "a"}) == made("a")
    for form in ({key: 1}, {key: "a", "path": "b"}, {"$result": "a"}):
        assert kind.of_dict(form) is None


@pytest.mark.parametrize(
    ("made", "named"),
    [
        (outcome, r"the step of \$outcome"),
        (results, r"the step of \$results"),
    ],
)
def test_a_reference_to_no_step_is_refused(made: Any, named: str) -> None:
    with pytest.raises(WorkflowInvalid, match=named) as refused:
        made("")
    assert refused.value.code == "invalid_name"
