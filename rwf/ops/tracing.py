"""Where traces take hold of a client's operations: nothing does until ``rwf.otel`` has it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass


def _untraced(_operation: str) -> AbstractContextManager[object]:
    return nullcontext()


def _no_trace() -> str:
    return ""


@dataclass(slots=True)
class Tracing:
    """``around`` has an operation run in a span, by its name; ``traceparent`` tells the W3C trace
    context of the present span, empty without one."""

    around: Callable[[str], AbstractContextManager[object]] = _untraced
    traceparent: Callable[[], str] = _no_trace
