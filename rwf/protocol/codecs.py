"""Encodings that all stored records use: times, numbers, payloads and states."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, ParamSpec, TypeVar

import orjson

from rwf.errors import RecordUnreadable
from rwf.model.states import CAUSE_CODE, STEP_CODE, StepState

P = ParamSpec("P")
T = TypeVar("T")

STATES: Final = tuple(StepState)
STATE_OF: Final = {code: state for state, code in STEP_CODE.items()}
CAUSE_OF: Final = {code: cause for cause, code in CAUSE_CODE.items()}

UNREADABLE: Final = "corrupt record: not written by rwf"
"""The message for a corrupt record, the same from server functions and client."""
OTHER_TYPE: Final = f"{UNREADABLE} (its key has the wrong type)"

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def reading(parse: Callable[P, T]) -> Callable[P, T]:
    """Makes a function that parses a record raise RecordUnreadable where it cannot."""

    @functools.wraps(parse)
    def checked(*args: P.args, **named: P.kwargs) -> T:
        try:
            return parse(*args, **named)
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
            raise RecordUnreadable(UNREADABLE) from error

    return checked


@reading
def time_of(milliseconds: int) -> datetime:
    """A server's time in milliseconds as a datetime; raises RecordUnreadable where it is none."""
    return EPOCH + timedelta(milliseconds=milliseconds)


@reading
def time_of_stamp(stamp: str) -> datetime:
    """The time in a record's stamp: microseconds, then four digits of a number in the call."""
    return time_of_micros(int(stamp[:-4]))


@reading
def time_of_micros(micros: int) -> datetime:
    """A server's time in microseconds as a datetime; also one before 1970."""
    return EPOCH + timedelta(microseconds=micros)


@reading
def value_of(payload: bytes | None) -> Any:
    return None if payload is None else orjson.loads(payload)


def optional_int(text: str) -> int | None:
    """A number that a record holds, or None where it holds none."""
    return int(text) if text else None
