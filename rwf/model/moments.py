"""Times as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_AGE: Final = re.compile(r"([0-9]{1,9})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def moment_of(text: str, now: datetime) -> datetime:
    """A time, as ISO 8601 has it (in UTC without an offset), or how long before ``now`` it
    was (``2h``).

    Raises ValueError, which says so.
    """
    try:
        if age := _AGE.fullmatch(text):
            return now - timedelta(**{_UNITS[age[2]]: int(age[1])})
        time = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise ValueError("a time such as 2026-01-31T12:00, or an age such as 2h") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
