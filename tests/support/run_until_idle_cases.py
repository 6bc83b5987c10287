"""Shared by the tests of ``test_run_until_idle.py`` in ``contract/`` and ``internals/``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rwf import (
    Handlers,
)


def handlers_of(**functions: Callable[..., Any]) -> Handlers:
    handlers = Handlers()
    for name, function in functions.items():
        handlers.step(name)(function)
    return handlers
