"""The traceback of a handler's exception, as it is kept with the attempt's result."""

from __future__ import annotations

import traceback
from types import TracebackType
from typing import Final

# Modules whose frames stand around every handler's, and tell its author nothing.
_AROUND: Final = ("rwf.worker.", "rwf.threads")
# Of each exception in a chain so many frames are told at most, the innermost.
_FRAMES: Final = 100


def traceback_of(raised: BaseException) -> str | None:
    """The text of an exception's traceback from the handler's own frame on, with its causes, and
    without the values of variables; None where no frame is the handler's."""
    try:
        own = _innermost(raised.__traceback__)
        if own is None:
            return None
        told = traceback.TracebackException(type(raised), raised, own, limit=-_FRAMES, compact=True)
        return "".join(told.format())
    except BaseException:  # the code of the exception's author may raise anything
        return None


def _innermost(found: TracebackType | None) -> TracebackType | None:
    while found is not None:
        if not found.tb_frame.f_globals.get("__name__", "").startswith(_AROUND):
            return found
        found = found.tb_next
    return None
