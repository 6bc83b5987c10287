"""The contract's tests notice what is left out of the Lua, and what is turned round in it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.fault.mutation import GUARDED, mutants


@pytest.mark.long
@pytest.mark.whole
def test_most_mutants_are_killed() -> None:
    """Nine of ten at least; ``pytest -s`` shows the others."""
    subprocess.run([sys.executable, "-m", "tests.fault.mutation", *GUARDED], check=True)


def test_what_is_changed() -> None:
    found = {(one.was, one.now) for one in mutants("lib/claims.lua")}
    assert ('if step.state == "a" then', 'if step.state ~= "a" then') in found
    whole = "if not (moves.enqueue(call_, flow, name, step, order)) then"
    assert (whole.replace("not (", "").replace(")) then", ") then"), whole) in found
    assert any(now == "end" and was.startswith("flow.lapsed = nil") for was, now in found)
