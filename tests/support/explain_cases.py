"""Shared by the tests of ``test_explain.py`` in ``contract/`` and ``internals/``."""

from __future__ import annotations

from rwf.model.views import StepExplanation


def codes(told: StepExplanation) -> list[str]:
    return [blocker.code for blocker in told.blockers]


def causes(told: StepExplanation) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(cause.step, cause.code, cause.path) for cause in told.root_causes]
