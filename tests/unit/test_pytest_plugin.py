"""The pytest fixture that rwf offers to its users."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

from rwf import Client, Handlers, Workflow
from rwf.testing import run_until_idle

TESTS: Final = """
import sys

def test_rwf_is_not_imported_before_a_test_asks_for_it():
    assert "pytest_rwf" in sys.modules
    assert "rwf" not in sys.modules
    assert "redis" not in sys.modules

def test_it_is_a_client(rwf_client):
    from rwf import Workflow

    assert rwf_client.list().workflows == ()
    rwf_client.insert(Workflow("w").add("a", worker="a"))

def test_each_test_has_a_server_of_its_own(rwf_client):
    assert rwf_client.list().workflows == ()
"""


def test_pytest_finds_it_where_rwf_is_installed(tmp_path: Path) -> None:
    (tmp_path / "test_of_a_user.py").write_text(TESTS)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", tmp_path],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=tmp_path,
    )
    assert "3 passed" in run.stdout, run.stdout + run.stderr


def test_it_is_an_entry_point() -> None:
    (found,) = [each for each in entry_points(group="pytest11") if each.name == "rwf"]
    assert found.value == "pytest_rwf"


def test_it_goes_with_run_until_idle(rwf_client: Client) -> None:
    handlers = Handlers()
    handlers.step("work")(lambda: None)
    rwf_client.insert(Workflow("w").add("a", worker="work"))
    assert [run.outcome for run in run_until_idle(rwf_client, handlers)] == ["completed"]
