"""Shared by the tests of ``test_insert.py`` in ``contract/`` and ``internals/``."""

from __future__ import annotations

from datetime import timedelta

WEEK = timedelta(days=7)
