"""What the README shows is run: its example, and the commands that it names."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from rwf.cli import program

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)


def test_the_example_prints_what_the_readme_says(tmp_path: Path) -> None:
    (example,) = (text for language, text in BLOCKS if language == "python")
    (printed,) = (text for _, text in BLOCKS if text.startswith("released:"))
    script = tmp_path / "example.py"
    script.write_text(example.replace("/tmp/rwf-example", str(tmp_path / "server")))
    assert str(tmp_path) in script.read_text()
    found = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, timeout=60
    )
    assert found.stderr == ""
    assert found.stdout == printed


def test_the_commands_exist_with_the_options_shown() -> None:
    shown = [line.split() for _, text in BLOCKS for line in text.splitlines() if line[:4] == "rwf "]
    assert len(shown) >= 7
    for _, name, *rest in shown:
        options = {option for each in program.commands[name].params for option in each.opts}
        assert {word for word in rest if word.startswith("--")} <= options
