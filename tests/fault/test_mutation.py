"""The tests notice code that is left out, and conditions that are negated."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.fault.mutation.lua import GUARDED, LuaCampaign
from tests.fault.mutation.python import CORE, PythonCampaign
from tests.fault.mutation.survivors import SURVIVORS


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(GUARDED, marks=(pytest.mark.long, pytest.mark.whole), id="lua"),
        pytest.param(CORE, marks=(pytest.mark.long, pytest.mark.whole), id="python"),
        pytest.param(
            ("lua/lib/backoff.lua", "tests/contract/test_completion.py"),
            marks=pytest.mark.long,
            id="slice_of_lua",
        ),
        pytest.param(("rwf/model/references.py", "tests/unit/test_ref.py"), id="slice_of_python"),
    ],
)
def test_every_survivor_has_its_reason(arguments: tuple[str, ...]) -> None:
    run = [sys.executable, "-m", "tests.fault.mutation", *arguments]
    ended = subprocess.run(run, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout[-5000:]


def test_those_on_the_list_still_exist() -> None:
    files = {key.partition(":")[0] for key in SURVIVORS}
    found = {
        mutant.key
        for file in files
        for kind in (PythonCampaign, LuaCampaign)
        if file.endswith(kind.suffix)
        for mutant in kind.mutants(file)
    }
    assert found >= SURVIVORS


def test_what_is_changed_in_lua() -> None:
    found = {one.change for one in LuaCampaign.mutants("lua/lib/claims.lua")}
    whole = "transitions.enqueue(tx, workflow, name, step, order)"
    assert 'if step.state [-==-]{+~=+} "a" then' in found
    assert f"if [-{whole}-]{{+not ({whole})+}} then" in found
    assert "[-workflow.dirty[name] = true-]" in found


def test_what_is_changed_in_python() -> None:
    found = {one.change for one in PythonCampaign.mutants("rwf/model/result_refs.py")}
    assert "there = isinstance(key, str) and key [-in-]{+not in+} found" in found
    assert "[-raise ResultMissing(ref)-]{+pass+}" in found
