"""The modules of ``lua/lib`` use one another in one direction; read from the source, not run."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from rwf.protocol.library import LIBS, lua_folder

FOLDER = lua_folder() / "lib"


def code(text: str) -> str:
    """A Lua text without its comments and the contents of its strings."""
    return re.sub(
        r"""("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|--[^\n]*""",
        lambda found: '""' if found[1] else "",
        text,
    )


def used(text: str) -> set[str]:
    """The modules that a Lua text uses."""
    return set(re.findall(r"(?<![\w.:])(\w+)\s*[.:\[]", code(text))) & set(LIBS)


def faults(lib: str, text: str) -> Iterator[str]:
    """The modules that this one uses and must not: itself and those loaded after it."""
    later = LIBS[LIBS.index(lib) :]
    yield from (f"{lib} uses {other}" for other in later if other in used(text))


@pytest.mark.parametrize("lib", LIBS)
def test_a_module_uses_only_those_loaded_before_it(lib: str) -> None:
    assert list(faults(lib, code((FOLDER / f"{lib}.lua").read_text()))) == []


def test_every_module_is_used() -> None:
    used_anywhere = {"arguments"}  # by the assembled text
    for path in lua_folder().rglob("*.lua"):
        used_anywhere |= used(path.read_text())
    assert set(LIBS) - used_anywhere == set()


def test_every_name_taken_from_a_module_is_defined_there() -> None:
    """Lua itself notices only when it runs the line."""
    defined = {
        lib: set(
            re.findall(r"\bM\.(\w+)\s*(?:\(|=[^=])", code((FOLDER / f"{lib}.lua").read_text()))
        )
        for lib in LIBS
    }
    missing = {
        f"{path.name}: {lib}.{name}"
        for path in lua_folder().rglob("*.lua")
        for lib, name in re.findall(r"(?<![\w.:])(\w+)\.(\w+)", code(path.read_text()))
        if lib in defined and name not in defined[lib]
    }
    assert missing == set()


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("local text = integer.text(5)", False),
        ("local due = waits.next_due(workflow)", False),
        ("-- see flush.commit", False),
        ('error("flush.commit -- is not called")', False),
        ("tx.flush.commit = 1", False),
        ("return flush.commit(tx)", True),
        ('error("it -- ") flush.commit(tx)', True),
        ("flush['commit'](tx)", True),
        ("propagate.timer(workflow)", True),
    ],
)
def test_the_rule_itself(text: str, wrong: bool) -> None:
    assert bool(list(faults("propagate", text))) is wrong
