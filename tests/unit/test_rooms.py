"""``tests/contract`` shows what users see: it uses neither rwf's inside nor a private name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

CONTRACT = Path(__file__).parents[1] / "contract"
INSIDE = re.compile(r"rwf\.(internals|ops|protocol|repair|transport|runtime|threads)\b")
PRIVATE = re.compile(r"_(ctx|run|session|store|driver|hints)")


def uses(source: str) -> Iterator[str]:
    """Imports from the inside, and uses of a client's private attributes."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and INSIDE.match(node.module or ""):
            yield f"line {node.lineno}: from {node.module}"
        elif isinstance(node, ast.Attribute) and PRIVATE.fullmatch(node.attr):
            yield f"line {node.lineno}: .{node.attr}"


@pytest.mark.parametrize("path", sorted(CONTRACT.glob("*.py")), ids=lambda path: path.stem)
def test_a_contract_test_uses_the_public_api(path: Path) -> None:
    assert list(uses(path.read_text())) == []


def test_what_is_inside_is_seen() -> None:
    source = "from rwf.ops.base import OpContext\nclient._ctx.keys\nclient.get(1)\n"
    assert list(uses(source)) == ["line 1: from rwf.ops.base", "line 2: ._ctx"]
