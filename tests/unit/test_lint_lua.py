"""The linter of Lua finds mistakes, and says where they are."""

from __future__ import annotations

import shutil

import pytest

from rwf.protocol.library import Library, library
from tools import lint_lua

LUACHECK = shutil.which("luacheck")


def with_line(file: str, line: str) -> Library:
    """The library with a line inserted after the first one of a file."""
    own = library()
    at = own.lines.index((file, 1)) + 1
    text = own.text.splitlines()
    text.insert(at, line)
    lines = (*own.lines[:at], (file, 2), *own.lines[at:])
    return Library(own.name, "\n".join(text) + "\n", lines)


@pytest.mark.skipif(LUACHECK is None, reason="luacheck is missing")
def test_the_library_has_no_faults() -> None:
    assert LUACHECK
    assert lint_lua.findings(LUACHECK, library()) == []


@pytest.mark.skipif(LUACHECK is None, reason="luacheck is missing")
@pytest.mark.parametrize(
    ("file", "line", "code"),
    [
        ("lib/queue.lua", "local never_used = 1", "W211"),
        ("lib/queue.lua", "print(an_unknown_global)", "W113"),
        ("lib/queue.lua", "a_new_global = 1", "W111"),
        ("lib/queue.lua", "print(flush.commit)", "W113"),  # a module loaded behind it
        ("functions/advance.lua", "local function f(states) return states end f()", "W431"),
        ("functions/advance.lua", "local text = 5 = 6", "E011"),
    ],
)
def test_a_fault_is_found_at_its_place(file: str, line: str, code: str) -> None:
    assert LUACHECK
    found = lint_lua.findings(LUACHECK, with_line(file, line))
    assert found
    assert found[0].startswith(f"lua/{file}:2:")
    assert f"({code})" in found[0]


@pytest.mark.parametrize("required", [True, False])
def test_a_missing_linter_is_told_and_fails_where_it_is_required(
    required: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setenv("RWF_REQUIRE_SERVERS", "1" if required else "")
    assert lint_lua.main() == required
    assert "luacheck is missing" in capsys.readouterr().out


@pytest.mark.skipif(LUACHECK is None, reason="luacheck is missing")
def test_faults_are_printed_and_fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = with_line("lib/queue.lua", "local never_used = 1")
    monkeypatch.setattr(lint_lua, "library", lambda: broken)
    assert lint_lua.main() == 1
    assert capsys.readouterr().out.startswith("lua/lib/queue.lua:2:")
