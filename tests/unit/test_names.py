"""Names, and how values are quoted in messages."""

from __future__ import annotations

from typing import Any

import pytest

from rwf import WorkflowInvalid
from rwf.model.names import checked_name, shown
from rwf.model.states import StepState


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "'a'"),
        ("a\n", r"'a\n'"),
        ("x" * 80, repr("x" * 80)),
        ("x" * 81, "'" + "x" * 79 + "..."),
        ("x" * 900, "'" + "x" * 79 + "..."),
        (2**128 - 1, str(2**128 - 1)),
        (2**128, "an int of 129 bits"),
        (-1, "-1"),
        (1.5, "1.5"),
        (None, "None"),
        (True, "True"),
        (StepState.FAILED, "a value of type StepState"),
        ([1], "a value of type list"),
        (type("T" * 90, (), {})(), "a value of type " + "T" * 80),
    ],
)
def test_a_value_is_shown_in_short(value: object, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize("value", ["a", "Az09._-", "x" * 128, StepState.FAILED])
def test_a_legal_name_is_kept_as_plain_text(value: str) -> None:
    found = checked_name(value, "a name")
    assert found == str(value)
    assert type(found) is str


@pytest.mark.parametrize("value", ["", "a b", "a\n", "x" * 129, "é", "{1}", "a:b", None, 1, b"a"])
def test_any_other_is_refused(value: Any) -> None:
    with pytest.raises(WorkflowInvalid) as caught:
        checked_name(value, "a name")
    assert caught.value.code == "invalid_name"
    assert caught.value.details == {"name": shown(value)}
