"""Backoff: literal delays, and refused values."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rwf.model.retry import Backoff


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, Backoff(1.0, 2.0, 300.0, "full")),
        (7, Backoff(7.0, 1.0, 7.0, "none")),
        (600.5, Backoff(600.5, 1.0, 600.5, "none")),
        (0, Backoff(0.0, 1.0, 0.0, "none")),
        (timedelta(minutes=1), Backoff(60.0, 1.0, 60.0, "none")),
        ({}, Backoff()),
        ({"base": 2, "jitter": "none"}, Backoff(2.0, 2.0, 300.0, "none")),
        (Backoff(cap=9), Backoff(cap=9.0)),
    ],
)
def test_of_takes_what_users_write(value: Any, expected: Backoff) -> None:
    assert Backoff.of(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        True,
        "5",
        b"5",
        [1],
        object,
        -1,
        math.nan,
        math.inf,
        10**400,
        timedelta(seconds=-1),
        timedelta.max,
        {"base": -1},
        {"base": math.inf},
        {"base": "1"},
        {"base": True},
        {"base": None},
        {"factor": 0.99},
        {"factor": math.nan},
        {"factor": 10**400},
        {"cap": -1},
        {"cap": math.inf},
        {"jitter": "half"},
        {"jitter": None},
        {"jitter": ["full"]},
        {"first": 1},
        {1: 1},
        {"x" * 10_000: 1},
        {"jitter": "x" * 10_000},
    ],
    ids=lambda value: repr(value)[:30],
)
def test_of_refuses_the_rest_in_short_words(value: Any) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the words differ, their length counts)
        Backoff.of(value)
    assert 0 < len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-1, "backoff must be a number from 0 to 1e+09, not -1"),
        ({"base": -1}, "base must be a number from 0 to 1e+09, not -1"),
        ({"factor": 0}, "factor must be a number from 1 to 1e+09, not 0"),
        ({"cap": "9"}, "cap must be a number from 0 to 1e+09, not '9'"),
    ],
)
def test_says_which_number_is_wrong(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Backoff.of(value)


def test_is_frozen() -> None:
    with pytest.raises(AttributeError):
        Backoff().base = 2.0  # type: ignore[misc]


def test_to_dict_leaves_defaults_out() -> None:
    assert Backoff().to_dict() == {}
    assert Backoff(base=2, jitter="none").to_dict() == {"base": 2.0, "jitter": "none"}


def test_parts_are_what_the_server_takes() -> None:
    assert Backoff().parts() == ("1", "2", "300", "f")
    assert Backoff(0.25, 1.5, 1e9, "none").parts() == ("0.25", "1.5", "1000000000", "n")


@given(
    base=st.floats(0, 1e9),
    factor=st.floats(1, 1e9),
    cap=st.floats(0, 1e9),
    jitter=st.sampled_from(["full", "none"]),
)
def test_to_dict_comes_back(base: float, factor: float, cap: float, jitter: Any) -> None:
    backoff = Backoff(base, factor, cap, jitter)
    assert Backoff.of(backoff.to_dict()) == backoff
