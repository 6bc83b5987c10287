"""The command line in tests: run in this process or in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from rwf.cli import program

NO_ID = "0-aaaaaaaaaaaaaaaa"
"""An id that no workflow has."""

FORM: dict[str, Any] = {
    "name": "sync_customer",
    "context": {"label": "Kunde \u001b[31m rot"},
    "steps": [
        {"name": "fetch", "worker": "fetch"},
        {"name": "bill", "worker": "bill", "deps": ["fetch"], "input": {"c": {"$result": "fetch"}}},
        {"name": "notify", "worker": "notify", "deps": ["bill"]},
        {"name": "cleanup", "worker": "cleanup"},
    ],
    "edges": [{"parent": "bill", "child": "cleanup", "policy": "continue"}],
}


class Cli:
    """Runs ``rwf`` in this process, against one server."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder

    def __call__(self, *args: str, stdin: str | bytes | None = None) -> Result:
        environment = {"RWF_URL": self.url, "RWF_NAMESPACE": None}
        return CliRunner().invoke(program, args, input=stdin, env=environment)

    def ok(self, *args: str, stdin: str | None = None) -> str:
        """The output of a command that must succeed."""
        found = self(*args, stdin=stdin)
        assert found.exit_code == 0, found.output
        assert found.stderr == ""
        return found.stdout

    def json(self, *args: str, stdin: str | None = None) -> Any:
        """The output of a command with ``--json``, parsed; it is one line."""
        text = self.ok(*args, "--json", stdin=stdin)
        assert text.count("\n") == 1
        return json.loads(text)

    def refused(self, code: int, *args: str, stdin: str | bytes | None = None) -> str:
        """The one line on stderr of a command that must end with this exit code."""
        found = self(*args, stdin=stdin)
        assert found.exit_code == code, found.output
        return one_line(found.stderr)

    def file(self, content: str | bytes, name: str = "workflow.json") -> str:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def inserted(self) -> str:
        """The id of a new workflow of FORM."""
        found: str = self.json("insert", "-", stdin=json.dumps(FORM))["id"]
        return found


def one_line(stderr: str) -> str:
    assert stderr.count("\n") == 1
    assert stderr.endswith("\n")
    assert "Traceback" not in stderr
    assert stderr.rstrip("\n").isprintable()
    return stderr


def run(
    *args: str, stdin: bytes = b"", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Runs ``python -m rwf`` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "rwf", *args],
        input=stdin,
        capture_output=True,
        env=os.environ | (env or {}),
        check=False,
        timeout=60,
    )
