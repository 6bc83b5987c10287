"""Shared by the tests of ``test_reconciler.py`` in ``contract/`` and ``internals/``."""

from __future__ import annotations

from typing import Any

SHORT: dict[str, Any] = {"interval": 0.05, "sweep_interval": 0.2}
