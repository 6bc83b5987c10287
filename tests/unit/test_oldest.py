"""The oldest versions that are tested are the oldest that are allowed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_oldest_versions_are_the_floors() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    allowed = [*project["dependencies"], *extras["fake"], *extras["console"]]
    floors = {
        re.sub(r"\[.*", "", name): floor for name, floor in (one.split(">=") for one in allowed)
    }
    lines = (ROOT / "tests" / "oldest.txt").read_text().splitlines()
    tested = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert tested.keys() == floors.keys()
    for name, version in tested.items():
        assert version.removesuffix(".0") == floors[name], name
