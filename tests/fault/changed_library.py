"""A library of server functions in which one line is another."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rwf.protocol import library as assembled


def use(patch: pytest.MonkeyPatch, folder: Path, file: str, line: str, other: str) -> None:
    """Has clients from now on use a library with this line of a file below ``lua/`` changed."""
    copy = folder / "lua"
    shutil.copytree(assembled.lua_folder(), copy)
    text = (copy / file).read_text()
    assert text.count(line) == 1, line
    (copy / file).write_text(text.replace(line, other))
    patch.setattr(assembled, "lua_folder", lambda: copy)
    patch.setattr("rwf.transport.session.library", assembled.library.__wrapped__)
