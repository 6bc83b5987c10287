"""Backoff: literal delays, and what is refused."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rwf.model.retry import Backoff


@pytest.mark.parametrize(
    ("attempt", "ceiling"),
    [(1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (11, 300), (10**6, 300), (10**400, 300)],
)
def test_the_default_doubles_from_a_second_to_five_minutes(attempt: int, ceiling: float) -> None:
    assert Backoff().ceiling(attempt) == ceiling


@pytest.mark.parametrize(
    ("backoff", "attempt", "ceiling"),
    [
        (Backoff(base=5, factor=3, cap=100), 3, 45),
        (Backoff(base=5, factor=3, cap=100), 4, 100),
        (Backoff(base=500), 1, 300),
        (Backoff(base=0, factor=1e9), 10**400, 0),
        (Backoff(base=2, factor=1), 10**400, 2),
        (Backoff(cap=0), 7, 0),
        (Backoff(base=0.5, factor=1.5, cap=10), 3, 1.125),
    ],
)
def test_ceilings(backoff: Backoff, attempt: int, ceiling: float) -> None:
    assert backoff.ceiling(attempt) == ceiling


def test_full_jitter_scales_the_ceiling_and_none_keeps_it() -> None:
    assert Backoff().delay(3, 0.0) == 0
    assert Backoff().delay(3, 0.25) == 1
    assert Backoff(jitter="none").delay(3, 0.25) == 4


@pytest.mark.parametrize("u", [-0.1, 1.0, 2, math.nan])
def test_refuses_a_draw_out_of_range(u: float) -> None:
    with pytest.raises(ValueError, match="u must be"):
        Backoff().delay(1, u)


@pytest.mark.parametrize("attempt", [0, -1, -(10**4000)])
def test_attempts_count_from_one(attempt: int) -> None:
    with pytest.raises(ValueError, match="attempts count from 1"):
        Backoff().ceiling(attempt)


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


def test_a_constant_is_the_same_delay_each_time() -> None:
    constant = Backoff.of(600)
    assert [constant.delay(attempt, 0.1) for attempt in (1, 2, 50)] == [600, 600, 600]


@pytest.mark.parametrize(
    "value",
    [
        True,
        "5",
        b"5",
        [1],
        object(),
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


def test_is_frozen() -> None:
    with pytest.raises(AttributeError):
        Backoff().base = 2.0  # type: ignore[misc]


def test_to_dict_leaves_defaults_out() -> None:
    assert Backoff().to_dict() == {}
    assert Backoff(base=2, jitter="none").to_dict() == {"base": 2.0, "jitter": "none"}


def test_parts_are_what_the_server_takes() -> None:
    assert Backoff().parts() == ("1", "2", "300", "f")
    assert Backoff(0.25, 1.5, 1e9, "none").parts() == ("0.25", "1.5", "1000000000", "n")


backoffs = st.builds(
    Backoff,
    base=st.floats(0, 1e9),
    factor=st.floats(1, 1e9),
    cap=st.floats(0, 1e9),
    jitter=st.sampled_from(["full", "none"]),
)


@given(backoffs)
def test_of_takes_back_what_to_dict_gives(backoff: Backoff) -> None:
    assert Backoff.of(backoff.to_dict()) == backoff


@given(backoffs, st.integers(1, 10**30), st.floats(0, 1, exclude_max=True))
def test_delays_stay_below_ceilings_that_never_fall(
    backoff: Backoff, attempt: int, u: float
) -> None:
    ceiling = backoff.ceiling(attempt)
    assert 0 <= backoff.delay(attempt, u) <= ceiling <= backoff.cap
    assert ceiling <= backoff.ceiling(attempt + 1)
