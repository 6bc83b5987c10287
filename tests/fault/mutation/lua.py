"""Mutants of the Lua: each effect left out, each guard negated."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from redis.exceptions import ResponseError

from rwf.protocol import library as assembled
from rwf.protocol.declare import ServerFunction, server_function
from rwf.protocol.functions import FUNCTIONS
from tests.fault.mutation.campaign import Campaign, Mutant, changed

GUARDED: Final = tuple(
    f"lua/{name}.lua"
    for name in (
        "functions/complete", "functions/start_steps", "functions/start_ticket",
        "functions/extend_leases",
        "functions/fire_timers", "functions/cancel", "functions/recover", "lib/claims",
        "lib/propagate", "lib/transitions", "lib/dispatch", "lib/recovery", "lib/sweep",
    )
)  # fmt: skip

_SOURCE: Final = assembled.lua_folder()
_TOKEN: Final = re.compile(
    r"--[^\n]*|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|[A-Za-z_]\w*|[=~<>]=|\S"
)
_FLIPS: Final = {
    "==": "~=", "~=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">",
    "and": "or", "or": "and", "not": "",
}  # fmt: skip
_DEPTH: Final = {"(": 1, "{": 1, "[": 1, ")": -1, "}": -1, "]": -1}
_EFFECT: Final = re.compile(r"\s+(?!local |return |if |for )[a-z_][\w.]*(\(|[\w.\[\]\", ]*\s=\s)")


def _flipped(text: str) -> Iterator[tuple[int, int, str]]:
    """Each comparison, ``and``, ``or`` and ``not`` negated; and each condition as a whole, where
    that makes a difference."""
    tokens = [found for found in _TOKEN.finditer(text) if not found[0].startswith("--")]
    for number, token in enumerate(tokens):
        if token[0] in _FLIPS and not _opens_a_string(token[0]):
            yield token.start(), token.end(), _FLIPS[token[0]]
        if token[0] in ("if", "elseif"):
            until = next(n for n in range(number, len(tokens)) if tokens[n][0] == "then")
            inside = {one[0] for one in tokens[number + 1 : until]} & _FLIPS.keys()
            if not inside or inside & {"and", "or"}:
                condition = text[tokens[number].end() : tokens[until].start()].strip()
                start = text.index(condition, tokens[number].end())
                yield start, start + len(condition), f"not ({condition})"


def _opens_a_string(token: str) -> bool:
    return token[0] in "\"'"


def _left_out(text: str) -> Iterator[tuple[int, int, str]]:
    """Each call and each assignment to a field that is a statement by itself."""
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    for number, line in enumerate(lines):
        found = _EFFECT.match(line)
        if found is None or not (found[1] == "(" or "." in found[0] or "[" in found[0]):
            continue
        last, depth = number, 0
        while True:
            depth += sum(_DEPTH.get(token, 0) for token in _TOKEN.findall(lines[last]))
            if depth <= 0:
                break
            last += 1
        if depth == 0 and "function" not in line:
            yield starts[number], starts[last + 1], "\n" * (last + 1 - number)


# --- which blocks a test enters

_OPENS: Final = re.compile(r"(\bfunction\b.*\)|\bthen|\belse|\bdo)$")
_ENTERED: Final = "entered"  # the function of the instrumented library that returns them


def _block(lines: Sequence[str], number: int) -> int:
    """The line, counted from 1, that opens the block around a line; 0 for the whole file."""
    indent = _indent(lines[number - 1])
    for above in range(number - 2, -1, -1):
        if lines[above].strip() and _indent(lines[above]) < indent:
            indent = _indent(lines[above])
            if _OPENS.search(lines[above]):
                return above + 1
    return 0


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


@server_function(_ENTERED)
class Entered(ServerFunction[list[bytes]]):
    """The blocks that were entered since the last call."""


del FUNCTIONS[_ENTERED]  # it is in the instrumented library only


def instrument(folder: Path) -> None:
    """Has the library in a folder note every block that it enters."""
    for path in folder.rglob("*.lua"):
        file = f"lua/{path.relative_to(folder)}"
        noted = (
            f'{line} ENTERED["{file}:{number}"] = true' if _OPENS.search(line) else line
            for number, line in enumerate(path.read_text().splitlines(), 1)
        )
        path.write_text("\n".join(noted) + "\n")
    prelude = folder / "lib/prelude.lua"
    prelude.write_text("local ENTERED = {}\n" + prelude.read_text())
    arguments = folder / "lib/arguments.lua"
    before, end, _ = arguments.read_text().rpartition("return M\n")
    arguments.write_text(f"{before}function M.{_ENTERED}(body) return body end\n{end}")
    (folder / f"functions/{_ENTERED}.lua").write_text(
        "return function(keys)\n  local found = {}\n"
        "  for place in pairs(ENTERED) do found[#found + 1] = place; ENTERED[place] = nil end\n"
        "  return found\nend\n"
    )


# --- running


class LuaCampaign(Campaign):
    """Each library is assembled from a copy of ``lua/`` and loaded anew."""

    suffix = ".lua"

    @staticmethod
    def mutants(file: str) -> Iterator[Mutant]:
        text = Path(file).read_text()
        lines = text.splitlines()
        for start, end, put in sorted({*_flipped(text), *_left_out(text)}):
            block = _block(lines, text.count("\n", 0, start) + 1)
            yield changed(file, text, start, end, put, [f"{file}:{block}"] if block else ())

    @contextmanager
    def tracing(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch, self._library() as folder:
            instrument(folder)
            patch.setitem(FUNCTIONS, _ENTERED, Entered)
            yield

    def entered(self) -> Collection[str]:
        if self.server is None or not self.server.alive:
            return ()
        name = assembled.library().function(_ENTERED)
        try:
            return [place.decode() for place in self.server.client().fcall(name, 0)]
        except ResponseError:
            return ()  # started anew, and not asked for anything

    @contextmanager
    def applied(self, mutant: Mutant) -> Iterator[None]:
        with self._library() as folder:
            (folder / Path(mutant.file).relative_to("lua")).write_text(mutant.text)
            yield

    @contextmanager
    def _library(self) -> Iterator[Path]:
        """A copy of ``lua/`` that is assembled in its place, and is not loaded anywhere yet."""
        with (
            tempfile.TemporaryDirectory(prefix="rwf-mutants-") as parent,
            pytest.MonkeyPatch.context() as patch,
        ):
            folder = Path(shutil.copytree(_SOURCE, Path(parent) / "lua"))
            patch.setattr(assembled, "lua_folder", lambda: folder)
            assembled.library.cache_clear()
            if self.server is not None:
                self.server.flush()
                self.server.client().function_flush()
            yield folder
