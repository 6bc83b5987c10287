"""Mutants of the Lua: each effect left out, each guard flipped, one at a time.

``python -m tests.fault.mutation [FILE ...]`` runs those of some files of ``lua/`` (of ``GUARDED``
by default) against ``TESTS`` on Valkey 9.1, and prints who survives. All runs share one process and
one server. At first each test runs on an instrumented library, which tells the blocks of Lua that
it enters; a mutant then meets those tests only that enter its block, and first those that have
killed most others. The first that fails kills it, and so does one that does not end.
"""

from __future__ import annotations

import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from _pytest.runner import runtestprotocol

from rwf.store import library as assembled
from rwf.store.catalog import FUNCTIONS, Function
from tests.servers import Server

GUARDED: Final = (
    "complete.lua", "start.lua", "heartbeat.lua", "fire.lua", "cancel.lua", "lib/claims.lua",
    "lib/walk.lua", "lib/moves.lua", "lib/handout.lua", "lib/recovery.lua", "lib/sweep.lua",
    "recover.lua",
)  # fmt: skip
TESTS: Final = (
    *(
        f"tests/contract/test_{name}.py"
        for name in (
            "claims", "leases", "claim_next", "completion", "completion_judged",
            "completion_many", "cancel", "recovery", "timers", "signals", "reconcile",
            "results_travel", "evidence", "callbacks", "fairness", "explain", "sweep", "metrics",
            "insert",
        )
    ),
    *(f"tests/fault/test_{name}.py" for name in ("lost_replies", "lost_operations", "handoffs")),
    "tests/model/test_commands.py",
)  # fmt: skip
# Other servers; and of the ways to lose a reply all but two: once before the call, once after it.
_OTHERS: Final = re.compile(r"redis70|redis82|valkey81|cluster|mid_replyx|(request|reply)x[23]")
_SECONDS: Final = 5.0  # that a test may take under a mutant
_SHORT: Final = 0.4  # longer tests are left out

_TOKEN: Final = re.compile(
    r"--[^\n]*|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|[A-Za-z_]\w*|[=~<>]=|\S"
)
_FLIPS: Final = {
    "==": "~=", "~=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">",
    "and": "or", "or": "and", "not": "",
}  # fmt: skip
_DEPTH: Final = {"(": 1, "{": 1, "[": 1, ")": -1, "}": -1, "]": -1}
_EFFECT: Final = re.compile(r"\s+(?!local |return |if |for )[a-z_][\w.]*(\(|[\w.\[\]\", ]*\s=\s)")


@dataclass(frozen=True)
class Mutant:
    """A file of ``lua/`` with one change; ``was`` and ``now`` show it."""

    file: str
    line: int
    was: str
    now: str
    text: str

    def __str__(self) -> str:
        return f"lua/{self.file}:{self.line}: {self.was}  ->  {self.now or '(left out)'}"


def mutants(file: str) -> Iterator[Mutant]:
    """Every mutant of a file, from its top to its bottom."""
    text = (assembled.lua_folder() / file).read_text()
    changes = sorted({*_flipped(text), *_left_out(text)})
    for start, end, put in changes:
        yield _mutant(file, text, start, end, put)


def _mutant(file: str, text: str, start: int, end: int, put: str) -> Mutant:
    mutated = text[:start] + put + text[end:]
    first = text.rfind("\n", 0, start) + 1
    was = " ".join(text[first : text.find("\n", end)].split())
    now = " ".join(mutated[first : mutated.find("\n", start + len(put))].split())
    return Mutant(file, text.count("\n", 0, start) + 1, was, now, mutated)


def _flipped(text: str) -> Iterator[tuple[int, int, str]]:
    """Each comparison, ``and``, ``or`` and ``not`` turned round; and each condition as a whole,
    where that is not the same."""
    tokens = [found for found in _TOKEN.finditer(text) if not found[0].startswith("--")]
    for number, token in enumerate(tokens):
        if token[0] in _FLIPS and not _opens_a_string(token[0]):
            yield token.start(), token.end(), _FLIPS[token[0]]
        if token[0] in ("if", "elseif"):
            until = next(n for n in range(number, len(tokens)) if tokens[n][0] == "then")
            inside = {one[0] for one in tokens[number + 1 : until]} & _FLIPS.keys()
            if not inside or inside & {"and", "or"}:
                start, end = tokens[number].end(), tokens[until].start()
                yield start, end, f" not ({text[start:end].strip()}) "


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
_ENTERED: Final = "entered"  # the function of the instrumented library that tells them


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


def instrument(folder: Path) -> None:
    """Has the library in a folder note every block that it enters."""
    for path in folder.rglob("*.lua"):
        file = str(path.relative_to(folder))
        noted = (
            f'{line} ENTERED["{file}:{number}"] = true' if _OPENS.search(line) else line
            for number, line in enumerate(path.read_text().splitlines(), 1)
        )
        path.write_text("\n".join(noted) + "\n")
    prelude = folder / "lib/prelude.lua"
    prelude.write_text("local ENTERED = {}\n" + prelude.read_text())
    (folder / f"{_ENTERED}.lua").write_text(
        "return function()\n  local found = {}\n"
        "  for place in pairs(ENTERED) do found[#found + 1] = place; ENTERED[place] = nil end\n"
        "  return found\nend\n"
    )


