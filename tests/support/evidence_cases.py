"""Shared by the tests of ``test_evidence.py`` in ``contract/`` and ``internals/``."""

from __future__ import annotations

CAP = 10_000
