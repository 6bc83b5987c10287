"""Rules that every file keeps, checked in its text: which names it uses, and how comments begin.

``tests/contract`` shows what users see: it uses neither rwf's inside nor a private name.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTRACT = ROOT / "tests" / "contract"
INSIDE = re.compile(r"rwf\.(internals|ops|protocol|repair|transport|runtime|threads)\b")
PRIVATE = re.compile(r"_(ctx|run|session|store|driver|hints)")
INDIRECT = re.compile(r"(what|the same|whatever)\b", re.IGNORECASE)
PERHAPS = re.compile(rf"[#\"-]\s*(\w+: )?{INDIRECT.pattern}", re.IGNORECASE)


def uses(source: str) -> Iterator[str]:
    """Imports from the inside, and uses of a client's private attributes."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and INSIDE.match(node.module or ""):
            yield f"line {node.lineno}: from {node.module}"
        elif isinstance(node, ast.Attribute) and PRIVATE.fullmatch(node.attr):
            yield f"line {node.lineno}: .{node.attr}"


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Each string that is a statement by itself, with its line."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield node.lineno, text.strip()


def comments(source: str) -> Iterator[tuple[int, str]]:
    """The first line of each block of comments in Python, with its line."""
    found = {
        token.start[0]: token
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    for line, token in found.items():
        above = found.get(line - 1)
        if above is None or above.start[1] != token.start[1]:
            yield line, token.string.lstrip("#").strip()


def lua_comments(source: str) -> Iterator[tuple[int, str]]:
    """The first line of each block of comments in Lua, with its line; header comments name their
    function first."""
    lines = [re.search(r"(^|\s)--\s*(.*)", line) for line in ("", *source.splitlines())]
    for number, (above, line) in enumerate(pairwise(lines), start=1):
        if line and not (above and above.start() == line.start()):
            yield number, re.sub(r"^\w+: ", "", line[2])


def indirect(path: Path, source: str) -> list[str]:
    """The comments and docstrings that do not begin with the thing itself."""
    if not PERHAPS.search(source):
        return []
    python = (*docstrings(source), *comments(source)) if path.suffix == ".py" else ()
    texts = lua_comments(source) if path.suffix == ".lua" else python
    return [f"line {line}: {text[:40]}" for line, text in texts if INDIRECT.match(text)]


@pytest.mark.parametrize("path", sorted(CONTRACT.glob("*.py")), ids=lambda path: path.stem)
def test_a_contract_test_uses_the_public_api(path: Path) -> None:
    assert list(uses(path.read_text())) == []


def test_inner_names_are_seen() -> None:
    source = "from rwf.ops.base import OpContext\nclient._ctx.keys\nclient.get(1)\n"
    assert list(uses(source)) == ["line 1: from rwf.ops.base", "line 2: ._ctx"]


@pytest.mark.parametrize("folder", ["rwf", "lua", "tests", "tools"])
def test_comments_and_docstrings_say_the_thing_itself(folder: str) -> None:
    """None begins with "What", "Whatever" or "The same" (CONTRIBUTING.md, Style)."""
    files = [path for path in (ROOT / folder).rglob("*") if path.suffix in {".py", ".lua"}]
    assert files
    found = {str(path.relative_to(ROOT)): indirect(path, path.read_text()) for path in files}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_indirect_comments_are_seen() -> None:
    source = (
        '"""What it is."""\n# A block\n# what goes on\nx = 1  # whatever\n"""The same."""\n'
        'y = "# What"\n'
    )
    assert indirect(Path("a.py"), source) == [
        "line 1: What it is.",
        "line 5: The same.",
        "line 4: whatever",
    ]
    source = "-- show: what there is\n-- whatever\nx = 1 -- the same\n-- Whatsoever\n"
    assert indirect(Path("a.lua"), source) == ["line 1: what there is", "line 3: the same"]
