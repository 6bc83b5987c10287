"""Inputs with the results of other steps filled in."""

from __future__ import annotations

from typing import Any

import pytest

from rwf.model.references import Ref
from rwf.model.result_refs import ResultMissing, fill, references

A, A_B = {"$result": "a"}, {"$result": "a", "path": "b.c"}


def test_references_are_found_at_any_depth_in_order() -> None:
    stored = [A_B, {"x": [1, "$result", A], "y": {"z": {"$result": "other"}}}]
    assert list(references(stored)) == [Ref("a", "b.c"), Ref("a"), Ref("other")]


def test_what_looks_like_a_reference_but_is_none_is_searched() -> None:
    assert list(references({"$result": 1, "x": A})) == [Ref("a")]


@pytest.mark.parametrize(
    ("stored", "filled"),
    [
        (A, {"b": {"c": 1}}),
        ({"$result": "list", "path": "0"}, {"x.y": [7, {"0": "z"}]}),
        ({"$result": "list", "path": [0, "x.y", 1, "0"]}, "z"),
        ({"$result": "list", "path": "1.10"}, 10),
        ({"$result": "list", "path": [1, 10]}, 10),
        (A_B, 1),
        ([A_B, 2, "$result"], [1, 2, "$result"]),
        ({"x": {"y": A_B}, "z": None}, {"x": {"y": 1}, "z": None}),
        ({"$result": "skipped", "path": "b"}, None),
        ({"$result": "verbatim"}, [{"$result": "a"}]),
    ],
)
def test_each_reference_becomes_its_result(stored: Any, filled: Any) -> None:
    results = {
        "a": {"b": {"c": 1}},
        "verbatim": [{"$result": "a"}],
        "skipped": {"b": 2},
        "list": [{"x.y": [7, {"0": "z"}]}, list(range(11))],
    }
    assert fill(stored, results, frozenset({"skipped"})) == filled


@pytest.mark.parametrize(
    ("stored", "results", "message"),
    [
        (A, {}, "no result of a"),
        (A_B, {"a": {"b": {}}}, "no result of a at b.c"),
        (A_B, {"a": {"b": None}}, "no result of a at b.c"),
        (A_B, {"a": {"b": ["c"]}}, "no result of a at b.c"),
        (A_B, {"a": "b"}, "no result of a at b.c"),
        ({"$result": "a", "path": "1"}, {"a": [0]}, "no result of a at 1"),
        ({"$result": "a", "path": "-1"}, {"a": [0]}, "no result of a at -1"),
        ({"$result": "a", "path": "00"}, {"a": [0]}, "no result of a at 00"),
        ({"$result": "a", "path": "0"}, {"a": "text"}, "no result of a at 0"),
        ({"$result": "a", "path": [0]}, {"a": {"0": 1}}, r"no result of a at \[0\]"),
        ({"$result": "a", "path": ["0"]}, {"a": [1]}, r"no result of a at \['0'\]"),
        ({"$result": "a", "path": ["b.c"]}, {"a": {"b": {"c": 1}}}, "no result of a at .*"),
    ],
)
def test_a_reference_that_leads_nowhere_is_told(stored: Any, results: Any, message: str) -> None:
    with pytest.raises(ResultMissing, match=f"^{message}$") as caught:
        fill([stored], results, frozenset())
    assert caught.value.ref == Ref.of_dict(stored)
