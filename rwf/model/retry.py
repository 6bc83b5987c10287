"""When a failed step runs again: the parameters. The rule is the server's, backoff.lua."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Final, Literal

from rwf.model.names import shown

# About 31 years: what is longer is a mistake, and would not fit the server's timers for ever.
MAX_SECONDS: Final = 1e9
_MAX_FACTOR: Final = 1e9


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that grow with each attempt, in seconds.

    ``base`` is the delay after the first attempt, ``factor`` what each further attempt multiplies
    it with, ``cap`` the longest delay; ``jitter`` says whether a delay is drawn from 0 up to that
    (``full``) or is exactly it (``none``). Raises ValueError unless 0 <= base, cap <= 1e9 and
    1 <= factor <= 1e9.
    """

    base: float = 1.0
    factor: float = 2.0
    cap: float = 300.0
    jitter: Literal["full", "none"] = "full"

    def __post_init__(self) -> None:
        object.__setattr__(self, "base", _number(self.base, "base", 0, MAX_SECONDS))
        object.__setattr__(self, "factor", _number(self.factor, "factor", 1, _MAX_FACTOR))
        object.__setattr__(self, "cap", _number(self.cap, "cap", 0, MAX_SECONDS))
        if type(self.jitter) is not str or self.jitter not in ("full", "none"):
            raise ValueError(f"jitter must be 'full' or 'none', not {shown(self.jitter)}")

    @classmethod
    def of(cls, value: Any) -> Backoff:
        """The backoff that a user's value means.

        None is the default; a number of seconds or a timedelta is that delay each time; a mapping
        holds fields of this class. Raises ValueError for anything else.
        """
        if value is None:
            return DEFAULT
        if isinstance(value, Backoff):
            return value
        if not isinstance(value, Mapping):
            constant = seconds(value, "backoff")
            return cls(base=constant, factor=1.0, cap=constant, jitter="none")
        unknown = [key for key in value if key not in _FIELDS]
        if unknown:
            raise ValueError(f"backoff has no field {shown(unknown[0])}")
        return cls(**value)

    def to_dict(self) -> dict[str, float | str]:
        """The fields that differ from the default's; :meth:`of` takes them back."""
        return {
            name: value for name in _FIELDS if (value := getattr(self, name)) != _DEFAULTS[name]
        }

    def parts(self) -> tuple[str, str, str, str]:
        """Base, factor, cap and the first letter of the jitter, as the server's rule takes them."""
        return (
            f"{self.base:.12g}",
            f"{self.factor:.12g}",
            f"{self.cap:.12g}",
            self.jitter[0],
        )


def seconds(value: object, what: str) -> float:
    """A timedelta or a number of seconds as seconds, from 0 to 1e9; ``what`` names it in errors.

    Raises ValueError for anything else, booleans included.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    return _number(value, what, 0, MAX_SECONDS)


def _number(value: object, what: str, low: float, high: float) -> float:
    # The comparison refuses NaN too.
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{what} must be a number from {low:g} to {high:g}, not {shown(value)}")
    return float(value)


DEFAULT: Final = Backoff()
_FIELDS: Final = tuple(field.name for field in fields(Backoff))
_DEFAULTS: Final = {name: getattr(DEFAULT, name) for name in _FIELDS}