# --- running


class TimeIsUp(BaseException):
    """A test under a mutant does not end."""


class Campaign:
    """A pytest plugin that runs the collected tests once for each mutant."""

    def __init__(self, subjects: Sequence[Mutant]) -> None:
        self.subjects = subjects
        self.survivors: list[Mutant] = []
        self.ran = 0
        self._kills: Counter[pytest.Item] = Counter()
        self._took: dict[pytest.Item, float] = {}
        self._folder = Path(tempfile.mkdtemp(prefix="rwf-mutants-")) / "lua"
        self._source = assembled.lua_folder()
        self._lines = {
            file: (self._source / file).read_text().splitlines()
            for file in {mutant.file for mutant in subjects}
        }
        self._server: Server | None = None

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """What runs on Valkey 9.1."""
        items[:] = [
            item
            for item in items
            if {"one_server", "server"} & set(getattr(item, "fixturenames", ()))
            and not _OTHERS.search(item.name)
        ]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: Any) -> Generator[None, None, None]:
        """Within its time; what it leaves, and what is told of it, does not count."""
        self._server = item.funcargs.get("one_server") or item.funcargs["server"]
        signal.signal(signal.SIGALRM, self._give_up)
        signal.setitimer(signal.ITIMER_REAL, _SECONDS)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(assembled, "lua_folder", lambda: self._folder)
            tests = self._tests_by_block(session.items)
            print(f"{len(session.items)} tests, {len(self.subjects)} mutants", flush=True)
            for mutant in self.subjects:
                self._fresh()
                (self._folder / mutant.file).write_text(mutant.text)
                block = f"{mutant.file}:{_block(self._lines[mutant.file], mutant.line)}"
                met = list(self._took) if block.endswith(":0") else tests[block]
                ordered = sorted(met, key=lambda item: (-self._kills[item], self._took[item]))
                killer = next((item for item in ordered if not self._passes(item)), None)
                if killer is None:
                    self.survivors.append(mutant)
                    print(f"survived {len(ordered)} tests: {mutant}", flush=True)
                else:
                    self._kills[killer] += 1
                self.ran += 1
                if self.ran % 50 == 0:
                    print(f"... {self.ran}, {len(self.survivors)} survive", flush=True)
        shutil.rmtree(self._folder.parent)
        return True

    def _tests_by_block(self, items: Sequence[pytest.Item]) -> dict[str, list[pytest.Item]]:
        """The tests that enter each block ("file:line"); each must pass without a mutant."""
        self._fresh()
        instrument(self._folder)
        found: dict[str, list[pytest.Item]] = defaultdict(list)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(FUNCTIONS, _ENTERED, Function(_ENTERED))
            name = assembled.library().function(_ENTERED)
            for item in items:
                begun = time.monotonic()
                if not self._passes(item):
                    raise pytest.UsageError(f"{item.nodeid} fails without a mutant")
                self._took[item] = time.monotonic() - begun
                if self._took[item] > _SHORT:
                    continue
                assert self._server is not None
                for place in self._server.client().fcall(name, 0):
                    found[place.decode()].append(item)
        return found

    def _fresh(self) -> None:
        """The library as it is, loaded nowhere."""
        shutil.rmtree(self._folder, ignore_errors=True)
        shutil.copytree(self._source, self._folder)
        assembled.library.cache_clear()
        if self._server is not None:
            self._server.flush()
            self._server.client().function_flush()

    def _passes(self, item: pytest.Item) -> bool:
        # With the session as the next to come, what belongs to it stays: the servers.
        session: Any = item.session
        reports = runtestprotocol(item, log=False, nextitem=session)
        return not any(report.failed for report in reports)

    def _give_up(self, *_: object) -> None:
        if self._server is not None and self._server.alive:
            self._server.kill()  # it may be in a loop; the next test starts it anew
        raise TimeIsUp


def run(files: Sequence[str]) -> Campaign:
    """The mutants of these files, run."""
    campaign = Campaign([mutant for file in files for mutant in mutants(file)])
    options = ["-q", "-p", "no:cacheprovider", "-m", "not long", "--capture=sys", *TESTS]
    pytest.main(options, plugins=[campaign])
    return campaign


def main() -> int:
    """1 when more than a tenth survive, or when none could be run."""
    campaign = run(sys.argv[1:] or GUARDED)
    left, all_ = len(campaign.survivors), len(campaign.subjects)
    print(f"{campaign.ran} of {all_} mutants were run, {left} survive")
    return int(campaign.ran < all_ or 10 * left > all_)


if __name__ == "__main__":
    sys.exit(main())
