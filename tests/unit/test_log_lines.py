"""The log format that all processes share: text from users cannot forge a line of its own."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest

from rwf.cli.processes import LogFormatter

FORGED = "\x1b[31mred\n2026-01-01T00:00:00Z  info     all is well"


class Unspeakable:
    def __str__(self) -> str:
        raise ValueError("no text")


def record(message: str, *args: Any, name: str = "rwf.worker", error: bool = False) -> Any:
    info = sys.exc_info() if error else None
    made = logging.LogRecord(name, logging.ERROR, __file__, 1, message, args, info)
    made.created = 0.0
    return made


def test_a_line_for_people() -> None:
    line = LogFormatter(as_json=False).format(record("step %s failed", "a"))
    assert line == "1970-01-01T00:00:00Z  error    step a failed"
    line = LogFormatter(as_json=False).format(record("hello", name="app.jobs"))
    assert line == "1970-01-01T00:00:00Z  error    app.jobs: hello"


def test_a_line_of_json() -> None:
    line = LogFormatter(as_json=True).format(record("step %s", FORGED))
    assert line.count("\n") == 0
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:00Z",
        "level": "error",
        "logger": "rwf.worker",
        "message": f"step {FORGED}",
    }


@pytest.mark.parametrize("as_json", [True, False])
def test_what_is_logged_cannot_steer_a_terminal_or_forge_a_line(as_json: bool) -> None:
    try:
        raise RuntimeError(FORGED)
    except RuntimeError:
        told = LogFormatter(as_json).format(record("failed: %s", FORGED, error=True))
    assert "\x1b" not in told
    first, *others = told.split("\n")
    assert "RuntimeError" in told
    if as_json:
        assert others == []
        assert FORGED in json.loads(first)["exception"]
    else:
        assert "red\\n2026" in first
        assert all(line.startswith("    | ") for line in others)


def test_text_that_fails_is_logged_all_the_same() -> None:
    told = LogFormatter(as_json=False).format(record("it is %s", Unspeakable()))
    assert told.endswith("it is %s (ValueError while this was put into words)")


def test_a_huge_text_is_cut_in_its_middle() -> None:
    told = LogFormatter(as_json=False).format(record("<%s>", "x" * 1_000_000))
    assert len(told) < 21_000
    assert told.endswith("x>")
    assert "characters" in told
