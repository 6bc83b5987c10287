"""Shared by the tests of ``test_retention.py`` in ``contract/`` and ``internals/``."""

from __future__ import annotations

from datetime import timedelta

NOW = timedelta(0)
